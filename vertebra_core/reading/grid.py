"""The grid of a stack of slices, from the slice positions alone (DICOM PS3.3 C.7.6.2.1.1).

Never from InstanceNumber, SliceThickness, SpacingBetweenSlices or the first two files: each of these is wrong
somewhere in a real archive, and a wrong distance of slices is a wrong height of every vertebra.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.headers import SliceHeader
from vertebra_core.settings import ReadingSettings

COSINE_TOLERANCE = 0.01
"""Row and column directions may miss unit length and a right angle by this much; more is no orientation."""
HARMLESS_OFFSET_MM = 0.1
"""Slices may lie this far off their common line: a fraction of any CT voxel."""
PLANES = ("sagittal", "coronal", "axial")
"""Plane of the slices by the LPS axis their normal is nearest to."""


@dataclass(frozen=True)
class SliceGrid:
    """Where the voxels of a stack lie.

    Parameters
    ----------
    patient_from_voxel : array [4, 4]
        Affine from (i_x, i_y, i_z) to LPS mm; sheared where the gantry was tilted.
    order : tuple of int
        Slices as given, in the order of the volume: along the right-handed normal of the slices.
    index : tuple of int
        Index along z of each slice of `order`.
    missing : tuple of int
        Indices along z for which there is no slice.
    tilt_degrees : float
        Angle between the normal of the slices and the line through their positions.
    """

    patient_from_voxel: Float[np.ndarray, "4 4"]
    order: tuple[int, ...]
    index: tuple[int, ...]
    missing: tuple[int, ...]
    tilt_degrees: float

    @property
    def n_slices(self) -> int:
        """Length of the volume along z, filled gaps included."""
        return len(self.index) + len(self.missing)

    @property
    def spacing(self) -> Float[np.ndarray, "3"]:
        """Voxel size (x, y, z) along the grid's own axes, mm."""
        return np.linalg.norm(self.patient_from_voxel[:3, :3], axis=0)

    def head_foot_extent(self, rows: int, columns: int) -> float:
        """Extent of the voxels along the patient's long axis, mm."""
        return head_foot_extent(self.patient_from_voxel, (columns, rows, self.n_slices))


def directions(header: SliceHeader) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Unit vectors (along a row, along a column, normal) of a slice, or None where it has no usable geometry."""
    if header.orientation is None or header.position is None or header.pixel_spacing is None:
        return None
    row, column = np.array(header.orientation[:3]), np.array(header.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(header.pixel_spacing) <= 0 or np.abs(np.subtract(lengths, 1.0)).max() > COSINE_TOLERANCE:
        return None
    if abs(row @ column) > COSINE_TOLERANCE:
        return None
    normal = np.cross(row, column)
    return row / lengths[0], column / lengths[1], normal / np.linalg.norm(normal)


def plane_of(normal: Float[np.ndarray, "3"]) -> str:
    """Name the anatomical plane whose normal is nearest.

    Examples
    --------
    >>> plane_of(np.array([0.0, -0.3, 0.95]))
    'axial'
    """
    return PLANES[int(np.abs(normal).argmax())]


def slice_grid(slices: Sequence[SliceHeader], settings: ReadingSettings) -> SliceGrid:
    """Lay the slices of one stack on a regular grid.

    The step is judged against the median step, then fitted to all positions by least squares, so that rounding of
    single positions does not tilt or stretch the volume.

    Raises
    ------
    NotEvaluable
        NO_GEOMETRY, TOO_FEW_SLICES, NOT_A_VOLUME, UNEVEN_SPACING, MISSING_SLICES, GANTRY_TILT, SLICES_TOO_THICK.
    """
    axes = directions(slices[0])
    if axes is None or any(header.position is None for header in slices):
        raise NotEvaluable(Reason.NO_GEOMETRY)
    row, column, normal = axes
    _refuse_few(len(slices), normal, settings)
    positions = np.array([header.position for header in slices], float)
    order = np.argsort(positions @ normal, kind="stable")
    index = _slice_indices(np.sort(positions @ normal), settings)
    first, step = _fit_line(index, positions[order], settings)
    tilt = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1.0, 1.0))))
    if tilt > settings.max_tilt_degrees:
        detail = f"slices sheared by {tilt:.1f} degrees, at most {settings.max_tilt_degrees:g} expected"
        raise NotEvaluable(Reason.GANTRY_TILT, detail)
    along_y, along_x = slices[0].pixel_spacing or (np.nan, np.nan)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = row * along_x, column * along_y, step, first
    missing = sorted(set(range(index[-1] + 1)) - set(index.tolist()))
    grid = SliceGrid(affine, tuple(order.tolist()), tuple(index.tolist()), tuple(missing), tilt)
    refuse_coarse(grid.spacing, settings)
    refuse_thick(slice_thickness(slices), settings)
    refuse_short(grid.head_foot_extent(slices[0].study.rows or 1, slices[0].study.columns or 1), settings)
    return grid


def _refuse_few(n_slices: int, normal: np.ndarray, settings: ReadingSettings) -> None:
    if n_slices >= settings.min_slices:
        return
    slices = "slice" if n_slices == 1 else "slices"
    detail = f"{n_slices} {plane_of(normal)} {slices}, at least {settings.min_slices} expected"
    raise NotEvaluable(Reason.TOO_FEW_SLICES if plane_of(normal) == "axial" else Reason.NOT_A_VOLUME, detail)


def _slice_indices(along: Float[np.ndarray, "n"], settings: ReadingSettings) -> np.ndarray:
    """Whole-number index of each sorted position in units of the median step."""
    steps = np.diff(along)
    median = float(np.median(steps))
    if median <= 0:
        raise NotEvaluable(Reason.AMBIGUOUS_STACK, f"half of {len(along)} slices share their position with another")
    ratio = steps / median
    whole = np.rint(ratio).astype(int)
    off = np.abs(ratio - whole)
    if (whole < 1).any() or (off > settings.spacing_tolerance).any():
        worst = int(np.where(whole < 1, np.inf, off).argmax())
        detail = f"a step of {steps[worst]:.3f} mm after slice {worst + 1} of {len(along)} (median {median:.3f} mm)"
        raise NotEvaluable(Reason.UNEVEN_SPACING, detail)
    refuse_gaps(whole, median, settings)
    return np.r_[0, np.cumsum(whole)]


def refuse_gaps(steps: Int[np.ndarray, "n"], step_mm: float, settings: ReadingSettings) -> None:
    """Refuse more missing slices, or wider gaps, than may be filled in.

    Parameters
    ----------
    steps : array [n]
        Distance of each slice from the last, in steps of the grid: 1 where none is missing.
    step_mm : float
    settings : ReadingSettings

    Raises
    ------
    NotEvaluable
        MISSING_SLICES.
    """
    absent, widest_mm = int((steps - 1).sum()), float(steps.max()) * step_mm
    may_fill = max(1, int(settings.max_filled_fraction * (len(steps) + 1)))
    if absent > may_fill or (absent and widest_mm > settings.max_filled_gap_mm):
        detail = (
            f"{absent} slices missing of {len(steps) + 1 + absent}, of which {may_fill} may be filled in; "
            f"the widest gap {widest_mm:.1f} mm, at most {settings.max_filled_gap_mm:g} mm expected"
        )
        raise NotEvaluable(Reason.MISSING_SLICES, detail)


def _fit_line(index: np.ndarray, positions: np.ndarray, settings: ReadingSettings) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares line through the positions over their indices: the first position and the step."""
    if len(index) < 2:
        raise NotEvaluable(Reason.TOO_FEW_SLICES, "1 slice has no spacing")
    centred = index - index.mean()
    step = centred @ positions / (centred @ centred)
    first = positions.mean(0) - step * index.mean()
    residual = np.linalg.norm(positions - first - index[:, None] * step, axis=1)
    limit = max(settings.spacing_tolerance * np.linalg.norm(step), HARMLESS_OFFSET_MM)
    if residual.max() > limit:
        worst = int(residual.argmax())
        detail = f"slice {worst + 1} lies {residual.max():.3f} mm off the line of all positions (limit {limit:.3f} mm)"
        raise NotEvaluable(Reason.UNEVEN_SPACING, detail)
    return first, step


def refuse_coarse(spacing: Float[np.ndarray, "3"], settings: ReadingSettings) -> None:
    """Refuse a grid too coarse for heights.

    Raises
    ------
    NotEvaluable
        SLICES_TOO_THICK.
    """
    if spacing.max() > settings.max_slice_spacing_mm:
        detail = f"voxels {spacing.max():.2f} mm apart, at most {settings.max_slice_spacing_mm:g} expected"
        raise NotEvaluable(Reason.SLICES_TOO_THICK, detail)


def slice_thickness(slices: Sequence[SliceHeader]) -> float | None:
    """Median SliceThickness, mm; None where it is absent or zero."""
    stated = [header.slice_thickness for header in slices if header.slice_thickness and header.slice_thickness > 0]
    return float(np.median(stated)) if stated else None


def refuse_thick(thickness_mm: float | None, settings: ReadingSettings) -> None:
    """Refuse slabs too thick for heights, however densely they follow each other.

    Raises
    ------
    NotEvaluable
        SLICES_TOO_THICK.
    """
    if thickness_mm is not None and thickness_mm > settings.max_slice_spacing_mm:
        detail = f"slices {thickness_mm:.2f} mm thick, at most {settings.max_slice_spacing_mm:g} expected"
        raise NotEvaluable(Reason.SLICES_TOO_THICK, detail)


def refuse_short(extent_mm: float, settings: ReadingSettings) -> None:
    """Refuse a volume in which no vertebra fits.

    Raises
    ------
    NotEvaluable
        TOO_FEW_SLICES.
    """
    if extent_mm < settings.min_extent_mm:
        detail = f"{extent_mm:.1f} mm from head to foot, at least {settings.min_extent_mm:g} expected"
        raise NotEvaluable(Reason.TOO_FEW_SLICES, detail)


def head_foot_extent(patient_from_voxel: Float[np.ndarray, "4 4"], shape_xyz: Sequence[int]) -> float:
    """Extent of a voxel grid along the patient's long axis, from edge to edge of the voxels, mm."""
    return float(np.abs(patient_from_voxel[2, :3]) @ np.asarray(shape_xyz, float))
