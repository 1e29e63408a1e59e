"""Workers that die: their shards are parted down to the study that kills, and nobody else is blamed.

A real Prefect server, real Dask workers, killed by a study (`engine_methods.KILL_WORKER` kills the worker, not the
sandbox) or all at once.
"""

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import dask
import distributed
import psutil
import pyarrow.parquet as pq
import pytest
from engine_archive import fresh_fork_server, write_study
from engine_logs import lines_of, undeclared_in
from engine_methods import GOOD, KILL_WORKER, SLOW

from flows.screen import screen_archives
from flows.settings import load_settings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import marks, read_mark
from vertebra_core.cohort.links import read_links
from vertebra_core.cohort.snapshot import latest_snapshot

TESTS = Path(__file__).resolve().parent.parent
FLAGS = {"run.workers": 2, "run.shard_size": 4, "run.pictures": False}
GOOD_STUDIES = 7


@pytest.fixture(scope="module")
def place(tmp_path_factory, prefect_server):
    root = tmp_path_factory.mktemp("losses")
    for number in range(GOOD_STUDIES):
        write_study(root / "archive" / f"good-{number}", f"P{number:02d}", GOOD)
    write_study(root / "archive" / "killer", "P99", KILL_WORKER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        patch.setenv("PYTHONPATH", str(TESTS))
        fresh_fork_server()
        yield root


def screen(place: Path, cohort: str, archive: str = "archive", runner: str = "dask", **flags):
    given = {name if "." in name else f"run.{name}": value for name, value in flags.items()}
    settings = load_settings(flags={**FLAGS, **given})
    return screen_archives([place / archive], place / cohort, settings, runner, "engine_methods:marked", say=str)


def by_folder(cohort: Path) -> dict[str, dict]:
    layout = Layout(cohort)
    links = {row["study_key"]: row["path"] for row in read_links(layout).to_pylist()}
    rows = pq.read_table(latest_snapshot(layout) / "studies.parquet").to_pylist()
    assert len(rows) == len({row["study_key"] for row in rows})
    return {links[row["study_key"]].split("/")[0]: row for row in rows}


@pytest.fixture(scope="module")
def night(place):
    return screen(place, "killed")


def test_the_study_that_kills_its_worker_ends_as_a_row_and_all_others_are_measured(place, night):
    rows = by_folder(place / "killed")
    assert Counter(row["status"] for row in rows.values()) == {"ok": GOOD_STUDIES, "failed": 1}
    killer = rows["killer"]
    assert (killer["reason"], killer["reason_detail"]) == (
        "worker_died",
        "2 tries: each time the worker died that had begun it",
    )
    assert night.settled.new == {"ok": GOOD_STUDIES, "worker_died": 1}
    assert night.settled.left == 0


@pytest.mark.usefixtures("night")
def test_its_shard_was_parted_at_it_and_it_was_begun_three_times(place):
    """Once among others, which is not counted against it, and twice alone."""
    layout = Layout(place / "killed")
    killer = by_folder(place / "killed")["killer"]["study_key"]
    events = list(lines_of(layout.root / "logs"))
    parted = [event for event in events if event["event"] == "shard_parted"]
    assert len(parted) == 1
    begun = Counter(event["study_key"] for event in events if event["event"] == "study_started")
    assert begun[killer] == 3
    assert set(begun.values()) == {1, 3}
    assert undeclared_in(layout.root / "logs") == []
    rows = {mark.shard: read_mark(mark)["study_key"].to_pylist() for mark in marks(layout)}
    assert rows[parted[0]["shard"]] == []  # closed: no straggler can commit it
    assert [killer] in [rows[part] for part in parted[0]["parts"]]
    assert sum(map(len, rows.values())) == GOOD_STUDIES + 1


def close_all_workers(layout: Layout) -> None:
    """Once something is committed, end every worker of this process's cluster for good, with its nanny."""
    while not layout.marks():
        time.sleep(0.05)
    cluster = next(iter(distributed.LocalCluster._instances))
    for worker in list(cluster.workers.values()):
        cluster.sync(worker.close)


def test_when_all_workers_are_lost_the_run_goes_on_with_new_ones(place, monkeypatch):
    monkeypatch.setattr("flows.fan_out.NO_WORKER_SECONDS", 2.0)
    monkeypatch.setattr("flows.fan_out.LOOK_AT_WORKERS_SECONDS", 0.5)
    for number in range(8):
        write_study(place / "slow" / f"s{number}", f"S{number:02d}", SLOW)
    layout = Layout(place / "lost")
    closer = threading.Thread(target=close_all_workers, args=[layout], daemon=True)
    closer.start()
    night = screen(place, "lost", "slow", workers=1, shard_size=1)
    closer.join()
    assert night.settled.new == {"ok": 8}
    events = [event["event"] for event in lines_of(layout.root / "logs")]
    assert events.count("workers_lost") == 1


def test_a_worker_that_keeps_memory_is_replaced_and_not_paused_for_ever(place):
    """Each shard adds 90 MiB: the worker passes 80 %, where Dask would pause it, and is ended at 95 %."""
    for number in range(5):
        write_study(place / "leaky" / f"s{number:02d}", f"L{number:02d}", GOOD)
    with dask.config.set({"distributed.worker.preload": ["engine_leak"]}):
        night = screen(place, "leaked", "leaky", workers=1, shard_size=1, **{"cluster.worker_memory_gb": 0.6})
    assert night.settled.new == {"ok": 5}
    events = list(lines_of(place / "leaked" / "logs"))
    assert len({event["worker"] for event in events if event["event"] == "shard_started"}) > 1


@pytest.mark.parametrize("runner", ["dask", "loop"])
def test_at_its_hour_a_run_ends_in_good_order_and_the_next_goes_on(place, monkeypatch, runner):
    """No shard is begun any more, the one that runs is committed as far as it has come, and what is there is shown."""
    for number in range(12):
        write_study(place / "long" / f"s{number:02d}", f"D{number:02d}", SLOW)
    monkeypatch.setattr("flows.fan_out.GRACE_SECONDS", 0.0)
    monkeypatch.setattr("flows.loop.GRACE_SECONDS", 0.0)
    cohort = Layout(place / f"drained-{runner}")
    hour = threading.Thread(target=strike, args=[cohort, monkeypatch], daemon=True)
    hour.start()
    flags = {"workers": 1, "shard_size": 6, "until": "06:00", "time_zone": "Europe/Vienna"}
    night = screen(place, cohort.root.name, "long", runner, **flags)
    hour.join()
    done, left = night.settled.measured, night.settled.left
    assert 2 <= done < 12
    assert done + left == 12
    assert night.settled.left_why == "stopped at 06:00"
    assert not night.has_failures
    assert len(by_folder(cohort.root)) == done
    monkeypatch.undo()
    night = screen(place, cohort.root.name, "long", "loop", workers=1)
    assert (night.due, night.settled.measured, night.settled.left) == (left, 12, 0)


def strike(layout: Layout, monkeypatch) -> None:
    """When two studies are done, it is six o'clock."""
    while sum(event["event"] == "study_done" for event in lines_of(layout.root / "logs")) < 2:
        time.sleep(0.05)
    monkeypatch.setattr("tasks.until.seconds_since_epoch", lambda: time.time() + 24 * 3600)


def test_sigterm_rolls_back_the_shard_that_runs_and_the_same_command_goes_on(place):
    """What is committed stays, of the rest there is nothing; nobody is left behind, and the cohort is free."""
    for number in range(8):
        write_study(place / "halted" / f"s{number:02d}", f"T{number:02d}", SLOW)
    layout, flags = Layout(place / "stopped"), ["run.workers=1", "run.shard_size=2", "run.pictures=false"]
    command = [sys.executable, "-m", "engine_run", str(place / "halted"), str(layout.root), *flags]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not layout.marks():
        assert process.poll() is None
        time.sleep(0.05)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(tree, timeout=60)[1]
    assert not layout.lock.exists()
    done = sum(read_mark(mark).num_rows for mark in marks(layout))
    assert 2 <= done < 8
    assert done == 2 * len(layout.marks())  # whole shards only
    night = screen(place, "stopped", "halted", "loop")
    assert (night.due, night.settled.measured) == (8 - done, 8)
