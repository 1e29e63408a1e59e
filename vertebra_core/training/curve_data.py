"""Training data of the first network: annotated CTs on a fine grid, and the random pieces cut from them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int16, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.curve.grid import patient_grid
from vertebra_core.geometry import CentreLine, apply_affine
from vertebra_core.training.curve_appearance import repaint
from vertebra_core.training.spines import true_line
from vertebra_core.truth import Truth
from vertebra_core.volume import AIR_HU, Volume

SOURCE_MM = 2.0
"""Grid of the stored CTs: finer than the network's 3 mm, so that turning and scaling them blurs little."""
GRID_MM = 3.0
"""Grid of the network (paper 5.1; `CurveSettings.grid_mm`)."""
LINE_STEP_MM = 2.0
"""Distance of the points of a true line."""
BEYOND_MM = 600.0
"""A line is prolonged straight this far, so that every slice of the scan has a place on it."""
NATURAL_END_MM = 10.0
"""What lies this close beyond C3 or L5 is not judged: the network may take it for spine or not."""
CUT_END_MM = 8.0
"""The same inside an end, and where the image ends: about half a vertebral body."""
PRESENT, ABSENT, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class CurveCase:
    """One annotated CT.

    Parameters
    ----------
    name : str
    hu : array [z, y, x], int16
        Patient-aligned (LPS, all indices ascending), cubes of `SOURCE_MM`.
    origin : array [3]
        LPS of voxel [0, 0, 0], mm.
    line : array [n, 3]
        Points of the true line from the top downward, LPS mm, prolonged straight at both ends.
    status : array [n], int16
        PRESENT, ABSENT or UNKNOWN: does the axial slice through this point show a body from C3 to L5?
    structures : array [z, y, x], uint8
        Labels of organs, vessels and bones (TotalSegmentator's classes); all zero where there are none.
    """

    name: str
    hu: Int16[np.ndarray, "z y x"]
    origin: Float[np.ndarray, "3"]
    line: Float[np.ndarray, "n 3"]
    status: Int16[np.ndarray, "n"]
    structures: UInt8[np.ndarray, "z y x"]


def labelled_line(truth: Truth, whole_spine: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Points of the true line and what the annotation says of the slices through them.

    Annotations list every vertebra between their first and last. Above a whole C3 and below a whole L5 no vertebra
    follows that is looked for; beyond any other first or last vertebra nothing is known, unless ``whole_spine`` says
    that all are listed, as a phantom's are.
    """
    line: CentreLine = true_line(truth.points, 40.0)
    middles = truth.points[:, 2:4].reshape(-1, 3)
    ends = line.straight_from_patient(middles[[0, -1]])[:, 2]
    s = np.arange(-BEYOND_MM, line.length + BEYOND_MM, LINE_STEP_MM)
    status = np.where((s >= ends[0]) & (s <= ends[1]), PRESENT, UNKNOWN).astype(np.int16)
    if whole_spine or (truth.levels[0] == "C3" and truth.complete[0]):
        status[np.abs(s - ends[0]) < CUT_END_MM / 2] = UNKNOWN
        status[s < ends[0] - NATURAL_END_MM] = ABSENT
    if whole_spine or (truth.levels[-1] == "L5" and truth.complete[-1]):
        status[np.abs(s - ends[1]) < CUT_END_MM / 2] = UNKNOWN
        status[s > ends[1] + NATURAL_END_MM] = ABSENT
    return line.position(s), status


def prepare_case(name: str, volume: Volume, truth: Truth, structures: Volume | None = None) -> CurveCase:
    """Bring an annotated CT, and its label map where there is one, to the grid of the training data."""
    grid = patient_grid(volume, SOURCE_MM)
    line, status = labelled_line(truth)
    hu = np.clip(np.rint(grid.hu), AIR_HU, 3000).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8) if structures is None else nearest_labels(structures, grid.origin, hu.shape)
    return CurveCase(name, hu, grid.origin, line, status, labels)


def nearest_labels(structures: Volume, origin: np.ndarray, shape: tuple[int, ...]) -> UInt8[np.ndarray, "z y x"]:
    """Labels of the nearest voxel at every point of the patient-aligned grid; 0 outside the label map."""
    z, y, x = (origin[2 - axis] + SOURCE_MM * np.arange(n) for axis, n in enumerate(shape))
    points = np.stack(np.broadcast_arrays(x[None, None], y[None, :, None], z[:, None, None]), -1)
    index = np.rint(apply_affine(np.linalg.inv(structures.patient_from_voxel), points)).astype(int)[..., ::-1]
    inside = ((index >= 0) & (index < structures.hu.shape)).all(-1)
    index[~inside] = 0
    return np.where(inside, structures.hu[tuple(np.moveaxis(index, -1, 0))], 0).astype(np.uint8)


def save_case(case: CurveCase, path: Path) -> None:
    """Store a case as npz."""
    np.savez_compressed(path, **vars(case))


def load_case(path: Path) -> CurveCase:
    """Read a case back."""
    with np.load(path) as stored:
        values = {name: stored[name] for name in stored.files}
    return CurveCase(**{**values, "name": str(values["name"])})


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
