"""What was given up, what a person lifts of it, and what that makes due."""

import json
from pathlib import Path

import pytest
from test_cohort_ledger import IDENTITY, NORMAL, OTHER, shard_tables

from flows.cli import main
from tasks.report import cohort_state
from vertebra_core.cohort.layout import FORMAT, Layout
from vertebra_core.cohort.ledger import MethodIdentity, choose, commit_shard, committed, done_inputs
from vertebra_core.cohort.retries import lift, quarantined, read_lifted, to_lift, unmeasured
from vertebra_core.cohort.snapshot import publish
from vertebra_core.errors import Reason, WrongUse

RUNS = [f"2026112{day}T200000-000{day}" for day in range(4)]
DIED, REFUSED = Reason.WORKER_DIED, Reason.NO_SPINE


def commit(layout: Layout, run: str, *studies, shard: str = "00000", identity=IDENTITY) -> None:
    assert commit_shard(layout, run, shard, shard_tables(*studies, identity=identity))


@pytest.fixture
def layout(tmp_path) -> Layout:
    """One measured, one that killed its process, one that hung, one refused for good and one for missing slices."""
    layout = Layout(tmp_path)
    layout.description.write_text(json.dumps({"format": FORMAT}))
    ends = [
        ("st1", [NORMAL]),
        ("st2", DIED),
        ("st3", Reason.DEADLINE),
        ("st4", REFUSED),
        ("st5", Reason.MISSING_SLICES),
    ]
    commit(layout, RUNS[0], *((key, "in1", end) for key, end in ends))
    return layout


def due(layout: Layout, identity=IDENTITY) -> set[str]:
    done = done_inputs(committed(layout), identity, lifted=read_lifted(layout))
    return {f"st{number}" for number in range(1, 6)} - {key for key, _ in done}


def lift_meant(layout: Layout, name: str, **meant) -> None:
    lift(layout, to_lift(unmeasured(layout), **meant), name, "now")


def test_what_the_engine_gave_up_is_quarantined_by_reason(layout):
    assert quarantined(layout) == {"worker_died": ["st2"], "deadline": ["st3"]}
    assert due(layout) == set()


@pytest.mark.parametrize(
    ("meant", "lifted"),
    [
        ({}, {"st2", "st3"}),
        ({"reasons": ["deadline"]}, {"st3"}),
        ({"reasons": ["missing_slices", "worker_died"]}, {"st2", "st5"}),
        ({"keys": ["st4", "st2"]}, {"st2", "st4"}),
        ({"keys": ["st4", "st2"], "reasons": ["no_spine"]}, {"st4"}),
    ],
)
def test_what_is_lifted_becomes_due_and_keeps_its_row(layout, meant, lifted):
    lift_meant(layout, "one", **meant)
    assert due(layout) == lifted
    shown = choose(committed(layout), IDENTITY, dict.fromkeys(["st1", "st2", "st3", "st4", "st5"], "in1"))
    assert shown["study_key"].to_pylist() == ["st1", "st2", "st3", "st4", "st5"]
    assert not to_lift(unmeasured(layout), **meant)  # a second call has nothing left to lift


def test_what_fails_again_is_given_up_again_until_it_is_lifted_again(layout):
    lift_meant(layout, "one")
    commit(layout, RUNS[1], ("st2", "in1", Reason.OUT_OF_MEMORY), ("st3", "in1", [NORMAL]))
    assert due(layout) == set()
    assert quarantined(layout) == {"out_of_memory": ["st2"]}
    lift_meant(layout, "two")
    assert due(layout) == {"st2"}
    commit(layout, RUNS[2], ("st2", "in1", [NORMAL]))
    assert due(layout) == set()
    assert quarantined(layout) == {}


def test_other_weights_make_all_due_whatever_was_lifted(layout):
    lift_meant(layout, "one")
    assert due(layout, OTHER) == {"st1", "st2", "st3", "st4", "st5"}


def shown_of_st1(layout: Layout, digest: str) -> str:
    shown = choose(committed(layout), IDENTITY, {"st1": digest}).to_pylist()
    return next(row["reason"] or "ok" for row in shown if row["study_key"] == "st1")


def test_a_measurement_is_neither_lifted_nor_hidden_by_a_failure_of_the_same_input(layout):
    """The failure is that of a worker that was given up for dead and had measured the study."""
    commit(layout, RUNS[1], ("st1", "in1", DIED))
    assert shown_of_st1(layout, "in1") == "ok"
    commit(layout, RUNS[2], ("st1", "in2", DIED))  # of other files it says nothing
    assert shown_of_st1(layout, "in2") == "worker_died"
    lift_meant(layout, "one", keys=["st1"])
    assert ("st1", "in1") in done_inputs(committed(layout), IDENTITY, lifted=read_lifted(layout))


@pytest.mark.parametrize(
    ("meant", "said"),
    [({"reasons": ["too_ugly"]}, "no such reason: too_ugly"), ({"keys": ["st9", "st1"]}, "neither failed .* st1, st9")],
)
def test_what_is_not_there_is_said(layout, meant, said):
    with pytest.raises(WrongUse, match=said):
        to_lift(unmeasured(layout), **meant)


def test_the_command_lifts_says_so_and_has_nothing_more_to_lift(layout, tmp_path, capsys):
    def call(*words: str) -> tuple[int, str]:
        code = main(["retry", str(tmp_path), *words])
        heard = capsys.readouterr()
        return code, heard.out + heard.err

    assert call("--dry-run") == (0, "1 deadline, 1 worker_died: would be tried again by the next run\n")
    assert due(layout) == set()
    code, said = call("--reason", "deadline", "--json")
    assert (code, json.loads(said)["lifted"]) == (0, {"deadline": 1})
    assert call() == (0, "1 worker_died: will be tried again by the next run\n")
    assert call()[1].startswith("nothing to lift")
    assert due(layout) == {"st2", "st3"}
    assert call("--reason", "too_ugly")[0] == 2
    assert len(list(Path(layout.retries).iterdir())) == 2


def test_status_tells_what_is_quarantined_and_what_is_lifted(layout):
    publish(layout, RUNS[1], IDENTITY, {}, {})
    state = cohort_state(layout)
    assert (state.quarantined, state.lifted) == (2, 0)
    lift_meant(layout, RUNS[0], reasons=["deadline"])  # before that snapshot: it was tried by its run
    assert cohort_state(layout).lifted == 0
    lift_meant(layout, RUNS[2], keys=["st2", "st4"])  # one was given up, one refused
    state = cohort_state(layout)
    assert (state.quarantined, state.lifted) == (1, 1)
    publish(layout, RUNS[3], MethodIdentity("others", "settings", "2"), {}, {})
    assert cohort_state(layout).lifted == 0
