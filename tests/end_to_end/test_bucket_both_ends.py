"""Archive and cohort both in S3 buckets, two worker processes: the tables of a run from a folder into a folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_archive import fresh_fork_server, write_study
from engine_methods import GOOD, REFUSE
from s3_server import filesystem, make_bucket, objects

from flows.screen import screen_archives
from flows.settings import load_settings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.storage import place_of
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
FLAGS = {"run.workers": 2, "run.shard_size": 2}
STUDIES = 6
OF_THE_PLACE = {"input_digest"}
"""Differs by design: it holds the version of every file, which on disk is its time and in a bucket its ETag."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, s3, prefect_server) -> Path:
    root = tmp_path_factory.mktemp("both")
    for number in range(STUDIES):
        write_study(root / "archive" / f"s{number}", f"P{number}", REFUSE if number == 2 else GOOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
        fresh_fork_server()
        yield root


def screen_on_two_workers(place: Path, archive: str, cohort: str) -> None:
    words = [f"{name}={value}" for name, value in {**FLAGS, "runner": "dask", "run.pictures": "false"}.items()]
    command = [sys.executable, "-m", "engine_run", archive, cohort, *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr


def tables(cohort: str) -> dict[str, list[str]]:
    layout = Layout(place_of(cohort))
    found = {}
    for table in ("studies", "vertebrae", "patients", "levels_in_view"):
        columns = [name for name in data_columns(table) if name not in OF_THE_PLACE]
        rows = read_table(latest_snapshot(layout) / f"{table}.parquet", columns).to_pylist()
        found[table] = sorted(json.dumps(row, default=str) for row in rows)
    return found


def test_both_ends_in_buckets_with_two_workers_give_the_tables_of_a_run_on_disk(place):
    archive, cohort = f"{make_bucket()}/ct", f"{make_bucket()}/spines"
    store = filesystem()
    for path in (place / "archive").rglob("*.dcm"):
        store.put_file(str(path), f"{archive}/{path.relative_to(place / 'archive').as_posix()}")
    before = {name: store.info(f"{archive}/{name}")["ETag"] for name in objects(archive)}
    screen_on_two_workers(place, archive, cohort)
    settings = load_settings(flags={**FLAGS, "run.pictures": False})
    screen_archives(
        [place / "archive"], place / "cohort", settings, "loop", "engine_methods:marked", say=lambda line: None
    )
    assert tables(cohort) == tables(str(place / "cohort"))
    assert len(tables(cohort)["studies"]) == STUDIES
    assert {name: store.info(f"{archive}/{name}")["ETag"] for name in objects(archive)} == before
