"""What age does to a spine without moving its keypoints: new bone in front of the bodies, gas in bodies and discs.

Spurs at the discs and flowing ossification (DISH), vacuum discs and the gas clefts of broken bodies.
Keypoints leave spurs out; networks that had seen few of them drew the anterior corners 3-5 mm forward
(docs/numbers.md).
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

OSSIFIED = 0.3
"""Share of training windows that get new bone."""
GASSED = 0.15
"""Share of vertebrae with gas in the body or the disc below, in a window that has any."""
GAS = 0.2
"""Share of windows that have any."""
EDGE_MM = 0.5
"""Softness of its edges."""


def ossify(
    planes: Tensor, points: Float[np.ndarray, "k 6 2"], v_mm: np.ndarray, s_mm: np.ndarray, rng: np.random.Generator
) -> Tensor:
    """Paint bone in front of a run of bodies and discs.

    Parameters
    ----------
    planes : tensor [c, s, v]
        HU.
    points : array [k, 6, 2]
        Keypoints (v, s), mm, from the top down.
    v_mm, s_mm : array
        Pixel centres, mm.

    Returns
    -------
    tensor [c, s, v]
    """
    seen = np.flatnonzero((points[..., 1].max(1) > s_mm[0]) & (points[..., 1].min(1) < s_mm[-1]))
    if len(seen) < 2:
        return planes
    first = int(rng.choice(seen[:-1]))
    run = points[first : first + 2 + int(rng.integers(0, 7))]
    front = run[:, :2].reshape(-1, 2)  # top and bottom corner of each body in turn
    front = front[np.argsort(front[:, 1], kind="stable")]
    knots_s, knots_mm = _thickness(front[:, 1], rng)
    thickness = np.interp(s_mm, knots_s, knots_mm, left=0.0, right=0.0)[:, None]
    depth = np.interp(s_mm, front[:, 1], front[:, 0])[:, None] - v_mm[None]  # in front of the wall, mm
    cover = _step(depth) * _step(thickness - depth) * np.clip(thickness, 0, 1)
    cover_t = (
        torch.from_numpy(cover).float() * torch.from_numpy(rng.uniform(0.4, 1.0, len(planes))).float()[:, None, None]
    )
    cortex, marrow = rng.uniform(250, 1000), rng.uniform(50, 500)
    shell = torch.from_numpy(_step(thickness - depth - 1.5)).float()
    bone = (
        cortex
        + (marrow - cortex) * shell
        + rng.uniform(10, 80)
        * torch.randn(planes.shape[1:], generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
    )
    return torch.maximum(planes, planes + (bone - planes) * cover_t)


def gas_clefts(
    planes: Tensor, points: Float[np.ndarray, "k 6 2"], v_mm: np.ndarray, s_mm: np.ndarray, rng: np.random.Generator
) -> Tensor:
    """Paint flat pockets of gas into some bodies and discs; the arguments are those of `ossify`."""
    v, s = torch.from_numpy(v_mm).float()[None], torch.from_numpy(s_mm).float()[:, None]
    for i, six in enumerate(points):
        if not (s_mm[0] < six[:, 1].mean() < s_mm[-1]) or rng.random() > GASSED:
            continue
        in_disc = i + 1 < len(points) and rng.random() < 0.6
        place = (six[1::2].mean(0) + points[i + 1, 0::2].mean(0)) / 2 if in_disc else six.mean(0)
        place = place + rng.normal(0, [4.0, 0.5 if in_disc else 3.0])
        half = np.array([rng.uniform(3, 10), rng.uniform(0.5, 1.6 if in_disc else 2.5)])
        depth = 1 - (((v - place[0]) / half[0]) ** 2 + ((s - place[1]) / half[1]) ** 2).sqrt()
        cover = torch.sigmoid(depth * float(half[1]) / (EDGE_MM / 4))
        planes = planes + (rng.uniform(-1000, -300) - planes) * cover
    return planes


def _thickness(corners_s: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Knots (s, thickness) in mm: flowing along the run, or thick at the discs and thin at the waists."""
    waists = (corners_s[0::2] + corners_s[1::2]) / 2
    discs = (corners_s[1:-1:2] + corners_s[2::2]) / 2
    flowing = rng.random() < 0.5
    at_corner = rng.uniform(1.0, 6.0, len(corners_s)) if flowing else rng.uniform(0.0, 5.0, len(corners_s))
    at_waist = rng.uniform(1.0, 5.0, len(waists)) if flowing else np.zeros(len(waists))
    # A spur bridges its disc or leaves it open.
    at_disc = rng.uniform(1.0, 6.0, len(discs)) * (1.0 if flowing else rng.random(len(discs)) < 0.5)
    s = np.concatenate([corners_s, waists, discs])
    order = np.argsort(s, kind="stable")
    return s[order], np.concatenate([at_corner, at_waist, at_disc])[order]


def _step(depth_mm: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(depth_mm / (EDGE_MM / 2), -30, 30)))
