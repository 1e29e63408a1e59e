"""Cases R11 and R15: files of any name, names stripped, files cut short, changes of the archive."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import (
    Study,
    b0_hu,
    ct_slice,
    measured_heights,
    other_patient,
    save,
    set_pixels,
    stored_pixels,
    write_b0,
)
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)
from reading_cases import MIDDLE, SETTINGS, SMALL, N, copy_of, end_of, read_only, set_value, take, without

from vertebra_core.errors import NotEvaluable, Reason, WrongUse
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series


def test_a_missing_archive_is_one_clear_line(tmp_path):
    with pytest.raises(WrongUse, match="no such archive") as refusal:
        find_series([tmp_path / "absent"], SETTINGS)
    assert "\n" not in str(refusal.value)


def test_an_empty_archive_holds_nothing(tmp_path):
    inventory = find_series([tmp_path], SETTINGS)
    assert (inventory.series, dict(inventory.left_alone), inventory.files_seen) == ((), {}, 0)


def test_progress_counts_every_file(small, tmp_path):
    heard: list[int] = []
    inventory = find_series([small], SETTINGS, heard.append)
    assert heard == list(range(1, inventory.files_seen + 1))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_a_file_cut_short_damages_its_series_alone(share, small, tmp_path):
    broken = tmp_path / "a_broken"
    shutil.copytree(small, broken)
    victim = broken / "slice_0020.dcm"
    victim.write_bytes(victim.read_bytes()[: int(share * victim.stat().st_size)])
    (broken / "slice_0030.dcm").write_bytes(b"")
    write_b0(tmp_path / "b_sound", hu=b0_hu(SMALL), grid=SMALL, study=other_patient(2))
    assert end_of(tmp_path) == [Reason.PIXELS_DAMAGED, None]
    assert find_series([tmp_path], SETTINGS).left_alone == {Reason.EMPTY_FILE: 1}


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


# -- what a change of the archive does ----------------------------------------------------------------------------


def test_the_digest_follows_the_content_not_the_names(small, tmp_path):
    shutil.copytree(small, tmp_path / "a", copy_function=shutil.copy2)
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


def test_a_file_that_vanished_since_the_inventory_is_a_reason(small, tmp_path):
    shutil.copytree(small, tmp_path / "a")
    (series,) = find_series([tmp_path], SETTINGS).series
    (tmp_path / "a" / "slice_0003.dcm").unlink()
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(series, SETTINGS)
    assert refusal.value.reason is Reason.UNREADABLE


def test_reading_writes_nothing_into_the_archive(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    end_of(small)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
