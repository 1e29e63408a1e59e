"""Training of the refiner: six heat maps on a patch turned and scaled to one vertebra."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vertebra_core.keypoints.network import KeypointRefiner, normalise, soft_argmax_2d
from vertebra_core.keypoints.patches import patches_around, sample_patches
from vertebra_core.measure import genant_index
from vertebra_core.training.checkpoint import load_checkpoint, save_checkpoint
from vertebra_core.training.detector import learning_curve
from vertebra_core.training.samples import Window, Windows
from vertebra_core.training.spines import Spine

HEIGHT_WEIGHT = 0.5
"""Weight of the error of the three heights beside that of the six points."""
MAP_WEIGHT = 0.02
"""Weight of the cross-entropy to a small Gaussian: without it a map may stay on a plateau for ever and its corner lie
8-24 mm off while heights still look fine (learning by experiment)."""
MAP_SIGMA_PX = 2.0
CALM_FROM = 0.77
"""Share of the steps after which the samples become what most scans look like (`vertebra_core.training.samples`)."""
JITTER = 0.06
"""Standard deviation of the detector's errors that the patches are drawn with, as a share of the vertebra's size."""


@dataclass(frozen=True)
class PatchBatch:
    """Patches [n, 5, p, p], their points [n, 6, 2] in pixels, mm per pixel [n] and weights [n]."""

    x: Tensor
    points: Tensor
    mm: Tensor
    weight: Tensor


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
    heights = np.linalg.norm(points[:, 0::2] - points[:, 1::2], axis=-1)
    weight = window.sharpness / np.clip(genant_index(heights), 0.3, 1.0)
    return PatchBatch(
        x,
        torch.from_numpy(patches.patch_from_plane(points)).float(),
        torch.from_numpy(patches.side_mm / patches.pixels).float(),
        torch.from_numpy(weight).float(),
    )


def refinement_loss(logits: Tensor, batch: PatchBatch) -> tuple[Tensor, Tensor]:
    """Loss, and the plain mean distance in mm of each of the six points (each must leave its plateau)."""
    predicted = soft_argmax_2d(logits)  # [n, 6, 2] pixels
    mm = batch.mm[:, None, None]
    error = (predicted - batch.points) * mm
    heights = (predicted[:, 0::2] - predicted[:, 1::2]).norm(dim=-1) - (
        batch.points[:, 0::2] - batch.points[:, 1::2]
    ).norm(dim=-1)
    side = logits.shape[-1]
    axis = torch.arange(side, device=logits.device)
    gaussian = torch.exp(-0.5 * ((batch.points[..., None] - axis) / MAP_SIGMA_PX) ** 2)  # [n, 6, 2, p]
    wanted = gaussian[:, :, 1, :, None] * gaussian[:, :, 0, None, :]
    wanted = wanted / wanted.sum((-1, -2), keepdim=True).clamp_min(1e-6)
    cross = -(wanted * logits.float().flatten(2).log_softmax(-1).view_as(wanted)).sum((-1, -2)).mean(1)
    each = error.abs().sum(-1).mean(1) + HEIGHT_WEIGHT * heights.abs().mul(batch.mm[:, None]).mean(1)
    loss = ((each + MAP_WEIGHT * cross) * batch.weight).sum() / batch.weight.sum().clamp_min(1e-6)
    return loss, error.detach().norm(dim=-1).mean(0)


class _Collate:
    """Patches of a list of windows; the jitter is drawn from the windows' own content, so it repeats too."""

    def __call__(self, windows: list[Window]) -> PatchBatch:
        parts = [make_patches(w, np.random.default_rng(abs(int(w.planes.sum().item())) % 2**32)) for w in windows]
        return PatchBatch(*(torch.cat([getattr(p, name) for p in parts]) for name in ("x", "points", "mm", "weight")))


def train_refiner(
    spines: Sequence[Spine],
    shares: np.ndarray,
    checkpoint: Path,
    *,
    steps: int = 2600,
    batch: int = 4,
    learning_rate: float = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    loaders: int = 1,
    say: Callable[[str], None] = print,
) -> KeypointRefiner:
    """Train the refiner on `batch` windows (six to ten vertebrae each) a step; goes on from `checkpoint`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = KeypointRefiner().to(device)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - absent from torch's stubs
    optimiser = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=1e-3)
    done = load_checkpoint(checkpoint, model, optimiser, rng)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: learning_curve(i + done, steps))
    calm_from = round(CALM_FROM * steps) * batch
    windows = Windows(spines, shares, seed + 1, steps * batch, calm_from)
    data = torch.utils.data.Subset(windows, range(done * batch, steps * batch))
    loader = torch.utils.data.DataLoader(data, batch, collate_fn=_Collate(), num_workers=loaders)
    model.train()
    recent: list[np.ndarray] = []
    for step, patches in enumerate(loader, done + 1):
        if len(patches.x) >= 2:  # batch normalisation needs two
            patches = PatchBatch(*(getattr(patches, n).to(device) for n in ("x", "points", "mm", "weight")))
            with torch.autocast(device, torch.bfloat16):
                logits = model(patches.x.to(memory_format=torch.channels_last))
            loss, each = refinement_loss(logits, patches)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            recent.append(each.cpu().numpy())
        schedule.step()
        if step % 50 == 0 or step == steps:
            distances = " ".join(f"{d:.2f}" for d in np.mean(recent, 0))
            say(f"refiner step {step}/{steps}: distance of the six points {distances} mm")
            recent.clear()
        if step % 250 == 0 or step == steps:
            save_checkpoint(checkpoint, model, optimiser, step, rng)
    return model.eval()
