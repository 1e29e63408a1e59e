"""Training of the anchor network (paper 3.2, equation 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.keypoints.anchors import POSITIVE_OVERLAP, anchor_overlap, anchor_sizes, boxes_of, encode
from vertebra_core.keypoints.network import KeypointDetector, normalise
from vertebra_core.measure import genant_index
from vertebra_core.training.loop import Run, fit
from vertebra_core.training.samples import Window, Windows
from vertebra_core.training.spines import Spine

IGNORED_OVERLAP = 0.3
"""Anchors that overlap a vertebra that is cut, or cropped, more than this are neither right nor wrong."""
KEYPOINT_WEIGHT = 10.0
"""Weight of the keypoint term: encoded errors are fractions of an anchor (1 mm is 0.04), the objectness term is not."""
LEARNING_RATE = 1e-3
POOL = 2
"""Planes are averaged from 0.5 mm to the detector's 1 mm."""


@dataclass(frozen=True)
class Targets:
    """What the detector should say on one window: objectness [a, s, v] (NaN: ignored) and the positives in detail.

    ``anchor``, ``row`` and ``column`` [n] say which are vertebrae, ``encoded`` [n, 6, 2] their keypoints,
    ``weight`` [n] = 1 / G.
    """

    objectness: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    encoded: Tensor
    weight: Tensor


def make_targets(window: Window, pixel_mm: float) -> Targets:
    """Targets of one window (paper Fig. 3): an anchor is a vertebra where their IoU is over 0.5."""
    rows, columns = window.valid.shape[0] // POOL, window.valid.shape[1] // POOL
    centre = (POOL - 1) / 2 * pixel_mm
    v = window.origin_mm[0] + centre + np.arange(columns) * POOL * pixel_mm
    s = window.origin_mm[1] + centre + np.arange(rows) * POOL * pixel_mm
    objectness = np.zeros((len(anchor_sizes()), rows, columns), np.float32)
    valid = window.valid[: rows * POOL : POOL, : columns * POOL : POOL]
    objectness[:, ~valid] = np.nan
    outside = (s < window.known_mm[0]) | (s > window.known_mm[1])
    objectness[:, outside] = np.nan

    boxes = boxes_of(window.points)
    near = (boxes[:, 3] > s[0] - 20) & (boxes[:, 1] < s[-1] + 20)
    cut = near & ~window.complete
    if cut.any():
        objectness[(anchor_overlap(boxes[cut], v, s) > IGNORED_OVERLAP).any(0)] = np.nan
    whole = near & window.complete
    points = window.points[whole]
    if not whole.any():
        none = torch.zeros(0, dtype=torch.long)
        return Targets(torch.from_numpy(objectness), none, none, none, torch.zeros(0, 6, 2), torch.zeros(0))
    overlaps = anchor_overlap(boxes[whole], v, s)
    best = overlaps.reshape(len(points), -1).max(1)
    # A vertebra that fits no anchor well still gets its best one (Ren et al. 2015, section 3.1.2).
    positive = overlaps > np.minimum(POSITIVE_OVERLAP, best * 0.999)[:, None, None, None]
    owner = np.where(positive, overlaps, 0).argmax(0)
    objectness[positive.any(0)] = 1.0
    anchor, row, column = np.nonzero(positive.any(0))
    mine = owner[anchor, row, column]
    encoded = encode(points[mine], np.stack([v[column], s[row]], 1), anchor_sizes()[anchor])
    heights = np.linalg.norm(points[:, 0::2] - points[:, 1::2], axis=-1)
    weight = 1.0 / np.clip(genant_index(heights), 0.3, 1.0)
    return Targets(
        torch.from_numpy(objectness),
        torch.from_numpy(anchor),
        torch.from_numpy(row),
        torch.from_numpy(column),
        torch.from_numpy(encoded).float(),
        torch.from_numpy(weight[mine]).float(),
    )


def detection_loss(
    model: KeypointDetector, objectness: Tensor, features: Tensor, targets: Sequence[Targets]
) -> tuple[Tensor, Tensor]:
    """Both terms of equation 3: log-loss of the objectness, and MAE of the encoded keypoints weighted by 1/G.

    The log-loss is summed and divided by the number of positive anchors: its mean over all anchors, 0.4 % of which
    are vertebrae, would be outweighed by the second term.
    """
    device = objectness.device
    wanted = torch.stack([t.objectness for t in targets]).to(device)
    counts = torch.tensor([len(t.anchor) for t in targets])
    positives = max(1, int(counts.sum()))
    known = torch.isfinite(wanted)
    log_loss = F.binary_cross_entropy_with_logits(objectness.float(), torch.nan_to_num(wanted), reduction="none")
    image = torch.repeat_interleave(torch.arange(len(targets)), counts).to(device)
    anchor, row, column, encoded, weight = (
        torch.cat([getattr(t, name) for t in targets]).to(device)
        for name in ("anchor", "row", "column", "encoded", "weight")
    )
    error = (model.keypoints(features, image, anchor, row, column) - encoded).abs().mean((1, 2))
    return (log_loss * known).sum() / positives, (error * weight).sum() / positives


def _collate(windows: list[Window]) -> tuple[Tensor, list[Targets]]:
    pixel = Windows.pixel_mm
    x = torch.stack([F.avg_pool2d(normalise(w.planes)[None], POOL)[0] for w in windows])
    return x, [make_targets(w, pixel) for w in windows]


def train_detector(
    spines: Sequence[Spine],
    shares: np.ndarray,
    checkpoint: Path,
    *,
    steps: int,
    batch: int = 8,
    learning_rate: float = LEARNING_RATE,
    **how: Any,
) -> KeypointDetector:
    """Train the anchor network; goes on from `checkpoint` where it exists. `how`: fields of `Run`."""
    torch.manual_seed(how.get("seed", 0))
    run = Run("detector", checkpoint, steps, batch, learning_rate, **how)
    data = Windows(spines, shares, run.seed, steps * batch)

    def loss_of(model: KeypointDetector, samples: tuple[Tensor, list[Targets]]) -> tuple[Tensor, np.ndarray]:
        """Loss, and both of its terms."""
        x, targets = samples
        with torch.autocast(run.device, torch.bfloat16):
            objectness, features = model(x.to(run.device, memory_format=torch.channels_last))
        bce, error = detection_loss(model, objectness, features, targets)
        return bce + KEYPOINT_WEIGHT * error, np.array([bce.item(), error.item()])

    def report(mean: np.ndarray) -> str:
        """Both terms as text."""
        return f"objectness {mean[0]:.3f}, keypoints {mean[1]:.4f}"

    network = KeypointDetector().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stubs
    return fit(network, data, _collate, loss_of, report, run)
