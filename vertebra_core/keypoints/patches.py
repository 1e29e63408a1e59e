"""The patch of one vertebra: turned to its own axis and scaled to its size, so that the refiner sees all alike."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SIDE_OVER_SIZE = 1.7
"""Side of a patch over the larger of depth and height of the vertebra: the body and both neighbouring endplates."""


@dataclass(frozen=True)
class Patches:
    """Where n patches lie in the straightened plane.

    Parameters
    ----------
    centre_mm : array [n, 2]
        (v, s) of the middle of the patch.
    side_mm : array [n]
    angle : array [n]
        Radians by which the patch is turned: its rows run along the vertebra's own axis.
    pixels : int
        Pixels along a side.
    """

    centre_mm: Float[np.ndarray, "n 2"]
    side_mm: Float[np.ndarray, "n"]
    angle: Float[np.ndarray, "n"]
    pixels: int

    def _turn(self) -> np.ndarray:
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # plane from patch, [n, 2, 2]

    def plane_from_patch(self, pixels: Float[np.ndarray, "n m 2"]) -> Float[np.ndarray, "n m 2"]:
        """Map (column, row) of the patch to (v, s) mm."""
        scale = (self.side_mm / self.pixels)[:, None, None]
        local = (pixels - (self.pixels - 1) / 2) * scale
        return np.einsum("nij,nmj->nmi", self._turn(), local) + self.centre_mm[:, None]

    def patch_from_plane(self, points: Float[np.ndarray, "n m 2"]) -> Float[np.ndarray, "n m 2"]:
        """Map (v, s) mm to (column, row) of the patch; exact inverse of `plane_from_patch`."""
        scale = (self.side_mm / self.pixels)[:, None, None]
        local = np.einsum("nji,nmj->nmi", self._turn(), points - self.centre_mm[:, None])
        return local / scale + (self.pixels - 1) / 2


def patches_around(points: Float[np.ndarray, "n 6 2"], pixels: int) -> Patches:
    """Patches around vertebrae whose keypoints (v, s) mm are roughly known."""
    corners = points[:, [0, 1, 4, 5]]
    tops, bottoms = corners[:, [0, 2]].mean(1), corners[:, [1, 3]].mean(1)
    fronts, backs = corners[:, :2].mean(1), corners[:, 2:].mean(1)
    along, across = bottoms - tops, backs - fronts
    # The axis is the mean of the downward direction and the backward direction turned by a right angle:
    # a crushed body has a short and unsure downward one.
    axis = along + np.stack([-across[:, 1], across[:, 0]], -1)
    size = np.maximum(np.linalg.norm(along, axis=1), np.linalg.norm(across, axis=1))
    return Patches(corners.mean(1), SIDE_OVER_SIZE * size, np.arctan2(-axis[:, 0], axis[:, 1]), pixels)


def sample_patches(
    planes: Tensor, origin_mm: Float[np.ndarray, "2"], pixel_mm: float, patches: Patches
) -> Float[Tensor, "n c p p"]:
    """Bilinear samples of the planes [c, s, v] on the patches; beyond the planes: their border values."""
    grid = np.stack(np.meshgrid(np.arange(patches.pixels), np.arange(patches.pixels), indexing="xy"), -1)
    flat = np.broadcast_to(grid.reshape(1, -1, 2), (len(patches.side_mm), patches.pixels**2, 2)).astype(float)
    pixels = (patches.plane_from_patch(flat) - origin_mm) / pixel_mm
    extent = np.array(planes.shape[:0:-1], float)  # (v, s)
    unit = torch.from_numpy((2 * pixels + 1) / extent - 1).float()
    unit = unit.reshape(1, -1, patches.pixels, 2).to(planes.device)  # all patches one above the other
    tall = torch.nn.functional.grid_sample(planes[None], unit, padding_mode="border", align_corners=False)
    return tall[0].unflatten(1, (-1, patches.pixels)).movedim(1, 0)
