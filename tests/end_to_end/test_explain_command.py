"""`vertebra explain` from the command line: rows, pictures, reasons, and SQL that is what was executed."""

import json
import re
import shlex
from pathlib import Path

import duckdb
import pytest
from made_cohorts import make_cohort_tables, write_snapshot

from flows.cli import main
from vertebra_core.cohort.layout import Layout


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("spines' home") / "spines"
    write_snapshot(folder, make_cohort_tables(300, seed=1))
    return str(folder)


@pytest.fixture
def ask(cohort, capsys):
    def run(words: str, verb: str = "explain") -> tuple[int, str, str]:
        code = main([verb, cohort, *shlex.split(words)])
        return (code, *capsys.readouterr())

    return run


def document(ask, words: str, verb: str = "explain") -> dict:
    code, out, error = ask(f"{words} --json", verb)
    assert (code, error) == (0, "")
    return json.loads(out)


def test_the_shown_sql_is_the_executed_sql(ask, monkeypatch):
    """Everything that DuckDB is given is printed, and what is printed gives the same rows anywhere."""
    given = []

    class Listening:
        def __init__(self, connection):
            self._connection = connection

        def sql(self, text):
            given.append(text)
            return self._connection.sql(text)

    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *args, **kwargs: Listening(connect(*args, **kwargs)))
    found = document(ask, "--unit vertebrae --all")
    assert given == [found["sql"][name] for name in ("counts", "excluded", "rows")]
    monkeypatch.undo()
    rows = duckdb.sql(found["sql"]["rows"]).fetchall()
    assert [list(row) for row in rows] == [list(row.values())[:-1] for row in found["rows"]]
    _, printed, _ = ask("--unit vertebrae --all")
    assert all(f"{text};" in printed for text in found["sql"].values())


def test_a_printed_number_leads_to_its_studies(ask):
    group = document(ask, "--by sex,age_band", "prevalence")["prevalence"]["patients"][0]
    found = document(ask, f"--by sex,age_band --stratum '{group['name']}' --all")
    assert (found["numerator"], found["denominator"]) == (group["moderate"]["count"], group["moderate"]["n"])
    assert len({row["patient_key"] for row in found["rows"]}) == found["numerator"] > 0
    assert all(row["ratio"] <= 0.74 for row in found["rows"])


def test_pictures_are_named_where_there_are_any(ask, cohort):
    key = document(ask, "--rows 1")["rows"][0]["study_key"]
    picture = Layout(Path(cohort)).picture(key)
    picture.parent.mkdir()
    picture.write_bytes(b"")
    first, second = document(ask, "--rows 2")["rows"]
    assert (first["picture"], second["picture"]) == (str(picture), None)


def test_a_person_reads_who_was_not_counted(ask):
    code, out, _ = ask("--by sex --stratum F --rows 3")
    assert code == 0
    assert re.search(r"^F: \d+ of \d+ patients \(\d+\.\d %\) have a ratio <= 0.74\.$", out, re.MULTILINE)
    assert "no study with a measured vertebra, of any group" in out
    assert "3 of " in out
    _, out, _ = ask("--excluded --rows 2 --grade mild")
    assert "above 0.74 and up to 0.8" in out
    assert "-- excluded_rows" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--stratum F", "of which --by"),
        ("--by sex --stratum X", "there are F; M"),
        ("--by grade", "--grade"),
        ("--by level --unit patients", "by level there are vertebrae only"),
        ("--threshold high", "one of mild"),
        ("--threshold 7", "a ratio of heights"),
        ("--threshold 0.7 --grade mild", "one of them"),
        ("--grade awful", "there are normal"),
        ("--rows=-1", "0 or more"),
    ],
)
def test_wrong_use_is_one_line(ask, words, complaint):
    code, out, error = ask(words)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert complaint in error


def test_a_table_that_is_missing_is_one_line(tmp_path, capsys):
    write_snapshot(tmp_path / "spines", make_cohort_tables(20, seed=1))
    (tmp_path / "spines" / "snapshots" / "snapshot-made" / "vertebrae.parquet").unlink()
    assert main(["explain", str(tmp_path / "spines")]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "vertebrae.parquet" in error
