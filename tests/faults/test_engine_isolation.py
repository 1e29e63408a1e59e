"""Whom a sandbox blames: a study that fails by itself in a new child, never one that came after another.

The sandbox is the real one; its child is killed, fills its memory and hangs. No Prefect and no Dask are needed here.
"""

from dataclasses import replace

import psutil
import pytest
from engine_archive import fresh_fork_server, write_study
from engine_methods import (
    EXIT,
    EXIT_ONCE,
    GOOD,
    GROW,
    HANG,
    KEEP,
    NEEDY,
    ONCE,
    RAISE,
    REFUSE,
    SEGFAULT,
    SPOILED,
)
from reading_cases import take

from flows.cli import main
from flows.screen import screen_archives
from flows.settings import load_settings
from tasks.method import named_method
from tasks.plan import Shard, StudyOrder
from tasks.sandbox import CHILD_RECYCLED, Sandbox
from tasks.settings import RunSettings
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.settings import Settings

pytestmark = pytest.mark.usefixtures("methods_are_found")
METHOD = "engine_methods:marked"
TOLD = ("try_failed", CHILD_RECYCLED)
RUN = RunSettings(memory_gb=0.5, pictures=False, device="cpu")


@pytest.fixture
def order(tmp_path):
    """An order for a study with a mark."""

    def made(mark: int) -> StudyOrder:
        folder = write_study(tmp_path / f"study-{mark}", "P1", mark)
        return StudyOrder("st1", "pt1", "se1", "digest", take(folder).series[0])

    return made


def shard(settings: RunSettings = RUN) -> Shard:
    identity = MethodIdentity(named_method(METHOD).digest, "settings", "schema")
    return Shard("run", "00000", (), METHOD, identity, Settings(), settings)


def screen(sandbox: Sandbox, order: StudyOrder, settings: RunSettings = RUN) -> tuple[dict, list[dict]]:
    """The study's row, and what the log is told of its tries and of the child."""
    screened = sandbox.screen(order, shard(settings))
    return screened.rows["studies"][0], [note for note in screened.notes if note["event"] in TOLD]


def child_of_this_process() -> psutil.Process:
    """The sandbox's child, which the fork server made."""
    servers = [p for p in psutil.Process().children() if "forkserver" in " ".join(p.cmdline())]
    return servers[0].children()[0]


@pytest.mark.parametrize(
    ("mark", "reason", "detail"),
    [
        (EXIT, "worker_died", "2 tries: exit code 3; exit code 3"),
        (SEGFAULT, "worker_died", "2 tries: exit code -11; exit code -11"),
        (GROW, "out_of_memory", "2 tries: more than 0.5 GiB; more than 0.5 GiB"),
        (HANG, "deadline", "2 tries: longer than 1 s; longer than 1 s"),
    ],
)
def test_a_study_is_given_up_after_two_tries_in_new_children(order, mark, reason, detail):
    settings = replace(RUN, deadline_s=1.0 if mark == HANG else RUN.deadline_s)
    with Sandbox(settings) as sandbox:
        row, notes = screen(sandbox, order(mark), settings)
    assert (row["status"], row["reason"], row["reason_detail"]) == ("failed", reason, detail)
    tries = [(note["event"], note["number"], note["reason"], note["new_child"]) for note in notes]
    assert tries == [("try_failed", number, reason, True) for number in (1, 2)]


def test_a_study_whose_process_died_once_is_measured(order, monkeypatch, tmp_path):
    monkeypatch.setenv(ONCE, str(tmp_path / "once"))
    fresh_fork_server()
    with Sandbox(RUN) as sandbox:
        row, notes = screen(sandbox, order(EXIT_ONCE))
    assert row["status"] == "ok"
    assert [note["detail"] for note in notes] == ["exit code 3"]


@pytest.mark.parametrize(("before", "mark", "reason"), [(KEEP, NEEDY, "out_of_memory"), (GOOD, SPOILED, "failed")])
def test_a_study_is_not_blamed_for_what_another_one_left_in_the_child(order, before, mark, reason):
    """110 MiB that are kept and 440 MiB that are needed exceed 0.5 GiB; each alone does not."""
    with Sandbox(RUN) as sandbox:
        assert screen(sandbox, order(before))[0]["status"] == "ok"
        row, notes = screen(sandbox, order(mark))
    assert row["status"] == "ok"
    assert [(note["reason"], note["new_child"]) for note in notes] == [(reason, False)]


def test_an_exception_is_believed_at_once_in_a_new_child_and_tried_again_in_another(order):
    with Sandbox(RUN) as sandbox:
        first, once = screen(sandbox, order(RAISE))
        second, twice = screen(sandbox, order(RAISE))
        refused, none = screen(sandbox, order(REFUSE))
    assert first["reason"] == second["reason"] == "failed"
    assert first["reason_detail"] == second["reason_detail"]
    assert [len(once), len(twice), len(none)] == [1, 2, 0]
    assert refused["reason"] == "no_spine"


def test_a_child_that_keeps_memory_is_replaced_before_it_fails(order):
    """Each study keeps 110 MiB; with the third a child has kept 220 since its first, more than a quarter of 0.5 GiB."""
    keeping, events = order(KEEP), []
    with Sandbox(RUN) as sandbox:
        for _ in range(7):
            row, notes = screen(sandbox, keeping)
            assert row["status"] == "ok"
            events += notes
    assert [note["event"] for note in events] == [CHILD_RECYCLED] * 2
    assert all(0.2 < note["kept_gb"] < 0.25 for note in events)


def test_a_child_killed_between_two_studies_takes_nothing_with_it(order):
    with Sandbox(RUN) as sandbox:
        assert screen(sandbox, order(GOOD))[0]["status"] == "ok"
        child = child_of_this_process()
        child.kill()
        psutil.wait_procs([child], timeout=60)
        row, notes = screen(sandbox, order(GOOD))
    assert row["status"] == "ok"
    assert notes == []


def test_a_study_that_was_given_up_is_left_alone_until_it_is_lifted(tmp_path, monkeypatch):
    """It kills its process once; with one try a run that is enough to be given up, and after that it is sound."""
    monkeypatch.setenv(ONCE, str(tmp_path / "once"))
    fresh_fork_server()
    write_study(tmp_path / "archive" / "s0", "P0", EXIT_ONCE)
    write_study(tmp_path / "archive" / "s1", "P1")
    settings = load_settings(flags={"run.attempts": 1, "run.pictures": False, "run.workers": 1})

    def screen_all():
        return screen_archives([tmp_path / "archive"], tmp_path / "cohort", settings, "loop", METHOD, say=str)

    first = screen_all()
    assert first.settled.new == {"ok": 1, "worker_died": 1}
    assert screen_all().due == 0
    assert main(["retry", str(tmp_path / "cohort"), "--reason", "worker_died"]) == 0
    after = screen_all()
    assert (after.due, after.settled.new, after.settled.measured) == (1, {"ok": 1}, 2)
    assert screen_all().due == 0
