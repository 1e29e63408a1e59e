"""Studies in zip and tar files: read as if they lay in a folder, and refused by name where they cannot be."""

import io
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from engine_archive import N_SLICES, write_study

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading import packed
from vertebra_core.reading.files import full_name, open_file
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings

SETTINGS = ReadingSettings()
KINDS = {"zip": "study.zip", "tar": "study.tar", "gztar": "study.tar.gz"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_study(tmp_path_factory.mktemp("plain") / "inner" / "ct", "MR-1").parent


def pack(plain: Path, kind: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    made = shutil.make_archive(str(target.parent / "made"), kind, plain.parent, plain.name)
    return Path(made).rename(target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_study_is_the_study(kind, plain, tmp_path):
    """By content: the file has a name without a suffix."""
    pack(plain, kind, tmp_path / "sub" / "anything")
    (whole,), (found,) = find_series([plain.parent], SETTINGS).series, find_series([tmp_path], SETTINGS).series
    assert found.decision is None
    assert found.files == tuple(f"sub/anything/{name}" for name in whole.files)
    assert found.path == "sub/anything/inner/ct"
    a, b = read_volume(whole, SETTINGS), read_volume(found, SETTINGS)
    np.testing.assert_array_equal(a.hu, b.hu)
    np.testing.assert_array_equal(a.patient_from_voxel, b.patient_from_voxel)


def test_a_study_that_was_packed_beside_itself_is_counted_once(plain, tmp_path):
    pack(plain, "zip", tmp_path / "study.zip")
    shutil.copytree(plain, tmp_path / "inner")
    (series,) = find_series([tmp_path], SETTINGS).series
    assert (series.n_slices, series.repairs) == (N_SLICES, (f"duplicates_dropped:{N_SLICES}",))


def test_the_digest_of_a_zipped_study_changes_with_its_content(plain, tmp_path):
    first, second = pack(plain, "zip", tmp_path / "1" / "a.zip"), pack(plain, "zip", tmp_path / "2" / "a.zip")
    os.utime(second, (1, 1))
    with zipfile.ZipFile(tmp_path / "3.zip", "w") as archive:
        for path in sorted(plain.rglob("*.dcm"))[:-1]:
            archive.write(path, path.name)
    digests = [find_series([place], SETTINGS).series[0].input_digest for place in (first, second, tmp_path / "3.zip")]
    assert digests[0] == digests[1] != digests[2]


def test_a_volume_file_in_a_zip_file_is_read(tmp_path):
    import SimpleITK as sitk

    hu = np.random.default_rng(0).normal(40, 20, (20, 24, 24)).astype(np.int16)
    hu[:, :4] = -1000
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(image, str(tmp_path / "v.nii.gz"))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "v.nii.gz", "scan.nii.gz")
    (tmp_path / "v.nii.gz").unlink()
    (series,) = find_series([tmp_path], SETTINGS).series
    assert (series.path, series.decision) == ("z.zip/scan.nii.gz", None)
    np.testing.assert_array_equal(read_volume(series, SETTINGS).hu, hu)


def left_alone(place: Path) -> dict:
    inventory = find_series([place], SETTINGS)
    assert inventory.files_seen == sum(inventory.left_alone.values()) + sum(one.n_files for one in inventory.series)
    return dict(inventory.left_alone)


def test_a_zip_file_without_images_is_one_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "letter.docx", "w") as archive:
        for name in ("word/document.xml", "docProps/app.xml", "_rels/.rels"):
            archive.writestr(name, "<xml/>")
    assert left_alone(tmp_path) == {Reason.NOT_DICOM: 1}


def test_an_archive_in_an_archive_is_refused_and_the_rest_is_read(plain, tmp_path):
    inner = pack(plain, "zip", tmp_path / "away" / "inner.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", inner)
        for path in plain.rglob("*.dcm"):
            archive.write(path, path.name)
    (series,) = find_series([tmp_path / "outer.zip"], SETTINGS).series
    assert series.n_slices == N_SLICES
    assert left_alone(tmp_path / "outer.zip") == {Reason.NESTED_ARCHIVE: 1}


def test_files_that_ask_for_a_password_are_refused(plain, tmp_path):
    """The standard library cannot encrypt; the flag that says so is set by hand, in both headers of each file."""
    content = bytearray(pack(plain, "zip", tmp_path / "a.zip").read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 1)
    (tmp_path / "a.zip").write_bytes(content)
    assert left_alone(tmp_path) == {Reason.ENCRYPTED_ARCHIVE: N_SLICES}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_cut_archive_is_refused_whole(kind, share, plain, tmp_path):
    path = pack(plain, kind, tmp_path / KINDS[kind])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * (share if kind != "tar" else 0.3))])
    assert left_alone(tmp_path) == {Reason.DAMAGED_ARCHIVE: 1}


def test_a_damaged_file_in_a_zip_file_is_refused_by_itself(plain, tmp_path):
    content = bytearray(pack(plain, "zip", tmp_path / "a.zip").read_bytes())
    start = content.find(b"PK\x03\x04", 2000)
    content[start + 80 : start + 120] = bytes(40)
    (tmp_path / "a.zip").write_bytes(content)
    inventory = find_series([tmp_path], SETTINGS)
    assert inventory.left_alone == {Reason.UNREADABLE: 1}
    assert inventory.files_seen == N_SLICES


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "FREE_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(2**23))
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("a.dcm")
        entry.size = 2**23
        archive.addfile(entry, io.BytesIO(bytes(2**23)))
    assert left_alone(tmp_path) == {Reason.ARCHIVE_TOO_LARGE: 2}


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MOST_MEMBERS", 10)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(11):
            archive.writestr(str(i), "x")
    assert left_alone(tmp_path) == {Reason.ARCHIVE_TOO_LARGE: 1}


def test_a_tar_file_that_claims_more_than_it_has_is_refused(tmp_path):
    entry = tarfile.TarInfo("a.dcm")
    entry.size = 10_000
    (tmp_path / "a.tar").write_bytes(entry.tobuf() + bytes(512))
    assert left_alone(tmp_path) == {Reason.DAMAGED_ARCHIVE: 1}


@pytest.mark.parametrize("name", ["../../secret", "/secret", "a/../../secret"])
def test_paths_in_an_archive_lead_nowhere(name, tmp_path):
    """They are names and no more: nothing is unpacked by them, and no file outside is opened by them."""
    (tmp_path / "secret").write_bytes(b"x" * 2000)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "deep" / "er" / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), struct.pack("<128x4s", b"DICM") + b"\x08\x00\x60\x00CS\x02\x00CT" * 20)
    before = sorted(tmp_path.rglob("*"))
    inventory = find_series([tmp_path / "deep" / "er"], SETTINGS)
    assert inventory.files_seen == 1
    assert sorted(tmp_path.rglob("*")) == before
    with open_file(str(tmp_path / "deep" / "er"), f"a.zip/{name}") as stream:
        assert stream.read(132)[-4:] == b"DICM"


def test_a_file_that_left_its_archive_is_a_reason(plain, tmp_path):
    path = pack(plain, "zip", tmp_path / "a.zip")
    (series,) = find_series([tmp_path], SETTINGS).series
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", "x")
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(series, SETTINGS)
    assert refusal.value.reason is Reason.UNREADABLE
    assert full_name(str(tmp_path), "a.zip/x") == f"{tmp_path}/a.zip/x"
