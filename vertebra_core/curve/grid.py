"""The patient-aligned grid of the first network: any volume, resampled to 3 mm and to the patient's own axes.

Along the volume's own axes the resampling is separable: every new value is the mean of the linear interpolant over
one new voxel, so fine voxels are averaged (no aliasing), coarse ones are interpolated, and a constant stays the
same constant up to both ends. Volumes that are oblique to the patient's axes take a second, trilinear step.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.ndimage import map_coordinates

from vertebra_core.geometry import apply_affine
from vertebra_core.volume import AIR_HU, Volume

SUBSAMPLES = 8
"""Points at which the linear interpolant is averaged over one new voxel (midpoint rule)."""
ALIGNED_TOLERANCE = 1e-3
"""Sine of the largest angle taken for none: over 500 mm it moves a voxel by 0.5 mm."""
BONE_WINDOW_HU = (-150.0, 800.0)
"""First channel of the network: soft tissue and bone."""
BODY_WINDOW_HU = (-1000.0, 400.0)
"""Second channel of the network: air, lung, fat and soft tissue, the outline of the body."""


@dataclass(frozen=True)
class PatientGrid:
    """A CT on a grid along the patient's axes.

    Parameters
    ----------
    hu : array [z, y, x], float32
        All three indices grow with their LPS coordinate: z upward (to superior), y to posterior, x to the left.
    origin : array [3]
        LPS (x, y, z) of the centre of voxel [0, 0, 0], mm.
    spacing_mm : float
        Edge of the cubic voxels.
    """

    hu: Float[np.ndarray, "z y x"]
    origin: Float[np.ndarray, "3"]
    spacing_mm: float

    def z_mm(self) -> Float[np.ndarray, "z"]:
        """LPS z of each axial slice, mm, ascending."""
        return self.origin[2] + self.spacing_mm * np.arange(len(self.hu))


def averaging_weights(
    count: int, spacing_mm: float, positions_mm: Float[np.ndarray, "n"], width_mm: float
) -> Float[np.ndarray, "n count"]:
    """Weights that average the linear interpolant of ``count`` samples over boxes of ``width_mm``.

    Parameters
    ----------
    count, spacing_mm
        Number and distance of the samples; sample 0 lies at 0 mm.
    positions_mm : array [n]
        Centres of the boxes. Beyond the first and last sample the end sample goes on.

    Returns
    -------
    array [n, count], float32
        Rows sum to one.
    """
    offsets = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    index = np.clip((positions_mm[:, None] + offsets * width_mm) / spacing_mm, 0, count - 1)
    lower = np.minimum(index.astype(int), max(count - 2, 0))
    upper = np.minimum(lower + 1, count - 1)
    rows = np.broadcast_to(np.arange(len(positions_mm))[:, None], index.shape)
    weights = np.zeros((len(positions_mm), count))
    np.add.at(weights, (rows, lower), 1.0 - (index - lower))
    np.add.at(weights, (rows, upper), index - lower)
    return (weights / SUBSAMPLES).astype(np.float32)


def _positions(count: int, spacing_mm: float, new_mm: float) -> np.ndarray:
    """Centres of the new voxels along an axis, mm from the first old centre, centred in the old extent."""
    new = max(1, int(np.floor(count * spacing_mm / new_mm + 1e-6)))
    return (count - 1) * spacing_mm / 2.0 + (np.arange(new) - (new - 1) / 2.0) * new_mm


def _resample_slices(hu: np.ndarray, first: np.ndarray, second: np.ndarray, third: np.ndarray) -> np.ndarray:
    """Apply one weight matrix per axis, slice by slice: never more than a few slices of ``hu`` as float at once."""
    out = np.zeros((len(first), second.shape[0], third.shape[0]), np.float32)
    if len(first) < len(hu):  # fewer slices come out than go in: add them up before the dearer in-plane step
        for k, row in enumerate(first):
            used = np.flatnonzero(row)
            near = slice(used[0], used[-1] + 1)
            out[k] = (second @ np.tensordot(row[near], hu[near].astype(np.float32), 1)) @ third.T
        return out
    for i in np.flatnonzero(first.any(0)):
        plane = (second @ hu[i].astype(np.float32)) @ third.T
        for k in np.flatnonzero(first[:, i]):
            out[k] += first[k, i] * plane
    return out


def _resample_along_own_axes(volume: Volume, new_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Resample to cubes of ``new_mm`` along the volume's own axes: voxels [z, y, x] and their affine."""
    spacing, shape = volume.spacing[::-1], volume.hu.shape  # both in array order
    places = [_positions(n, mm, new_mm) for n, mm in zip(shape, spacing, strict=True)]
    matrices = [averaging_weights(n, mm, p, new_mm) for n, mm, p in zip(shape, spacing, places, strict=True)]
    hu = _resample_slices(volume.hu, *matrices)
    affine = np.eye(4)
    affine[:3, :3] = volume.patient_from_voxel[:3, :3] / volume.spacing * new_mm
    start = np.array([p[0] / mm for p, mm in zip(places, spacing, strict=True)])[::-1]
    affine[:3, 3] = apply_affine(volume.patient_from_voxel, start)
    return hu, affine


def _turn_to_patient(hu: np.ndarray, affine: np.ndarray) -> tuple[Shaped[np.ndarray, "z y x"], np.ndarray] | None:
    """Permute and flip array axes so that they grow along LPS; None where the volume is oblique."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    nearest = np.abs(unit).argmax(0)  # the patient axis along which each voxel axis runs
    if sorted(nearest) != [0, 1, 2] or np.abs(np.abs(unit[nearest, range(3)]) - 1.0).max() > ALIGNED_TOLERANCE**2 / 2:
        return None
    voxel_axis = np.argsort(nearest)
    turned = hu.transpose([2 - voxel_axis[p] for p in (2, 1, 0)])
    origin = np.zeros(3)  # voxel index (x, y, z) that becomes the first
    for patient_axis, axis in enumerate(voxel_axis):
        if unit[patient_axis, axis] < 0:
            turned = np.flip(turned, 2 - patient_axis)
            origin[axis] = hu.shape[2 - axis] - 1
    return np.ascontiguousarray(turned), apply_affine(affine, origin)


def _sample_oblique(hu: np.ndarray, affine: np.ndarray, new_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Trilinear sampling on the patient-aligned box round an oblique volume; air outside of it."""
    corners = Volume(hu, affine).corners
    low, high = corners.min(0), corners.max(0)
    counts = np.maximum(1, np.floor((high - low) / new_mm + 1e-6).astype(int) + 1)
    origin = (low + high) / 2 - (counts - 1) / 2 * new_mm
    voxel_from_patient = np.linalg.inv(affine)
    last = np.array(hu.shape, float)[:, None, None] - 1
    out = np.empty(counts[::-1], np.float32)
    y, x = np.meshgrid(*[origin[a] + new_mm * np.arange(counts[a]) for a in (1, 0)], indexing="ij")
    for k in range(counts[2]):
        points = np.stack([x, y, np.full_like(x, origin[2] + k * new_mm)], -1)
        index = np.moveaxis(apply_affine(voxel_from_patient, points)[..., ::-1], -1, 0)
        inside = ((index >= -0.5) & (index <= last + 0.5)).all(0)
        values = map_coordinates(hu, np.clip(index, 0, last), np.float32, order=1, mode="nearest")
        out[k] = np.where(inside, values, AIR_HU)
    return out, origin


def patient_grid(volume: Volume, grid_mm: float) -> PatientGrid:
    """Resample a volume of any orientation to cubes of ``grid_mm`` along the patient's axes.

    Parameters
    ----------
    volume : Volume
    grid_mm : float
        Edge of the new voxels, mm.

    Returns
    -------
    PatientGrid
        Covers the volume's extent, centred in it; what an oblique volume leaves empty is air.
    """
    hu, affine = _resample_along_own_axes(volume, grid_mm)
    turned = _turn_to_patient(hu, affine)
    if turned is None:
        # Half the voxel first: the trilinear step then blurs about as much as one average over a whole voxel.
        hu, affine = _resample_along_own_axes(volume, grid_mm / 2)
        turned = _sample_oblique(hu, affine, grid_mm)
    return PatientGrid(turned[0], turned[1], grid_mm)


def network_channels(hu: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "2 z y x"]:
    """The two windows of the network, each scaled to 0 .. 1, float32.

    Air is 0 in both, so that the zeros with which convolutions pad mean what lies outside a scan: air.
    """
    windows = (BONE_WINDOW_HU, BODY_WINDOW_HU)
    return np.stack([(np.clip(hu, low, high) - low) / np.float32(high - low) for low, high in windows])
