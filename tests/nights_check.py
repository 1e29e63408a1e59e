"""The schedule, kills and hand-overs of real nights, which take their time: ``make test-nightly``, docs/nightly.md.

Every minute is a night here. Nothing is played: Prefect's server and workers run as `vertebra serve` starts them,
processes are killed by signal 9, and the other machine is a namespace with a host name of its own, into which this one
cannot look. In each part the tables must equal those of an undisturbed run.
"""

import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from engine_archive import write_study
from engine_methods import GOOD, HURRY, RAISE, REFUSE, SLOWER
from nights import Nights, data_of, kill_tree, owner_pid, wait_for

from flows.screen import screen_archives
from flows.settings import load_settings
from flows.stale import SILENT_SECONDS
from tasks.report import cohort_state
from vertebra_core.cohort.layout import Layout

EVERY_MINUTE = "* * * * *"
SLOW_STUDIES = 60
"""Of three seconds each, on one worker: longer than the minute until the next night."""
MARKS = [GOOD, RAISE, REFUSE, *[SLOWER] * SLOW_STUDIES]
ANOTHER_MACHINE = ("unshare", "--uts", "sh", "-c", 'hostname another-machine && exec "$@"', "sh")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("nights")
    for number, mark in enumerate(MARKS):
        write_study(root / "archive" / f"s{number:03d}", f"P{number:03d}", mark)
    return root / "archive"


@pytest.fixture(scope="module")
def undisturbed(archive):
    """The tables of a plain loop over the archive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test")
        patch.setenv(HURRY, "1")
        settings = load_settings(flags={"run.settle_minutes": 0.0, "run.shard_size": 2})
        cohort = archive.parent / "undisturbed"
        screen_archives([archive], cohort, settings, "loop", "engine_methods:marked", say=str)
    return data_of(cohort)


@pytest.fixture
def place(archive, tmp_path):
    (tmp_path / "archive").symlink_to(archive)
    return tmp_path


def told(what: str, since: float) -> None:
    print(f"\n| {what} | {time.monotonic() - since:.0f} s |", flush=True)


def shards(nights: Nights) -> int:
    return len(Layout(nights.place / "cohort").marks())


def running(nights: Nights):
    return next(iter(nights.runs("Running")), None)


def test_nights_fire_by_the_clock_overlap_die_and_go_on(place, undisturbed):
    """One machine, from the first start to a machine that was switched off."""
    nights = Nights(place, EVERY_MINUTE)
    since = time.monotonic()
    nights.start()
    nights.wait_until_ready()
    told("`vertebra serve` is up: server, three deployments, worker", since)
    assert "next run" in nights.said()

    since = time.monotonic()
    first = wait_for("a run that the schedule made", lambda: running(nights))
    assert first.auto_scheduled
    told("the first cron run fired", since)
    late = (first.start_time - first.expected_start_time).total_seconds()
    print(f"| its flow began after its minute | {late:.0f} s |")
    cancelled = wait_for("an overlapping run", lambda: nights.runs("Cancelled"))
    assert "concurrency limit" in cancelled[0].state.message
    told("the next minute's run was cancelled while the first was at work", since)
    assert running(nights).id == first.id

    wait_for("committed shards", lambda: shards(nights) >= 1)
    since = time.monotonic()
    worker = next(pid for pid in children(nights) if "flows.worker_process" in pid.cmdline())
    worker.suspend()
    kill_tree(owner_pid(first))
    worker.kill()
    half_way = shards(nights)
    assert nights.ended(first).state.name == "Crashed"
    told(f"kill -9 of night and worker after {half_way} shards: told as Crashed", since)
    second = wait_for("the next cron run", lambda: running(nights))
    told("the next cron run is at work", since)
    assert shards(nights) < len(MARKS) / 2

    wait_for("another committed shard", lambda: shards(nights) > half_way)
    since = time.monotonic()
    kill_tree(nights.process.pid)  # the machine is switched off
    nights.process.wait()
    nights.start()
    nights.wait_until_ready(times=2)
    told("kill -9 of everything; `vertebra serve` is up again", since)
    assert nights.ended(second).state.name == "Crashed"
    third = wait_for("a cron run after the restart", lambda: running(nights))
    assert third.auto_scheduled
    told("the next cron run is at work, by the same schedule", since)
    ended = nights.ended(third)
    assert ended.state.name == "Completed", ended.state.message
    print(f"\n{ended.state.message}")
    assert data_of(place / "cohort") == undisturbed
    told("that run has completed; tables as undisturbed", since)
    states = [run.state for run in cohort_state(Layout(place / "cohort")).runs]
    assert states[-3:] == ["ended", "dead", "dead"]
    assert nights.stop() == []


def children(nights: Nights):
    return psutil.Process(nights.process.pid).children()


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*ANOTHER_MACHINE, "true"], capture_output=True).returncode != 0,
    reason="this user may not make a namespace with a host name of its own",
)
def test_a_night_on_a_machine_that_is_gone_lapses_and_the_next_one_goes_on(place, undisturbed):
    """Nobody can look at its process: the server waits for heartbeats, and the next night for the lease."""
    nights = Nights(place, cron=None)
    nights.start()
    nights.wait_until_ready()
    here = next(pid for pid in children(nights) if "flows.worker_process" in pid.cmdline())
    here.suspend()  # so that the other machine takes the run
    other = nights.start("--api", nights.url, name="other", before=ANOTHER_MACHINE)
    wait_for("the other machine", lambda: "Ctrl-C stops everything" in nights.said("other"))
    asked = nights.run_now("nightly/nightly")
    wait_for("committed shards", lambda: shards(nights) >= 1)
    run = running(nights)
    assert run.id == asked.id
    assert '"host": "another-machine"' in str(run.labels["vertebra.owner"])

    since = time.monotonic()
    kill_tree(other.pid)
    other.wait()
    here.resume()
    following = nights.run_now("nightly/on-demand")
    wait_for("a night that waits for the lease", lambda: "its lock ends in" in nights.logs())
    told("the other machine died; the next run waits for its lease", since)
    ended = nights.ended(following)
    assert ended.state.name == "Completed", ended.state.message
    assert data_of(place / "cohort") == undisturbed
    told("the lease lapsed, the next run has completed; tables as undisturbed", since)
    crashed = nights.ended(asked)
    assert (crashed.state.name, "no heartbeat" in crashed.state.message) == ("Crashed", True)
    silent = (crashed.state.timestamp - datetime.now(UTC)).total_seconds() + time.monotonic() - since
    told(f"the dead run was told as Crashed by its heartbeats after {silent:.0f} s", since)
    assert silent < SILENT_SECONDS + 120
    assert nights.stop() == []


def test_a_night_stops_at_its_hour_and_the_next_one_goes_on(place, undisturbed):
    nights = Nights(place, cron=None)
    nights.start()
    nights.wait_until_ready()
    until = datetime.now().astimezone() + timedelta(seconds=190)
    since = time.monotonic()
    ended = nights.ended(nights.run_now("nightly/nightly", until=f"{until:%H:%M}"))
    assert ended.state.name == "Completed", ended.state.message
    assert "left for the next run" in ended.state.message
    print(f"\n{ended.state.message}")
    told(f"the night ended at its hour, with {shards(nights)} shards", since)
    assert 0 < shards(nights) < len(MARKS) / 2
    since = time.monotonic()
    ended = nights.ended(nights.run_now("nightly/nightly"))
    assert ended.state.name == "Completed", ended.state.message
    assert data_of(place / "cohort") == undisturbed
    told("the next one has done the rest; tables as undisturbed", since)
    assert nights.stop() == []
