"""What a report says is what its tables hold: counts against DuckDB, everything else against hand-made rows."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from made_report import DRIFTED_YEAR, DRIFTING, SNAPSHOT, write_report_cohort
from test_noise_correction import noise_model

from vertebra_core.epidemiology.cases import Tables
from vertebra_core.errors import CouldNotRun, WrongUse
from vertebra_core.report.contents import Choices, Contents, gather
from vertebra_core.report.hidden import hide_counts
from vertebra_core.report.participants import participants
from vertebra_core.report.quality import FEWEST_STUDIES_A_YEAR, OTHERS

PATIENTS = 1500


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Path, Tables]:
    root = tmp_path_factory.mktemp("made")
    return root / "snapshots" / SNAPSHOT, write_report_cohort(root, PATIENTS)


@pytest.fixture(scope="module")
def contents(cohort) -> Contents:
    return gather(cohort[0], Choices())


@pytest.fixture(scope="module")
def hidden(cohort) -> Contents:
    return gather(cohort[0], Choices(hide_small=True))


def counted(cohort, sql: str) -> int:
    """One number from the Parquet files of the snapshot."""
    snapshot, _ = cohort
    names = {name: f"'{snapshot}/{name}.parquet'" for name in ("studies", "patients", "vertebrae", "levels_in_view")}
    return duckdb.sql(sql.format(**names)).fetchall()[0][0]


def test_the_flow_of_studies_and_patients_is_what_the_tables_hold(cohort, contents):
    studies = contents.participants.studies
    assert [step.n for step in studies] == [
        counted(cohort, "SELECT count(*) FROM {studies}"),
        counted(cohort, "SELECT count(*) FROM {studies} WHERE n_vertebrae > 0"),
        counted(cohort, "SELECT count(index_study_key) FROM {patients}"),
        counted(cohort, "SELECT count(*) FROM {patients} WHERE n_vertebrae >= 7"),
    ]
    left = [dict(step.leaving) for step in studies]
    assert left[0]["not evaluable"] == counted(cohort, "SELECT count(*) FROM {studies} WHERE status = 'not_evaluable'")
    assert left[0]["failed"] == counted(cohort, "SELECT count(*) FROM {studies} WHERE status = 'failed'") > 0
    index = "(SELECT index_study_key FROM {patients} WHERE index_study_key IS NOT NULL)"
    further = "SELECT count(*) FROM {studies} WHERE n_vertebrae > 0 AND study_key NOT IN " + index
    assert left[1] == {"further studies of the same patient": counted(cohort, further)}


def test_the_vertebrae_of_the_flow_are_what_the_tables_hold(cohort, contents):
    found, measured = contents.participants.vertebrae
    of_index = "FROM {vertebrae} JOIN {patients} ON study_key = index_study_key"
    assert found.n == counted(cohort, f"SELECT count(*) {of_index}")
    assert measured.n == counted(cohort, f"SELECT count(g) {of_index}")
    assert dict(found.leaving) == {
        "cut by the edge of the scan": counted(cohort, f"SELECT count(*) {of_index} WHERE NOT complete"),
        "without three heights": 0,
    }


def test_a_snapshot_whose_counts_do_not_add_up_gives_no_report(cohort, contents):
    tables = cohort[1]
    n_vertebrae = tables.studies["n_vertebrae"].to_numpy().copy()
    n_vertebrae[np.flatnonzero(n_vertebrae)[0]] = 0  # a study with vertebrae that says it has none
    i = tables.studies.schema.get_field_index("n_vertebrae")
    spoilt = replace(tables, studies=tables.studies.set_column(i, "n_vertebrae", pa.array(n_vertebrae)))
    with pytest.raises(CouldNotRun, match="do not add up"):
        participants(spoilt, contents.everybody)


def test_how_many_lack_age_or_sex_is_told_and_nobody_is_dropped_for_it(cohort, contents):
    without = "SELECT count(*) FROM {{patients}} WHERE n_vertebrae >= 7 AND {} IS NULL"
    assert contents.participants.without_age == counted(cohort, without.format("age_years")) > 0
    assert contents.participants.without_sex == counted(cohort, without.format("sex")) > 0
    groups = contents.by_age_and_sex.patients
    assert sum(group.n_patients or 0 for group in groups[:-1]) == contents.participants.studies[-1].n


def test_curves_pass_through_the_headline_numbers(contents):
    at = {one.threshold: one for one in contents.apparent}
    everybody, bones = contents.everybody.patients[-1], contents.everybody.vertebrae[-1]
    assert (at[0.74].patients, at[0.80].patients) == (everybody.moderate, everybody.mild)
    assert (at[0.74].vertebrae, at[0.80].vertebrae) == (bones.moderate, bones.mild)


def test_spread_of_g_by_level_is_that_of_the_index_studies(cohort, contents):
    one = next(one for one in contents.spread if one.level == "T8")
    sql = "SELECT {} FROM {{vertebrae}} JOIN {{patients}} ON study_key = index_study_key WHERE level = 'T8'"
    assert one.n == counted(cohort, sql.format("count(g)"))
    quantiles = counted(cohort, sql.format("quantile_cont(g, [0.05, 0.25, 0.5, 0.75, 0.95])"))
    assert one.quantiles == pytest.approx(quantiles, abs=1e-12)


def test_shapes_are_counted_by_grade_in_index_studies(cohort, contents):
    sql = """SELECT count(*) FROM {{vertebrae}} JOIN {{patients}} ON study_key = index_study_key
             WHERE grade = '{}' AND shape = '{}'"""
    for one in contents.shapes:
        for shape, n in one.counts.items():
            assert n == counted(cohort, sql.format(one.grade, shape)) > 0


def test_endings_and_scanners_add_up_to_all_studies(cohort, contents):
    n = counted(cohort, "SELECT count(*) FROM {studies}")
    assert sum(one.n or 0 for one in contents.quality.endings) == n
    assert sum(one.studies or 0 for one in contents.quality.scanners) == n
    assert {one.reason for one in contents.quality.endings} == {
        None,
        "slices_too_thick",
        "no_spine",
        "missing_slices",
        "deadline",
    }


def test_the_year_in_which_a_scanner_moved_is_found_and_no_other(contents):
    assert [(one.scanner, one.year) for one in contents.quality.years if one.moved] == [(DRIFTING, str(DRIFTED_YEAR))]


def test_medians_by_scanner_and_year_are_those_of_the_tables(cohort, contents):
    sql = """SELECT median(v.g) FROM {{vertebrae}} v JOIN {{studies}} s USING (study_key)
             WHERE s.scanner = '{}' AND s.study_year = {}"""
    for one in contents.quality.years:
        assert one.median_g == pytest.approx(counted(cohort, sql.format(one.scanner, one.year)), abs=1e-12)


def test_a_year_with_few_studies_is_not_judged(tmp_path):
    write_report_cohort(tmp_path, FEWEST_STUDIES_A_YEAR)
    years = gather(tmp_path / "snapshots" / SNAPSHOT, Choices()).quality.years
    assert years
    assert not any(one.moved or one.median_g is not None for one in years)
    assert OTHERS not in {one.scanner for one in years}


def test_the_gallery_shows_the_lowest_and_others_drawn_with_a_seed(cohort, contents):
    gallery = contents.gallery
    assert gallery is not None
    lowest = "SELECT * FROM {patients} WHERE min_g IS NOT NULL ORDER BY min_g, index_study_key LIMIT 6"
    sql = f"SELECT list(index_study_key) FROM ({lowest})"
    assert [one.study_key for one in gallery.worst] == counted(cohort, sql)
    random = [one.study_key for one in gallery.random]
    assert len(set(random)) == 6
    assert not set(random) & {one.study_key for one in gallery.worst}
    assert gather(cohort[0], Choices()).gallery == gallery
    assert gather(cohort[0], Choices(seed=1)).gallery != gallery


def test_small_cells_are_hidden_in_every_count_and_what_cannot_be_is_left_out(hidden):
    counts = [group.moderate.count for group in hidden.by_age_and_sex.patients]
    counts += [group.severe.count for group in hidden.by_level.vertebrae]
    counts += [one.n for one in hidden.quality.endings] + [one.studies for one in hidden.quality.scanners]
    assert None in counts
    assert not [n for n in counts if n is not None and 0 < n < 5]
    assert (hidden.gallery, hidden.by_sex, hidden.by_age) == (None, None, None)
    assert (hidden.definitions, hidden.apparent, hidden.quality.years) == ((), (), ())
    assert {one.group.name for one in hidden.standardised} == {"all"}


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"a": 1, "b": 2, "c": 9}, {"a": None, "b": None, "c": 9}),
        ({"a": 1, "b": 6, "c": 9}, {"a": None, "b": None, "c": 9}),
        ({"a": 0, "b": 6}, {"a": 0, "b": 6}),
        ({"a": 4}, {"a": None}),
    ],
)
def test_a_lone_hidden_count_takes_the_next_smallest_with_it(counts, shown):
    assert hide_counts(counts) == shown


def test_noise_of_other_networks_is_refused(cohort):
    with pytest.raises(WrongUse, match="networks"):
        gather(cohort[0], Choices(), replace(noise_model(), model_digest="another"))
