"""Known prevalence by level, in a cohort that invites every wrong denominator.

Half of the scans show T1 to T12 and half L1 to L5, the old more often the latter; a tenth is not evaluable; patients
with a fracture are scanned three times more often than others. Estimates must cover the truth; naive ones do not.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pytest
from made_cohorts import SHOWN, MadeCohort, make_cohort_tables, truth

from vertebra_core.epidemiology.analysis import Analysis
from vertebra_core.epidemiology.intervals import share_of
from vertebra_core.epidemiology.prevalence import prevalence
from vertebra_core.epidemiology.standard_populations import StandardPopulation
from vertebra_core.tables.schema import check_table

SEEDS, PATIENTS = range(50), 1200
TRUTH = truth()
SPINE = SHOWN[3:16]
EVEN = StandardPopulation("even from 50 to 89", "made", (50, 60, 70, 80, 90), (1, 1, 1, 1, 0))


@dataclass(frozen=True)
class Tally:
    """For each seed (and level): estimate, and whether its interval covers the truth."""

    shares: np.ndarray
    covers: np.ndarray

    @property
    def coverage(self) -> float:
        return float(self.covers.mean())


def covers(estimate, true: float) -> tuple[float, bool]:
    return estimate.share, estimate.low <= true <= estimate.high


def naive_by_level(made: MadeCohort) -> list:
    """Fractured vertebrae of a level over all studies, whatever they show and whoever's they are."""
    rows = made.tables.vertebrae
    fractured = rows["level"].filter(pc.less_equal(rows["g"], 0.74))
    return [share_of(fractured.to_pylist().count(level), made.n_studies) for level in SHOWN]


def all_studies_by_level(made: MadeCohort) -> list:
    """With levels in view as denominators, but all studies of a patient in place of one."""
    rows = made.tables.vertebrae
    measured = rows.filter(rows["g"].is_valid())
    levels, positive = np.array(measured["level"].to_pylist()), measured["g"].to_numpy() <= 0.74
    return [share_of(int(positive[levels == level].sum()), int((levels == level).sum())) for level in SHOWN]


def answers(made: MadeCohort) -> dict[str, list[tuple[float, bool]]]:
    by_level = prevalence(made.tables, Analysis(by=("level",)))
    (everybody,) = prevalence(made.tables, Analysis(standard=EVEN)).patients
    weighted = {row.level: row.weighted for row in by_level.coverage.levels}
    crude = {group.name: group.moderate for group in by_level.vertebrae}
    mean = float(np.mean([TRUTH.by_level[level] for level in SPINE]))
    assert by_level.coverage.mean_over == SPINE

    def of_levels(estimates) -> list[tuple[float, bool]]:
        return [covers(one, TRUTH.by_level[level]) for level, one in zip(SHOWN, estimates, strict=True)]

    return {
        "weighted": of_levels([weighted[level] for level in SHOWN]),
        "unweighted": of_levels([crude[level] for level in SHOWN]),
        "naive": of_levels(naive_by_level(made)),
        "all studies": of_levels(all_studies_by_level(made)),
        "mean T4-L4": [covers(by_level.coverage.mean, mean)],
        "patients": [covers(everybody.moderate, TRUTH.thoracic_patient)],
        "patients, standardised": [covers(everybody.standardised["moderate"], TRUTH.thoracic_patient_even)],
    }


@pytest.fixture(scope="module")
def tallies() -> dict[str, Tally]:
    drawn = [answers(make_cohort_tables(PATIENTS, seed)) for seed in SEEDS]
    return {
        name: Tally(*(np.array([[pair[i] for pair in one[name]] for one in drawn]) for i in (0, 1)))
        for name in drawn[0]
    }


def bias(tally: Tally) -> np.ndarray:
    """Mean estimate over truth, by level."""
    return tally.shares.mean(0) / np.array([TRUTH.by_level[level] for level in SHOWN])


def test_the_made_tables_are_those_of_a_snapshot():
    made = make_cohort_tables(300, 0)
    for name in ("patients", "studies", "vertebrae", "levels_in_view"):
        check_table(name, getattr(made.tables, name))
    status = made.tables.studies["status"].to_pylist()
    assert 0.05 < status.count("not_evaluable") / len(status) < 0.16
    assert made.n_studies > 1.1 * made.n_patients


def test_weighted_shares_by_level_cover_the_truth(tallies):
    weighted = tallies["weighted"]
    assert 0.93 <= weighted.coverage <= 0.99
    common = np.array([TRUTH.by_level[level] > 0.02 for level in SHOWN])
    assert bias(weighted)[common] == pytest.approx(1.0, abs=0.1)  # Monte Carlo: 3 to 5 %; 11 % at the rarest levels
    assert weighted.shares.mean(0).sum() == pytest.approx(sum(TRUTH.by_level.values()), rel=0.03)


def test_the_mean_over_t4_to_l4_covers_the_truth(tallies):
    assert 0.88 <= tallies["mean T4-L4"].coverage <= 1.0  # of 50: at 95 % it is 0.88 or more with probability 0.96
    true = np.mean([TRUTH.by_level[level] for level in SPINE])
    assert tallies["mean T4-L4"].shares.mean() == pytest.approx(true, rel=0.03)


def test_patients_cover_the_truth_crude_and_standardised(tallies):
    """Of those who show enough levels, here the chest; standardised to even ages they are no longer the young."""
    assert TRUTH.thoracic_patient_even > 1.15 * TRUTH.thoracic_patient
    assert tallies["patients"].coverage >= 0.88
    assert tallies["patients, standardised"].coverage >= 0.88


def test_without_weights_the_chest_looks_too_healthy_and_the_loin_too_ill(tallies):
    biases = bias(tallies["unweighted"])
    assert biases[:12].mean() < 0.9
    assert biases[12:].mean() > 1.1
    assert tallies["unweighted"].coverage < tallies["weighted"].coverage - 0.03


def test_naive_counting_would_miss_the_truth(tallies):
    """All studies as denominators count levels nobody looked at, and the ill three times."""
    assert bias(tallies["naive"]).mean() < 0.8
    assert tallies["naive"].coverage < 0.6


def test_counting_all_studies_of_a_patient_would_miss_the_truth(tallies):
    assert bias(tallies["all studies"])[12:].mean() > 1.5
    assert tallies["all studies"].coverage < 0.8
