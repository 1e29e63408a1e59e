"""The first network: one point per axial slice, and how sure it is that the slice shows a vertebral body.

Paper 3.1: a 3D UNet-like network makes a map on each axial slice, a 2D soft-argmax turns the map into a point.
A soft-argmax of a slice without a spine is a confident lie, so a second head says whether there is one.

Shapes: B batch, C channels, Z Y X voxels of the 3 mm grid, z y x voxels of the output grid (every second one).
"""

from itertools import pairwise
from typing import NamedTuple

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

    def forward(self, x: Float[Tensor, "b c Z Y X"]) -> Float[Tensor, "b w z y x"]:
        x = torch.relu(self.stem_norm(self.stem(x)))
        skips = []
        for level, down in zip(self.levels, self.down, strict=False):
            x = level(x)
            skips.append(x)
            x = down(x)
        x = self.levels[-1](x)
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            # The 1 x 1 x 1 convolution before the enlargement: an eighth of the work, the same function.
            x = merge(nn.functional.interpolate(up(x), scale_factor=2, mode="nearest") + skips.pop())
        return x


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

    def forward(self, x: Float[Tensor, "b 2 Z Y X"]) -> CurvePrediction:
        features = self.unet(x)  # (b, w, z, y, x)
        logits = self.attention(features).float()[:, 0]  # (b, z, y, x)
        attention = logits.flatten(2).softmax(-1).view_as(logits)
        points = torch.stack([soft_argmax(attention.sum(2)), soft_argmax(attention.sum(3))], -1) * STRIDE
        # Presence must not move the points: it reads the attention but sends no gradient through it.
        by_slice = features.permute(0, 2, 3, 4, 1).flatten(2, 3)  # (b, z, y * x, w)
        seen = (attention.detach().flatten(2)[:, :, None].to(by_slice.dtype) @ by_slice)[:, :, 0]  # (b, z, w)
        height = logits.detach().flatten(2).logsumexp(-1)[..., None] / 10.0
        evidence = torch.cat([seen.float(), by_slice.mean(2).float(), height], -1).transpose(1, 2)  # (b, 2w + 1, z)
        return CurvePrediction(points, self.presence(evidence)[:, 0].float())


def soft_argmax(weights: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """Mean index under weights that sum to one."""
    return (weights * torch.arange(weights.shape[-1], device=weights.device, dtype=weights.dtype)).sum(-1)
