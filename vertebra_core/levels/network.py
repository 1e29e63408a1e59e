"""The network that tells levels: it runs along the straightened spine and says what each place looks like."""

import torch
from torch import Tensor, nn

from vertebra_core.levels.names import LOOKS

GRID_MM = 3.0
"""Distance of samples: ribs and processes are 5-15 mm thick, and half of all CT has slices of 2.5-5 mm."""
ACROSS = 36
"""Samples across the line in both directions."""
FRONT_MM = -46.5
"""v of the first sample: 105 mm from the front of the body to behind the spinous process."""
SOFT_HU, BONE_HU = (-1000.0, 300.0), (50.0, 950.0)
"""Two windows: lung, fat and muscle; bone."""
ROW_MM = 2 * GRID_MM
"""Distance of the rows of the network's answer."""
REACH_MM = 60.0
"""What lies this far up and down the line can change the answer: two vertebrae each way."""


def channels(hu: Tensor, inside: Tensor) -> Tensor:
    """Input of the network [b, 3, s, v, u] from HU and a mask of what lies inside the image [b, s, v, u]."""
    windows = [(hu.clamp(low, high) - low) * (2.0 / (high - low)) - 1.0 for low, high in (SOFT_HU, BONE_HU)]
    mask = inside.to(hu.dtype)
    return torch.stack([*(w * mask for w in windows), mask], 1)


def _convolution(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm3d(outside), nn.ReLU(inplace=True)
    )


class LevelNetwork(nn.Module):
    """3D convolutions shrink each slab across the line to one vector; 1D convolutions look along the line.

    Input [b, 3, s, 36, 36] at `GRID_MM`, s even. Output: logits [b, looks, s / 2], one row every `ROW_MM`; row i lies
    between the input rows 2 i and 2 i + 1.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 32, 48), along: int = 64) -> None:
        super().__init__()
        first, second, third, last = widths
        self.slabs = nn.Sequential(
            nn.Conv3d(3, first, 4, stride=2, padding=1, bias=False),  # [b, c, s/2, 18, 18]
            nn.BatchNorm3d(first),
            nn.ReLU(inplace=True),
            _convolution(first, second),
            nn.MaxPool3d((1, 2, 2)),  # 9 x 9
            _convolution(second, third),
            nn.MaxPool3d((1, 2, 2), ceil_mode=True),  # 5 x 5
            _convolution(third, last),
            nn.Dropout3d(0.1),
            nn.Conv3d(last, along, (1, 5, 5), bias=False),  # [b, c, s/2, 1, 1]: where across the line is kept
        )
        self.flat = nn.Sequential(nn.BatchNorm1d(along), nn.ReLU(inplace=True))
        self.line = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(along, along, 3, padding=step, dilation=step, bias=False),
                nn.BatchNorm1d(along),
                nn.ReLU(inplace=True),
            )
            for step in (1, 2, 3)
        )
        self.looks = nn.Sequential(nn.Dropout(0.3), nn.Conv1d(along, len(LOOKS), 1))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.flat(self.slabs(x)[..., 0, 0])
        for block in self.line:
            rows = rows + block(rows)
        return self.looks(rows)


def at_places(logits: Tensor, rows: Tensor) -> Tensor:
    """Logits [n, looks] at fractional rows [n] of one spine's answer [looks, r]; linear between, constant beyond."""
    last = logits.shape[1] - 1
    rows = rows.clamp(0, last)
    low = rows.floor().long().clamp(max=max(last - 1, 0))
    high = (low + 1).clamp(max=last)
    share = (rows - low).to(logits.dtype)
    return (logits[:, low] * (1 - share) + logits[:, high] * share).T
