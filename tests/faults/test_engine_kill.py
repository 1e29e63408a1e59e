"""Killed in the middle: the tree dies with its head, the next run goes on at once, the tables are as if nothing was."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from engine_archive import write_study
from engine_methods import SLOW

from flows.screen import screen_archives
from flows.settings import load_settings
from tasks.history import DEAD, ENDED, RUNNING
from tasks.report import cohort_state
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.errors import CouldNotRun
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
FLAGS = {"run.workers": 1, "run.shard_size": 2}
STUDIES = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    for number in range(STUDIES):
        write_study(root / "archive" / f"s{number:02d}", f"P{number:02d}", SLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_STATE_DIR", str(root / "state"))
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.delenv("PREFECT_API_URL", raising=False)  # another module's server: here each run has its own
        yield root


def start(place: Path, cohort: str, *words: str) -> subprocess.Popen:
    flags = [f"{name}={value}" for name, value in FLAGS.items()]
    command = [sys.executable, "-m", "engine_run", str(place / "archive"), str(place / cohort), *flags, *words]
    with open(place / f"{cohort}.out", "wb") as sink:
        return subprocess.Popen(command, cwd=place, stdout=sink, stderr=sink)


def wait_for_shards(process: subprocess.Popen, cohort: Path, number: int) -> None:
    deadline = time.monotonic() + 600
    while len(Layout(cohort).marks()) < number:
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline, "no shard was committed"
        time.sleep(0.05)


def screen_here(place: Path, cohort: str):
    said: list[str] = []
    settings = load_settings(flags=FLAGS)
    night = screen_archives(
        [place / "archive"], place / cohort, settings, "loop", "engine_methods:marked", say=said.append
    )
    return night, said


def survivors(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=seconds)[1]


def test_kill_9_half_way_and_run_again(place):
    cohort = place / "killed"
    process = start(place, "killed")
    wait_for_shards(process, cohort, 2)
    with pytest.raises(CouldNotRun, match="is at work"):
        screen_here(place, "killed")
    assert cohort_state(Layout(cohort)).runs[0].state == RUNNING
    tree = psutil.Process(process.pid).children(recursive=True)
    assert any("flows.server_process" in " ".join(child.cmdline()) for child in tree)
    assert any("forkserver" in " ".join(child.cmdline()) for child in tree)

    process.kill()  # only the head: the server, the workers and their sandboxes must follow by themselves
    process.wait()
    left = survivors(tree, 30)
    assert not left, [child.cmdline() for child in left]
    n_done = len(Layout(cohort).marks())
    assert n_done < STUDIES / FLAGS["run.shard_size"]
    assert cohort_state(Layout(cohort)).runs[0].state == DEAD

    night, said = screen_here(place, "killed")
    assert any(line.startswith("taking over from a run that died") for line in said)
    assert night.due == STUDIES - n_done * FLAGS["run.shard_size"]
    assert (night.settled.measured, night.settled.left) == (STUDIES, 0)
    assert [run.state for run in cohort_state(Layout(cohort)).runs] == [ENDED, DEAD]

    screen_here(place, "undisturbed")
    for table in ("studies", "vertebrae", "patients", "levels_in_view"):
        assert data(place / "killed", table) == data(place / "undisturbed", table), table
    assert pictures(place / "killed") == pictures(place / "undisturbed")
    assert not list((cohort / "private").glob("plans/*"))


def data(cohort: Path, table: str) -> list[str]:
    """Every data column of every row; only timings and the device are left out."""
    rows = pq.read_table(latest_snapshot(Layout(cohort)) / f"{table}.parquet").select(data_columns(table)).to_pylist()
    assert rows
    return sorted(json.dumps(row, default=str) for row in rows)


def pictures(cohort: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cohort / "pictures").iterdir()}


def test_a_stopped_run_leaves_the_cohort_free(place):
    """SIGTERM, which winds up like Ctrl-C."""
    cohort = place / "stopped"
    process = start(place, cohort.name, "runner=loop")
    wait_for_shards(process, cohort, 1)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.wait(timeout=60)
    assert not survivors(tree, 30)
    assert process.returncode == 3
    said = (place / f"{cohort.name}.out").read_text()
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert not Layout(cohort).lock.exists()
