"""Scheduled nights on one machine: a real server, a real worker, one night, a killed one and the next.

Hours, overlaps and other machines take longer: ``make test-nightly``.
"""

import json

import psutil
import pytest
from engine_archive import write_study
from engine_methods import GOOD, RAISE, REFUSE, SLOW
from nights import Nights, data_of, kill_tree, owner_pid, wait_for

from flows.screen import screen_archives
from flows.settings import load_settings
from vertebra_core.cohort.layout import Layout

pytestmark = pytest.mark.timeout(1800)  # the first one waits for a server, a worker and a night: 420 s at a load of 30
MARKS = [GOOD, RAISE, REFUSE, *[SLOW] * 9]


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    place = tmp_path_factory.mktemp("nights")
    for number, mark in enumerate(MARKS):
        write_study(place / "archive" / f"s{number:02d}", f"P{number:02d}", mark)
    served = Nights(place, cron=None)
    served.start()
    served.wait_until_ready()
    yield served
    assert served.stop() == []


@pytest.fixture(scope="module")
def killed(nights):
    """The first run, killed with its worker when two shards were committed."""
    asked = nights.run_now("nightly/nightly")
    wait_for("a committed shard", lambda: len(Layout(nights.place / "cohort").marks()) >= 1)
    (run,) = [run for run in nights.runs("Running") if run.id == asked.id]
    (worker,) = [child for child in children_of(nights) if "flows.worker_process" in child.cmdline()]
    worker.suspend()
    kill_tree(owner_pid(run))
    worker.kill()
    return run


@pytest.fixture(scope="module")
def refused(nights, killed):
    """A run that cannot run, asked for beside the next one that can."""
    return nights.run_now("nightly/on-demand", archives=["nowhere"])


@pytest.fixture(scope="module")
def completed(nights, refused):
    return nights.ended(nights.run_now("nightly/on-demand"))


def children_of(nights):
    return psutil.Process(nights.process.pid).children()


def test_a_run_that_was_killed_with_its_worker_is_told_as_crashed(nights, killed):
    """Otherwise it would hold the slot of its deployment for ever, and every later night would be cancelled."""
    ended = nights.ended(killed)
    assert ended.state.name == "Crashed"
    assert "is dead; the next run goes on" in ended.state.message
    wait_for("the worker's end", lambda: "worker ended (signal 9); again in 1 s" in nights.said())


def test_the_next_run_goes_on_and_the_tables_are_as_if_nothing_had_been(nights, completed, monkeypatch):
    assert completed.state.name == "Completed", (completed.state.message, nights.logs())
    monkeypatch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test")
    settings = load_settings(str(nights.place / "quick.toml"))
    archive, undisturbed = nights.place / "archive", nights.place / "undisturbed"
    screen_archives([archive], undisturbed, settings, "loop", "engine_methods:marked", say=str)
    assert data_of(nights.place / "cohort") == data_of(undisturbed)


def test_the_artifacts_tell_the_night_whose_failures_do_not_fail_it(nights, completed):
    assert completed.state.message.startswith(f"{len(MARKS)} studies, ")
    artifacts = nights.artifacts(completed)
    assert {"night-flow", "night-failures", "night-throughput", "night-drift", "night-links"} <= set(artifacts)
    flow = {(row["step"], row["reason"]): row["studies"] for row in json.loads(artifacts["night-flow"].data)}
    assert flow["found in the archives", ""] == len(MARKS)
    assert flow["done by earlier runs", ""] + flow["due in this run", ""] == len(MARKS)
    assert (flow["measured by now", ""], flow["refused by now", ""], flow["failed by now", ""]) == (10, 1, 1)
    assert "the counts add up" in artifacts["night-flow"].description
    assert "snapshots/" in artifacts["night-links"].data
    if "night-progress" in artifacts:  # not where the killed run had done everything but publish
        assert artifacts["night-progress"].data == 100


def test_the_report_is_written_by_a_flow_of_its_own(nights, completed):
    run = nights.ended(nights.run_now("weekly-report/weekly-report"))
    assert run.state.name == "Completed", run.state.message
    (page,) = (nights.place / "cohort" / "snapshots").glob("*/report.html")
    assert str(page.relative_to(nights.place)) in run.state.message


def test_a_night_that_cannot_run_is_failed_and_says_why_in_one_line(nights, refused):
    run = nights.ended(refused)
    assert (run.state.name, run.state.message) == ("Failed", "no such archive: nowhere")


def test_what_it_says_names_the_addresses_and_the_next_runs(nights):
    said = nights.said()
    assert f"http://127.0.0.1:{nights.port}" in said
    assert "prefect deployment run 'nightly/on-demand'" in said
