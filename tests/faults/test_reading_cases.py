"""Cases R1, R3, R5, R7, R9, R11, R14 and R15: a fault in a series changes no height, or is refused by name."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import (
    AXIAL,
    WEDGE,
    Grid,
    Study,
    b0_hu,
    ct_slice,
    genant_index,
    measured_heights,
    other_patient,
    save,
    set_pixels,
    stored_pixels,
    write_b0,
)
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import BasicTextSRStorage, EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import Inventory, find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.reading.series import Series
from vertebra_core.settings import ReadingSettings
from vertebra_core.straighten import sample_volume
from vertebra_core.volume import AIR_HU, Volume

SETTINGS = ReadingSettings()
MIDDLE = Grid((51, 96, 100), (1.0, 1.0, 2.0), (-49.5, -47.5, -65.0))
"""The three middle vertebrae of B0, the wedge among them: what every variant is written on, to save time."""
SHOWN = [WEDGE - 1, WEDGE, WEDGE + 1]
N = MIDDLE.shape[0]


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("b0")
    write_b0(folder, grid=MIDDLE)
    return folder


@pytest.fixture(scope="module")
def b0(clean) -> Volume:
    return read_only(clean)[1]


@pytest.fixture(scope="module")
def b0_heights(b0) -> np.ndarray:
    return measured_heights(b0)


def read_only(*archives: Path) -> tuple[Series, Volume]:
    """The one series that is measured, and its volume."""
    measured = [series for series in choose_index_series(take(*archives).series) if series.decision is None]
    assert len(measured) == 1
    return measured[0], read_volume(measured[0], SETTINGS)


def take(*archives: Path) -> Inventory:
    inventory = find_series(archives, SETTINGS)
    met = sum(series.n_files for series in inventory.series) + sum(inventory.left_alone.values())
    assert inventory.files_seen == met
    return inventory


def copy_of(clean: Path, folder: Path, edit=None) -> list[Path]:
    """Copy the clean series, each file changed by `edit(dataset, index)` where given."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(sorted(clean.iterdir())):
        if edit is None:
            shutil.copy(path, folder / path.name)
        else:
            changed = edit(dcmread(path), index)
            if changed is not None:
                save(changed, folder / path.name)
    return sorted(folder.iterdir())


def test_b0_as_dicom_has_the_heights_it_was_made_with(b0_heights, tmp_path):
    write_b0(tmp_path)
    _, whole = read_only(tmp_path)
    heights = measured_heights(whole)
    assert genant_index(heights)[WEDGE] == pytest.approx(18.6 / 23.4, abs=0.01)
    np.testing.assert_allclose(np.delete(heights, WEDGE, axis=0), 24.0, atol=0.05)
    np.testing.assert_allclose(b0_heights[SHOWN], heights[SHOWN], atol=0.03)  # the noise differs
    assert np.isnan(np.delete(b0_heights, SHOWN, axis=0)).all()


# -- R1: two acquisitions in one series ---------------------------------------------------------------------------


def brighter(ds, _):
    """A second acquisition: +300 HU in bone, other instances, AcquisitionNumber 2."""
    stored = stored_pixels(ds)
    set_pixels(ds, stored + 300 * (stored > 1024 + 200), signed=False)
    ds.AcquisitionNumber, ds.InstanceNumber = 2, ds.InstanceNumber + N
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["second", str(ds.InstanceNumber)])
    return ds


def without(*keywords: str):
    def edit(ds):
        for keyword in keywords:
            if keyword in ds:
                delattr(ds, keyword)
        return ds

    return edit


R1_VARIANTS = {
    "acquisition numbers": (lambda ds, i: ds, brighter),
    "contrast agent only": (
        lambda ds, i: without("AcquisitionNumber")(ds),
        lambda ds, i: set_value(without("AcquisitionNumber")(brighter(ds, i)), "ContrastBolusAgent", "IODINE"),
    ),
    "times only": (
        lambda ds, i: set_value(without("AcquisitionNumber")(ds), "AcquisitionTime", f"1000{i // 3:02d}"),
        lambda ds, i: set_value(without("AcquisitionNumber")(brighter(ds, i)), "AcquisitionTime", f"1100{i // 3:02d}"),
    ),
    "instance numbers only": (
        lambda ds, i: without("AcquisitionNumber")(ds),
        lambda ds, i: without("AcquisitionNumber")(brighter(ds, i)),
    ),
    "two kernels": (lambda ds, i: ds, lambda ds, i: set_value(brighter(ds, i), "ConvolutionKernel", "BONE")),
}


def set_value(ds, keyword, value):
    setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize("variant", R1_VARIANTS)
def test_r1_two_acquisitions_are_two_stacks_and_one_is_chosen(variant, clean, b0_heights, tmp_path):
    first, second = R1_VARIANTS[variant]
    copy_of(clean, tmp_path / "one", first)
    copy_of(clean, tmp_path / "two", second)
    chosen = choose_index_series(take(tmp_path).series)
    assert [series.n_slices for series in chosen] == [N, N]
    assert [series.decision for series in chosen].count(None) == 1
    (other,) = [series for series in chosen if series.decision is not None]
    assert other.decision is Reason.OTHER_STACK
    assert "chosen" in other.decision_detail
    assert {series.stack for series in chosen} == {0, 1}
    (index,) = [series for series in chosen if series.decision is None]
    volume = read_volume(index, SETTINGS)
    assert len({Path(name).parent for name in index.files}) == 1, "slices of two acquisitions are mixed"
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=0.2 if volume.hu.max() > 600 else 1e-9)


def test_r1_acquisitions_between_each_other_are_not_mixed(clean, b0_heights, tmp_path):
    """The second acquisition lies half a step higher: no position comes twice, but contrast would alternate."""

    def shifted(ds, index):
        ds = brighter(ds, index)
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], float(ds.ImagePositionPatient[2]) + 1.0]
        return ds

    copy_of(clean, tmp_path / "one")
    copy_of(clean, tmp_path / "two", shifted)
    index, volume = read_only(tmp_path)
    assert index.slice_spacing_mm == pytest.approx(2.0)
    assert len({Path(name).parent for name in index.files}) == 1
    assert len(take(tmp_path).series) == 2
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=0.3)


def test_r1_an_acquisition_in_pieces_stays_one_stack(clean, b0_heights, tmp_path):
    """GE numbers each turn of the gantry; pieces that follow each other are one volume."""
    copy_of(clean, tmp_path, lambda ds, index: set_value(ds, "AcquisitionNumber", index // 2 + 1))
    _, volume = read_only(tmp_path)
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


@pytest.mark.parametrize("new_uids", [True, False], ids=["b: other instances", "c: same instances, other names"])
def test_r1_duplicates_are_dropped_and_counted(new_uids, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path / "one")
    renew = (lambda ds, i: set_value(ds, "SOPInstanceUID", generate_uid())) if new_uids else None
    copy_of(clean, tmp_path / "two", renew)
    index, volume = read_only(tmp_path)
    assert index.repairs == (f"duplicates_dropped:{N}",)
    assert volume.repairs == index.repairs
    assert index.n_files == 2 * N
    assert len(take(tmp_path).series) == 1
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


def test_r1_the_whole_one_of_a_slice_and_its_damaged_copy_is_kept(clean, b0_heights, tmp_path):
    files = copy_of(clean, tmp_path)
    (tmp_path / "a_damaged_copy").write_bytes(files[20].read_bytes()[:9000])
    index, volume = read_only(tmp_path)
    assert index.repairs == ("duplicates_dropped:1",)
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


def test_r1_images_that_nothing_tells_apart_are_refused(clean, tmp_path):
    def alike(number):
        def edit(ds, index):
            ds = brighter(ds, index) if number else ds
            ds.InstanceNumber = 2 * index + number  # alternating: the order proves nothing
            return without("AcquisitionNumber")(ds)

        return edit

    copy_of(clean, tmp_path / "one", alike(0))
    copy_of(clean, tmp_path / "two", alike(1))
    (series,) = take(tmp_path).series
    assert series.decision is Reason.AMBIGUOUS_STACK
    assert series.n_files == 2 * N


# -- R3: a slice is missing ---------------------------------------------------------------------------------------

WEDGE_SLICE = 25  # z = -15 mm, the middle of the wedge


@pytest.mark.parametrize(
    "gone", [WEDGE_SLICE, WEDGE_SLICE - 5, 1, N - 2], ids=["wedge", "its plate", "second", "last but one"]
)
def test_r3_a_missing_slice_is_interpolated_and_recorded(gone, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    (tmp_path / f"slice_{gone:04d}.dcm").unlink()
    _, volume = read_only(tmp_path)
    assert volume.repairs == ("missing_slice_interpolated:1",)
    assert volume.filled_slices == (gone,)
    assert volume.spacing[2] == pytest.approx(2.0)
    heights = measured_heights(volume)
    others = [i for i in SHOWN if i != WEDGE]
    np.testing.assert_allclose(genant_index(heights)[others], genant_index(b0_heights)[others], atol=1e-3)
    if gone != WEDGE_SLICE - 5:
        assert genant_index(heights)[WEDGE] == pytest.approx(genant_index(b0_heights)[WEDGE], abs=1e-3)


@pytest.mark.parametrize("gone", [0, N - 1], ids=["first", "last"])
def test_r3_the_first_or_last_slice_missing_is_no_fault(gone, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    (tmp_path / f"slice_{gone:04d}.dcm").unlink()
    _, volume = read_only(tmp_path)
    assert volume.repairs == ()
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


@pytest.mark.parametrize(
    ("gone", "reason"),
    [((24, 25), Reason.MISSING_SLICES), ((10, 25, 40), Reason.MISSING_SLICES), (range(20, 40), Reason.MISSING_SLICES)],
    ids=["two in a row", "three single ones", "a hole"],
)
def test_r3_more_than_may_be_filled_is_refused(gone, reason, clean, tmp_path):
    copy_of(clean, tmp_path)
    for index in gone:
        (tmp_path / f"slice_{index:04d}.dcm").unlink()
    (series,) = take(tmp_path).series
    assert series.decision is reason
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(replace(series, decision=None), SETTINGS)
    assert refusal.value.reason is reason


def test_r3_a_blank_slice_inside_counts_as_missing(clean, b0_heights, tmp_path):
    def blank(ds, index):
        return set_pixels(ds, np.zeros((ds.Rows, ds.Columns)), signed=False) or ds if index == WEDGE_SLICE else ds

    copy_of(clean, tmp_path, blank)
    _, volume = read_only(tmp_path)
    assert volume.repairs == ("blank_slice_interpolated:1",)
    np.testing.assert_allclose(genant_index(measured_heights(volume)), genant_index(b0_heights), atol=1e-3)


def test_r3_uneven_steps_are_refused(clean, tmp_path):
    def stretched(ds, index):
        ds.ImagePositionPatient = [
            *ds.ImagePositionPatient[:2],
            2.0 * index if index < 25 else 50 + 3.0 * (index - 25),
        ]
        return ds

    copy_of(clean, tmp_path, stretched)
    (series,) = take(tmp_path).series
    assert series.decision is Reason.UNEVEN_SPACING


# -- R5: a scout inside the series --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_type", "rows", "reason"),
    [
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], 96, Reason.LOCALIZER),
        (["ORIGINAL", "PRIMARY", "AXIAL"], 96, Reason.NOT_A_VOLUME),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], 132, Reason.LOCALIZER),
    ],
    ids=["localizer", "says axial", "other rows"],
)
def test_r5_a_scout_is_split_off(image_type, rows, reason, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    picture = np.random.default_rng(1).integers(-200, 800, (rows, 100))
    scout = ct_slice(picture, [0.0, -50.0, 131.0], (1.0, 1.0, 2.0), replace(Study(), uid_salt="scout"), 1)
    scout.ImageOrientationPatient, scout.ImageType = [0, 1, 0, 0, 0, -1], image_type
    save(scout, tmp_path / "a_scout.dcm")
    axial, split_off = sorted(take(tmp_path).series, key=lambda series: -series.n_slices)
    assert (split_off.n_slices, split_off.decision, split_off.orientation) == (1, reason, "sagittal")
    assert (axial.n_slices, axial.decision) == (N, None)
    np.testing.assert_allclose(measured_heights(read_volume(axial, SETTINGS)), b0_heights, atol=1e-9)


# -- R7: order and orientation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", ["absent", "reversed", "shuffled"])
def test_r7_instance_numbers_and_names_do_not_matter(numbers, clean, b0, tmp_path):
    shuffled = np.random.default_rng(7).permutation(N)

    def edit(ds, index):
        if numbers == "absent":
            return without("InstanceNumber")(ds)
        return set_value(ds, "InstanceNumber", int(N - index if numbers == "reversed" else shuffled[index]))

    for index, path in enumerate(copy_of(clean, tmp_path, edit)):
        path.rename(tmp_path / f"{shuffled[index]:x}_{index * 7919 % 131:04d}")
    _, volume = read_only(tmp_path)
    assert (volume.hu == b0.hu).all()
    np.testing.assert_allclose(volume.patient_from_voxel, b0.patient_from_voxel, atol=1e-9)
    assert volume.repairs == ()


@pytest.mark.parametrize(
    "orientation",
    [(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)],
    ids=["prone", "feet first", "feet first prone"],
)
def test_r7_the_patient_is_the_same_in_every_orientation(orientation, b0, b0_heights, tmp_path):
    write_b0(tmp_path, grid=MIDDLE, study=replace(Study(), orientation=orientation))
    _, volume = read_only(tmp_path)
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-6)
    same = sorted(map(tuple, np.round(volume.corners, 6).tolist()))
    assert same == sorted(map(tuple, np.round(b0.corners, 6).tolist()))
    assert np.linalg.det(volume.patient_from_voxel[:3, :3]) > 0


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_r7_other_planes_that_form_a_volume_are_read(plane, b0_heights, tmp_path):
    hu, (x, y, z) = b0_hu(MIDDLE), MIDDLE.axes()
    down = replace(Study(), orientation=(0, 1, 0, 0, 0, -1) if plane == "sagittal" else (1, 0, 0, 0, 0, -1))
    for index in range(len(x) if plane == "sagittal" else len(y)):
        pixels = hu[::-1, :, index] if plane == "sagittal" else hu[::-1, index]
        position = [x[index], y[0], z[-1]] if plane == "sagittal" else [x[0], y[index], z[-1]]
        # Rows are 2 mm apart, columns 1 mm: swapped spacings would show at once.
        ds = ct_slice(pixels, list(map(float, position)), (1.0, 2.0, 1.0), down, index + 1)
        save(ds, tmp_path / f"{index}.dcm")
    series, volume = read_only(tmp_path)
    assert series.orientation == plane
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-6)


@pytest.mark.parametrize("degrees", [8.0, 25.0])
def test_r7_a_tilted_gantry_is_kept_as_it_lies(degrees, tmp_path):
    """Each slice is tilted about x; the table still moves along z: the affine is sheared, the heights are not."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    tilted = replace(Study(), orientation=(1, 0, 0, 0, float(cosine), float(-sine)))
    grid = Grid((90, 96, 100), (1.0, 1.0, 1.6), (-49.5, -47.5, -86.0))
    volume = Volume(b0_hu(), read_grid(Grid()))
    x, y, z = grid.axes()
    for index, height in enumerate(z):
        points = np.stack(np.broadcast_arrays(x[None], (y * cosine)[:, None], (height - y * sine)[:, None]), -1)
        hu = np.nan_to_num(sample_volume(volume, points), nan=-1000)
        position = [x[0], float(y[0] * cosine), float(height - y[0] * sine)]
        save(ct_slice(hu, position, grid.spacing, tilted, index + 1), tmp_path / f"{index}.dcm")
    _, read = read_only(tmp_path)
    assert read.repairs == (f"gantry_tilt_degrees:{degrees:.1f}",)
    np.testing.assert_allclose(measured_heights(read)[SHOWN], measured_heights(volume)[SHOWN], atol=0.35)


def read_grid(grid: Grid) -> np.ndarray:
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = grid.origin
    return affine


def test_r7_a_tilt_beyond_any_gantry_is_refused(clean, tmp_path):
    def sheared(ds, index):
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 2.0 * index, z]
        return ds

    copy_of(clean, tmp_path, sheared)
    (series,) = take(tmp_path).series
    assert series.decision is Reason.GANTRY_TILT


# -- R9: padding outside the circle -------------------------------------------------------------------------------


def outside_the_circle(ds) -> np.ndarray:
    y, x = np.indices((ds.Rows, ds.Columns))
    return np.hypot((x - 49.5) / 50.0, (y - 47.5) / 48.0) > 1.0


def padded(value: int, tag: int | None = None, limit: int | None = None):
    def edit(ds, _):
        stored = stored_pixels(ds).astype(int) - 1024  # HU, stored signed
        outside = outside_the_circle(ds)
        stored[outside] = value
        if limit is not None:
            stored[outside & (np.indices(outside.shape)[0] % 2 == 0)] = limit
        set_pixels(ds, stored, signed=True)
        ds.RescaleIntercept = 0
        for keyword, pad in (("PixelPaddingValue", tag), ("PixelPaddingRangeLimit", limit)):
            if pad is not None:
                ds.add_new(keyword, "SS", pad)
        return ds

    return edit


def zero_corners(ds, _):
    stored = stored_pixels(ds)
    stored[outside_the_circle(ds)] = 0
    set_pixels(ds, stored, signed=False)
    return ds


def rescaled_padding(ds, _):
    """Padding -2000 with intercept -1024: -3024 once it was rescaled with the rest."""
    stored = stored_pixels(ds).astype(int)
    stored[outside_the_circle(ds)] = -2000
    set_pixels(ds, stored, signed=True)
    return ds


def unsigned_tag(ds, index):
    """PixelPaddingValue written as US 63536 for signed pixels of -2000, as scanners do."""
    ds = rescaled_padding(ds, index)
    ds.add_new("PixelPaddingValue", "US", 63536)
    return ds


def padded_with_water(ds, index):
    """Padding of 0 HU: tissue lies at the same value, so only what touches the border is padding."""
    return padded(0, 0)(ds, index)


@pytest.mark.parametrize(
    "edit",
    [
        padded(-2000, -2000),
        padded(-2000),
        zero_corners,
        padded(-2000, -2000, -1990),
        padded(-1050, -1050, -1040),
        rescaled_padding,
        unsigned_tag,
        padded_with_water,
    ],
    ids=["tag", "no tag", "zero", "range", "range near air", "rescaled", "unsigned tag", "padding of water"],
)
def test_r9_padding_becomes_air_and_nothing_else_changes(edit, clean, b0, b0_heights, tmp_path):
    copy_of(clean, tmp_path, edit)
    _, volume = read_only(tmp_path)
    assert volume.hu.dtype == np.int16
    outside = outside_the_circle(dcmread(next(iter(tmp_path.iterdir()))))
    assert (volume.hu[:, outside] == AIR_HU).all()
    assert (volume.hu[:, ~outside] == b0.hu[:, ~outside]).all()
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


# -- R11: files by any name ---------------------------------------------------------------------------------------


def test_r11_one_study_among_files_of_any_name(clean, b0_heights, tmp_path):
    names = ["IM{:06d}", "x{}.DCM", "x{}.dcm", "1.2.3.{}"]
    for index, path in enumerate(sorted(clean.iterdir())):
        folder = tmp_path / ("a" if index % 2 else "b/deeper")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / names[index % 4].format(index))
    with_preamble = next((tmp_path / "a").iterdir())
    bare = dcmread(with_preamble)
    with_preamble.unlink()
    bare.preamble, bare.file_meta = None, FileMetaDataset()
    bare.save_as(tmp_path / "a" / "no_preamble", implicit_vr=True, little_endian=True)
    write_strangers(tmp_path / "b")
    inventory = take(tmp_path)
    measured = [series for series in inventory.series if series.decision is None]
    assert [(series.n_slices, series.n_files) for series in measured] == [(N, N)]
    np.testing.assert_allclose(measured_heights(read_volume(measured[0], SETTINGS)), b0_heights, atol=1e-9)
    assert inventory.left_alone == {
        Reason.EMPTY_FILE: 1,
        Reason.NOT_DICOM: 5,  # .DS_Store, Thumbs.db, a PDF, a text file, a pipe
        Reason.NOT_AN_IMAGE: 1,  # DICOMDIR
        Reason.ALREADY_SEEN: 1,  # the link to the folder above
        Reason.UNREADABLE: 3,  # the link to itself, the dangling link, the header cut off
    }
    assert sorted(series.decision.code for series in inventory.series if series.decision) == ["not_an_image"] * 2


def write_strangers(folder: Path) -> None:
    """Everything that lies beside images in an archive."""
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(600))
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (folder / "empty.dcm").touch()
    (folder / "report.pdf").write_bytes(b"%PDF-1.7\n" + b"stream " * 200)
    (folder / "a.dcm").write_text("This is a text file, whatever its name says.\n" * 20)
    (folder / "cut.dcm").write_bytes(next(f for f in folder.rglob("x*.dcm")).read_bytes()[:400])
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "dangling").symlink_to(folder / "nowhere")
    for name, sop_class, modality in (
        ("dose", BasicTextSRStorage, "SR"),
        ("letter", EncapsulatedPDFStorage, "DOC"),
        ("DICOMDIR", "1.2.840.10008.1.3.10", ""),
    ):
        ds = ct_slice(np.zeros((2, 2)), [0, 0, 0], (1, 1, 1), Study(), 1)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = sop_class
        ds.SOPClassUID, ds.Modality, ds.SOPInstanceUID = sop_class, modality, generate_uid()
        ds.SeriesInstanceUID = generate_uid()
        for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient"):
            delattr(ds, keyword)
        save(ds, folder / name)


def test_r11_the_same_series_over_two_archives_is_one(clean, b0_heights, tmp_path):
    for index, path in enumerate(sorted(clean.iterdir())):
        (tmp_path / str(index % 2)).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / str(index % 2))
    series, volume = read_only(tmp_path / "0", tmp_path / "1")
    assert series.n_slices == N
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


def test_r11_an_archive_inside_another_is_not_read_twice(clean, tmp_path):
    copy_of(clean, tmp_path / "inner")
    inventory = take(tmp_path / "inner", tmp_path)
    assert [series.n_files for series in inventory.series] == [N]
    assert inventory.series[0].repairs == ()


# -- R14: noise in positions is not a gap -------------------------------------------------------------------------


FINE = Grid((110, 24, 25), (4.0, 4.0, 0.3), (-48.0, -46.0, -30.0))


def place(positions, orientation=AXIAL):
    def edit(ds, index):
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], positions(index)]
        ds.ImageOrientationPatient = list(orientation)
        return ds

    return edit


@pytest.mark.parametrize(
    ("positions", "step"),
    [
        (lambda i: round(0.3 * i + 0.004, 2), 0.3),
        (lambda i: round(0.295 * i, 2), 0.295),
        (lambda i: float(np.float32(-1234.567 + 0.625 * i)), 0.625),
        (lambda i: 5.0 * i + 0.01 * (i % 2), 5.0),
        (lambda i: 2.0 * i + 2.8e-15 * i, 2.0),
    ],
    ids=["0.3 mm in 2 decimals", "0.29/0.30 mm", "float32", "4.99/5.01", "2.8e-15"],
)
@pytest.mark.filterwarnings("error")
def test_r14_rounded_positions_are_no_gap(positions, step, tmp_path, capfd):
    write_b0(tmp_path, grid=FINE, edit=place(positions, (0.9999997, 3e-7, 0, -3e-7, 0.9999997, 3e-7)))
    series, volume = read_only(tmp_path)
    assert series.repairs == volume.repairs == ()
    assert volume.filled_slices == ()
    assert volume.spacing[2] == pytest.approx(step, rel=2e-3)
    assert capfd.readouterr() == ("", "")


# -- R15: names stripped ------------------------------------------------------------------------------------------


def test_r15_a_hard_anonymised_study_and_its_neighbour_are_both_taken(clean, b0_heights, tmp_path):
    stripped = without("SeriesDescription", "SeriesNumber", "StudyDate", "PatientSex", "PatientAge", "PatientName")
    copy_of(clean, tmp_path / "stripped", lambda ds, i: set_value(stripped(ds), "PatientID", ""))
    write_b0(tmp_path / "neighbour", grid=MIDDLE, study=other_patient(2))
    rows = {series.path: series for series in choose_index_series(take(tmp_path).series)}
    assert {path: row.decision for path, row in rows.items()} == {"stripped": None, "neighbour": None}
    bare = rows["stripped"]
    assert (bare.patient_id, bare.age_years, bare.sex, bare.study_date) == ("", None, None, None)
    assert (rows["neighbour"].age_years, rows["neighbour"].sex) == (67.0, "F")
    np.testing.assert_allclose(measured_heights(read_volume(bare, SETTINGS)), b0_heights, atol=1e-9)


def test_r15_two_patients_of_one_name_stay_two_studies(clean, tmp_path):
    copy_of(clean, tmp_path / "one", lambda ds, i: set_value(ds, "PatientID", "ANON"))
    write_b0(tmp_path / "two", grid=MIDDLE, study=other_patient(2, "ANON"))
    chosen = choose_index_series(take(tmp_path).series)
    assert [series.decision for series in chosen] == [None, None]
    assert len({series.study_uid for series in chosen}) == 2


def test_r15_a_wild_patient_id_breaks_nothing(clean, tmp_path):
    """A slash, a newline, Cyrillic bytes without SpecificCharacterSet and 200 characters, as they lie on disk."""
    wild = ("Иванов/../\n" * 20).encode("iso8859_5")[:200]
    marker = "M" * len(wild)
    for path in copy_of(clean, tmp_path, lambda ds, i: set_value(ds, "PatientID", marker)):
        path.write_bytes(path.read_bytes().replace(marker.encode(), wild))
    series, _ = read_only(tmp_path)
    assert len(series.patient_id) == 200 - (wild[-1:] == b"\n")


def test_r15_without_any_uid_the_folder_is_the_series(clean, b0_heights, tmp_path):
    edit = without("SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID")
    for name in ("one", "two"):
        copy_of(clean, tmp_path / name / "ct", lambda ds, i: edit(ds))
    chosen = choose_index_series(take(tmp_path / "one", tmp_path / "two").series)
    assert [series.decision for series in chosen] == [None, None]
    assert len({series.study_uid for series in chosen}) == 2
    np.testing.assert_allclose(measured_heights(read_volume(chosen[1], SETTINGS)), b0_heights, atol=1e-9)
