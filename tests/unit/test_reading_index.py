"""The index of an archive: a second night opens only what is new, and finds exactly what the first one found."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import SimpleITK as sitk
from dicom_cases import Grid, save, write_b0
from engine_archive import slice_dataset, write_study
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra_core.cohort.commit import parquet_bytes
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading import index
from vertebra_core.reading.files import ArchiveFile, LeftAlone
from vertebra_core.reading.headers import ObjectHeader, VolumeHeader
from vertebra_core.reading.index import Memory, Recorder, usable
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.scan import Notes, scan_headers
from vertebra_core.settings import ReadingSettings

SETTINGS = ReadingSettings()


@pytest.fixture
def archive(tmp_path) -> Path:
    """Some of everything: two series, an MR, a volume file, a mask, a zip file, text, an odd name."""
    root = tmp_path / "archive"
    write_study(root / "one", "MR-1")
    write_study(root / "two", "MR-2", modality="MR", n_slices=3)
    write_b0(root / "three", grid=Grid((10, 12, 12), (4.0, 4.0, 5.0)))
    image = sitk.GetImageFromArray(np.full((12, 8, 8), 40, np.int16))
    image.SetSpacing((4.0, 4.0, 4.0))
    sitk.WriteImage(image, str(root / "v.nii.gz"))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkUInt8), str(root / "mask.nrrd"))
    shutil.make_archive(str(root / "packed"), "zip", write_study(tmp_path / "away", "MR-3"))
    (root / "notes.txt").write_text("text " * 500)
    with open(os.path.join(os.fsencode(root), b"odd\xff.dcm"), "wb") as file:
        file.write((root / "one" / "000.dcm").read_bytes())
    return root


def night(archive: Path, memory: Memory | None = None):
    notes = Notes(lambda _: memory)
    headers = list(scan_headers([archive], SETTINGS, notes=notes))
    return headers, notes


def remembered(notes: Notes, archive: Path, judged_by: ReadingSettings = SETTINGS) -> Memory:
    data = notes.learnt[str(archive)].parquet()
    assert usable(data)
    return Memory(data, judged_by)


def comparable(header):
    """A grid holds an array, a refusal is an exception: neither compares by value."""
    if isinstance(header, VolumeHeader):
        judged = header.judged
        plain = (
            str(judged) if isinstance(judged, NotEvaluable) else (judged.patient_from_voxel.tobytes(), judged.shape_xyz)
        )
        return header.file, header.file_format, plain
    return header


def test_a_second_night_opens_nothing_and_finds_the_same(archive, monkeypatch):
    first, notes = night(archive)
    assert {type(header).__name__ for header in first} == {"SliceHeader", "ObjectHeader", "VolumeHeader", "LeftAlone"}
    monkeypatch.setattr("vertebra_core.reading.scan.read_and_judge", lambda *_: pytest.fail("a file was opened"))
    second, again = night(archive, remembered(notes, archive))
    assert list(map(comparable, second)) == list(map(comparable, first))
    assert (again.opened, again.recalled) == (0, notes.opened)
    assert again.learnt[str(archive)].parquet() == notes.learnt[str(archive)].parquet()


def test_slices_of_a_series_share_their_attributes_after_recall(archive):
    _, notes = night(archive)
    headers, _ = night(archive, remembered(notes, archive))
    studies = {id(header.study) for header in headers if hasattr(header, "study")}
    assert len(studies) == len({header.study for header in headers if hasattr(header, "study")})


def test_only_what_is_new_or_changed_is_opened(archive):
    _, notes = night(archive)
    memory = remembered(notes, archive)
    (archive / "one" / "003.dcm").unlink()
    os.utime(archive / "one" / "005.dcm", (1, 1))
    save(slice_dataset("1.2.3", 99, np.zeros((32, 32)), "MR-1", "F", "067Y", "20240301", "CT"), archive / "one" / "new")
    os.utime(archive / "packed.zip", (1, 1))
    found, again = night(archive, memory)
    assert again.opened == 3
    assert list(map(comparable, found)) == list(map(comparable, night(archive)[0]))


def test_what_could_not_be_opened_is_tried_again(tmp_path):
    (tmp_path / "cut.dcm").write_bytes(bytes(128) + b"DICM" + b"\x08\x00\x05\x00XX" + b"\xff" * 9)
    headers, notes = night(tmp_path)
    assert [header.reason for header in headers] == [Reason.UNREADABLE]
    assert len(remembered(notes, tmp_path)) == 0


def test_volumes_judged_by_other_settings_are_judged_again(archive):
    _, notes = night(archive)
    stricter = dataclasses.replace(SETTINGS, min_slices=13)
    memory = remembered(notes, archive, stricter)
    again = Notes(lambda _: memory)
    found = find_series([archive], stricter, notes=again)
    assert again.opened == 2
    assert {one.decision for one in found.series if one.path == "v.nii.gz"} == {Reason.NOT_A_VOLUME}


def test_a_table_that_other_code_wrote_is_not_used(archive, monkeypatch):
    _, notes = night(archive)
    data = notes.learnt[str(archive)].parquet()
    assert usable(data)
    table = pq.read_table(pa.BufferReader(data))
    assert usable(parquet_bytes(table))
    assert not usable(parquet_bytes(table.drop_columns(["uid"])))
    assert not usable(parquet_bytes(pa.table({"path": ["a"]})))
    assert not usable(data[:-100])
    assert not usable(b"")
    monkeypatch.setattr(index, "index_format", lambda: "other code")
    assert not usable(data)


def test_of_a_damaged_batch_the_files_are_opened_again_and_the_others_are_known(monkeypatch):
    monkeypatch.setattr(index, "ROWS_AT_ONCE", 10)
    recorder, files = Recorder(SETTINGS), [ArchiveFile("/a", f"{i:03d}", 1, "v") for i in range(30)]
    for file in files:
        recorder.add(file, [LeftAlone(file, Reason.NOT_DICOM)])
    data = bytearray(recorder.parquet())
    group = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(1)
    for column in range(group.num_columns):
        start = group.column(column).data_page_offset + group.column(column).total_compressed_size // 2
        data[start] ^= 0xFF
    memory = Memory(bytes(data), SETTINGS)
    known = [memory.recall(file, {}) == [LeftAlone(file, Reason.NOT_DICOM)] for file in files]
    assert known == [True] * 10 + [False] * 10 + [True] * 10


TEXT = st.text("ab/\ud800\x00é🦴 ", max_size=6)


@settings(deadline=None)  # a file is written each time
@given(st.lists(st.tuples(TEXT.filter(bool), TEXT, st.sampled_from(list(Reason))), unique_by=lambda one: one[0]))
def test_any_names_and_reasons_are_kept(files):
    recorder, kept = Recorder(SETTINGS), []
    for path, version, reason in files:
        file = ArchiveFile("/archive", path, 1, version)
        recorder.add(file, [LeftAlone(file, reason)])
        kept.append((file, None if reason in index.NEVER_KEPT else [LeftAlone(file, reason)]))
    memory = Memory(recorder.parquet(), SETTINGS)
    assert [(file, memory.recall(file, {})) for file, _ in kept] == kept


def test_rows_beyond_one_batch_are_found_in_any_order(monkeypatch):
    monkeypatch.setattr(index, "ROWS_AT_ONCE", 7)
    recorder, files = Recorder(SETTINGS), [ArchiveFile("/a", f"{i:03d}", 1, "v") for i in range(50)]
    for file in files:
        recorder.add(file, [LeftAlone(file, Reason.NOT_DICOM)])
    memory = Memory(recorder.parquet(), SETTINGS)
    for i in [*range(50), 3, 49, 0, 25]:
        assert memory.recall(files[i], {}) == [LeftAlone(files[i], Reason.NOT_DICOM)]
    assert memory.recall(ArchiveFile("/a", "050", 1, "v"), {}) is None
    assert not any(isinstance(header, ObjectHeader) for header in memory.recall(files[0], {}))
