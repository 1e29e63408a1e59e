"""Case O10: a study that is still arriving waits, is told of, and is measured whole; never half, never twice."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from engine_archive import N_SLICES, write_study
from made_studies import patient_series

from flows.screen import Night, screen_archives
from flows.settings import load_settings
from vertebra_core.errors import Reason
from vertebra_core.reading.arrival import Settling, leave_arriving
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings

SETTINGS = ReadingSettings()


@pytest.fixture
def archive(tmp_path) -> Path:
    for patient in ("MR-1", "MR-2"):
        write_study(tmp_path / "archive" / patient, patient)
    return tmp_path / "archive"


def screened(archive: Path, minutes: float, later_s: float = 0.0, patch=None) -> tuple[Night, list[str]]:
    said: list[str] = []
    settings = load_settings(flags={"run.settle_minutes": minutes, "run.pictures": False})
    if patch:
        patch.setattr("flows.stock.seconds_since_epoch", lambda: time.time() + later_s)
    cohort = archive.parent / "cohort"
    return screen_archives([archive], cohort, settings, "loop", "engine_methods:marked", said.append), said


def test_a_fresh_study_waits_is_told_of_and_is_taken_by_a_later_run(archive, monkeypatch):
    first, said = screened(archive, 5, patch=monkeypatch)
    assert (first.arriving, first.due, first.settled.seen, first.has_failures) == (2, 0, 0, False)
    assert any("2 studies may still be arriving" in line and "--settle-minutes 0" in line for line in said)
    assert any("in 5 min" in line or "in 4 min" in line or " s or later" in line for line in said)
    inventory = pq.read_table(next((archive.parent / "cohort" / "inventory").iterdir())).to_pylist()
    assert {(row["decision"], row["reason"]) for row in inventory} == {("leave", "arriving")}
    second, _ = screened(archive, 5, later_s=301, patch=monkeypatch)
    assert (second.arriving, second.settled.measured) == (0, 2)


def test_minutes_of_zero_take_everything_now(archive):
    night, said = screened(archive, 0)
    assert (night.arriving, night.settled.measured) == (0, 2)
    assert not any("arriving" in line for line in said)


def test_a_study_that_grows_keeps_its_result_until_the_whole_of_it_is_measured(archive, monkeypatch):
    """The slices of the first night are two thirds; more come before the second; the third finds all of them."""
    away = archive.parent / "away"
    shutil.copytree(archive / "MR-1", away)
    for path in sorted((archive / "MR-1").iterdir())[13:]:
        path.unlink()
    first, _ = screened(archive, 5, later_s=1000, patch=monkeypatch)
    assert first.settled.measured == 2
    for path in sorted(away.iterdir())[13:]:
        shutil.copy2(path, archive / "MR-1" / path.name)  # keeps the old time of its source, as rsync -a does
    os.chmod(archive / "MR-2" / "000.dcm", 0o644)
    os.utime(archive / "MR-2" / "000.dcm")
    second, _ = screened(archive, 5, later_s=60, patch=monkeypatch)
    assert (second.arriving, second.due, second.settled.seen) == (2, 0, 0)
    assert rows(second) == rows(first)
    third, _ = screened(archive, 5, later_s=2000, patch=monkeypatch)
    assert third.settled.measured == 2
    assert sorted(row["n_slices"] for row in rows(third)) == [N_SLICES, N_SLICES]


def rows(night: Night) -> list[dict]:
    return pq.read_table(
        Path(str(night.snapshot.folder)) / "studies.parquet", columns=["study_key", "n_slices"]
    ).to_pylist()


def test_a_half_written_file_is_no_failure_while_it_is_fresh(archive):
    whole = (archive / "MR-1" / "000.dcm").read_bytes()
    (archive / "MR-1" / "zz.dcm").write_bytes(whole[:300])
    (archive / "coming.zip").write_bytes(b"PK\x03\x04" + bytes(400))
    (archive / "empty.dcm").touch()
    now = time.time()
    fresh = find_series([archive], SETTINGS, settling=Settling(now, 300.0))
    assert fresh.left_alone == {Reason.ARRIVING: 3}
    later = find_series([archive], SETTINGS, settling=Settling(now + 301.0, 300.0))
    assert later.left_alone == {Reason.UNREADABLE: 1, Reason.DAMAGED_ARCHIVE: 1, Reason.EMPTY_FILE: 1}


def test_a_clock_that_is_wrong_by_more_than_the_limit_makes_nothing_wait(archive):
    behind = find_series([archive], SETTINGS, settling=Settling(time.time() - 86400.0, 300.0))
    assert [one.decision for one in behind.series] == [None, None]


def test_all_of_a_study_waits_for_its_newest_file_and_no_other_study_does():
    old, fresh = patient_series(1, changed_s=500.0), patient_series(2, changed_s=990.0)
    beside = replace(fresh, series_uid="1.2.3.2.9", changed_s=500.0, decision=Reason.LOCALIZER)
    left = leave_arriving([old, fresh, beside], Settling(1000.0, 60.0))
    assert [one.decision for one in left] == [None, Reason.ARRIVING, Reason.ARRIVING]
    assert Settling(1000.0, 60.0).settles_in(left) == 50.0


def test_a_second_night_opens_nothing(archive):
    screened(archive, 0)
    index = list((archive.parent / "cohort" / "private" / "index").iterdir())
    assert [oct(path.stat().st_mode & 0o777) for path in index] == ["0o600"]
    _, said = screened(archive, 0)
    assert any(f"{2 * N_SLICES} files (0 new or changed)" in line for line in said)
    written = index[0].stat().st_mtime_ns
    index[0].write_bytes(index[0].read_bytes()[:500])
    _, said = screened(archive, 0)
    assert any(f"{2 * N_SLICES} files, 2 series" in line for line in said), "a damaged index is made anew"
    assert index[0].stat().st_mtime_ns > written
