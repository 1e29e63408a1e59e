"""Training of the refiner: six heat maps on a patch turned and scaled to one vertebra."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vertebra_core.keypoints.network import KeypointRefiner, normalise, soft_argmax_2d
from vertebra_core.keypoints.patches import patches_around, sample_patches
from vertebra_core.training.loop import STEADY_FROM, Run, fit
from vertebra_core.training.samples import Window, Windows
from vertebra_core.training.spines import Spine

HEIGHT_WEIGHT = 0.5
"""Weight of the error of the three heights beside that of the six points."""
FORGIVEN = 0.5
"""Share of an error within the tolerance of an uncertain reading that does not count. With all of it forgiven, heights
of thick scans of patients left out were 0.94 to 1.3 mm off the readings (docs/experiments.md)."""
MAP_WEIGHT = 0.02
"""Weight of the cross-entropy to a small Gaussian: without it a map may stay on a plateau for ever and its corner lie
8-24 mm off while heights still look fine (learning by experiment)."""
MAP_SIGMA_PX = 2.0
CALM_FROM = STEADY_FROM
"""Share of the steps after which the samples become what most scans look like (`vertebra_core.training.samples`)."""
ERROR_WEIGHT = 0.1
"""Weight of the expected error, which learns beside the rest."""
LEARNING_RATE = 2e-3
JITTER = 0.06
"""Standard deviation of the detector's errors that the patches are drawn with, as a share of the vertebra's size."""


@dataclass(frozen=True)
class PatchBatch:
    """Patches of n vertebrae with their truth.

    Parameters
    ----------
    x : tensor [n, 5, p, p]
    points : tensor [n, 6, 2]
        Pixels of the patch.
    mm : tensor [n]
        Size of a pixel.
    tolerance : tensor [n]
        Heights may be this far (mm) from the reading without being wrong.
    """

    x: Tensor
    points: Tensor
    mm: Tensor
    tolerance: Tensor

    def to(self, device: str) -> "PatchBatch":
        """The same on another device."""
        return PatchBatch(*(getattr(self, f.name).to(device) for f in fields(self)))


def make_patches(window: Window, rng: np.random.Generator) -> PatchBatch:
    """Patches of all whole vertebrae of a window, drawn around points that err as the detector's do."""
    points = window.points[window.complete]
    if not len(points):
        empty = torch.zeros(0)
        side = KeypointRefiner.SIDE
        return PatchBatch(torch.zeros(0, 5, side, side), torch.zeros(0, 6, 2), empty, empty)
    size = np.ptp(points, axis=1).max(1)[:, None, None]
    moved = points + rng.normal(0, JITTER, (len(points), 1, 2)) * size  # the whole vertebra
    moved = moved + rng.normal(0, JITTER / 2, points.shape) * size  # each point
    centre = moved.mean(1, keepdims=True)
    moved = centre + (moved - centre) * rng.normal(1, 0.06, (len(points), 1, 1))
    patches = patches_around(moved, KeypointRefiner.SIDE)
    x = normalise(sample_patches(window.planes, window.origin_mm, Windows.pixel_mm, patches))
    return PatchBatch(
        x,
        torch.from_numpy(patches.patch_from_plane(points)).float(),
        torch.from_numpy(patches.side_mm / patches.pixels).float(),
        torch.full((len(points),), window.tolerance_mm),
    )


def heights_of(points: Tensor) -> Tensor:
    """Heights [n, 3] of keypoints [n, 6, 2]."""
    return (points[:, 0::2] - points[:, 1::2]).norm(dim=-1)


def g_of(heights: Tensor) -> Tensor:
    """Genant index [n] of heights [n, 3] (paper equation 1)."""
    return heights.amin(1) / heights.amax(1).clamp_min(1e-3)


def forgiving(error: Tensor, tolerance: Tensor) -> Tensor:
    """Absolute error that counts less up to the tolerance (`FORGIVEN`), and in full beyond it."""
    away = error.abs()
    return away - FORGIVEN * torch.minimum(away, tolerance)


def refinement_loss(logits: Tensor, log_error: Tensor, batch: PatchBatch) -> tuple[Tensor, Tensor]:
    """Loss, and the plain mean distance in mm of each of the six points (each must leave its plateau)."""
    predicted = soft_argmax_2d(logits)  # [n, 6, 2] pixels
    mm, tolerance = batch.mm[:, None], batch.tolerance[:, None]
    error = (predicted - batch.points) * mm[..., None]
    off = heights_of(predicted) * mm - heights_of(batch.points) * mm
    true_g = g_of(heights_of(batch.points))
    # Rows of a patch run along the vertebra: only there is a border uncertain, by half of what a height is.
    across, along = error[..., 0].abs(), forgiving(error[..., 1], tolerance / 2)
    each = (across + along).mean(1) + HEIGHT_WEIGHT * forgiving(off, tolerance).mean(1)
    weight = 1.0 / true_g.clamp(0.3, 1.0)
    loss = ((each + MAP_WEIGHT * _cross_entropy(logits, batch.points)) * weight).sum() / weight.sum().clamp_min(1e-6)
    wrong = torch.cat([off.detach() / mm, 100 * (g_of(heights_of(predicted)).detach() - true_g)[:, None]], 1)
    sure = (batch.tolerance == 0).float()[:, None]  # an uncertain reading says little about the error
    # Negative log-likelihood of a Laplace distribution whose scale is the expected absolute error.
    likelihood = (log_error + wrong.abs() * torch.exp(-log_error)) * sure
    loss = loss + ERROR_WEIGHT * likelihood.sum() / (4 * sure.sum()).clamp_min(1.0)
    return loss, error.detach().norm(dim=-1).mean(0)


def _cross_entropy(logits: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy [n] of the maps to a small Gaussian about each true point (pixels)."""
    axis = torch.arange(logits.shape[-1], device=logits.device)
    gaussian = torch.exp(-0.5 * ((points[..., None] - axis) / MAP_SIGMA_PX) ** 2)  # [n, 6, 2, p]
    wanted = gaussian[:, :, 1, :, None] * gaussian[:, :, 0, None, :]
    wanted = wanted / wanted.sum((-1, -2), keepdim=True).clamp_min(1e-6)
    return -(wanted * logits.float().flatten(2).log_softmax(-1).view_as(wanted)).sum((-1, -2)).mean(1)


class _Collate:
    """Patches of a list of windows; the jitter is drawn from the windows' own content, so it repeats too."""

    def __call__(self, windows: list[Window]) -> PatchBatch:
        parts = [make_patches(w, np.random.default_rng(abs(int(w.planes.sum().item())) % 2**32)) for w in windows]
        return PatchBatch(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(PatchBatch)))


def train_refiner(
    spines: Sequence[Spine], shares: np.ndarray, checkpoint: Path, *, steps: int, batch: int = 4, **how: Any
) -> KeypointRefiner:
    """Train the refiner on `batch` windows (six to ten vertebrae each) a step; goes on from `checkpoint`.

    `how`: fields of `Run`.
    """
    torch.manual_seed(how.get("seed", 0))
    run = Run("refiner", checkpoint, steps, batch, LEARNING_RATE, **how)
    data = Windows(spines, shares, run.seed + 1, steps * batch, calm_from=round(CALM_FROM * steps) * batch)

    def loss_of(model: KeypointRefiner, patches: PatchBatch) -> tuple[Tensor, np.ndarray] | None:
        """Loss and the distances of the six points, mm."""
        if len(patches.x) < 2:  # batch normalisation needs two
            return None
        patches = patches.to(run.device)
        with torch.autocast(run.device, torch.bfloat16):
            logits, log_error = model(patches.x.to(memory_format=torch.channels_last))
        loss, each = refinement_loss(logits, log_error.float(), patches)
        return loss, each.cpu().numpy()

    def report(each: np.ndarray) -> str:
        """The six distances as text."""
        return f"distance of the six points {' '.join(f'{d:.2f}' for d in each)} mm"

    network = KeypointRefiner().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stubs
    return fit(network, data, _Collate(), loss_of, report, run)
