"""Nights with sentinel studies: they reproduce, drift, go missing and begin anew, and tables never notice.

Six nights of one cohort, the second on real Dask workers, the others one study after the other.
"""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from engine_archive import fresh_fork_server, write_study
from engine_logs import lines_of, undeclared_in
from prometheus_client.parser import text_string_to_metric_families
from sentinel_methods import DRIFT

from flows.cli import DONE, WRONG_USE, main
from flows.commands.screen import summary
from flows.screen import Night, screen_archives
from flows.settings import load_settings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.sentinels import read_keys, read_references
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
ALL, CHOSEN = 5, 3


@pytest.fixture(scope="module")
def place(tmp_path_factory, prefect_server) -> Path:
    root = tmp_path_factory.mktemp("sentinels")
    for number in range(ALL):
        write_study(root / "archive" / f"s{number}", f"P{number}", number=7000 + number)
    (root / "drift").write_text("0.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DRIFT, str(root / "drift"))
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        patch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")
        fresh_fork_server()
        yield root
    fresh_fork_server()


@pytest.fixture(scope="module")
def nights(place) -> dict[str, Night]:
    """Six nights, one after the other."""
    cohort, metrics = place / "cohort", place / "metrics"
    metrics.mkdir()

    def screen(name: str, runner: str = "loop", method: str = "drifting") -> Night:
        flags = {"run.memory_gb": 4.0, "run.workers": 2, "run.metrics_file": str(metrics / f"{name}.prom")}
        how = load_settings(flags=flags), runner, f"sentinel_methods:{method}"
        return screen_archives([place / "archive"], cohort, *how, say=str)

    nights = {"new": screen("new")}
    assert main(["sentinel", str(cohort), "--choose", str(CHOSEN)]) == DONE
    nights["again"] = screen("again", "dask")
    (place / "drift").write_text("0.2")
    nights["drifted"] = screen("drifted")
    (place / "drift").write_text("0.0")
    write_study(place / "archive" / "late", "P9", number=7009)
    remove_first_sentinel(place)
    nights["gone"] = screen("gone")
    nights["weights"] = screen("weights", method="other")
    nights["weights again"] = screen("weights again", method="other")
    return nights


def remove_first_sentinel(place: Path) -> None:
    """Take the files of the first sentinel study away."""
    links = read_table(place / "cohort" / "private" / "links.parquet").to_pylist()
    key = read_keys(Layout(place / "cohort"))[0]
    path = next(row["path"] for row in links if row["study_key"] == key)
    shutil.rmtree(place / "archive" / path.split("/")[0])


def outcomes(night: Night) -> list[str]:
    return sorted(one.outcome for one in night.sentinels.studies)


@pytest.mark.parametrize(
    ("name", "verdict", "expected", "failed"),
    [
        ("new", "none", [], False),
        ("again", "reproduced", ["reproduced"] * CHOSEN, False),
        ("drifted", "drifted", ["drifted"] * CHOSEN, True),
        ("gone", "incomplete", ["gone", *["reproduced"] * (CHOSEN - 1)], False),
        ("weights", "incomplete", ["first", "first", "gone"], False),
        ("weights again", "incomplete", ["gone", "reproduced", "reproduced"], False),
    ],
)
def test_each_night_is_marked_by_its_sentinels(place, nights, name, verdict, expected, failed):
    night = nights[name]
    assert (night.sentinels.verdict, outcomes(night), night.has_failures) == (verdict, expected, failed)
    record = json.loads(Layout(place / "cohort").run_record(night.run).read_text())
    assert record["sentinels"]["verdict"] == verdict


def test_the_same_machine_gives_the_same_bits(nights):
    """Also between a process of its own and a Dask worker's."""
    assert nights["again"].sentinels.worst_mm == 0.0
    assert nights["drifted"].sentinels.worst_mm == pytest.approx(0.2, abs=1e-4)  # heights are kept in 32 bits


def test_sentinels_are_measured_even_if_nothing_is_due_and_are_no_rows(place, nights):
    assert (nights["again"].due, nights["again"].settled.new) == (0, {})
    assert not nights["again"].snapshot.is_new
    assert not nights["drifted"].snapshot.is_new
    assert nights["drifted"].settled.measured == ALL
    kept = read_table(latest_snapshot(Layout(place / "cohort")) / "studies.parquet")
    assert kept.num_rows == len(set(kept["study_key"].to_pylist())) == ALL  # one is gone, one came late


def test_tables_are_those_of_a_cohort_without_sentinels(place, nights):
    """The drifted night left no trace in them."""
    flags = {"run.memory_gb": 4.0}
    screen_archives(
        [place / "archive"], place / "plain", load_settings(flags=flags), "loop", "sentinel_methods:other", say=str
    )
    for table in ("studies", "vertebrae", "patients", "levels_in_view"):
        plain, kept = (rows_of(place / cohort, table) for cohort in ("plain", "cohort"))
        assert plain.num_rows > 0
        assert plain.equals(kept.filter(pa.compute.is_in(kept[kept.column_names[0]], plain[plain.column_names[0]])))


def rows_of(cohort: Path, table: str) -> pa.Table:
    found = read_table(latest_snapshot(Layout(cohort)) / f"{table}.parquet", columns=data_columns(table))
    return found.sort_by([(name, "ascending") for name in found.column_names if name.endswith(("key", "index"))])


def test_other_weights_begin_new_references_beside_the_old(place, nights):
    found = read_references(Layout(place / "cohort"))
    by_weights = {digest: sum(one.identity.model_digest == digest for one in found) for digest in
                  ("digest-of-drifting", "digest-of-other0")}  # fmt: skip
    assert by_weights == {"digest-of-drifting": CHOSEN, "digest-of-other0": CHOSEN - 1}
    assert {one.run for one in found} == {nights["new"].run, nights["weights"].run}


def test_the_summary_names_what_drifted_and_what_is_gone(place, nights):
    cohort, key = str(place / "cohort"), read_keys(Layout(place / "cohort"))[0]
    drifted, gone = summary(nights["drifted"], cohort), summary(nights["gone"], cohort)
    assert "sentinels drifted: 3 drifted; largest difference 0.200 mm of 0.05 allowed" in drifted
    assert drifted.count("failure   st") == CHOSEN
    assert f"sentinel  {key} gone: its files are in none of the archives of this run" in gone
    assert "\nsentinels" not in summary(nights["new"], cohort)


def test_the_log_says_the_verdict_and_nothing_that_is_not_declared(place, nights):
    assert undeclared_in(place / "cohort" / "logs") == []
    told = [line["verdict"] for line in lines_of(place / "cohort" / "logs") if line["event"] == "sentinels_compared"]
    assert told == [night.sentinels.verdict for name, night in nights.items() if name != "new"]


def test_provenance_of_a_new_snapshot_says_the_verdict(place, nights):
    folder = nights["gone"].snapshot.folder
    found = json.loads((folder / "provenance.json").read_text())["sentinels"]
    assert found["counts"] == {"gone": 1, "reproduced": CHOSEN - 1}
    assert not [key for key in read_keys(Layout(place / "cohort")) if key in json.dumps(found)]


@pytest.mark.parametrize(
    ("name", "verdict"), [("new", "none"), ("again", "reproduced"), ("drifted", "drifted"), ("gone", "incomplete")]
)
def test_the_metrics_file_is_left_as_the_run_ended(place, nights, name, verdict):
    families = {
        one.name: one for one in text_string_to_metric_families((place / "metrics" / f"{name}.prom").read_text())
    }
    told = {one.labels["verdict"]: one.value for one in families["vertebra_sentinel_verdict"].samples}
    assert told[verdict] == 1
    assert [families[f"vertebra_{what}"].samples[0].value for what in ("run_in_progress", "lock_held")] == [0, 0]
    assert families["vertebra_studies"].samples[0].value == ALL + (name == "gone")


def test_the_commands_show_how_they_stand(place, nights, capsys):
    cohort = str(place / "cohort")
    assert main(["status", cohort]) == DONE
    assert "incomplete: 1 gone, 2 reproduced" in capsys.readouterr().out
    assert main(["sentinel", cohort, "--json"]) == DONE
    shown = json.loads(capsys.readouterr().out)
    assert [one["outcome"] for one in shown["studies"]] == ["gone", "reproduced", "reproduced"]
    assert main(["runs", cohort, nights["drifted"].run]) == DONE
    assert "drifted: 3 drifted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--choose", "99"], "99 sentinel studies: "),
        (["--keys", "st00"], "st00 is no study of the newest snapshot"),
        (["--choose", "1", "--keys", "st00"], "by number or by key"),
    ],
)
def test_a_wrong_choice_is_one_line(place, nights, capsys, words, said):
    before = read_keys(Layout(place / "cohort"))
    assert main(["sentinel", str(place / "cohort"), *words]) == WRONG_USE
    assert said in capsys.readouterr().err
    assert read_keys(Layout(place / "cohort")) == before


@pytest.mark.parametrize("where", ["archive/metrics.prom", "nowhere/metrics.prom", "archive"])
def test_a_metrics_file_in_an_archive_or_nowhere_is_refused(place, where, capsys):
    words = ["screen", str(place / "archive"), "--cohort", str(place / "none"), "--metrics", str(place / where)]
    assert main(words) == WRONG_USE
    assert "metrics file" in capsys.readouterr().err
    assert not (place / "none").exists()
    assert not (place / "archive" / "metrics.prom").exists()
