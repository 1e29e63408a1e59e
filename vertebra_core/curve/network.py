"""The first network: one point per axial slice, and how sure it is that the slice shows a vertebral body.

Paper 3.1: a 3D UNet-like network makes a map on each axial slice, a 2D soft-argmax turns the map into a point.
A soft-argmax of a slice without a spine is a confident lie, so a second head says whether there is one.

Shapes: B batch, C channels, Z Y X voxels of the 3 mm grid, z y x voxels of the output grid (every second one).
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 96)
"""Channels at 6, 12, 24 and 48 mm; the coarsest level sees the whole body."""
STRIDE = 2
"""Voxels of the input per voxel of the output along each axis; output k is centred on input ``STRIDE * k``."""
MULTIPLE = STRIDE * 2 ** (len(WIDTHS) - 1)
"""Input sizes must be whole multiples of this, so that every level halves exactly."""


class CurvePrediction(NamedTuple):
    """What the network says of each output slice.

    Parameters
    ----------
    points : tensor [B, z, 2]
        (x, y) in voxels of the input grid.
    presence : tensor [B, z]
        Logit that the slice shows a vertebral body (C3 to L5).
    """

    points: Float[Tensor, "b z 2"]
    presence: Float[Tensor, "b z"]


Apply = Callable[..., Any]
"""Applies a stage of the network to one or two tensors: `at_once`, or a slab after the other."""


def at_once(stage: Callable[..., Tensor], *parts: Tensor, halving: bool = False) -> Any:
    """Apply a stage to whole tensors.

    Parameters
    ----------
    stage : callable
        Local along z: slices of its output depend on input slices within two output steps.
    parts : tensor [b, c, z, ...]
        Inputs; their numbers of slices are that of the output, or half of it.
    halving : bool
        The output has half as many slices as the input.
    """
    return stage(*parts)


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions with batch norm round a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm3d(outputs)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm3d(outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class UNet(nn.Module):
    """Encoder and decoder with skips; halves the grid between levels, returns features of the finest level."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(inputs, widths[0], 3, stride=STRIDE, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm3d(widths[0])
        self.levels = nn.ModuleList(ResidualBlock(w, w) for w in widths)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairs)
        self.merge = nn.ModuleList(ResidualBlock(fine, fine) for fine, _ in pairs)

    def forward(self, x: Float[Tensor, "b c Z Y X"], apply: Apply = at_once) -> Float[Tensor, "b w z y x"]:
        x = apply(self._start, x, halving=True)
        skips = []
        for level, down in zip(self.levels, self.down, strict=False):
            x = apply(level, x)
            skips.append(x)
            x = apply(down, x, halving=True)
        x = apply(self.levels[-1], x)
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = apply(partial(_enlarged, up, merge), x, skips.pop())
        return x

    def _start(self, x: Tensor) -> Tensor:
        return torch.relu(self.stem_norm(self.stem(x)))


def _enlarged(up: nn.Module, merge: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    # The 1 x 1 x 1 convolution before the enlargement: an eighth of the work, the same function.
    return merge(nn.functional.interpolate(up(x), scale_factor=2, mode="nearest") + skip)


class CurveNetwork(nn.Module):
    """Step 1 of the method: `UNet`, soft-argmax per axial slice, presence per axial slice.

    Parameters
    ----------
    widths : tuple of int
        Channels of the levels, finest first.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.unet = UNet(2, widths)
        self.attention = nn.Conv3d(widths[0], 1, 1)
        # Seen by the presence head: features under the attention, mean features of the slice, height of the map.
        self.presence = nn.Sequential(
            nn.Conv1d(2 * widths[0] + 1, 32, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(32, 32, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(32, 1, 1),
        )

    def forward(self, x: Float[Tensor, "b 2 Z Y X"], apply: Apply = at_once) -> CurvePrediction:
        points, evidence = apply(self._by_slice, self.unet(x, apply))  # (b, 2, z), (b, 2w + 1, z)
        presence = self.presence(evidence.to(self.attention.weight.device))[:, 0].float()
        return CurvePrediction(points.transpose(1, 2), presence)

    def _by_slice(self, features: Float[Tensor, "b w z y x"]) -> tuple[Float[Tensor, "b 2 z"], Float[Tensor, "b n z"]]:
        """Point and evidence of presence; each slice for itself."""
        logits = self.attention(features).float()[:, 0]  # (b, z, y, x)
        attention = logits.flatten(2).softmax(-1).view_as(logits)
        points = torch.stack([soft_argmax(attention.sum(2)), soft_argmax(attention.sum(3))], -1) * STRIDE
        # Presence must not move the points: it reads the attention but sends no gradient through it.
        by_slice = features.permute(0, 2, 3, 4, 1).flatten(2, 3)  # (b, z, y * x, w)
        seen = (attention.detach().flatten(2)[:, :, None].to(by_slice.dtype) @ by_slice)[:, :, 0]  # (b, z, w)
        height = logits.detach().flatten(2).logsumexp(-1)[..., None] / 10.0
        evidence = torch.cat([seen.float(), by_slice.mean(2).float(), height], -1)
        return points.transpose(1, 2), evidence.transpose(1, 2)


def soft_argmax(weights: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """Mean index under weights that sum to one."""
    return (weights * torch.arange(weights.shape[-1], device=weights.device, dtype=weights.dtype)).sum(-1)
