"""The networks of step 2: a 2D U-Net with an anchor head, and a smaller one that refines each vertebra."""

from typing import cast

import torch
from torch import Tensor, nn

from vertebra_core.keypoints.anchors import anchor_sizes

PLANES = 5
"""Parallel sagittal planes that both networks read as channels (`StraightenSettings.parallel_mm`)."""
WINDOW_HU = (-200.0, 1000.0)
"""Intensities are clipped here and mapped to -1 .. 1: fat and below is background, dense cortex the top. The paper's
zero mean and unit variance would let padding and the field of view set the contrast of bone (case R9)."""


def normalise(hu: Tensor) -> Tensor:
    """Clip HU to the window of both networks and map it to -1 .. 1."""
    low, high = WINDOW_HU
    return (hu.clamp(low, high) - low) * (2.0 / (high - low)) - 1.0


def _convolutions(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
        nn.Conv2d(outside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    )


class UNet2d(nn.Module):
    """A 2D U-Net at full resolution; sides of the input are multiples of 2 ** (len(widths) - 1)."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in zip((channels, *widths), widths, strict=False))
        self.up = nn.ModuleList(
            _convolutions(deep + skip, skip) for deep, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features at full resolution [b, widths[0], h, w], and the deepest ones."""
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else nn.functional.max_pool2d(x, 2))  # [b, widths[i], h / 2^i, w / 2^i]
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        return x, skips[-1]


class KeypointDetector(nn.Module):
    """Anchor network (paper 3.2): at every pixel and for each of sixteen anchors an objectness and six keypoints.

    Input [b, 5, s, v] at `PIXEL_MM`, normalised; sides are multiples of `STRIDE`. `forward` gives objectness logits
    [b, 16, s, v] and features [b, c, s, v]; `keypoints` reads the encoded points (equation 2) of chosen anchors only,
    for less than one anchor in a hundred is ever asked.
    """

    PIXEL_MM = 1.0
    STRIDE = 16

    def __init__(self, widths: tuple[int, ...] = (24, 32, 48, 64, 96)) -> None:
        super().__init__()
        anchors = len(anchor_sizes())
        self.unet = UNet2d(PLANES, widths)
        self.objectness = nn.Conv2d(widths[0], anchors, 1)
        self.points = nn.Parameter(torch.randn(anchors, 12, widths[0]) * 0.02)
        self.points_bias = nn.Parameter(torch.zeros(anchors, 12))
        # Nearly all anchors are empty: start there (RetinaNet's prior), or the first steps only learn "no".
        nn.init.constant_(cast(Tensor, self.objectness.bias), -5.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, _ = self.unet(x)
        return self.objectness(features), features

    def keypoints(self, features: Tensor, image: Tensor, anchor: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Encoded keypoints [n, 6, 2] of n anchors given by image, anchor, row and column."""
        chosen = features.movedim(1, -1)[image, row, column].float()  # [n, c]
        encoded = torch.einsum("nc,npc->np", chosen, self.points[anchor]) + self.points_bias[anchor]
        return encoded.unflatten(1, (6, 2))


class KeypointRefiner(nn.Module):
    """Six heat maps on a patch turned and scaled to one vertebra, and how wrong their heights are likely to be.

    Input [b, 5, 96, 96], normalised. Output: logits [b, 6, 96, 96], whose soft-argmax gives the points, and the log of
    the expected absolute error of ha, hm, hp (pixels of the patch) and of 100 G, [b, 4]. The error is read from the
    spread of the maps and from the deepest features, and learns without moving either.
    """

    SIDE = 96
    """Pixels of a patch: about 0.45 mm each on a thoracic body."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.unet = UNet2d(PLANES, widths)
        self.maps = nn.Conv2d(widths[0], 6, 1)
        self.error = nn.Sequential(nn.Linear(widths[-1] + 12, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, deep = self.unet(x)
        logits = self.maps(features)
        clues = torch.cat([deep.detach().float().mean((2, 3)), spread_2d(logits.detach()).log().flatten(1)], 1)
        return logits, self.error(clues)


def soft_argmax_2d(logits: Tensor) -> Tensor:
    """Expected (column, row) of the softmax of each map, in pixels: [..., h, w] -> [..., 2] (Luvizon et al. 2019)."""
    height, width = logits.shape[-2:]
    weights = logits.float().flatten(-2).softmax(-1).unflatten(-1, (height, width))
    columns = torch.arange(width, device=logits.device, dtype=weights.dtype)
    rows = torch.arange(height, device=logits.device, dtype=weights.dtype)
    return torch.stack([(weights.sum(-2) * columns).sum(-1), (weights.sum(-1) * rows).sum(-1)], -1)


def spread_2d(logits: Tensor) -> Tensor:
    """Standard deviation (across, along), in pixels, of the softmax of each map: [..., h, w] -> [..., 2]."""
    height, width = logits.shape[-2:]
    weights = logits.float().flatten(-2).softmax(-1).unflatten(-1, (height, width))
    spreads = []
    for profile in (weights.sum(-2), weights.sum(-1)):
        place = torch.arange(profile.shape[-1], device=logits.device, dtype=profile.dtype)
        mean = (profile * place).sum(-1, keepdim=True)
        spreads.append((profile * (place - mean) ** 2).sum(-1).clamp_min(1e-4).sqrt())
    return torch.stack(spreads, -1)
