"""Counts, denominators, groups and choices of the prevalence."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from made_studies import NORMAL, SERIES, WEDGE, column, outcome_of, result_of

from vertebra_core.epidemiology.analysis import Accuracy, Analysis
from vertebra_core.epidemiology.cases import Tables
from vertebra_core.epidemiology.compare_definitions import compare_definitions
from vertebra_core.epidemiology.intervals import share_of
from vertebra_core.epidemiology.prevalence import by_grade, prevalence
from vertebra_core.epidemiology.small_cells import hide_small, hide_small_grades
from vertebra_core.epidemiology.standard_populations import STANDARDS
from vertebra_core.epidemiology.standardise import EmptyBand
from vertebra_core.errors import Reason, WrongUse
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.patients import patient_table
from vertebra_core.tables.rows import outcome_rows, to_arrow

GRADING = GradingSettings()
MILD, SEVERE = (20.0, 25.0, 25.0), (15.0, 25.0, 25.0)
SEVEN = [NORMAL] * 6


def study(number: int, patient: int, heights, levels=None, complete=None, **header):
    result = result_of(column(heights), complete, levels) if heights else None
    reason = None if heights else Reason.NO_SPINE
    return outcome_of(f"st{number}", f"pt{patient}", result, reason, replace(SERIES, **header))


def tables_of(*outcomes) -> Tables:
    rows = [outcome_rows(outcome, GRADING) for outcome in outcomes]
    studies, vertebrae, levels = (
        to_arrow(name, [row for one in rows for row in one[name]])
        for name in ("studies", "vertebrae", "levels_in_view")
    )
    return Tables(patient_table(studies), studies, vertebrae, levels)


def ask(tables: Tables, **choices):
    return prevalence(tables, Analysis(**choices))


def counts(groups, bound: str = "moderate") -> dict[str, tuple[int, int]]:
    return {group.name: (getattr(group, bound).count, getattr(group, bound).n) for group in groups}


@pytest.fixture(scope="module")
def cohort() -> Tables:
    return tables_of(
        study(1, 1, [*SEVEN, WEDGE], sex="F", age_years=71.0),
        study(2, 2, [*SEVEN, NORMAL], sex="F", age_years=55.0),
        study(3, 3, [*SEVEN, MILD], sex="M", age_years=None, scanner_model="Other"),
        study(4, 4, [*SEVEN, SEVERE], sex=None, age_years=93.0),
        study(5, 5, [WEDGE, WEDGE], sex="M", age_years=60.0),  # too few vertebrae
        study(6, 6, None, sex="F", age_years=80.0),  # not evaluable
        study(7, 2, [*SEVEN, SEVERE], sex="F", age_years=56.0, study_date="2025-01-01"),  # a later study of patient 2
    )


def test_the_flow_adds_up(cohort):
    flow = ask(cohort).flow
    assert (flow.patients, flow.with_measurement, flow.of_age, flow.analysed) == (6, 5, 5, 4)
    assert (flow.vertebrae, flow.not_judged) == (4 * 7 + 2, 0)
    assert (flow.without_age, flow.without_sex, flow.age_unknown, flow.outside_standard) == (1, 1, 0, None)


def test_patients_and_vertebrae_are_counted_once_by_the_index_study(cohort):
    answer = ask(cohort)
    (patients,), (vertebrae,) = answer.patients, answer.vertebrae
    assert [(e.count, e.n) for e in (patients.moderate, patients.severe, patients.mild)] == [(2, 4), (1, 4), (3, 4)]
    assert [(e.count, e.n) for e in (vertebrae.moderate, vertebrae.severe, vertebrae.mild)] == [
        (4, 30),
        (1, 30),
        (5, 30),
    ]
    assert (patients.n_patients, vertebrae.n_patients) == (4, 5)


def test_the_number_of_vertebrae_needed_is_a_choice(cohort):
    assert ask(cohort, min_vertebrae=2).patients[0].moderate.n == 5
    assert ask(cohort, min_vertebrae=0).patients[0].moderate.n == 5  # without any vertebra there is no answer
    assert ask(cohort, min_vertebrae=8).patients[0].moderate == share_of(0, 0)


@pytest.mark.parametrize(
    ("rule", "moderate"),
    [("earliest", (2, 4)), ("latest", (3, 4)), ("most-vertebrae", (2, 4)), ("thinnest", (2, 4))],
)
def test_the_index_study_is_a_choice(cohort, rule, moderate):
    """Patient 2 is fractured in the later study only; equal studies are put in order by their key."""
    assert counts(ask(cohort, index_rule=rule).patients)["all"] == moderate


def test_index_rules_prefer_what_they_say():
    tables = tables_of(
        study(1, 1, [*SEVEN, WEDGE], study_date="2020-01-01", slice_spacing_mm=1.0),
        study(2, 1, [*SEVEN, NORMAL, NORMAL], study_date="2021-01-01", slice_spacing_mm=2.0),
        study(3, 1, [*SEVEN, SEVERE], study_date="2022-01-01", slice_spacing_mm=0.8),
    )
    severe = {
        rule: ask(tables, index_rule=rule).patients[0].mild.count
        + ask(tables, index_rule=rule).patients[0].severe.count
        for rule in ("earliest", "latest", "most-vertebrae", "thinnest")
    }
    assert severe == {"earliest": 1, "latest": 2, "most-vertebrae": 0, "thinnest": 2}


def test_the_latest_study_needs_dates():
    tables = tables_of(study(1, 1, [*SEVEN, WEDGE], study_date=None))
    with pytest.raises(WrongUse, match=r"privacy\.dates"):
        ask(tables, index_rule="latest")


def test_unknown_sex_and_age_are_groups_of_their_own(cohort):
    assert counts(ask(cohort, by=("sex",)).patients) == {"F": (1, 2), "M": (0, 1), "not known": (1, 1), "all": (2, 4)}
    assert list(counts(ask(cohort, by=("age_band",)).patients)) == [
        "50-59", "70-79", "90 and over", "not known", "all",
    ]  # fmt: skip


def test_scanner_and_year_come_from_the_index_study(cohort):
    assert counts(ask(cohort, by=("scanner",)).patients) == {"Model": (2, 3), "Other": (0, 1), "all": (2, 4)}
    assert counts(ask(cohort, by=("year",)).patients) == {"2024": (2, 4), "all": (2, 4)}
    assert counts(ask(cohort, by=("year",), index_rule="latest").patients) == {
        "2024": (2, 3), "2025": (1, 1), "all": (3, 4),
    }  # fmt: skip


def test_strata_are_crossed(cohort):
    groups = ask(cohort, by=("sex", "age_band")).patients
    assert counts(groups) == {
        "F, 50-59": (0, 1),
        "F, 70-79": (1, 1),
        "M, not known": (0, 1),
        "not known, 90 and over": (1, 1),
        "all": (2, 4),
    }
    assert groups[0].strata == {"sex": "F", "age_band": "50-59"}


@pytest.mark.parametrize("by", [("sex",), ("age_band",), ("site",), ("sex", "scanner", "year"), ("level", "sex")])
def test_groups_add_up_to_all(cohort, by):
    answer = ask(cohort, by=by)
    assert bool(answer.patients) == ("level" not in by)
    for *groups, everything in filter(None, (answer.patients, answer.vertebrae)):
        for name in ("moderate", "severe", "mild"):
            parts = [getattr(group, name) for group in groups]
            assert sum(part.n for part in parts) == getattr(everything, name).n
            assert sum(part.count for part in parts) == getattr(everything, name).count


def test_ages_studied_leave_out_others_and_say_how_many(cohort):
    answer = ask(cohort, youngest=60, oldest=79)
    assert (answer.flow.with_measurement, answer.flow.of_age, answer.flow.age_unknown) == (5, 2, 1)
    assert counts(answer.patients) == {"all": (1, 1)}
    assert answer.vertebrae[0].moderate.n == 9


def test_null_is_neither_fractured_nor_normal():
    """A cut wedge and a vertebra without a height leave numerator and denominator alike."""
    tables = tables_of(study(1, 1, [WEDGE, NORMAL, (0, 25, 25), NORMAL], complete=[False, True, True, True]))
    (vertebrae,) = ask(tables).vertebrae
    assert (vertebrae.moderate.count, vertebrae.moderate.n, vertebrae.mild.n) == (0, 2, 2)


def test_by_level_counts_vertebrae_from_the_top_down():
    heights, levels = [NORMAL, WEDGE, NORMAL, NORMAL], ["T12", "L1", "L2", None]
    tables = tables_of(
        study(1, 1, heights, levels=levels), study(2, 2, heights[:2], levels=levels[:2], complete=[True, False])
    )
    answer = ask(tables, by=("level",), min_vertebrae=1)
    assert answer.patients == ()
    assert counts(answer.vertebrae) == {
        "T12": (0, 2), "L1": (1, 1), "L2": (0, 1), "not known": (0, 1), "all": (1, 5),
    }  # fmt: skip
    coverage = answer.coverage
    assert [(row.level, row.in_view, row.judged, row.moderate) for row in coverage.levels] == [
        ("T12", 2, 2, 0), ("L1", 2, 1, 1), ("L2", 1, 1, 0),
    ]  # fmt: skip
    assert coverage.mean_over == ("T12", "L1", "L2")
    assert coverage.mean.share == pytest.approx(1 / 3)


def test_by_grade_is_a_distribution(cohort):
    grades = by_grade(ask(cohort).patients[-1])
    assert {name: one.count for name, one in grades.items()} == {"normal": 1, "mild": 1, "moderate": 1, "severe": 1}


def test_other_bounds_regrade_without_new_rows(cohort):
    lower = GradingSettings(mild=0.74, moderate=0.60, severe=0.40)
    assert ask(cohort, grading=lower).patients[0].moderate.count == 1


def test_height_loss_sees_front_and_middle_but_no_crush():
    crushed, bulging = (25.0, 25.0, 18.0), (25.0, 18.0, 22.0)
    tables = tables_of(study(1, 1, [WEDGE, crushed, bulging, NORMAL]))
    genant, loss, _ = compare_definitions(tables, Analysis(min_vertebrae=1))
    assert (genant.vertebrae.moderate.count, loss.vertebrae.moderate.count) == (3, 1)
    assert loss.vertebrae.mild.count == 1  # 18 / 22 is 0.818
    assert (loss.agreement.both, loss.agreement.only_genant, loss.agreement.neither) == (1, 2, 1)
    assert genant.agreement.kappa == 1.0


def test_level_adjusted_ratios_compare_with_the_cohort_at_that_level():
    """40 women whose T7 are all wedged to 0.75, one of them to 0.5; too few T8, which has no reference."""
    usual, low = (18.75, 25.0, 25.0), (12.5, 25.0, 25.0)
    outcomes = [study(i, i, [low if i == 0 else usual, NORMAL], levels=["T7", "L1"], sex="F") for i in range(40)]
    tables = tables_of(*outcomes, study(40, 40, [WEDGE], levels=["T8"], sex="F"))
    answer = ask(tables, definition="level-adjusted", min_vertebrae=1)
    (vertebrae,) = answer.vertebrae
    assert (vertebrae.moderate.count, vertebrae.moderate.n, answer.flow.not_judged) == (1, 80, 1)
    references = {(one.level, one.sex): one for one in answer.references}
    assert set(references) == {("T7", "F"), ("L1", "F")}
    assert references["T7", "F"].ha_over_hp == pytest.approx(0.75)
    assert (references["T7", "F"].n, references["L1", "F"].hm_over_hp) == (40, pytest.approx(1.0))


def test_a_sex_with_few_vertebrae_of_a_level_borrows_the_other():
    tables = tables_of(*(study(i, i, [WEDGE], levels=["T7"], sex="M" if i < 10 else "F") for i in range(50)))
    (vertebrae,) = ask(tables, definition="level-adjusted", min_vertebrae=1).vertebrae
    references = ask(tables, definition="level-adjusted", min_vertebrae=1).references
    assert (vertebrae.moderate.count, vertebrae.moderate.n) == (0, 50)
    assert {(one.sex, one.n) for one in references} == {("F", 40), ("all", 50)}


def test_standardisation_joins_empty_bands_or_refuses(cohort):
    answer = ask(cohort, standard=STANDARDS["esp2013"])
    assert answer.standard.names == ("55-69", "70-89", "90+")
    assert answer.standard.joined == ("55-69", "70-89")
    assert answer.standard.weights == pytest.approx([18000 / 32000, 13000 / 32000, 1000 / 32000])
    assert answer.flow.outside_standard == 1
    one = answer.patients[0].standardised["moderate"]
    assert (one.n, one.counts, one.ns) == (3, (0, 1, 1), (1, 1, 1))
    assert one.share == pytest.approx(14 / 32)
    with pytest.raises(EmptyBand, match="60-64"):
        ask(cohort, standard=STANDARDS["esp2013"], collapse=False)


def test_groups_are_standardised_over_the_same_bands(cohort):
    women, men, unknown, everybody = ask(cohort, standard=STANDARDS["who"], by=("sex",)).patients
    assert (men.standardised, unknown.standardised["moderate"].n) == ({}, 1)  # the man has no age
    assert len(women.standardised["moderate"].ns) == len(everybody.standardised["moderate"].ns) == 1


def test_known_accuracy_corrects_patients_and_warns_where_it_cannot():
    normal = [study(i, i, [*SEVEN, WEDGE if i == 0 else NORMAL]) for i in range(100)]
    (patients,) = ask(tables_of(*normal), accuracy=Accuracy(0.8, 0.98)).patients
    assert patients.corrected.raw == pytest.approx((0.01 + 0.98 - 1) / 0.78)
    assert (patients.corrected.share, "reported as 0" in patients.corrected.warning) == (0.0, True)
    (patients,) = ask(tables_of(*normal), accuracy=Accuracy(0.8, 0.98, 50, 100)).patients
    assert patients.corrected.method == "Lang-Reiczigel"


def test_small_cells_are_hidden_and_cannot_be_had_by_subtraction():
    def sexes(*fractured):
        return [(sex, i < k) for sex, k in zip("FMO", fractured, strict=True) for i in range(20)]

    def hidden(*fractured):
        outcomes = [
            study(i, i, [*SEVEN, WEDGE if wedge else NORMAL], sex=sex)
            for i, (sex, wedge) in enumerate(sexes(*fractured))
        ]
        groups = hide_small(ask(tables_of(*outcomes), by=("sex",))).patients
        return [group.name for group in groups if group.moderate.count is None]

    assert hidden(8, 3, 6) == ["M", "O"]  # O with 6 is hidden too: M would be all less F less O
    assert hidden(8, 3, 4) == ["M", "O"]
    assert hidden(8, 0, 6) == []


def test_small_grades_are_hidden_with_their_neighbour():
    def shown(*counts):
        grades = dict(
            zip(("normal", "mild", "moderate", "severe"), (share_of(c, sum(counts)) for c in counts), strict=True)
        )
        return [one.count for one in hide_small_grades(grades).values()]

    assert shown(80, 10, 8, 2) == [80, 10, None, None]
    assert shown(80, 10, 4, 3) == [80, 10, None, None]
    assert shown(80, 10, 5, 0) == [80, 10, 5, 0]


def test_a_trend_is_given_over_age_and_year_only():
    ages = [52.0, 63.0, 74.0, 85.0] * 20
    outcomes = [
        study(i, i, [*SEVEN, WEDGE if i % 80 < age - 50 else NORMAL], age_years=age) for i, age in enumerate(ages)
    ]
    answer = ask(tables_of(*outcomes, study(99, 99, [*SEVEN, WEDGE], age_years=None)), by=("age_band",))
    trend = answer.trend
    assert trend.patients.odds_ratio > 1
    assert trend.patients_test.p < 0.05
    assert trend.vertebrae.beta == pytest.approx(trend.patients.beta, abs=0.4)
    assert ask(tables_of(*outcomes), by=("sex",)).trend is None
    assert ask(tables_of(*outcomes), by=("year",)).trend.patients is None  # one year only


def test_one_fold_vertebrae_get_clustered_intervals(cohort):
    logit, beta = (ask(cohort, vertebra_interval=way).vertebrae[0].moderate for way in ("logit", "auto"))
    assert beta.high - beta.low > share_of(4, 30).high - share_of(4, 30).low
    assert (logit.low, logit.high) != (beta.low, beta.high)


def test_an_empty_cohort_has_no_prevalence():
    answer = ask(tables_of(), by=("sex",))
    (group,) = answer.patients
    assert (group.moderate.n, group.moderate.share, group.moderate.low) == (0, None, None)
    assert ask(tables_of(), by=("level",)).coverage.levels == ()


def test_the_smallest_ratio_by_vertebrae_is_that_of_the_patients_table(cohort):
    from vertebra_core.epidemiology.cases import cases_of
    from vertebra_core.epidemiology.selection import index_studies

    people = index_studies(cohort.studies, cohort.patients)
    n, worst = cases_of(cohort.vertebrae, people).per_patient()
    of = pa.table({"index_study_key": people["study_key"], "n": n, "worst": worst})
    both = of.join(cohort.patients.select(["index_study_key", "n_vertebrae", "min_g"]), "index_study_key")
    assert np.array_equal(both["worst"].to_numpy(), both["min_g"].to_numpy())
    assert both["n"].to_pylist() == both["n_vertebrae"].to_pylist()
