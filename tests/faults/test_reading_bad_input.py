"""Bad input ends in a reason or one clear line: never in a traceback, never in a number that is silently off."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import Grid, b0_hu, measured_heights, other_patient, save, set_pixels, stored_pixels, write_b0
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from vertebra_core.errors import NotEvaluable, Reason, WrongUse
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.settings import ReadingSettings
from vertebra_core.volume import Volume

SETTINGS = ReadingSettings()
SMALL = Grid((40, 48, 50), (2.0, 2.0, 2.0), (-49.0, -47.0, -39.0))


@pytest.fixture(scope="module")
def small_hu() -> np.ndarray:
    return b0_hu(SMALL)


@pytest.fixture(scope="module")
def clean(tmp_path_factory, small_hu) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_b0(folder, hu=small_hu, grid=SMALL)
    return folder


def end_of(*archives: Path) -> list[Reason | None]:
    """Reason of every series, judged by its header and, where that is sound, by its pixels."""
    ends, details = [], []
    for series in choose_index_series(find_series(archives, SETTINGS).series):
        try:
            if series.decision is None:
                read_volume(series, SETTINGS)
            ends.append(series.decision)
        except NotEvaluable as refusal:
            details.append(refusal.detail)
            ends.append(refusal.reason)
    assert not any(str(archive) in detail for archive in archives for detail in details), "a detail holds a path"
    return ends


def changed(clean: Path, folder: Path, edit) -> Path:
    folder.mkdir(exist_ok=True)
    for index, path in enumerate(sorted(clean.iterdir())):
        result = edit(dcmread(path), index)
        if result is not None:
            save(result, folder / path.name)
    return folder


def with_value(keyword: str, value):
    def edit(ds, _):
        setattr(ds, keyword, value)
        return ds

    return edit


def test_a_missing_archive_is_one_clear_line(tmp_path):
    with pytest.raises(WrongUse, match="no such archive") as refusal:
        find_series([tmp_path / "absent"], SETTINGS)
    assert "\n" not in str(refusal.value)


def test_an_empty_archive_holds_nothing(tmp_path):
    inventory = find_series([tmp_path], SETTINGS)
    assert (inventory.series, dict(inventory.left_alone), inventory.files_seen) == ((), {}, 0)


def test_progress_counts_every_file(clean, tmp_path):
    heard: list[int] = []
    inventory = find_series([clean], SETTINGS, heard.append)
    assert heard == list(range(1, inventory.files_seen + 1))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_few_slices_are_refused(count, clean, tmp_path):
    changed(clean, tmp_path, lambda ds, index: ds if index < count else None)
    assert end_of(tmp_path) == [Reason.TOO_FEW_SLICES]


def mr(ds: Dataset, _) -> Dataset:
    ds.SOPClassUID, ds.Modality = MRImageStorage, "MR"
    return ds


def no_rescale(ds: Dataset, _) -> Dataset:
    del ds.RescaleSlope, ds.RescaleIntercept
    return ds


def window_burnt_in(ds: Dataset, _) -> Dataset:
    """A soft-tissue window of 400 HU at 40 HU, as a secondary reconstruction writes it."""
    hu = np.clip(stored_pixels(ds).astype(int) - 1024, -160, 240)
    set_pixels(ds, hu, signed=True)
    ds.RescaleIntercept = 0
    return ds


def eight_bits(ds: Dataset, _) -> Dataset:
    grey = np.clip((stored_pixels(ds).astype(int) - 1024 + 160) * 255 / 400, 0, 255)
    set_pixels(ds, grey, signed=False)
    ds.BitsStored, ds.HighBit = 8, 7
    return ds


def geometry_gone(ds: Dataset, _) -> Dataset:
    del ds.ImagePositionPatient
    return ds


def whole_millimetres(ds: Dataset, index: int) -> Dataset:
    ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], 7.0 * index]
    return ds


BAD_SERIES = {
    "an MR": (mr, Reason.OTHER_MODALITY),
    "modality MR alone": (with_value("Modality", "MR"), Reason.OTHER_MODALITY),
    "no rescale": (no_rescale, Reason.NOT_HOUNSFIELD),
    "a window burnt in": (window_burnt_in, Reason.NOT_HOUNSFIELD),
    "eight bits": (eight_bits, Reason.NOT_HOUNSFIELD),
    "an iodine map": (with_value("RescaleType", "MGML"), Reason.NOT_HOUNSFIELD),
    "one constant": (
        lambda ds, _: set_pixels(ds, np.full((48, 50), 1064), signed=False) or ds,
        Reason.CONSTANT_IMAGE,
    ),
    "no positions": (geometry_gone, Reason.NO_GEOMETRY),
    "spacing of zero": (with_value("PixelSpacing", [0, 0]), Reason.NO_GEOMETRY),
    "skew axes": (with_value("ImageOrientationPatient", [1, 0, 0, 0.5, 0.866, 0]), Reason.NO_GEOMETRY),
    "spacing that is text": (with_value("PixelSpacing", None), Reason.NO_GEOMETRY),
    "slices 7 mm apart": (whole_millimetres, Reason.SLICES_TOO_THICK),
    "colour": (with_value("SamplesPerPixel", 3), Reason.REPORT_PAGE),
    "huge": (lambda ds, _: with_value("Rows", 60000)(with_value("Columns", 60000)(ds, 0), 0), Reason.TOO_LARGE),
    "more rows than pixels": (with_value("Rows", 480), Reason.PIXELS_DAMAGED),
    "all padding": (
        lambda ds, _: set_pixels(with_value("RescaleIntercept", 0)(ds, 0), np.full((48, 50), -2000), signed=True) or ds,
        Reason.CONSTANT_IMAGE,
    ),
}


@pytest.mark.parametrize("case", BAD_SERIES)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_bad_series_has_its_own_reason(case, clean, tmp_path):
    edit, reason = BAD_SERIES[case]
    assert end_of(changed(clean, tmp_path, edit)) == [reason]


def test_hounsfield_units_without_a_rescale_are_taken(clean, tmp_path):
    """HU stored as they are, tags absent: fat and air show the unit."""

    def edit(ds, _):
        set_pixels(ds, stored_pixels(ds).astype(int) - 1024, signed=True)
        return no_rescale(ds, 0)

    assert end_of(changed(clean, tmp_path, edit)) == [None]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_a_file_cut_short_damages_its_series_alone(share, clean, tmp_path):
    broken = tmp_path / "a_broken"
    shutil.copytree(clean, broken)
    victim = broken / "slice_0020.dcm"
    victim.write_bytes(victim.read_bytes()[: int(share * victim.stat().st_size)])
    (broken / "slice_0030.dcm").write_bytes(b"")
    write_b0(tmp_path / "b_sound", hu=b0_hu(SMALL), grid=SMALL, study=other_patient(2))
    assert end_of(tmp_path) == [Reason.PIXELS_DAMAGED, None]
    assert find_series([tmp_path], SETTINGS).left_alone == {Reason.EMPTY_FILE: 1}


# -- transfer syntaxes --------------------------------------------------------------------------------------------

SYNTAXES = [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
COMPRESSED = [DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]


def in_syntax(syntax):
    def edit(ds, _):
        if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
            ds.compress(syntax, generate_instance_uid=False)
        else:
            ds.file_meta.TransferSyntaxUID = syntax
        return ds

    return edit


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_every_transfer_syntax_gives_the_same_voxels(syntax, clean, tmp_path, small_hu):
    changed(clean, tmp_path, in_syntax(syntax))
    (series,) = find_series([tmp_path], SETTINGS).series
    assert series.transfer_syntax_uid == syntax
    assert (read_volume(series, SETTINGS).hu == small_hu).all()


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_a_compressed_file_cut_short_is_never_half_a_picture(syntax, share, clean, tmp_path, small_hu):
    changed(clean, tmp_path, in_syntax(syntax))
    victim = tmp_path / "slice_0020.dcm"
    victim.write_bytes(victim.read_bytes()[: int(share * victim.stat().st_size)])
    inventory = find_series([tmp_path], SETTINGS)
    (series,) = inventory.series
    if inventory.left_alone:  # a deflated file that is cut has no header either: the slice is missing, and filled in
        assert inventory.left_alone == {Reason.UNREADABLE: 1}
        assert read_volume(series, SETTINGS).filled_slices == (20,)
    else:
        assert end_of(tmp_path) == [Reason.PIXELS_DAMAGED]


def test_rescale_may_differ_from_slice_to_slice(clean, tmp_path, small_hu):
    def edit(ds, index):
        set_pixels(ds, stored_pixels(ds).astype(int) - 1024 + 10 * index, signed=True)
        ds.RescaleIntercept = -10 * index
        return ds

    changed(clean, tmp_path, edit)
    (series,) = find_series([tmp_path], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.hu.dtype == np.int16
    assert (volume.hu == small_hu).all()


def test_a_broken_slope_gives_float32(clean, tmp_path, small_hu):
    changed(clean, tmp_path, lambda ds, i: with_value("RescaleSlope", 0.5 if i == 30 else 1)(ds, 0))
    (series,) = find_series([tmp_path], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.hu.dtype == np.float32
    assert (np.delete(volume.hu, 30, 0) == np.delete(small_hu, 30, 0)).all()
    body = small_hu[30] > -900
    np.testing.assert_allclose(volume.hu[30][body], (small_hu[30][body] + 1024) * 0.5 - 1024, atol=1e-3)


# -- Enhanced CT --------------------------------------------------------------------------------------------------


def enhanced(folder: Path, hu: np.ndarray, order: np.ndarray, clean: Path) -> Path:
    """One Enhanced CT file with its frames in the given order."""
    ds = dcmread(clean / "slice_0000.dcm")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(ds, keyword)
    del ds.RescaleIntercept
    ds.NumberOfFrames = len(hu)
    ds.PixelData = (hu[order].astype(int) + 1024).astype("<u2").tobytes()

    def group(**values) -> Dataset:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return item

    shared = group(
        PlaneOrientationSequence=Sequence([group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence([group(PixelSpacing=[2, 2], SliceThickness=2)]),
        PixelValueTransformationSequence=Sequence([group(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")]),
    )
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    z = SMALL.axes()[2]
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [group(PlanePositionSequence=Sequence([group(ImagePositionPatient=[-49, -47, float(z[i])])])) for i in order]
    )
    return save(ds, folder / "enhanced.dcm")


@pytest.mark.parametrize("compressed", [False, True])
def test_the_frames_of_an_enhanced_ct_are_sorted_by_position(compressed, clean, tmp_path, small_hu):
    order = np.random.default_rng(3).permutation(len(small_hu))
    path = enhanced(tmp_path, small_hu, order, clean)
    if compressed:
        ds = dcmread(path)
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
        save(ds, path)
    (series,) = find_series([tmp_path], SETTINGS).series
    assert (series.decision, series.n_slices, series.n_files) == (None, 40, 1)
    volume = read_volume(series, SETTINGS)
    assert (volume.hu == small_hu).all()
    np.testing.assert_allclose(
        volume.patient_from_voxel, np.diag([2, 2, 2, 1]) + [[0, 0, 0, o] for o in (-49, -47, -39, 0)]
    )


# -- volume files -------------------------------------------------------------------------------------------------


def as_image(hu: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((-49.0, -47.0, -39.0))
    return image


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.nrrd", "v.mha"])
@pytest.mark.parametrize("rename", [None, "IM000001"])
def test_a_volume_file_is_read_whatever_its_name(name, rename, tmp_path, small_hu):
    sitk.WriteImage(as_image(small_hu), str(tmp_path / name))
    if rename:
        (tmp_path / name).rename(tmp_path / rename)
    (series,) = find_series([tmp_path], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.hu.dtype == np.int16
    assert (volume.hu == small_hu).all()
    np.testing.assert_allclose(volume.patient_from_voxel[:3, 3], [-49, -47, -39])
    assert (series.study_uid, series.series_uid) == (rename or name, rename or name)


def write_nan(folder: Path, hu: np.ndarray) -> None:
    bad = hu.astype(np.float32)
    bad[20, 20, 20] = np.nan
    sitk.WriteImage(as_image(bad), str(folder / "v.nii.gz"))


def write_infinite(folder: Path, hu: np.ndarray) -> None:
    bad = hu.astype(np.float32)
    bad[20, 20, 20] = np.inf
    sitk.WriteImage(as_image(bad), str(folder / "v.mha"))


def write_4d(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(sitk.JoinSeries([as_image(hu), as_image(hu)]), str(folder / "v.nii"))


def write_2d(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(hu[0]), str(folder / "v.nii"))


def write_constant(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(np.full_like(hu, 40)), str(folder / "v.nrrd"))


def write_mask(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image((hu > 200).astype(np.uint8)), str(folder / "v.nii.gz"))


def write_wide_mask(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image((hu > 200).astype(np.int16) * 20), str(folder / "v.nii.gz"))


def write_unit_variance(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(((hu - hu.mean()) / hu.std()).astype(np.float32)), str(folder / "v.nii.gz"))


def write_colour(folder: Path, hu: np.ndarray) -> None:
    grey = sitk.Cast(as_image(hu), sitk.sitkUInt8)
    sitk.WriteImage(sitk.Compose([grey] * 3), str(folder / "v.mha"))


def write_without_frame(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(hu), str(folder / "v.nii"))
    content = bytearray((folder / "v.nii").read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    (folder / "v.nii").write_bytes(content)


def cut(name: str, share: float = 0.5):
    def write(folder: Path, hu: np.ndarray) -> None:
        sitk.WriteImage(as_image(hu), str(folder / name), useCompression=name.endswith("gz") or "z." in name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return write


def write_flipped_bits(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(hu), str(folder / "v.nii.gz"))
    content = bytearray((folder / "v.nii.gz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "v.nii.gz").write_bytes(content)


BAD_VOLUMES = {
    "NaN": (write_nan, Reason.NOT_FINITE),
    "infinite": (write_infinite, Reason.NOT_FINITE),
    "4D": (write_4d, Reason.NOT_A_VOLUME),
    "2D": (write_2d, Reason.NOT_A_VOLUME),
    "constant": (write_constant, Reason.CONSTANT_IMAGE),
    "mask": (write_mask, Reason.NOT_HOUNSFIELD),
    "mask in 16 bits": (write_wide_mask, Reason.NOT_HOUNSFIELD),
    "unit variance": (write_unit_variance, Reason.NOT_HOUNSFIELD),
    "colour": (write_colour, Reason.NOT_A_VOLUME),
    "no frame": (write_without_frame, Reason.NO_GEOMETRY),
    **{f"{name} cut": (cut(name), Reason.PIXELS_DAMAGED) for name in ("v.nii", "v.nii.gz", "v.nrrd", "v.mha")},
    **{f"compressed {name} cut": (cut(name), Reason.PIXELS_DAMAGED) for name in ("z.nrrd", "z.mha")},
    "last byte gone": (cut("v.nii", 0.99999), Reason.PIXELS_DAMAGED),
    "flipped bits": (write_flipped_bits, Reason.UNREADABLE),
}


@pytest.mark.parametrize("case", BAD_VOLUMES)
def test_a_bad_volume_file_has_its_own_reason(case, tmp_path, small_hu, capfd):
    write, reason = BAD_VOLUMES[case]
    write(tmp_path, small_hu)
    assert end_of(tmp_path) == [reason]
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "" or err.startswith("MetaImage:")  # the C library says it itself, in one line


def test_a_gzip_that_is_no_volume_is_left_alone(tmp_path):
    (tmp_path / "notes.nii.gz").write_bytes(gzip.compress(b"some text " * 100))
    inventory = find_series([tmp_path], SETTINGS)
    assert inventory.left_alone == {Reason.NOT_DICOM: 1}


def test_padding_in_a_volume_file_becomes_air(tmp_path, small_hu):
    bad = small_hu.copy()
    bad[:, :5] = -3024
    sitk.WriteImage(as_image(bad), str(tmp_path / "v.nii.gz"))
    (series,) = find_series([tmp_path], SETTINGS).series
    assert (read_volume(series, SETTINGS).hu[:, :5] == -1000).all()


# -- what a change of the archive does ----------------------------------------------------------------------------


def test_the_digest_follows_the_content_not_the_names(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "a", copy_function=shutil.copy2)
    digest = find_series([tmp_path], SETTINGS).series[0].input_digest
    (tmp_path / "a" / "slice_0003.dcm").rename(tmp_path / "a" / "other")
    assert find_series([tmp_path], SETTINGS).series[0].input_digest == digest
    (tmp_path / "a" / "other").unlink()
    fewer = find_series([tmp_path], SETTINGS).series[0].input_digest
    ds = dcmread(tmp_path / "a" / "slice_0005.dcm")
    set_pixels(ds, stored_pixels(ds) + 1, signed=False)
    save(ds, tmp_path / "a" / "slice_0005.dcm")
    rewritten = find_series([tmp_path], SETTINGS).series[0].input_digest
    assert len({digest, fewer, rewritten}) == 3


def test_a_file_that_vanished_since_the_inventory_is_a_reason(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "a")
    (series,) = find_series([tmp_path], SETTINGS).series
    (tmp_path / "a" / "slice_0003.dcm").unlink()
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(series, SETTINGS)
    assert refusal.value.reason is Reason.UNREADABLE


def test_reading_writes_nothing_into_the_archive(clean):
    before = {path: path.stat().st_mtime_ns for path in clean.rglob("*")}
    end_of(clean)
    assert {path: path.stat().st_mtime_ns for path in clean.rglob("*")} == before


def test_b0_on_the_coarse_grid_is_measured_rightly(tmp_path):
    """The oracle of these tests is no blind one: a step that is off by 2 % shows in every height."""
    grid = Grid()
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = grid.origin
    right = measured_heights(Volume(b0_hu(), affine))
    affine[2, 2] *= 1.02
    wrong = measured_heights(Volume(b0_hu(), affine))
    assert np.nanmax(np.abs(wrong - right)) > 0.2
    assert replace(SETTINGS).min_slices == SETTINGS.min_slices
