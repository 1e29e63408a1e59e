"""What `vertebra explain` finds in SQL is what `vertebra prevalence` counts from arrays: two accounts, one number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_cohorts import make_cohort_tables, write_snapshot

from vertebra_core.epidemiology.analysis import BOUNDS, Analysis
from vertebra_core.epidemiology.cases import Tables
from vertebra_core.epidemiology.lineage import Asked, Database, asked_of, for_group, group_statement, statements
from vertebra_core.epidemiology.prevalence import by_grade, prevalence
from vertebra_core.tables.columns import GRADES

BY = ((), ("sex",), ("age_band",), ("scanner",), ("site",), ("year",), ("level",), ("sex", "site"), ("level", "sex"))
ANALYSES = (
    Analysis(),
    Analysis(index_rule="latest", youngest=60, oldest=79),
    Analysis(index_rule="most-vertebrae", min_vertebrae=1),
    Analysis(index_rule="thinnest", definition="height-loss", youngest=55),
    Analysis(definition="level-adjusted", min_vertebrae=5),
)


def with_gaps(tables: Tables, rng: np.random.Generator) -> Tables:
    """Sites with quotes and commas, several scanners, spacings and heights; sex, age, day, level not always known."""
    studies, bones = tables.studies, tables.vertebrae
    n = len(studies)
    columns = {
        "site": rng.choice(np.array(["St. John's, north", "007", None], object), n),
        "scanner": rng.choice(np.array(["A", "B (old)", None], object), n),
        "sex": np.where(rng.random(n) < 0.1, None, studies["sex"].to_pylist()),
        "age_years": np.where(rng.random(n) < 0.1, np.nan, studies["age_years"].to_numpy() + 5 * rng.random(n)),
        "study_date": np.where(rng.random(n) < 0.1, None, studies["study_date"].to_pylist()),
        "slice_spacing_mm": rng.choice([1.0, 1.5, np.nan], n),
    }
    studies = changed(studies, columns)
    known = bones["g"].is_valid().to_numpy()
    m = len(bones)
    heights = {name: np.where(known, rng.normal(24, 2.5, m), np.nan) for name in ("ha_mm", "hm_mm", "hp_mm")}
    three = np.stack(list(heights.values()), 1)
    levels = np.where(rng.random(m) < 0.05, None, bones["level"].to_pylist())
    bones = changed(bones, {**heights, "g": three.min(1) / three.max(1), "level": levels})
    return Tables(tables.patients, studies, bones, tables.levels_in_view)


def changed(table: pa.Table, columns: dict) -> pa.Table:
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        one = table.schema.field(place)
        table = table.set_column(place, one, pa.array(values, one.type, from_pandas=True))
    return table


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Tables]:
    folder = tmp_path_factory.mktemp("site=007") / "spines"
    cohort = make_cohort_tables(300, seed=4)
    tables = with_gaps(cohort.tables, np.random.default_rng(9))
    write_snapshot(folder, replace(cohort, tables=tables))
    return folder / "snapshots" / "snapshot-made", tables


@pytest.mark.parametrize(
    ("analysis", "by"),
    [
        *((ANALYSES[0], by) for by in BY),
        *((analysis, by) for analysis in ANALYSES[1:] for by in (("sex", "age_band"), ("level",))),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, tuple) else f"{one.definition}, {one.index_rule}",
)
def test_every_stratum_has_the_printed_numerator_and_denominator(made, analysis, by):
    snapshot, tables = made
    analysis = replace(analysis, by=by)
    printed, database = prevalence(tables, analysis), Database(snapshot)
    groups: list[tuple[str, ...]] = []
    if by:
        found = database.table(group_statement(snapshot, analysis, "study_date")).to_pylist()
        groups = [tuple(group.values()) for group in found]
    checked = 0
    for unit, answered in (("patients", printed.patients), ("vertebrae", printed.vertebrae)):
        for number, group in enumerate(answered):
            bounds = BOUNDS if number == 0 else ("moderate",)
            for bound in bounds:
                asked = asked_of(analysis, unit, bound, None)
                asked = for_group(asked, analysis, group.name if group.strata else None, groups)
                texts = statements(snapshot, analysis, asked, "study_date")
                counts = database.table(texts.counts).to_pylist()[0]
                expected = getattr(group, bound)
                assert (counts["numerator"], counts["denominator"]) == (expected.count, expected.n), (unit, group.name)
                checked += expected.count > 0
                if number < 2 and bound == "moderate":
                    assert database.table(texts.rows).num_rows == expected.count
    assert checked > 1


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda one: f"{one.definition}, {one.index_rule}")
def test_who_is_not_counted_adds_up_with_who_is(made, analysis):
    snapshot, tables = made
    database, printed = Database(snapshot), prevalence(tables, analysis)
    for unit, everybody, counted in (
        ("patients", len(tables.patients), printed.patients[-1].moderate.n),
        ("vertebrae", len(tables.vertebrae), printed.vertebrae[-1].moderate.n),
    ):
        texts = statements(snapshot, analysis, Asked(unit, None, 0.74), "study_date")
        why = {row["why"]: row["n"] for row in database.table(texts.excluded).to_pylist()}
        assert sum(why.values()) == everybody - counted
        assert database.table(texts.excluded_rows).num_rows == everybody - counted
        if unit == "patients":
            flow = printed.flow
            assert why["no study with a measured vertebra"] == flow.patients - flow.with_measurement
            assert why.get("age not known", 0) == flow.age_unknown
            assert why.get(f"fewer than {analysis.min_vertebrae} vertebrae", 0) == flow.of_age - flow.analysed
        elif printed.flow.not_judged:
            assert why["cannot be judged by the definition"] == printed.flow.not_judged


def test_one_grade_alone_is_what_is_printed_by_grade(made):
    snapshot, tables = made
    database, grades = Database(snapshot), by_grade(prevalence(tables, Analysis()).vertebrae[-1])
    for name in GRADES:
        texts = statements(snapshot, Analysis(), asked_of(Analysis(), "vertebrae", None, name), None)
        assert database.table(texts.counts).to_pylist()[0]["numerator"] == grades[name].count


def test_the_row_of_a_patient_is_its_smallest_ratio(made):
    snapshot, tables = made
    rows = Database(snapshot).table(statements(snapshot, Analysis(), Asked("patients", None, 0.8), None).rows)
    bones = tables.vertebrae.to_pandas()
    smallest = bones[bones.g.notna()].groupby("study_key").g.min()
    for row in rows.slice(0, 50).to_pylist():
        assert row["ratio"] == smallest[row["study_key"]]
        own = bones[(bones.study_key == row["study_key"]) & (bones.vertebra_index == row["vertebra_index"])].iloc[0]
        assert own.g == row["ratio"]
        assert (None if own.level is np.nan else own.level) == row["level"]
