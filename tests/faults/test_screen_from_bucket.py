"""Whole runs from an archive in a bucket: the tables of a run from a folder; no study pays for a store's fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_archive import write_study
from made_studies import SERIES
from s3_server import filesystem

from tasks.plan import Shard, StudyOrder
from tasks.settings import RunSettings
from tasks.study import screen_series
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.errors import CouldNotRun
from vertebra_core.settings import Settings
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.schema import SCHEMA_VERSION, data_columns

TESTS = Path(__file__).resolve().parent.parent
TABLES = ("studies", "vertebrae", "patients", "levels_in_view")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
    for number in range(3):
        write_study(tmp_path / "archive" / f"s{number}", f"Q7719{number}X")
    return tmp_path / "archive"


@pytest.fixture
def url(bucket, folder) -> str:
    for path in folder.rglob("*.dcm"):
        filesystem().put_file(str(path), f"{bucket}/ct/{path.relative_to(folder).as_posix()}")
    return f"{bucket}/ct"


def screen(archive: str | Path, cohort: Path, minutes: float = 0) -> str:
    """In a process of its own: the fork server of this one may have been started before there was a store."""
    flags = ("runner=loop", f"run.settle_minutes={minutes}", "run.pictures=false", "run.shard_size=2")
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, "-m", "engine_run", str(archive), str(cohort), *flags]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tables(cohort: Path) -> dict:
    """All tables but for what differs from run to run, and the version of the input, which is told otherwise there."""
    found = {}
    for name in TABLES:
        table = read_table(latest_snapshot(Layout(cohort)) / f"{name}.parquet")
        columns = [column for column in data_columns(name) if column != "input_digest"]
        found[name] = table.select(columns).to_pylist()
    return found


def test_a_run_from_a_bucket_gives_what_a_run_from_a_folder_gives_and_the_next_does_nothing(url, folder, tmp_path):
    screen(folder, tmp_path / "here")
    assert "3 studies, 3 due: 3 to measure" in screen(url, tmp_path / "there")
    assert [row["status"] for row in tables(tmp_path / "there")["studies"]] == ["ok"] * 3
    assert tables(tmp_path / "there") == tables(tmp_path / "here")
    again = screen(url, tmp_path / "there")
    assert "(0 new or changed)" in again
    assert "3 studies, 0 due" in again


def test_a_study_that_has_just_come_into_a_bucket_waits(url, tmp_path):
    assert "3 studies may still be arriving" in screen(url, tmp_path / "c", minutes=60)


def test_a_store_that_does_not_answer_is_no_end_of_a_study(monkeypatch):
    """It leaves the sandbox as what it is; a row would say that the study had failed, and it would never be due."""

    def away(*_):
        raise CouldNotRun("s3://bucket: the store answered SlowDown (503)")

    monkeypatch.setattr("vertebra_core.reading.formats.read_volume", away)
    identity = MethodIdentity("model", "settings", SCHEMA_VERSION)
    shard = Shard("run", "00000", (), "engine_methods:marked", identity, Settings(), RunSettings())
    with pytest.raises(CouldNotRun):
        screen_series(StudyOrder("st1", "pt1", "se1", "digest", SERIES), shard, lambda *_: None, "cpu")
