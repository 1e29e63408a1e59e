"""Sentinel studies: when heights are the same, when a run has drifted, and what becomes of those that are gone."""

import json

import pyarrow as pa
import pytest

from tasks.sentinel import choose_sentinels
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.cohort.sentinels import (
    Again,
    Judged,
    Outcome,
    Reference,
    Verdict,
    compare,
    forget_sentinels,
    judge,
    read_keys,
    read_references,
    write_judged,
    write_keys,
    write_references,
)
from vertebra_core.errors import WrongUse

IDENTITY = MethodIdentity("weights", "settings", "schema")
HEIGHTS = [[20.0, 19.0, 21.0], [22.0, None, 23.0]]
REFERENCE = Reference("sta", "input", IDENTITY, "run-1", HEIGHTS)


def moved(by_mm: float) -> list:
    return [[20.0, 19.0, 21.0 + by_mm], HEIGHTS[1]]


@pytest.mark.parametrize(
    ("again", "worst", "why"),
    [
        (HEIGHTS, 0.0, ""),
        (moved(0.04), 0.04, ""),
        (moved(-0.06), 0.06, "1 of 6 heights off by more than 0.05 mm"),
        ([HEIGHTS[0], [22.0, 21.0, 23.0]], 0.0, "1 of 6 heights measured in one of both only"),
        (HEIGHTS[:1], None, "1 vertebrae instead of 2"),
        ([], None, "0 vertebrae instead of 2"),
    ],
)
def test_heights_within_the_tolerance_are_the_same(again, worst, why):
    found, said = compare(HEIGHTS, again)
    assert said == why
    assert found == (None if worst is None else pytest.approx(worst))


@pytest.mark.parametrize(
    ("current", "reference", "again", "run", "asked", "outcome"),
    [
        ({"sta": "input"}, REFERENCE, Again("", HEIGHTS), "run-2", True, Outcome.REPRODUCED),
        ({"sta": "input"}, REFERENCE, Again("", moved(0.2)), "run-2", True, Outcome.DRIFTED),
        ({"sta": "input"}, REFERENCE, Again("no_spine", []), "run-2", True, Outcome.DRIFTED),
        ({"sta": "input"}, REFERENCE, Again("failed", []), "run-2", True, Outcome.DRIFTED),
        ({"sta": "input"}, REFERENCE, Again("deadline", []), "run-2", True, Outcome.NOT_MEASURED),
        ({"sta": "input"}, REFERENCE, None, "run-2", True, Outcome.NOT_MEASURED),
        ({"sta": "input"}, REFERENCE, None, "run-2", False, Outcome.NOT_MEASURED),
        ({"sta": "input"}, REFERENCE, None, "run-1", False, Outcome.FIRST),
        ({"sta": "input"}, None, None, "run-2", False, Outcome.NOT_MEASURED),
        ({"stb": "input"}, REFERENCE, None, "run-2", False, Outcome.GONE),
    ],
)
def test_every_sentinel_has_an_outcome_and_says_why(current, reference, again, run, asked, outcome):
    one = judge("sta", current, reference, again, run, asked)
    assert one.outcome is outcome
    assert bool(one.why) == (outcome not in (Outcome.REPRODUCED, Outcome.FIRST))


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], Verdict.NONE),
        ([Outcome.FIRST], Verdict.FIRST),
        ([Outcome.FIRST, Outcome.REPRODUCED], Verdict.REPRODUCED),
        ([Outcome.REPRODUCED, Outcome.GONE], Verdict.INCOMPLETE),
        ([Outcome.REPRODUCED, Outcome.NOT_MEASURED], Verdict.INCOMPLETE),
        ([Outcome.REPRODUCED, Outcome.GONE, Outcome.DRIFTED], Verdict.DRIFTED),
    ],
)
def test_the_worst_of_them_is_the_verdict(outcomes, verdict):
    judged = Judged(tuple(judged_as(outcome) for outcome in outcomes))
    assert judged.verdict is verdict
    assert "st" not in json.dumps(judged.summary()["counts"]).replace("first", "")  # counts, never keys


def judged_as(outcome: Outcome):
    again = {Outcome.REPRODUCED: HEIGHTS, Outcome.DRIFTED: moved(1.0)}.get(outcome)
    current = {} if outcome is Outcome.GONE else {"sta": "input"}
    run = "run-1" if outcome is Outcome.FIRST else "run-2"
    return judge("sta", current, REFERENCE, Again("", again) if again else None, run, False)


def test_what_is_written_is_read_again_and_can_be_forgotten(tmp_path):
    layout = Layout(tmp_path)
    assert (read_keys(layout), read_references(layout)) == ((), [])
    other = Reference("stb", "input", IDENTITY, "run-1", HEIGHTS)
    write_keys(layout, ["stb", "sta"])
    layout.sentinels.mkdir()
    write_references(layout, [REFERENCE, other])
    judged = Judged(
        tuple(judge(key, {key: "input"}, REFERENCE, Again("", HEIGHTS), "r", True) for key in ("sta", "stb"))
    )
    write_judged(layout, "run-2", IDENTITY, judged)
    assert (read_keys(layout), read_references(layout)) == (("sta", "stb"), [REFERENCE, other])

    forget_sentinels(layout, {"sta"})
    assert (read_keys(layout), read_references(layout)) == (("stb",), [other])
    assert not [path for path in tmp_path.rglob("*.json") if "sta" in path.read_text().replace("status", "")]
    assert "stb" in layout.sentinels_of("run-2").read_text()
    forget_sentinels(layout, {"stb"})
    assert not [path for path in tmp_path.rglob("*.json") if "stb" in path.read_text()]


def test_a_file_of_another_format_is_said(tmp_path):
    (tmp_path / "sentinels.json").write_text('{"format": "vertebra-sentinels/9", "keys": []}')
    with pytest.raises(WrongUse, match="vertebra-sentinels/1"):
        read_keys(Layout(tmp_path))


def test_a_choice_takes_the_scanners_in_turn_and_only_what_was_measured():
    rows = [("st1", "ok", "A"), ("st2", "ok", "A"), ("st3", "ok", "A"), ("st4", "ok", "B"), ("st5", "failed", "C")]
    studies = pa.table(dict(zip(("study_key", "status", "scanner"), zip(*rows, strict=True), strict=True)))
    assert choose_sentinels(studies, 3) == ["st1", "st4", "st2"]
    assert choose_sentinels(studies, 9) == ["st1", "st4", "st2", "st3"]
    assert choose_sentinels(studies.slice(0, 0), 3) == []
