"""What a fault in a series costs in height, read by us and by SimpleITK: ``python -m benchmarks.reading_faults``.

A phantom column of known heights (three vertebrae of 24 mm, the middle one a wedge) is written as DICOM once without
a fault and once with each. Both readers' volumes are measured in the same way, straight through their affine; the
figure is the largest difference of any of the nine heights to the scan without the fault, in mm. Prints the table of
docs/reading.md.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.dicom_cases import (
    N_VERTEBRAE,
    WEDGE,
    Grid,
    Study,
    b0_hu,
    ct_slice,
    measured_heights,
    save,
    set_pixels,
    stored_pixels,
    true_points,
    write_b0,
)
from vertebra_core.errors import NotEvaluable
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.settings import MeasureSettings, ReadingSettings
from vertebra_core.straighten import sample_volume
from vertebra_core.volume import Volume

SETTINGS = ReadingSettings()
GRID = Grid((51, 96, 100), (1.0, 1.0, 2.0), (-49.5, -47.5, -65.0))
SHOWN = [WEDGE - 1, WEDGE, WEDGE + 1]
Write = Callable[[Path], object]


def affine_of(grid: Grid) -> np.ndarray:
    """Affine of a phantom's grid, LPS mm."""
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = grid.origin
    return affine


# -- faults -------------------------------------------------------------------------------------------------------


def series(edit=None, **how) -> Write:
    """Write the column with each slice changed by `edit(dataset, index)`."""
    return lambda folder: write_b0(folder, grid=GRID, edit=edit, **how)


def without(*gone: int) -> Write:
    """Some slices are not there."""
    return series(lambda ds, index: None if index in gone else ds)


def together(*writers: Write) -> Write:
    """Several writes into one archive, each into a folder of its own for us; SimpleITK gets one folder."""

    def write(folder: Path) -> None:
        for number, writer in enumerate(writers):
            writer(folder / "part" / str(number))
        for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
            path.rename(folder / f"{number:04d}.dcm")

    return write


def moved(place: Callable[[int], float]) -> Write:
    """The slices lie elsewhere along z."""

    def edit(ds: Dataset, index: int) -> Dataset:
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], place(index)]
        return ds

    return series(edit)


def sheared(tilt: float, swivel: float, along_normal: bool = False) -> Write:
    """Slices tilted about x and swivelled about y; the table still moves along z, or they follow their normal."""

    def write(folder: Path) -> None:
        t, s = np.radians([tilt, swivel])
        row = np.array([np.cos(s), 0, -np.sin(s)])
        column = np.array([np.sin(s) * np.sin(t), np.cos(t), -np.cos(s) * np.sin(t)])
        step = np.cross(row, column) if along_normal else np.array([0.0, 0, 1])
        whole = Volume(b0_hu(), affine_of(Grid()))
        study = replace(Study(), orientation=(*row.tolist(), *column.tolist()))
        x, y = np.arange(100) - 49.5, np.arange(96) - 47.5
        for index, z in enumerate(np.arange(-86, 86, 2.0)):
            centre = step * z
            points = centre + x[None, :, None] * row + y[:, None, None] * column
            hu = np.nan_to_num(sample_volume(whole, points), nan=-1000)
            save(ct_slice(hu, list(points[0, 0]), (1.0, 1.0, 2.0), study, index + 1), folder / f"{index}.dcm")

    return write


def sagittal(folder: Path) -> None:
    """The same voxels as a sagittal acquisition, rows 2 mm and columns 1 mm apart."""
    hu, (x, y, z) = b0_hu(GRID), GRID.axes()
    study = replace(Study(), orientation=(0, 1, 0, 0, 0, -1))
    for index, left in enumerate(x):
        place = [float(left), float(y[0]), float(z[-1])]
        save(ct_slice(hu[::-1, :, index], place, (1.0, 2.0, 1.0), study, index + 1), folder / f"{index}.dcm")


def values(
    make: Callable[[np.ndarray], np.ndarray], signed: bool, slope: float | None, intercept: float | None
) -> Write:
    """Other stored values and rescale."""

    def edit(ds: Dataset, index: int) -> Dataset:
        hu = stored_pixels(ds).astype(int) - 1024
        set_pixels(ds, np.rint(make(hu + np.rint(np.random.default_rng(index).normal(0, 5, hu.shape)))), signed)
        for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        return ds

    return series(edit)


def per_slice(ds: Dataset, index: int) -> Dataset:
    """Another intercept in each slice."""
    set_pixels(ds, stored_pixels(ds).astype(int) - 1024 + 20 * index, signed=True)
    ds.RescaleIntercept = -20 * index
    return ds


def padded(ds: Dataset, _: int) -> Dataset:
    """-2000 outside the circle."""
    stored = stored_pixels(ds).astype(int) - 1024
    y, x = np.indices(stored.shape)
    stored[np.hypot((x - 49.5) / 50, (y - 47.5) / 48) > 1] = -2000
    set_pixels(ds, stored, signed=True)
    ds.RescaleIntercept = 0
    return ds


def with_tag(keyword: str, value: object) -> Write:
    """Another value of one attribute."""

    def edit(ds: Dataset, _: int) -> Dataset:
        setattr(ds, keyword, value)
        return ds

    return series(edit)


def scout(folder: Path) -> None:
    """A sagittal scout of the series."""
    study = replace(Study(), orientation=(0, 1, 0, 0, 0, -1), uid_salt="scout")
    picture = np.random.default_rng(1).integers(-200, 800, (96, 100))
    save(ct_slice(picture, [0.0, -50.0, 131.0], (1.0, 1.0, 2.0), study, 900), folder / "scout.dcm")


def second(ds: Dataset, _: int) -> Dataset:
    """The same places once more, 300 HU denser in bone."""
    stored = stored_pixels(ds)
    set_pixels(ds, stored + 300 * (stored > 1224), signed=False)
    ds.AcquisitionNumber, ds.InstanceNumber = 2, ds.InstanceNumber + 100
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["second", ds.SOPInstanceUID])
    return ds


def stitched(folder: Path) -> None:
    """The lower part every 2 mm, the upper every 3 mm."""
    write_b0(folder / "lower", grid=replace(GRID, shape=(41, 96, 100)))
    upper = Grid((15, 96, 100), (1.0, 1.0, 3.0), (-49.5, -47.5, 18.0))
    write_b0(folder / "upper", grid=upper, study=replace(Study(), first_instance=100))


FAULTS: dict[str, Write] = {
    "one slice missing, inside a vertebra": without(25),
    "one slice missing, at an endplate": without(20),
    "two neighbouring slices missing": without(24, 25),
    "four single slices missing": without(5, 15, 25, 35),
    "ten slices missing": without(*range(5, 15)),
    "spacing changes from 2 to 3 mm": together(stitched),
    "every position off by up to 35 %": moved(lambda i: -65 + 2.0 * i + (0.7 if i % 3 else 0.0)),
    "positions rounded to 0.1 mm": moved(lambda i: -65 + round(2.0 * i + 0.04, 1)),
    "every slice twice": together(series(), series(edit=lambda ds, i: ds)),
    "two acquisitions in one series": together(series(), series(second)),
    "a scout in the series": together(series(), scout),
    "InstanceNumber reversed": series(lambda ds, i: setattr(ds, "InstanceNumber", 99 - i) or ds),
    "prone, feet first": series(study=replace(Study(), orientation=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))),
    "gantry tilted by 20 degrees": sheared(20, 0),
    "gantry swivelled by 10 degrees": sheared(0, 10),
    "oblique by 15 degrees, no shear": sheared(15, 0, along_normal=True),
    "GantryDetectorTilt says 20, no shear": with_tag("GantryDetectorTilt", 20.0),
    "sagittal acquisition": sagittal,
    "SpacingBetweenSlices says -5": with_tag("SpacingBetweenSlices", -5.0),
    "SliceThickness says 0": with_tag("SliceThickness", 0),
    "slices 10 mm thick every 2 mm": with_tag("SliceThickness", 10),
    "PixelSpacing absent": series(lambda ds, _: delattr(ds, "PixelSpacing") or ds),
    "another rescale in each slice": series(per_slice),
    "padding of -2000": series(padded),
    "12 bits without intercept": values(lambda hu: (hu + 1024).clip(0), False, None, None),
    "signed pixels declared unsigned": values(lambda hu: hu % 2**16, False, 1, 0),
    "values doubled": values(lambda hu: 2 * hu, True, 1, 0),
    "window of -160 to 240 burnt in": values(lambda hu: hu.clip(-160, 240), True, 1, 0),
}


# -- readers ------------------------------------------------------------------------------------------------------


def ours(folder: Path) -> tuple[Volume | None, str]:
    """Our volume and its repairs; without one, the reason."""
    rows = choose_index_series(find_series([folder], SETTINGS).series, SETTINGS)
    good = [row for row in rows if row.decision is None]
    if not good:
        return None, max(rows, key=lambda row: row.n_slices).decision.code
    try:
        volume = read_volume(good[0], SETTINGS)
    except NotEvaluable as refusal:
        return None, refusal.reason.code
    return volume, ", ".join(volume.repairs) or "read"


def by_simpleitk(folder: Path) -> tuple[Volume | None, str]:
    """The volume of SimpleITK's series reader, or that it failed."""
    reader = sitk.ImageSeriesReader()
    try:
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), recursive=True))
        image = reader.Execute()
    except RuntimeError:
        return None, "an error"
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), affine), "read"


def height_error(volume: Volume | None, clean: np.ndarray, in_gap: np.ndarray) -> str:
    """Largest error of the heights that are published, and how many vertebrae are not."""
    if volume is None:
        return "-"
    error = np.abs(measured_heights(volume) - clean)[SHOWN]
    error[in_gap[SHOWN]] = np.nan
    lost = int(np.isnan(error).any(1).sum())
    if lost == len(SHOWN):
        return "none can be found"
    return f"{np.nanmax(error):.2f}" + (f" ({lost} of 3 not measured)" if lost else "")


def main() -> None:
    """Print the table."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    harmless = MeasureSettings().harmless_gap_mm
    with tempfile.TemporaryDirectory() as scratch:
        series()(Path(scratch) / "clean")
        clean_volume, _ = ours(Path(scratch) / "clean")
        assert clean_volume is not None
        clean = measured_heights(clean_volume)
        print("| fault | SimpleITK: error of a height, mm | we: repair or reason | error of a height, mm |")
        print("|---|---|---|---|")
        for number, (name, write) in enumerate(FAULTS.items()):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            write(folder)
            volume, said = ours(folder)
            other, failed = by_simpleitk(folder)
            gaps = np.zeros(N_VERTEBRAE, bool) if volume is None else volume.in_gap(true_points(), harmless)
            theirs = failed if other is None else height_error(other, clean, np.zeros(N_VERTEBRAE, bool))
            print(f"| {name} | {theirs} | {said} | {height_error(volume, clean, gaps)} |")


if __name__ == "__main__":
    main()
