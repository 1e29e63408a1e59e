"""Groups, limits of agreement, coverage, naming and intervals by hand."""

from dataclasses import replace

import numpy as np
import pytest
from made_studies import NORMAL, WEDGE, column, found_of, moved, truth_of

from vertebra_core.evaluation.evidence import compare, gather, take
from vertebra_core.evaluation.matching import NOTHING_FOUND, Found
from vertebra_core.evaluation.metrics import Share, by_group, coverage, error, measurement, naming
from vertebra_core.evaluation.summary import intervals, numbers, summarise
from vertebra_core.settings import GradingSettings

GRADING = GradingSettings()
FOUR = column([NORMAL, WEDGE, NORMAL, NORMAL])
LEVELS = ("T7", "T8", "T9", "T10")


def study(found: Found, levels=LEVELS, patient: str = "a", spacing_mm: float = 1.0):
    truth = replace(truth_of(FOUR), levels=levels)
    return compare(patient, patient, truth, found, spacing_mm=spacing_mm)


def test_limits_of_agreement_by_hand():
    """Differences 1, 2, 3: mean 2, SD 1, limits 2 -+ 1.96."""
    one = error(np.array([1.0, 2.0, 3.0]))
    assert (one.bias, one.sd, one.mae) == (2.0, 1.0, 2.0)
    assert (one.low, one.high) == (pytest.approx(0.04), pytest.approx(3.96))
    assert (error(np.array([1.0])).low, error(np.array([1.0])).bias) == (None, 1.0)


def test_deformed_vertebrae_stand_apart():
    """The wedge (G = 0.72) is read 2 mm too high in front: G 0.80, over by 0.08; the others exactly."""
    read = column([NORMAL, (20.0, 25, 25), NORMAL, NORMAL])
    table = by_group(gather([study(found_of(read))]).vertebrae, GRADING)
    wedge = table["deformity"]["G <= 0.74"]
    assert (wedge.g.n, wedge.g.bias, wedge.g_most_over) == (1, pytest.approx(0.08), pytest.approx(0.08))
    assert wedge.ha_mm.bias == pytest.approx(2.0)
    assert set(table["grade"]) == {"normal", "moderate"}
    assert table["grade"]["normal"].heights_mm.mae == pytest.approx(0.0)
    assert table["level"]["T8"].ha_mm.bias == pytest.approx(2.0)
    assert table["all"]["all"].heights_mm.mae == pytest.approx(2 / 12)


def test_slice_spacing_splits_at_its_bounds():
    spacings = (0.8, 1.6, 3.0, 3.3, 5.0, np.nan)
    studies = [study(found_of(FOUR), patient=str(i), spacing_mm=mm) for i, mm in enumerate(spacings)]
    table = by_group(gather(studies).vertebrae, GRADING)["spacing"]
    counts = {name: one.g.n for name, one in table.items()}
    assert counts == {"slices <= 1.6 mm": 8, "slices 1.6-3.3 mm": 8, "slices > 3.3 mm": 4}


def test_centres_in_3d_and_in_the_plane():
    """Sideways 3 mm and backwards 4 mm: 5 mm in 3D, 4 in the sagittal plane."""
    one = measurement(gather([study(found_of(moved(FOUR, x=3.0, y=4.0)))]).vertebrae)
    assert (one.centre_mm.mean, one.in_plane_mm.mean) == (pytest.approx(5.0), pytest.approx(4.0, abs=1e-6))


def test_coverage_counts_what_has_a_standard_error():
    """ha is off by 0 or 2 mm; SE 1 covers the first only, SE 1.1 both; without one there is nothing to count."""
    read = column([NORMAL, (20.0, 25, 25), NORMAL, NORMAL])
    errors = np.full((4, 4), np.nan)
    errors[:, 0] = [1.0, 1.0, 1.0, np.nan]
    found = replace(found_of(read), standard_errors=errors)
    table = coverage(gather([study(found)]).vertebrae)
    assert table == {"ha_mm": Share(2, 3), "hm_mm": Share(0, 0), "hp_mm": Share(0, 0), "g": Share(0, 0)}
    errors[1, 0] = 1.1
    assert coverage(gather([study(found)]).vertebrae)["ha_mm"] == Share(3, 3)


def test_a_shift_of_a_whole_spine_is_one_error():
    right = replace(found_of(FOUR), levels=LEVELS)
    shifted = replace(found_of(FOUR), levels=("T8", "T9", "T10", "T11"))
    one_wrong = replace(found_of(FOUR), levels=("T7", "T8", "T9", "L1"))
    unsure = replace(found_of(FOUR), levels=("T7", None, None, None))
    studies = [study(found, patient=str(i)) for i, found in enumerate((right, shifted, one_wrong, unsure))]
    table = naming(gather(studies).vertebrae)
    assert table.named == Share(13, 16)
    assert table.right == Share(4 + 0 + 3 + 1, 13)
    assert table.right_but_shifts == Share(13 - 1 - 1, 13)
    assert (table.patients_right, table.shifted) == (Share(2, 4), Share(1, 4))


def test_names_are_not_asked_where_the_truth_has_none():
    found = replace(found_of(FOUR), levels=LEVELS)
    table = naming(gather([study(found, levels=(None, "T8", None, None))]).vertebrae)
    assert (table.named, table.right) == (Share(1, 1), Share(1, 1))
    assert naming(gather([]).vertebrae).right.value is None


def test_what_was_missed_has_no_error():
    vertebrae = gather([study(NOTHING_FOUND)]).vertebrae
    assert (measurement(vertebrae).recall, measurement(vertebrae).g.n) == (Share(0, 4), 0)
    assert naming(vertebrae).named == Share(0, 0)


def made_patients(n: int, seed: int = 0):
    """Patients whose spines are read with an error of their own and one of each vertebra."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        heights = np.tile(NORMAL, (4, 1)) - rng.uniform(0, 8, (4, 3)) * [1, 0.5, 0]
        read = heights + rng.normal(0, 0.5) + rng.normal(0, 0.3, (4, 3))
        yield compare(str(i), str(i), truth_of(column(heights)), found_of(column(read)), spacing_mm=1.0)


def test_taking_every_patient_once_changes_nothing():
    evidence = gather(list(made_patients(5)))
    again = dict(numbers(summarise(take(evidence, np.arange(5)))))
    assert again == dict(numbers(summarise(evidence)))
    twice = summarise(take(evidence, np.array([2, 2, 2])))
    alone = summarise(take(evidence, np.array([2])))
    assert twice.detection.recall == Share(12, 12)
    assert twice.groups["all"]["all"].g.mae == pytest.approx(alone.groups["all"]["all"].g.mae)
    patients = [one for one in twice.classification if one.unit == "patient" and one.bound == 0.8]
    assert patients[0].sensitivity.n + patients[0].specificity.n == 3  # one drawn three times is three patients


def test_intervals_are_seeded_hold_the_value_and_need_two_patients():
    evidence = gather(list(made_patients(12)))
    ranges = intervals(evidence, resamples=60, seed=1)
    assert ranges == intervals(evidence, resamples=60, seed=1)
    assert ranges != intervals(evidence, resamples=60, seed=2)
    said = dict(numbers(summarise(evidence)))
    low, high = ranges["groups.all.all.heights_mm.bias"]
    assert low < said["groups.all.all.heights_mm.bias"] < high
    assert intervals(gather(list(made_patients(1)))) == {}
    assert intervals(evidence, resamples=0) == {}


def test_numbers_have_paths_and_leave_out_what_is_not_defined():
    said = dict(numbers(summarise(gather([study(found_of(FOUR))]))))
    assert said["detection.recall.value"] == 1.0
    assert said["classification.vertebra.0.74.auc"] == 1.0
    assert "classification.patient.0.74.auc" not in said
    assert said["groups.level.T8.g.bias"] == pytest.approx(0.0)
