"""The phantom B0 of the reading cases: a column of eight vertebrae, one of them a wedge, written as DICOM.

Every case is B0 plus one fault. `measured_heights` measures the three heights of every vertebra straight from a
`Volume`, through its affine, so that a fault that changes a height is seen without any network.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from vertebra_core.straighten import sample_volume
from vertebra_core.volume import Volume

N_VERTEBRAE, WEDGE = 8, 4
HEIGHT_MM, WEDGE_HA_MM, PITCH_MM = 24.0, 18.0, 30.0
AIR, FAT, SOFT, BONE = -1000, -100, 40, 400
COLUMN_Y_MM, DEPTH_MM, WIDTH_MM = 10.0, 32.0, 40.0
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Edit = Callable[[Dataset, int], "Dataset | None"]
"""Changes one slice (its index from the feet is given), or drops it by returning None."""


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a phantom: shape [z, y, x], spacing (x, y, z) mm, LPS mm of the first voxel's centre."""

    shape: tuple[int, int, int] = (132, 96, 100)
    spacing: tuple[float, float, float] = (1.0, 1.0, 2.0)
    origin: tuple[float, float, float] = (-49.5, -47.5, -131.0)

    def axes(self) -> list[np.ndarray]:
        """LPS coordinates along x, y, z, mm."""
        return [o + s * np.arange(n) for o, s, n in zip(self.origin, self.spacing, self.shape[::-1], strict=True)]


def vertebra_ends(index: int, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """LPS z (mm) of the lower and upper end of vertebra `index` (0 is the uppermost) at depth `y`."""
    centre = (N_VERTEBRAE - 1) / 2 * PITCH_MM - index * PITCH_MM
    forward = np.clip((COLUMN_Y_MM - np.asarray(y, float)) / DEPTH_MM + 0.5, 0.0, 1.0)  # 1 at the front, 0 at the back
    height = HEIGHT_MM - (HEIGHT_MM - WEDGE_HA_MM) * forward * (index == WEDGE)
    return centre - height / 2, centre + height / 2


@cache
def b0_hu(grid: Grid = Grid(), seed: int = 0) -> np.ndarray:
    """HU [z, y, x] of B0, int16, each voxel the mean over its extent along z, with a little noise."""
    x, y, z = grid.axes()
    xx, yy = np.meshgrid(x, y)
    radius = np.hypot(xx / 46.0, yy / 44.0)
    body = np.select([radius <= 0.9, radius <= 1.0], [SOFT, FAT], AIR)
    inside = (np.abs(xx) <= WIDTH_MM / 2) & (np.abs(yy - COLUMN_Y_MM) <= DEPTH_MM / 2)
    hu = np.repeat(body[None].astype(float), len(z), 0)
    half = grid.spacing[2] / 2
    for index in range(N_VERTEBRAE):
        low, high = vertebra_ends(index, yy)
        covered = np.minimum(high, z[:, None, None] + half) - np.maximum(low, z[:, None, None] - half)
        share = np.clip(covered / grid.spacing[2], 0.0, 1.0) * inside
        hu += share * (BONE - SOFT)
    noise = np.random.default_rng(seed).normal(0.0, 3.0, hu.shape)
    return np.rint(hu + noise * (body > AIR)).astype(np.int16)


def measured_heights(volume: Volume) -> np.ndarray:
    """Heights (ha, hm, hp) of the eight vertebrae, mm [8, 3], by the half-way crossings along z."""
    depths = COLUMN_Y_MM + np.array([-0.4, 0.0, 0.4]) * DEPTH_MM
    heights = np.empty((N_VERTEBRAE, 3))
    for index in range(N_VERTEBRAE):
        for column, y in enumerate(depths):
            low, high = vertebra_ends(index, y)
            ends = [_crossing(volume, y, float(end), side) for end, side in ((low, -1), (high, 1))]
            heights[index, column] = ends[1] - ends[0]
    return heights


def _crossing(volume: Volume, y: float, end: float, outward: int) -> float:
    """LPS z where the mean HU of a small patch falls half-way from bone to disc, near `end`."""
    z = end + outward * np.arange(-5.0, 5.001, 0.05)
    x = np.arange(-8.0, 8.01, 2.0)
    points = np.stack(np.broadcast_arrays(x[None], y, z[:, None]), -1)
    profile = sample_volume(volume, points).mean(1)
    below = np.flatnonzero(profile < (BONE + SOFT) / 2)
    if not len(below) or below[0] == 0 or not np.isfinite(profile).all():
        return np.nan
    k = below[0]
    share = (profile[k - 1] - (BONE + SOFT) / 2) / (profile[k - 1] - profile[k])
    return float(z[k - 1] + share * (z[k] - z[k - 1]))


def genant_index(heights: np.ndarray) -> np.ndarray:
    """G = min/max of the three heights."""
    return heights.min(-1) / heights.max(-1)


# -- writing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """Identity and form of a written series."""

    patient_id: str = "B0"
    study_uid: str = "1.2.826.0.1.3680043.8.498.1"
    series_uid: str = "1.2.826.0.1.3680043.8.498.1.1"
    orientation: tuple[float, ...] = AXIAL
    intercept: float = -1024.0
    acquisition: int = 1
    first_instance: int = 1
    uid_salt: str = ""
    thickness: float | None = None


def slices(hu: np.ndarray, grid: Grid, study: Study) -> Iterable[tuple[int, Dataset]]:
    """The slices of a volume as DICOM datasets from the feet upward, in the orientation of the study.

    The patient stays where he is: rows and columns are flipped so that they run as the orientation says.
    """
    row, column = np.array(study.orientation[:3]), np.array(study.orientation[3:])
    flip_x, flip_y = row[0] < 0, column[1] < 0
    last = np.array([grid.shape[2] - 1, grid.shape[1] - 1]) * grid.spacing[:2]
    for index, z in enumerate(grid.axes()[2]):
        pixels = hu[index][:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        position = [grid.origin[0] + flip_x * last[0], grid.origin[1] + flip_y * last[1], float(z)]
        yield index, ct_slice(pixels, position, grid.spacing, study, study.first_instance + index)


def ct_slice(
    hu: np.ndarray, position: list[float], spacing: tuple[float, float, float], study: Study, instance: int
) -> Dataset:
    """One classic CT image: uint16, intercept -1024, slope 1, all UIDs set."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[study.series_uid, study.uid_salt, str(instance)])
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.study_uid, study.series_uid
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientAge = study.patient_id, "", "F", "067Y"
    ds.StudyDate, ds.Modality, ds.Manufacturer = "20200229", "CT", "VERTEBRA TEST"
    ds.SeriesDescription, ds.SeriesNumber = "phantom", 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ConvolutionKernel = "STANDARD"
    ds.AcquisitionNumber, ds.InstanceNumber = study.acquisition, instance
    ds.SliceThickness = spacing[2] if study.thickness is None else study.thickness
    ds.ImageOrientationPatient = list(study.orientation)
    ds.ImagePositionPatient = [f"{value:.10g}" for value in position]
    ds.PixelSpacing = [spacing[1], spacing[0]]
    ds.RescaleSlope, ds.RescaleIntercept = 1, study.intercept
    ds.Rows, ds.Columns = hu.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    set_pixels(ds, np.rint(hu - study.intercept), signed=False)
    return ds


def enhanced_dataset(hu: np.ndarray, grid: Grid, order: np.ndarray, study: Study | None = None) -> Dataset:
    """One Enhanced CT dataset with its frames in the given order."""
    study = study or Study()
    z = grid.axes()[2]
    ds = ct_slice(hu[0], [*grid.origin[:2], float(z[0])], grid.spacing, study, 1)
    ds.SOPClassUID = EnhancedCTImageStorage
    kept = {name: getattr(ds, name) for name in ("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept")}
    for keyword in (*kept, "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(ds, keyword)

    def group(**values) -> Dataset:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return item

    def only(**values) -> Sequence:
        return Sequence([group(**values)])

    rescale = {"RescaleSlope": kept["RescaleSlope"], "RescaleIntercept": kept["RescaleIntercept"]}
    ds.SharedFunctionalGroupsSequence = only(
        PlaneOrientationSequence=only(ImageOrientationPatient=list(study.orientation)),
        PixelMeasuresSequence=only(PixelSpacing=kept["PixelSpacing"], SliceThickness=kept["SliceThickness"]),
        PixelValueTransformationSequence=only(**rescale, RescaleType="HU"),
    )
    places = ([*grid.origin[:2], float(z[i])] for i in order)
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [group(PlanePositionSequence=only(ImagePositionPatient=place)) for place in places]
    )
    ds.NumberOfFrames = len(order)
    ds.PixelData = np.rint(hu[order] - study.intercept).astype("<u2").tobytes()
    return ds


def set_pixels(ds: Dataset, stored: np.ndarray, signed: bool) -> None:
    """Store pixels as 16 bits, signed or not."""
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, int(signed)
    ds.Rows, ds.Columns = stored.shape
    ds.PixelData = np.ascontiguousarray(stored).astype("<i2" if signed else "<u2").tobytes()


def stored_pixels(ds: Dataset) -> np.ndarray:
    """The stored pixels of a dataset made here."""
    return np.frombuffer(ds.PixelData, "<i2" if ds.PixelRepresentation else "<u2").reshape(ds.Rows, ds.Columns).copy()


def save(ds: Dataset, path: Path) -> Path:
    """Write a dataset as a DICOM file with a preamble."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_b0(
    folder: Path,
    *,
    hu: np.ndarray | None = None,
    grid: Grid | None = None,
    study: Study | None = None,
    edit: Edit | None = None,
    name: Callable[[int], str] = "slice_{:04d}.dcm".format,
) -> list[Path]:
    """Write B0 (or another volume on its grid) as one file a slice, each changed by `edit`; return the files."""
    grid, study = grid or Grid(), study or Study()
    written = []
    for index, ds in slices(b0_hu(grid) if hu is None else hu, grid, study):
        changed = ds if edit is None else edit(ds, index)
        if changed is not None:
            written.append(save(changed, folder / name(index)))
    return written


def other_patient(number: int, patient_id: str | None = None) -> Study:
    """Identity of another patient with UIDs of her own."""
    base = f"1.2.826.0.1.3680043.8.498.{number + 1}"
    return replace(Study(), patient_id=patient_id or f"B{number}", study_uid=base, series_uid=f"{base}.1")


def true_points() -> np.ndarray:
    """Keypoints [8, 6, 3] of B0, LPS mm."""
    points = np.zeros((N_VERTEBRAE, 6, 3))
    for index in range(N_VERTEBRAE):
        for column, y in enumerate(COLUMN_Y_MM + np.array([-0.4, 0.0, 0.4]) * DEPTH_MM):
            low, high = vertebra_ends(index, y)
            points[index, 2 * column], points[index, 2 * column + 1] = (0, y, high), (0, y, low)
    return points
