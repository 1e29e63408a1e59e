"""Random pieces of scans as the first network sees them: turned, bent, cut, and painted anew."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.training.curve_appearance import repaint
from vertebra_core.training.curve_cases import ABSENT, CUT_END_MM, PRESENT, SOURCE_MM, UNKNOWN, CurveCase
from vertebra_core.volume import AIR_HU

GRID_MM = 3.0
"""Grid of the network (paper 5.1; `CurveSettings.grid_mm`)."""


@dataclass(frozen=True)
class Piece:
    """A random piece of a scan as the first network sees it, with its truth.

    Parameters
    ----------
    hu : tensor [Z, Y, X], float32
        Cubes of `GRID_MM`, z ascending.
    points : tensor [Z, 2]
        (x, y) of the true line in every slice, voxels.
    placed : tensor [Z], bool
        The point is known and in view.
    status : tensor [Z], int64
        PRESENT, ABSENT or UNKNOWN.
    """

    hu: Tensor
    points: Tensor
    placed: Tensor
    status: Tensor


@dataclass(frozen=True)
class Warp:
    """Patient point = matrix @ (piece point + bend(z)) + shift; piece points are mm from the piece's centre."""

    matrix: np.ndarray
    shift: np.ndarray
    amplitude: np.ndarray  # [waves, 2], mm
    wavelength: np.ndarray  # [waves], mm
    phase: np.ndarray  # [waves]

    def bend(self, z: np.ndarray) -> np.ndarray:
        """Sideways shift (x, y) [n, 2] of the slices at height z, mm: scoliosis, kyphosis, lordosis."""
        waves = np.sin(2 * np.pi * z[:, None] / self.wavelength + self.phase) @ self.amplitude
        return waves - np.sin(self.phase) @ self.amplitude  # the middle of the piece stays where it is

    def piece_from_patient(self, points: np.ndarray) -> np.ndarray:
        """Map LPS points [n, 3] to mm from the piece's centre."""
        out = (points - self.shift) @ np.linalg.inv(self.matrix).T
        out[:, :2] -= self.bend(out[:, 2])
        return out


def random_warp(case: CurveCase, size_mm: np.ndarray, rng: np.random.Generator) -> Warp:
    """Turn, scale, mirror and bend a scan, and choose where the spine lies in the piece.

    Turns to 17 degrees about each axis and bends as in learning by experiment; sizes 0.8 to 1.25 span adults of all
    statures. ``size_mm`` is the extent (x, y, z) of the piece.
    """
    turn = Rotation.from_euler("xyz", rng.normal(0, 7, 3).clip(-17, 17), degrees=True).as_matrix()
    scale = np.exp(rng.uniform(np.log(0.8), np.log(1.25))) * np.exp(rng.normal(0, 0.04, 3))
    mirror = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0])
    matrix = turn @ np.diag(1.0 / scale) @ mirror
    amplitude = rng.normal(0, 1, (2, 2)) * [[9.0, 6.0], [4.0, 3.0]] * rng.choice([0.0, 1.0, 2.0], p=[0.3, 0.5, 0.2])
    wavelength = rng.uniform([220, 120], [600, 250])
    in_scan = (case.line[:, 2] > case.origin[2]) & (case.line[:, 2] < case.origin[2] + SOURCE_MM * case.hu.shape[0])
    weight = np.where(in_scan, np.where(case.status == PRESENT, 1.0, 0.6), 0.0)
    target = case.line[rng.choice(len(case.line), p=weight / weight.sum())]
    narrow = size_mm[0] < 250
    across = np.array([rng.normal(0, 0.12), rng.uniform(-0.3, 0.35) if narrow else rng.uniform(-0.1, 0.38)])
    across[0] += rng.choice([0.0, rng.uniform(-0.35, 0.35)], p=[0.6, 0.4])
    place = np.r_[across, rng.uniform(-0.3, 0.3)] * size_mm
    warp = Warp(matrix, np.zeros(3), amplitude, wavelength, rng.uniform(0, 2 * np.pi, 2))
    bent = place + np.r_[warp.bend(place[2:])[0], 0.0]
    return Warp(matrix, target - matrix @ bent, amplitude, wavelength, warp.phase)


def _sample(stored: np.ndarray, index: Tensor, mode: str) -> Tensor:
    """Values of an array [d, h, w] at voxel positions [z, y, x, 3] (x, y, z); 0 outside."""
    size = torch.tensor(stored.shape[::-1])
    # Only the part that is needed becomes float32; two voxels wide at least, so that a step is defined.
    ends = index[:, [0, -1]][:, :, [0, -1]]  # each slice of positions is a parallelogram
    low = torch.minimum(ends.amin((0, 1, 2)).floor().long(), size - 2).clamp_min(0)
    high = torch.maximum(torch.minimum(ends.amax((0, 1, 2)).ceil().long() + 1, size), low + 2)
    (x0, y0, z0), (x1, y1, z1) = low.tolist(), high.tolist()
    part = torch.from_numpy(stored[z0:z1, y0:y1, x0:x1].astype(np.float32))
    grid = (index - low) / (high - low - 1) * 2 - 1
    return F.grid_sample(part[None, None], grid[None], mode, "zeros", align_corners=True)[0, 0]


def cut_piece(case: CurveCase, warp: Warp, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Piece]:
    """Sample a piece: HU, structures, and the piece with its truth before any change of appearance."""
    half = (np.array(shape[::-1]) - 1) / 2 * GRID_MM
    z, y, x = (GRID_MM * np.arange(n) - half[2 - axis] for axis, n in enumerate(shape))
    shift = warp.bend(z)
    columns = warp.matrix.T / SOURCE_MM  # contribution of each piece coordinate to the source's voxel index
    start = (warp.shift - case.origin) / SOURCE_MM + np.c_[shift, z] @ columns  # [z, 3]
    a = [torch.from_numpy(v.astype(np.float32)) for v in (start, y[:, None] * columns[1], x[:, None] * columns[0])]
    index = a[0][:, None, None] + a[1][None, :, None] + a[2][None, None]
    hu = _sample(case.hu - np.int16(AIR_HU), index, "bilinear") + AIR_HU
    structures = torch.zeros_like(hu)
    if case.structures.any():
        structures = _sample(case.structures, index, "nearest")
    return hu, structures, _truth(case, warp, hu, z, half)


def _truth(case: CurveCase, warp: Warp, hu: Tensor, z: np.ndarray, half: np.ndarray) -> Piece:
    line = warp.piece_from_patient(case.line)
    order = np.argsort(line[:, 2])
    xy = np.stack([np.interp(z, line[order, 2], line[order, a]) for a in (0, 1)], 1)
    nearest = np.abs(line[:, 2] - z[:, None]).argmin(1)
    status = case.status[nearest].astype(int)
    source_z = case.line[nearest, 2] - case.origin[2]
    beyond = np.maximum(-source_z, source_z - SOURCE_MM * (case.hu.shape[0] - 1))
    status[beyond > 0] = UNKNOWN
    status[beyond > CUT_END_MM] = ABSENT
    edge = (half[:2] - np.abs(xy)).min(1)  # distance of the line from the side of the piece
    return _in_view(Piece(hu, torch.from_numpy((xy + half[:2]) / GRID_MM).float(), *_flags(status)), edge)


def _flags(status: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(status == PRESENT), torch.from_numpy(status)


def _in_view(piece: Piece, edge_mm: np.ndarray) -> Piece:
    """Take back what a limited field of view hides: a body whose middle lies outside is no body in view."""
    edge = torch.from_numpy(edge_mm)
    status = torch.where((edge < 12.0) & (piece.status == PRESENT), UNKNOWN, piece.status)
    status = torch.where(edge < -15.0, ABSENT, status)
    return Piece(piece.hu, piece.points, piece.placed & (edge > 3.0), status)


def limit_view(piece: Piece, rng: np.random.Generator) -> Piece:
    """Blank what lies outside a random round or square field of view, as reconstructions do."""
    kind = rng.choice(["whole", "round", "square"], p=[0.45, 0.3, 0.25])
    if kind == "whole" or not piece.placed.any():
        return piece
    centre = piece.points[piece.placed].mean(0).numpy() * GRID_MM + rng.normal(0, 45, 2) + [0, -rng.uniform(0, 90)]
    radius = rng.uniform(75, 230, 2) if kind == "square" else np.repeat(rng.uniform(90, 230), 2)
    y, x = torch.meshgrid(*[torch.arange(n) * GRID_MM for n in piece.hu.shape[1:]], indexing="ij")
    reach = torch.stack([(x - centre[0]) / radius[0], (y - centre[1]) / radius[1]])
    reach = reach.square().sum(0).sqrt() if kind == "round" else reach.abs().amax(0)
    hu = torch.where(reach <= 1.0, piece.hu, AIR_HU)
    away = (piece.points.numpy() * GRID_MM - centre) / radius
    relative = np.linalg.norm(away, axis=1) if kind == "round" else np.abs(away).max(1)
    return _in_view(Piece(hu, piece.points, piece.placed, piece.status), (1.0 - relative) * radius.min())


def random_piece(case: CurveCase, shape: tuple[int, int, int], rng: np.random.Generator) -> Piece:
    """A piece of a real scan with all its random changes."""
    size_mm = np.array(shape[::-1]) * GRID_MM
    hu, structures, piece = cut_piece(case, random_warp(case, size_mm, rng), shape)
    painted = repaint(hu, structures, piece.points, GRID_MM, rng)
    return limit_view(Piece(painted, piece.points, piece.placed, piece.status), rng)
