"""New truth from real spines: warps of the straightened plane that make fractures, bends, tilts and sizes.

A warp is two maps: where each keypoint goes, and from where each pixel of the new plane is taken.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import RBFInterpolator

BEYOND_MM = 15.0
"""The warp is constant from this far beyond the first and last vertebra."""
CLOSING, MOST_CLOSING_MM = 0.35, 1.5
"""Share of a wedge's loss by which the spine behind it closes, and its limit."""
DEFORMED = 0.45
"""Share of vertebrae that are deformed; far above nature, or the network would never see one."""
NARROWED, KEPT_GAP_MM = 0.2, 1.5
"""Share of discs that lose up to 60 % of what they have above this gap: narrow discs and touching corners were 1-2 mm
off."""
SMOOTHING = 0.1
"""Of the thin-plate spline: at 1.0 the pixels lag behind the keypoints of deformed vertebrae by 0.1-0.2 mm, always
to the same side; at 0 single close points fold the plane."""
DEEPEST = 0.40
"""Smallest factor by which a height is shortened: beyond Genant's severe grade (0.60)."""


def deformed_heights(rng: np.random.Generator, probability: float = DEFORMED) -> np.ndarray:
    """Factors for the (anterior, middle, posterior) height of one vertebra: intact, wedge, biconcave or crush."""
    factors = np.ones(3) * rng.normal(1.0, 0.03)
    kind = rng.choice(["wedge", "biconcave", "crush"], p=[0.42, 0.38, 0.20])
    if rng.random() >= probability:
        return np.clip(factors, 0.9, 1.1)
    depth = rng.uniform(DEEPEST, 1.0)
    if kind == "wedge":
        return factors * [depth, (depth + 1) / 2 * rng.uniform(0.92, 1.02), 1.0]
    if kind == "biconcave":
        return factors * [rng.uniform(0.9, 1.0), depth, 1.0]
    return factors * depth * rng.uniform(0.85, 1.1, 3)


def warp_vertebrae(
    points: Float[np.ndarray, "k 6 2"], rng: np.random.Generator, probability: float = DEFORMED
) -> Float[np.ndarray, "k 6 2"]:
    """Keypoints after fracturing some vertebrae and narrowing some discs; what lies below moves up.

    Parameters
    ----------
    points : array [k, 6, 2]
        (v, s), mm, from the top down.
    """
    new = points.copy()
    risen = np.zeros(2)  # how far what lies below has moved so far
    for i, six in enumerate(points):
        if i and rng.random() < NARROWED * probability / DEFORMED:
            gap = (six[0::2] - points[i - 1, 1::2]).mean(0)
            least = np.linalg.norm(six[0::2] - points[i - 1, 1::2], axis=-1).min()
            risen = risen - rng.uniform(0.0, 0.6) * max(0.0, 1.0 - KEPT_GAP_MM / max(least, 1e-6)) * gap
        tops, bottoms = six[0::2], six[1::2]
        loss = (bottoms - tops) * (1.0 - deformed_heights(rng, probability))[:, None]
        # The posterior wall sets how far the spine below moves up; a wedge closes the disc behind only a little,
        # for there are but 2 mm of it (docs/numbers.md).
        rigid = loss[2] + np.clip(CLOSING * (loss[0] - loss[2]), -MOST_CLOSING_MM, MOST_CLOSING_MM)
        # The cranial endplate breaks more often than the caudal one.
        upper = np.clip(rng.normal(0.6, 0.25), 0.0, 1.0)
        new[i, 0::2] = tops + risen + upper * (loss - rigid)
        new[i, 1::2] = bottoms + risen - rigid - (1.0 - upper) * (loss - rigid)
        risen = risen - rigid
    return new


@dataclass(frozen=True)
class Affine:
    """Turn, scale and shear of the plane about a point: new = matrix @ (old - centre) + centre + shift."""

    matrix: Float[np.ndarray, "2 2"]
    centre: Float[np.ndarray, "2"]
    shift: Float[np.ndarray, "2"]

    def forward(self, points: np.ndarray) -> np.ndarray:
        return (points - self.centre) @ self.matrix.T + self.centre + self.shift

    def backward(self, points: np.ndarray) -> np.ndarray:
        """Where the warped points [..., 3] came from, LPS mm."""
        return (points - self.centre - self.shift) @ np.linalg.inv(self.matrix).T + self.centre


def random_affine(rng: np.random.Generator, centre: np.ndarray, shift_mm: float) -> Affine:
    """Turn by up to about 15 degrees, scale by 0.68-1.22, aspect by 10 %, shear by 5 %."""
    angle = np.deg2rad(np.clip(rng.normal(0, 7), -18, 18))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size, aspect = rng.uniform(0.68, 1.22), rng.normal(1.0, 0.05)
    shear = np.array([[1.0, rng.normal(0, 0.04)], [rng.normal(0, 0.04), 1.0]])
    return Affine(turn @ shear @ np.diag([size * aspect, size / aspect]), centre, rng.normal(0, shift_mm, 2))


def _guides(points: np.ndarray) -> np.ndarray:
    """Control points beside the keypoints: in front of and behind each body, moving with its front and back."""
    front, back = points[:, :2].mean(1), points[:, 4:].mean(1)
    across = np.array([1.0, 0.0])
    return np.concatenate([front - 25 * across, back + 22 * across, back + 45 * across])


def source_of(
    old: Float[np.ndarray, "k 6 2"], new: Float[np.ndarray, "k 6 2"], places: Float[np.ndarray, "*n 2"]
) -> Float[np.ndarray, "*n 2"]:
    """Where places of the warped plane come from: a thin-plate spline from new keypoints to old ones.

    Parameters
    ----------
    old, new : array [k, 6, 2]
        Keypoints before and after the warp, (v, s) mm.
    places : array [..., 2]
        (v, s) mm in the warped plane.
    """
    controls_new = np.concatenate([new.reshape(-1, 2), _guides(new)])
    controls_old = np.concatenate([old.reshape(-1, 2), _guides(old)])
    spline = RBFInterpolator(controls_new, controls_old - controls_new, smoothing=SMOOTHING)
    held = places.reshape(-1, 2).copy()
    # Beyond the outermost vertebrae the spline would run away: hold it there.
    held[:, 1] = np.clip(held[:, 1], new[..., 1].min() - BEYOND_MM, new[..., 1].max() + BEYOND_MM)
    return places + spline(held).reshape(places.shape)
