"""An archive in a bucket, on a real S3 server: the same series as on disk, little read, and no guess when it fails."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from engine_archive import N_SLICES, write_study
from s3_faults import FAULTS, FlakyProxy, flaky
from s3_server import filesystem

from vertebra_core.errors import CouldNotRun, NotEvaluable, Reason, WrongUse
from vertebra_core.reading import remote
from vertebra_core.reading.files import LeftAlone, archive_exists, open_file, walk
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.index import Memory
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.scan import Notes
from vertebra_core.reading.series import Series
from vertebra_core.settings import ReadingSettings

SETTINGS = ReadingSettings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A study, a NIfTI, a study in a tar.gz, text, an empty file."""
    root = tmp_path_factory.mktemp("local")
    write_study(root / "p1" / "ct", "MR-1")
    shutil.make_archive(str(root / "packed"), "gztar", write_study(root.parent / "away", "MR-2"))
    hu = np.random.default_rng(0).normal(40, 20, (20, 24, 24)).astype(np.int16)
    hu[:, :4] = -1000
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((3.0, 3.0, 3.0))
    for name in ("scan.nii.gz", "scan.nrrd", "scan.mha"):
        sitk.WriteImage(image, str(root / name))
    (root / "notes.txt").write_text("text")
    (root / "empty.dcm").touch()
    return root


@pytest.fixture
def url(bucket, folder) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            filesystem().put_file(str(path), f"{bucket}/ct/{path.relative_to(folder).as_posix()}")
    return f"{bucket}/ct"


def on_disk_names(series: Series) -> tuple:
    return series.path, series.files, series.decision, series.n_slices, series.slice_spacing_mm, series.age_years


def test_a_bucket_holds_the_same_series_as_a_folder_and_the_same_voxels(url, folder):
    here, there = find_series([folder], SETTINGS), find_series([url + "/"], SETTINGS)
    assert list(map(on_disk_names, there.series)) == list(map(on_disk_names, here.series))
    assert (there.left_alone, there.files_seen) == (here.left_alone, here.files_seen)
    assert sum(series.decision is None for series in here.series) == 5
    for a, b in zip(here.series, there.series, strict=True):
        left, right = read_volume(a, SETTINGS), read_volume(b, SETTINGS)
        np.testing.assert_array_equal(left.hu, right.hu)
        np.testing.assert_array_equal(left.patient_from_voxel, right.patient_from_voxel)


@pytest.mark.parametrize("name", ["p1/ct/000.dcm", "scan.nii.gz"])
def test_an_archive_may_be_one_object(url, folder, name):
    here, there = find_series([folder / name], SETTINGS), find_series([f"{url}/{name}"], SETTINGS)
    assert list(map(on_disk_names, there.series)) == list(map(on_disk_names, here.series))
    assert there.files_seen == 1


def test_a_second_night_lists_and_opens_nothing_but_what_changed(url, monkeypatch):
    notes = Notes()
    first = find_series([url], SETTINGS, notes=notes)
    filesystem().pipe_file(f"{url}/notes.txt", b"TEXT")  # as long as before: the ETag tells
    reads = []
    whole = remote.read_range
    monkeypatch.setattr(remote, "read_range", lambda *where: reads.append(where) or whole(*where))
    memory = Memory(notes.learnt[url].parquet(), SETTINGS)
    again = Notes(lambda _: memory)
    second = find_series([url], SETTINGS, notes=again)
    assert again.opened == 1
    assert {where[0] for where in reads} == {f"{url}/notes.txt"}
    assert second == first


def test_of_a_large_object_only_the_start_is_read(bucket, monkeypatch):
    """60 MB with the header of a volume file: a header costs a read or two, not the object."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 1000, (60, 700, 700), np.int16))
    with tempfile.TemporaryDirectory() as place:
        sitk.WriteImage(image, f"{place}/v.nii")
        filesystem().put_file(f"{place}/v.nii", f"{bucket}/v.nii")
    sizes = []
    whole = remote.read_range
    monkeypatch.setattr(remote, "read_range", lambda *where: sizes.append(len(whole(*where))) or whole(*where))
    (series,) = find_series([bucket], SETTINGS).series
    assert series.n_slices == 60
    assert sum(sizes) < 2e6


def test_listings_longer_than_a_page_are_whole_and_in_order(url, folder, monkeypatch):
    monkeypatch.setattr(remote, "PAGE_KEYS", 3)
    found = [one.file if isinstance(one, LeftAlone) else one for one in walk([url])]
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert [file.path for file in found] == names
    assert all(file.changed_s > 1.6e9 for file in found)


def test_two_archives_that_overlap_are_counted_once(url):
    whole = find_series([url], SETTINGS)
    twice = find_series([url, f"{url}/p1", url], SETTINGS)
    assert twice.series == whole.series
    assert twice.left_alone[Reason.ALREADY_SEEN] == N_SLICES + len(list(walk([url])))


def test_a_name_that_begins_like_the_prefix_is_not_below_it(url):
    before = list(walk([url]))
    filesystem().pipe_file(f"{url}-other/a.dcm", b"x" * 200)
    assert list(walk([url])) == before


@pytest.mark.parametrize("missing", ["ct/nothing", "ct/p1/ct/00"])
def test_a_prefix_without_objects_is_wrong_use(url, missing):
    place = f"{url.removesuffix('/ct')}/{missing}"
    with pytest.raises(WrongUse, match="no such archive"):
        find_series([place], SETTINGS)
    assert not archive_exists(place)


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_wrong_use():
    with pytest.raises(WrongUse, match="no such archive: s3://no-such-bucket"):
        find_series(["s3://no-such-bucket/ct"], SETTINGS)


def test_wrong_credentials_are_one_line_without_a_key(url, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    remote._filesystem.cache_clear()
    monkeypatch.setattr(remote, "storage_options", lambda protocol: {"skip_instance_cache": True})
    with pytest.raises(CouldNotRun) as error:
        find_series([f"{url}/p1"], SETTINGS)
    remote._filesystem.cache_clear()
    assert "access denied" in str(error.value)
    assert "p1" not in str(error.value)


def test_an_object_deleted_between_listing_and_reading_is_a_reason(url):
    series = next(one for one in find_series([url], SETTINGS).series if one.path == "p1/ct")
    filesystem().rm(f"{url}/p1/ct/003.dcm")
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(series, SETTINGS)
    assert refusal.value.reason is Reason.UNREADABLE


# -- a store that fails now and then ------------------------------------------------------------------------------


def new_client(options: dict) -> None:
    """Have the next request made by a client of these options; fsspec would go on with the last one."""
    remote._filesystem.cache_clear()
    remote.storage_options = lambda protocol: options | {"skip_instance_cache": True}


@pytest.fixture
def through(s3, monkeypatch) -> Iterator:
    """Leads requests through a proxy, and tries as often as is asked for: all tries of a store take half a minute."""
    options = remote.storage_options("s3")
    monkeypatch.setattr(remote, "storage_options", remote.storage_options)

    def lead(proxy: FlakyProxy, tries: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        retries = {"mode": "standard", "total_max_attempts": tries}
        new_client(options | {"config_kwargs": options["config_kwargs"] | {"retries": retries}})

    yield lead
    remote._filesystem.cache_clear()


def test_requests_that_fail_now_and_then_change_nothing(url, folder, s3, through):
    with flaky(s3.port, every=6) as proxy:
        through(proxy, tries=8)
        found = find_series([url], SETTINGS)
        series = next(one for one in found.series if one.path == "p1/ct")
        assert read_volume(series, SETTINGS).hu.shape[0] == N_SLICES
    assert set(proxy.done) == set(FAULTS)
    assert list(map(on_disk_names, found.series)) == list(map(on_disk_names, find_series([folder], SETTINGS).series))


def test_a_store_that_stops_answering_ends_the_scan_and_marks_no_file_as_unreadable(url, s3, through):
    with flaky(s3.port, every=1, only="007.dcm", faults=("error",)) as proxy:
        through(proxy, tries=2)
        with pytest.raises(CouldNotRun) as error:
            find_series([url], SETTINGS, notes=Notes())
    assert "500" in str(error.value) or "SlowDown" in str(error.value)
    assert "007" not in str(error.value)


def test_a_store_that_stops_answering_is_no_fault_of_the_study(url, s3, through):
    series = next(one for one in find_series([url], SETTINGS).series if one.path == "p1/ct")
    with flaky(s3.port, every=1, only="007.dcm", faults=("error",)) as proxy:
        through(proxy, tries=2)
        with pytest.raises(CouldNotRun):
            read_volume(series, SETTINGS)


# -- what is left behind ------------------------------------------------------------------------------------------

READS_AND_DIES = """
import os, sys
from vertebra_core.reading import file_header, formats
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings
series = {one.path: one for one in find_series([sys.argv[1]], ReadingSettings()).series}
formats.slice_grid = formats.read_volume_file = lambda *_: os.kill(os.getpid(), 9)
formats.read_volume(series[sys.argv[2]], ReadingSettings())
"""


@pytest.mark.parametrize("path", ["p1/ct", "packed.tar.gz", "scan.nrrd"])
def test_a_killed_reader_leaves_nothing_behind(url, tmp_path, path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", READS_AND_DIES, url, path], env=environment, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(monkeypatch):
    from vertebra_core.reading import scratch

    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(CouldNotRun, match="TMPDIR"), scratch.nameless_file():
        full()


def test_reading_by_pieces_is_reading(url, folder):
    data = (folder / "scan.nii.gz").read_bytes()
    with open_file(url, "scan.nii.gz") as stream:
        stream.seek(-100, os.SEEK_END)
        assert stream.read() == data[-100:]
        assert stream.seek(10) == 10
        assert stream.read(5) == data[10:15]
        assert stream.read() == data[15:]
        assert stream.read(5) == b""
