"""Whole runs from an archive in a bucket: the tables of a run from a folder; no study pays for a store's fault."""

from pathlib import Path

import pytest
from engine_archive import write_study
from made_studies import SERIES
from s3_server import filesystem

from flows.screen import Night, screen_archives
from flows.settings import load_settings
from tasks.plan import Shard, StudyOrder
from tasks.settings import RunSettings
from tasks.study import screen_series
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.errors import CouldNotRun
from vertebra_core.settings import Settings
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.schema import SCHEMA_VERSION, data_columns

FLAGS = {"run.settle_minutes": 0, "run.pictures": False, "run.shard_size": 2}
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


def screen(archive: str | Path, cohort: Path, **flags) -> tuple[Night, list[str]]:
    said: list[str] = []
    settings = load_settings(flags={**FLAGS, **flags})
    return screen_archives([archive], cohort, settings, "loop", "engine_methods:marked", said.append), said


def tables(night: Night) -> dict:
    """All tables but for what differs from run to run, and the version of the input, which is told otherwise there."""
    found = {}
    for name in TABLES:
        table = read_table(night.snapshot.folder / f"{name}.parquet")
        columns = [column for column in data_columns(name) if column != "input_digest"]
        found[name] = table.select(columns).to_pylist()
    return found


def test_a_run_from_a_bucket_gives_what_a_run_from_a_folder_gives_and_the_next_does_nothing(url, folder, tmp_path):
    here, _ = screen(folder, tmp_path / "here")
    there, _ = screen(url, tmp_path / "there")
    assert there.settled.measured == 3
    assert tables(there) == tables(here)
    again, said = screen(url, tmp_path / "there")
    assert (again.due, again.settled.measured) == (0, 3)
    assert any("(0 new or changed)" in line for line in said)


def test_a_study_that_has_just_come_into_a_bucket_waits(url, tmp_path):
    night, _ = screen(url, tmp_path / "c", **{"run.settle_minutes": 60})
    assert (night.arriving, night.settled.seen) == (3, 0)


def test_a_store_that_does_not_answer_is_no_end_of_a_study(monkeypatch):
    """It leaves the sandbox as what it is; a row would say that the study had failed, and it would never be due."""

    def away(*_):
        raise CouldNotRun("s3://bucket: the store answered SlowDown (503)")

    monkeypatch.setattr("vertebra_core.reading.formats.read_volume", away)
    identity = MethodIdentity("model", "settings", SCHEMA_VERSION)
    shard = Shard("run", "00000", (), "engine_methods:marked", identity, Settings(), RunSettings())
    with pytest.raises(CouldNotRun):
        screen_series(StudyOrder("st1", "pt1", "se1", "digest", SERIES), shard, lambda *_: None, "cpu")
