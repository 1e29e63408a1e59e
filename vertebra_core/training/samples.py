"""One training sample of the second network: a window of a warped, re-scanned, annotated spine.

A sample is a pure function of its number, so that a run that was stopped goes on with the same data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.settings import StraightenSettings
from vertebra_core.training.appearance import blank, cut_ends, random_appearance
from vertebra_core.training.ossify import GAS, OSSIFIED, gas_clefts, ossify
from vertebra_core.training.spines import STACK_U_MM, Spine
from vertebra_core.training.warp import DEFORMED, random_affine, source_of, warp_vertebrae

WINDOW_MM = 192.0
"""Length of a window along the spine: six to ten vertebrae."""
CALM = 0.35
"""Strength of the augmentation in the last part of a training."""
COARSE = 8
"""The warp is computed on every eighth pixel (4 mm) and is linear between."""


@dataclass(frozen=True)
class Window:
    """A window of planes with its keypoints.

    Parameters
    ----------
    planes : tensor [5, s, v]
        HU at `StraightenSettings.parallel_mm`.
    valid : array [s, v], bool
    origin_mm : array [2]
        (v, s) of pixel [0, 0].
    points : array [k, 6, 2]
        All vertebrae of the spine, (v, s) mm, in the window or not.
    complete : array [k], bool
        True for those that lie wholly in the window and in the image.
    known_mm : tuple of float
        Range of s within which all vertebrae are annotated.
    tolerance_mm : float
    """

    planes: Tensor
    valid: Bool[np.ndarray, "s v"]
    origin_mm: Float[np.ndarray, "2"]
    points: Float[np.ndarray, "k 6 2"]
    complete: Bool[np.ndarray, "k"]
    known_mm: tuple[float, float]
    tolerance_mm: float


def random_window(
    spine: Spine, rng: np.random.Generator, settings: StraightenSettings, strength: float = 1.0
) -> Window:
    """Warp a spine, look at it with another scanner and cut a window out of it.

    `strength` 1 draws deformities and scanners as widely as they come, towards 0 as they mostly are.
    """
    pixel = spine.pixel_mm
    warped = warp_vertebrae(spine.points, rng, DEFORMED * strength) if rng.random() < 0.7 else spine.points
    target = warped[rng.integers(len(warped))].mean(0)
    affine = random_affine(rng, np.array([0.0, target[1]]), shift_mm=2.5)
    points = affine.forward(warped)

    v = np.arange(-settings.anterior_mm, settings.posterior_mm + pixel / 2, pixel)
    middle = target[1] + rng.uniform(-0.5, 0.5) * WINDOW_MM
    s = middle + np.arange(-WINDOW_MM / 2, WINDOW_MM / 2, pixel)
    # The warp changes slowly: compute it on a coarse grid of the window and interpolate.
    nodes = np.stack(np.meshgrid(_coarse(v), _coarse(s), indexing="xy"), -1)
    source = source_of(spine.points, warped, affine.backward(nodes))
    source_t = torch.from_numpy(source).float().movedim(-1, 0)[None]
    source_t = F.interpolate(source_t, size=(len(s), len(v)), mode="bilinear", align_corners=True)[0]

    planes, valid = _sample(spine, source_t, _sideways(rng, settings, s - middle))
    valid = cut_ends(valid, v, s, rng)
    if rng.random() < OSSIFIED * strength:
        planes = ossify(planes, points, v, s, rng)
    if rng.random() < GAS * strength:
        planes = gas_clefts(planes, points, v, s, rng)
    planes = random_appearance(planes, pixel, spine.tolerance_mm == 0, rng, strength)
    origin = np.array([v[0], s[0]])
    if rng.random() < 0.5:
        planes = planes.flip(0)
    known = tuple(float(affine.forward(np.array([0.0, _follow(k, spine.points, warped)]))[1]) for k in spine.known_mm)
    complete = spine.complete & whole_in(points, valid, origin, pixel)
    return Window(blank(planes, valid), valid, origin, points, complete, (known[0], known[1]), spine.tolerance_mm)


def _coarse(values: np.ndarray) -> np.ndarray:
    return np.linspace(values[0], values[-1], len(values) // COARSE + 2)


def _follow(s: float, old: np.ndarray, new: np.ndarray) -> float:
    """Move an end of the known range with the outermost vertebra next to it."""
    if not np.isfinite(s):
        return float(np.sign(s) * 1e6)
    index = int(np.abs(old[..., 1].mean(1) - s).argmin())
    return float(s + (new[index] - old[index])[..., 1].mean())


def _sideways(rng: np.random.Generator, settings: StraightenSettings, along: np.ndarray) -> np.ndarray:
    """Offsets u [c, s] of the planes, as an imperfect centre line gives them: moved, tilted, wider or narrower."""
    shift, tilt = rng.normal(0, 1.3), rng.normal(0, 0.012)
    offsets = np.array(settings.parallel_mm)[:, None] * rng.uniform(0.7, 1.0)
    return np.clip(offsets + shift + tilt * along[None], STACK_U_MM[0], STACK_U_MM[-1])


def _sample(spine: Spine, source_mm: Tensor, u_mm: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Trilinear samples of the stack at (v, s) mm [2, s, v] on the planes u [c, s], and which of them are valid."""
    pixels = (source_mm - torch.from_numpy(spine.origin_mm).float()[:, None, None]) / spine.pixel_mm
    depth = torch.from_numpy((u_mm - STACK_U_MM[0]) / (STACK_U_MM[1] - STACK_U_MM[0])).float()
    size = torch.tensor([spine.planes.shape[2], spine.planes.shape[1]]).float()
    unit = (2 * pixels + 1) / size[:, None, None] - 1  # [2, s, v]
    unit_u = (2 * depth + 1) / len(STACK_U_MM) - 1  # [c, s]
    channels, rows, columns = len(u_mm), *unit.shape[1:]
    grid = torch.empty(1, channels, rows, columns, 3)
    grid[..., :2] = unit.movedim(0, -1)
    grid[..., 2] = unit_u[None, :, :, None]
    stack = torch.from_numpy(spine.planes).float()[None, None]
    planes = F.grid_sample(stack, grid, padding_mode="border", align_corners=False)[0, 0]
    mask = torch.from_numpy(spine.valid).float()[None, None]
    inside = F.grid_sample(mask, unit.movedim(0, -1)[None], padding_mode="zeros", align_corners=False)
    return planes, inside[0, 0].numpy() > 0.5


def whole_in(points: np.ndarray, valid: np.ndarray, origin_mm: np.ndarray, pixel_mm: float) -> np.ndarray:
    """True for vertebrae [k] all of whose keypoints lie at least 1 mm inside the valid image."""
    reach = np.array([[0, 0], [0, 1.0], [0, -1.0]])
    pixels = np.rint((points[:, :, None] + reach - origin_mm) / pixel_mm).astype(int)
    last = np.array(valid.shape[::-1]) - 1
    inside = ((pixels >= 0) & (pixels <= last)).all(-1)
    column, row = np.moveaxis(np.clip(pixels, 0, last), -1, 0)
    return np.all(inside & valid[row, column], axis=(1, 2))


class Windows(torch.utils.data.Dataset):
    """Windows by number: sample `i` of seed `seed` is always the same.

    Parameters
    ----------
    spines : sequence of Spine
    shares : array
        How often each spine is drawn.
    calm_from : int or None
        From this sample on deformities and scanners are drawn with `CALM`, and from real spines only where there are
        any: a network that has seen mostly the extreme leans towards it where it is unsure.
    """

    pixel_mm = StraightenSettings().pixel_mm

    def __init__(
        self, spines: Sequence[Spine], shares: np.ndarray, seed: int, count: int, calm_from: int | None = None
    ) -> None:
        self.spines, self.shares, self.seed, self.count = spines, shares / shares.sum(), seed, count
        self.calm_from = count if calm_from is None else calm_from
        real = shares * np.array([not spine.synthetic for spine in spines])
        self.calm_shares = real / real.sum() if real.any() else self.shares
        self.settings = StraightenSettings()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Window:
        rng = np.random.default_rng([self.seed, i])
        calm = i >= self.calm_from
        spine = self.spines[rng.choice(len(self.spines), p=self.calm_shares if calm else self.shares)]
        return random_window(spine, rng, self.settings, CALM if calm else 1.0)
