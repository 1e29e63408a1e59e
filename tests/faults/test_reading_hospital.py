"""What a hospital archive holds that nobody listed: for each the truth comes out, or a reason, and nothing is lost."""

import errno
import gzip
import multiprocessing
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import Study, b0_hu, other_patient, save, set_pixels, stored_pixels, write_b0
from engine_archive import N_SLICES, write_study
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from reading_cases import SETTINGS, SMALL, changed, end_of, read_only, set_value, take, without

from flows.screen import screen_archives
from flows.settings import load_settings
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading import files
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.straighten import sample_volume

N = SMALL.shape[0]
HALF = N // 2


def same_volume(folder: Path, small_hu: np.ndarray) -> None:
    """The one series of the folder has the voxels and the place of the clean one, and nothing was mended."""
    series, volume = read_only(folder)
    assert (volume.hu == small_hu).all()
    np.testing.assert_allclose(volume.patient_from_voxel[:3, 3], SMALL.origin)
    np.testing.assert_allclose(volume.spacing, SMALL.spacing)
    assert series.n_files == N
    assert volume.repairs == ()


# -- oddities of a whole series that change nothing ---------------------------------------------------------------


def compressed_in_half(ds: Dataset, index: int) -> Dataset:
    for syntax, where in ((JPEGLSLossless, range(10)), (JPEG2000Lossless, range(10, 15)), (RLELossless, range(15, 20))):
        if index in where:
            ds.compress(syntax, generate_instance_uid=False)
    return ds


def signed_in_half(ds: Dataset, index: int) -> Dataset:
    if index < HALF:
        set_pixels(ds, stored_pixels(ds).astype(int) - 1024, signed=True)
        ds.RescaleIntercept = 0
    return ds


def twelve_bits_in_half(ds: Dataset, index: int) -> Dataset:
    if index < HALF:
        ds.BitsStored, ds.HighBit = 12, 11
    return ds


def overlay_in_unused_bits(ds: Dataset, index: int) -> Dataset:
    """Old scanners kept graphics in the four bits above the twelve of the image (PS3.5 8.1.1, retired)."""
    set_pixels(ds, stored_pixels(ds) | 0x8000 * (np.arange(ds.Columns) % 7 == 0), signed=False)
    ds.BitsStored, ds.HighBit = 12, 11
    return ds


def names_by_slice(ds: Dataset, index: int) -> Dataset:
    ds.PatientName, ds.PatientBirthDate = f"Patient^{index}", f"19{index:02d}0101"
    ds.ReferringPhysicianName, ds.StudyID, ds.AccessionNumber = f"R{index}", str(index), str(index)
    return ds


def of_the_future(ds: Dataset, index: int) -> Dataset:
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "29991231"
    ds.AcquisitionTime = f"{index:06d}"
    return ds


def empty_values(ds: Dataset, index: int) -> Dataset:
    kept = {
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImagePositionPatient",
        "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "Rows", "Columns",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    }  # fmt: skip
    for element in ds:
        if element.keyword not in kept:
            element.value = None
    return ds


def nonsense_numbers(ds: Dataset, index: int) -> Dataset:
    """Everything about slices that is not their position."""
    ds.SliceThickness, ds.SpacingBetweenSlices, ds.SliceLocation = -7, 99, 1000 - 3 * index
    ds.InstanceNumber, ds.GantryDetectorTilt, ds.ImagesInAcquisition = 2**31 - 1 - index, 45, 3
    return ds


HARMLESS = {
    "half of the slices compressed, three ways": compressed_in_half,
    "half of the slices signed without an intercept": signed_in_half,
    "twelve bits stored in half of the slices": twelve_bits_in_half,
    "graphics in the unused bits": overlay_in_unused_bits,
    "another name in every slice": names_by_slice,
    "dates in the future": of_the_future,
    "empty values": empty_values,
    "numbers that contradict the positions": nonsense_numbers,
    "a private group of 5 MB": lambda ds, _: ds.add_new((0x0019, 0x1001), "OB", bytes(5_000_000 // N)) or ds,
    "names of the character sets of Japan": lambda ds, _: set_value(
        set_value(ds, "SpecificCharacterSet", ["", "ISO 2022 IR 87"]), "PatientName", "Yamada^Tarou=山田^太郎"
    ),
    "an unknown character set": lambda ds, _: set_value(ds, "SpecificCharacterSet", "KLINGON"),
}


@pytest.mark.parametrize("oddity", HARMLESS)
@pytest.mark.filterwarnings("ignore")
def test_an_oddity_that_bears_on_nothing_changes_nothing(oddity, small, tmp_path, small_hu):
    same_volume(changed(small, tmp_path, HARMLESS[oddity]), small_hu)


# -- identities that are shared or split --------------------------------------------------------------------------


def test_equal_instance_uids_in_two_series_are_no_duplicates(small, tmp_path, small_hu):
    shutil.copytree(small, tmp_path / "one")
    other = other_patient(2)

    def edit(ds, _):
        ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = other.patient_id, other.study_uid, other.series_uid
        return ds

    changed(small, tmp_path / "two", edit)
    inventory = take(tmp_path)
    assert [series.n_files for series in inventory.series] == [N, N]
    assert all((read_volume(series, SETTINGS).hu == small_hu).all() for series in inventory.series)


@pytest.mark.parametrize("split", [lambda i: i < HALF, lambda i: i % 2], ids=["in the middle", "alternating"])
def test_a_series_uid_in_two_studies_is_two_series_with_true_geometry(split, small, tmp_path, small_hu):
    edit = lambda ds, i: set_value(ds, "StudyInstanceUID", "1.2.3") if split(i) else ds  # noqa: E731
    series = take(changed(small, tmp_path, edit)).series
    assert [one.n_slices for one in series] == [HALF, HALF]
    assert {one.stack for one in series} == {0, 1}, "one key for two series would end the run"
    for one in series:
        volume = read_volume(one, SETTINGS)
        z = volume.patient_from_voxel[2, 3] + volume.spacing[2] * np.arange(HALF)
        at = np.rint((z - SMALL.origin[2]) / SMALL.spacing[2]).astype(int)
        assert (volume.hu == small_hu[at]).all()


def test_one_study_uid_of_two_patients_is_two_studies(small, tmp_path):
    shutil.copytree(small, tmp_path / "one")
    hu = b0_hu(SMALL, seed=1)
    write_b0(tmp_path / "two", hu=hu, grid=SMALL, study=replace(other_patient(2), study_uid=Study().study_uid))
    chosen = choose_index_series(take(tmp_path).series, SETTINGS)
    assert [one.decision for one in chosen] == [None, None]


def test_a_report_under_the_series_uid_of_the_images_is_a_row_of_its_own(small, tmp_path, small_hu):
    shutil.copytree(small, tmp_path / "a")
    report = without("Rows", "Columns", "PixelData")(dcmread(tmp_path / "a" / "slice_0000.dcm"))
    report.SOPClassUID, report.Modality, report.SOPInstanceUID = BasicTextSRStorage, "SR", generate_uid()
    save(report, tmp_path / "report.dcm")
    inventory = take(tmp_path)
    assert sorted((one.decision is None, one.stack) for one in inventory.series) == [(False, 1), (True, 0)]
    assert (read_only(tmp_path)[1].hu == small_hu).all()


def test_a_slice_under_another_patient_id_is_missing_and_not_lost(small, tmp_path):
    changed(small, tmp_path, lambda ds, i: set_value(ds, "PatientID", "WRONG") if i == 20 else ds)
    inventory = take(tmp_path)
    assert sorted(one.n_slices for one in inventory.series) == [1, N - 1]
    (good,) = [one for one in inventory.series if one.decision is None]
    assert read_volume(good, SETTINGS).filled_slices == (20,)


# -- a series that changes in its middle --------------------------------------------------------------------------


def turned(ds: Dataset, index: int) -> Dataset:
    """From the middle on rows and columns run the other way, as after a change of the protocol; the patient stays."""
    if index >= HALF:
        set_pixels(ds, stored_pixels(ds)[::-1, ::-1], signed=False)
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x + (ds.Columns - 1) * 2.0, y + (ds.Rows - 1) * 2.0, z]
        ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
    return ds


def larger(ds: Dataset, index: int) -> Dataset:
    if index >= HALF:
        set_pixels(ds, np.pad(stored_pixels(ds), 4), signed=False)
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x - 8.0, y - 8.0, z]
    return ds


@pytest.mark.parametrize("change", [turned, larger])
def test_a_series_that_changes_in_its_middle_is_parted_and_each_part_is_true(change, small, tmp_path, small_hu):
    series = take(changed(small, tmp_path, change)).series
    assert sorted(one.n_slices for one in series) == [HALF, HALF]
    for one in series:
        volume = read_volume(one, SETTINGS)
        grid = np.stack(np.meshgrid(*map(np.arange, SMALL.shape[::-1]), indexing="ij"), -1)
        points = np.array(SMALL.origin) + grid[:, :, 2:-2] * np.array(SMALL.spacing)  # inside of the end slices too
        low, high = volume.corners[:, 2].min(), volume.corners[:, 2].max()
        inside = (points[..., 2] >= low) & (points[..., 2] <= high)
        found = np.rint(sample_volume(volume, points[inside]))
        truth = small_hu.transpose(2, 1, 0)[:, :, 2:-2][inside]
        assert (found == truth).all()


def test_images_of_a_secondary_capture_with_geometry_are_read_as_they_lie(small, tmp_path, small_hu):
    edit = lambda ds, _: set_value(ds, "SOPClassUID", SecondaryCaptureImageStorage)  # noqa: E731
    same_volume(changed(small, tmp_path, edit), small_hu)


def not_human(ds: Dataset, _: int) -> Dataset:
    ds.PatientSpeciesDescription = "Canis lupus familiaris"
    return ds


def quality_control(ds: Dataset, _: int) -> Dataset:
    ds.QualityControlImage = "YES"
    return ds


def quality_subject(ds: Dataset, _: int) -> Dataset:
    ds.QualityControlSubject = "YES"
    return ds


@pytest.mark.parametrize("edit", [not_human, quality_control, quality_subject])
def test_a_dog_or_a_phantom_is_no_patient(edit, small, tmp_path):
    assert end_of(changed(small, tmp_path, edit)) == [Reason.NOT_A_PATIENT]


@pytest.mark.parametrize("species", ["Homo sapiens", "HUMAN", "human ", ""])
def test_a_human_is_one(species, small, tmp_path, small_hu):
    same_volume(changed(small, tmp_path, lambda ds, _: set_value(ds, "PatientSpeciesDescription", species)), small_hu)


# -- paths --------------------------------------------------------------------------------------------------------

STRANGE_NAMES = {
    "Latin-1": b"caf\xe9\xff",
    "newline and tab": b"new\nline\ttab",
    "right to left": "\u202eמיכל".encode(),
    "quotes": b"a'\"; drop $(x) %s {y}",
    "private characters": "\uf7e9".encode(),
    "spaces": b"  ",
    "long": b"x" * 255,
}


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_folder_may_have_any_name(name, small, tmp_path, small_hu):
    shutil.copytree(small, tmp_path / os.fsdecode(STRANGE_NAMES[name]))
    series, volume = read_only(tmp_path)
    series.path.encode()  # as text, for tables and JSON
    assert (volume.hu == small_hu).all()


def test_an_archive_may_have_a_name_that_is_no_utf8(small, tmp_path, small_hu):
    root = tmp_path / os.fsdecode(b"archiv\xfc")
    shutil.copytree(small, root)
    same_volume(root, small_hu)


def test_folders_may_be_400_deep(small, tmp_path, small_hu):
    deep = tmp_path.joinpath(*["f"] * 400)
    shutil.copytree(small, deep)
    same_volume(tmp_path, small_hu)


def test_links_that_loop_end(small, tmp_path, small_hu):
    shutil.copytree(small, tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "d")
    (tmp_path / "d").symlink_to(tmp_path / "c")
    inventory = take(tmp_path)
    assert inventory.left_alone == {Reason.ALREADY_SEEN: 1, Reason.UNREADABLE: 2}
    assert (read_volume(inventory.series[0], SETTINGS).hu == small_hu).all()


def _as_nobody(folder: str, answers) -> None:
    os.setgid(65534)
    os.setuid(65534)
    inventory = find_series([folder], SETTINGS)
    answers.put(([one.decision for one in inventory.series], dict(inventory.left_alone)))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_is_counted_and_the_rest_is_read(small, tmp_path):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(small, folder / "open")
        shutil.copytree(small, folder / "shut")
        shutil.copytree(small, folder / "secret")
        for path in folder.iterdir():
            path.chmod(0o755)
        (folder / "shut").chmod(0)
        for path in (folder / "secret").iterdir():
            path.chmod(0)
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=_as_nobody, args=[str(folder), answers])
        child.start()
        decisions, left_alone = answers.get(timeout=60)
        child.join()
    assert decisions == [None]
    assert left_alone == {Reason.UNREADABLE: N + 1}


def test_a_run_over_an_archive_of_such_names_and_identities_ends_with_a_row_for_each(tmp_path):
    """What cannot be written into a plan or a table, or gives two series one key, would end the run for all."""
    archive = tmp_path / "archive"
    write_study(archive / "latin", "P1001", number=11)
    (archive / "latin").rename(archive / os.fsdecode(b"caf\xe9"))
    write_study(archive / "new\nline", "P1002", number=12)
    for path in sorted(write_study(archive / "two studies", "P1003", number=13).iterdir())[:6]:
        save(set_value(dcmread(path), "StudyInstanceUID", "1.2.3"), path)
    report = without("Rows", "Columns", "PixelData")(dcmread(next((archive / "new\nline").iterdir())))
    report.SOPClassUID, report.Modality = BasicTextSRStorage, "SR"
    save(report, archive / "report")
    settings = load_settings(flags={"run.settle_minutes": 0, "run.pictures": False, "run.memory_gb": 1.0})
    night = screen_archives([archive], tmp_path / "cohort", settings, "loop", "fuzz_run:only_read", lambda line: None)
    assert night.settled.reasons == {"no_spine": 2, "too_few_slices": 2}
    assert night.files_seen == 3 * N_SLICES + 1


def test_a_series_of_gzipped_dicom_files_is_read(small, tmp_path, small_hu):
    for path in small.iterdir():
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    same_volume(tmp_path, small_hu)
    (tmp_path / "slice_0020.dcm.gz").write_bytes((tmp_path / "slice_0020.dcm.gz").read_bytes()[:1500])
    inventory = take(tmp_path)
    assert inventory.left_alone == {Reason.DAMAGED_ARCHIVE: 1}
    assert inventory.series[0].n_slices == N - 1


# -- between inventory and reading --------------------------------------------------------------------------------


def overwritten_by(content):
    def change(folder: Path) -> None:
        (folder / "slice_0020.dcm").write_bytes(content((folder / "slice_0020.dcm").read_bytes()))

    return change


def other_patients_slice(folder: Path) -> None:
    ds = dcmread(folder / "slice_0020.dcm")
    ds.PatientID, ds.SeriesInstanceUID, ds.StudyInstanceUID = "OTHER", "1.2.3.4", "1.2.3"
    save(ds, folder / "slice_0020.dcm")


def one_slice_twice(folder: Path) -> None:
    shutil.copy(folder / "slice_0021.dcm", folder / "slice_0020.dcm")


def a_folder_for_a_file(folder: Path) -> None:
    (folder / "slice_0020.dcm").unlink()
    (folder / "slice_0020.dcm").mkdir()


CHANGES = {
    "emptied": overwritten_by(lambda content: b""),
    "cut in the pixels": overwritten_by(lambda content: content[:-500]),
    "cut in the header": overwritten_by(lambda content: content[:300]),
    "text": overwritten_by(lambda content: b"gone fishing " * 100),
    "another patient's": other_patients_slice,
    "its neighbour's copy": one_slice_twice,
    "a folder": a_folder_for_a_file,
    "a pipe": lambda folder: ((folder / "slice_0020.dcm").unlink(), os.mkfifo(folder / "slice_0020.dcm")),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_since_the_inventory_is_a_reason(change, small, tmp_path):
    shutil.copytree(small, tmp_path / "a")
    (series,) = take(tmp_path).series
    CHANGES[change](tmp_path / "a")
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(series, SETTINGS)
    expected = {
        "cut in the pixels": {Reason.PIXELS_DAMAGED},
        "its neighbour's copy": {Reason.UNREADABLE, Reason.UNEVEN_SPACING, Reason.AMBIGUOUS_STACK},
    }
    assert refusal.value.reason in expected.get(change, {Reason.UNREADABLE})


@pytest.mark.parametrize("when", ["opening", "reading"])
def test_a_disk_that_fails_is_a_reason(when, small, tmp_path, monkeypatch):
    shutil.copytree(small, tmp_path / "a")
    (series,) = take(tmp_path).series
    really_open = open

    class Failing:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.stream.close()

        def read(self, *args):
            raise OSError(errno.EIO, "Input/output error")

    def failing_open(name, *args, **kwargs):
        if not str(name).endswith("slice_0020.dcm"):
            return really_open(name, *args, **kwargs)
        if when == "opening":
            raise OSError(errno.EIO, "Input/output error")
        return Failing(really_open(name, *args, **kwargs))

    monkeypatch.setattr(files, "open", failing_open, raising=False)
    inventory = take(tmp_path)
    assert inventory.left_alone == {Reason.UNREADABLE: 1}
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(series, SETTINGS)
    assert refusal.value.reason is Reason.UNREADABLE
