"""`vertebra tables`, `prevalence` and `evaluate` on a published cohort, from the command line to the exit code."""

import json
from dataclasses import replace

import pytest
from made_studies import NORMAL, WEDGE, column, make_cohort, moved, patient_series, result_of, truth_of

from flows.cli import main
from vertebra_core.errors import Reason
from vertebra_core.settings import GradingSettings
from vertebra_core.truth import write_truth

SPINE = column([NORMAL] * 6 + [WEDGE])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("made") / "spines"
    make_cohort(
        folder,
        [
            (patient_series(1), result_of(moved(SPINE, x=0.5))),
            (patient_series(2, sex="M", age_years=None), result_of(SPINE[:6])),
            (patient_series(3, sex=None), Reason.TOO_FEW_SLICES),
        ],
    )
    return str(folder)


@pytest.fixture(scope="module")
def truths(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("truths")
    for image in ("p1", "p2", "p3", "p9"):
        write_truth(replace(truth_of(SPINE), image=image), folder / f"reading_of_{image}.json")
    return str(folder)


def run(capsys, *words: str) -> tuple[int, str]:
    code = main(list(words))
    return code, capsys.readouterr().out


def run_json(capsys, *words: str) -> dict:
    return json.loads(run(capsys, *words, "--json")[1])


def test_tables_lists_what_is_published(capsys, cohort):
    code, out = run(capsys, "tables", cohort)
    assert code == 0
    assert "\x1b" not in out  # a pipe gets plain text
    counts = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith("  ")}
    assert (counts["vertebrae"], counts["studies"], counts["patients"]) == ("13", "3", "3")


def test_the_example_query_of_tables_runs(capsys, cohort):
    import duckdb

    _, out = run(capsys, "tables", cohort)
    rows = duckdb.sql(out[out.index("SELECT") :]).fetchall()
    assert sorted(rows) == [("F", 1, 1), ("M", 1, 0)]


def test_tables_explains_columns(capsys, cohort):
    code, out = run(capsys, "tables", cohort, "--table", "vertebrae")
    assert code == 0
    assert any(line.split()[:3] == ["ha_mm", "double", "mm"] for line in out.splitlines())
    document = run_json(capsys, "tables", cohort)
    assert document["rows"]["vertebrae"] == 13
    assert document["dictionary"]["tables"]["studies"]["key"] == ["study_key"]
    assert main(["tables", cohort, "--table", "spines"]) == 2


def test_prevalence_says_who_is_counted_and_who_is_not(capsys, cohort):
    code, out = run(capsys, "prevalence", cohort, "--min-vertebrae", "6", "--by", "sex")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "studies 3 not_evaluable 1, ok 2" in lines
    assert "with a measured vertebra 2 1 left out" in lines
    assert "of these without age 1 kept, as not known" in lines
    assert "of these without sex 0 kept, as not known" in lines
    assert any("G <= 0.80" in line and "not corrected" in line for line in lines)
    assert any(line.startswith("F 1 1 100.0 (20.7-100.0)") for line in lines)


def test_prevalence_as_json(capsys, cohort):
    document = run_json(capsys, "prevalence", cohort)
    (everyone,) = document["prevalence"]["patients"]
    assert (everyone["moderate"]["n"], document["prevalence"]["min_vertebrae"]) == (1, 7)
    assert document["mild_is"] == "not corrected"
    (vertebrae,) = document["prevalence"]["vertebrae"]
    assert (vertebrae["moderate"]["count"], vertebrae["moderate"]["n"]) == (1, 13)


def test_prevalence_uses_the_bounds_the_snapshot_was_graded_with(capsys, tmp_path):
    grading = GradingSettings(mild=0.70, moderate=0.65, severe=0.50)
    make_cohort(tmp_path / "spines", [(patient_series(1), result_of(SPINE))], grading)
    _, out = run(capsys, "prevalence", str(tmp_path / "spines"))
    assert "G <= 0.65" in out
    (patients,) = run_json(capsys, "prevalence", str(tmp_path / "spines"))["prevalence"]["patients"]
    assert (patients["mild"]["count"], patients["mild"]["n"]) == (0, 1)  # the wedge has G = 0.72


@pytest.mark.parametrize("by", ["age_band", "level", "site", "grade"])
def test_prevalence_by_everything_else(capsys, cohort, by):
    code, out = run(capsys, "prevalence", cohort, "--by", by)
    assert code == 0
    assert "not corrected" in out


def test_evaluate_prints_both_tables(capsys, cohort, truths):
    """Study 3 was refused and 9 is unknown: both truths of seven are missed, and so is one vertebra of study 2."""
    code, out = run(capsys, "evaluate", cohort, "--truth", truths)
    assert code == 1
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert any(line.startswith("all 0.27 (0.26) 0.464 (13/28) 1.000 (13/13)") for line in lines)
    assert any(line.startswith("G <= 0.74 0.50 (n/a) 0.250 (1/4)") for line in lines)
    assert "moderate (G <= 0.74) vertebra 1.000 1.000 (12/12) 1.000 (1/1)" in lines
    assert "reading_of_p3 7 0 7 0 0 n/a n/a n/a" in lines
    assert "Nothing to compare for reading_of_p3: not_evaluable: too_few_slices" in lines
    assert "Nothing to compare for reading_of_p9: not in the cohort" in lines


def test_evaluate_strictly_as_json(capsys, cohort, truths):
    document = run_json(capsys, "evaluate", cohort, "--truth", truths, "--strict")
    assert document["detection"]["recall"] == {"count": 13, "n": 28, "value": 13 / 28}
    moderate = [one for one in document["classification"] if one["bound"] == 0.74]
    assert [(one["sensitivity"]["count"], one["sensitivity"]["n"]) for one in moderate] == [(1, 4), (1, 4)]
    assert document["errors"]["heights_mm"]["mae"] < 1e-4


def test_wrong_use_is_one_line(capsys, tmp_path, cohort):
    for words in (
        ["tables", str(tmp_path)],
        ["prevalence", str(tmp_path)],
        ["evaluate", cohort, "--truth", str(tmp_path)],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "Traceback" not in error
