"""Metrics against scikit-learn and against the published agreement of two readers."""

from pathlib import Path

import numpy as np
import pytest
from made_studies import column, found_of, moved, truth_of
from scipy.stats import bootstrap
from sklearn.metrics import confusion_matrix, precision_score, recall_score, roc_auc_score, roc_curve

from vertebra_core.evaluation.evidence import compare, gather
from vertebra_core.evaluation.metrics import classification, classifications, detection, errors
from vertebra_core.evaluation.summary import intervals
from vertebra_core.settings import GradingSettings
from vertebra_core.truth import read_truth

READINGS = Path(__file__).parents[3] / "shared" / "real_ct" / "annotations"
needs_readings = pytest.mark.skipif(
    not READINGS.is_dir(), reason="the readings of real CT are not beside the repository"
)


@pytest.mark.parametrize("bound", [0.74, 0.80])
@pytest.mark.parametrize("seed", range(5))
def test_classification_agrees_with_scikit_learn(bound, seed):
    rng = np.random.default_rng(seed)
    true_g = rng.normal(0.82, 0.07, 300).clip(0.4, 1.0)
    g = (true_g + rng.normal(0, 0.03, 300)).clip(0.3, 1.0).round(2)  # rounded: ties, too
    case, called = true_g <= bound, g <= bound
    ours = classification(true_g, g, bound, "vertebra")
    (tn, fp), (fn, tp) = confusion_matrix(case, called)
    assert (ours.sensitivity.count, ours.sensitivity.n) == (tp, tp + fn)
    assert (ours.specificity.count, ours.specificity.n) == (tn, tn + fp)
    assert ours.sensitivity.value == recall_score(case, called)
    # AUC as the share of (case, normal) pairs in the right order, ties half, and as the area under scikit-learn's curve
    below = (g[case][:, None] < g[~case]).mean() + 0.5 * (g[case][:, None] == g[~case]).mean()
    assert ours.auc == pytest.approx(below, abs=1e-12)
    fpr, tpr, _ = roc_curve(case, -g)
    assert ours.auc == pytest.approx(np.trapezoid(tpr, fpr), abs=1e-12)
    assert ours.auc == pytest.approx(roc_auc_score(case, -g), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_tables_over_studies_agree_with_scikit_learn(seed):
    """The same columns, pooled by hand: recall and precision of Table 1, and the patients of Table 2."""
    rng = np.random.default_rng(seed)
    studies = []
    for i in range(12):
        true = column(np.column_stack([rng.uniform(15, 24, 6), rng.uniform(20, 24, 6), np.full(6, 24.0)]))
        read = true[rng.random(6) > 0.2] + rng.normal(0, 0.3, (1, 1, 3))
        read[:, 0, 2] += rng.normal(0, 1.5, len(read))
        false = moved(true[2:3], z=-15.0)
        studies.append(compare(str(i), str(i % 9), truth_of(true), found_of(np.concatenate([read, false]))))
    evidence = gather(studies)
    table, by_unit = detection(evidence, GradingSettings()), classifications(evidence, GradingSettings())
    annotated = np.concatenate([np.isin(np.arange(6), one.matching.pairs[:, 0]) for one in studies])
    assert table.recall.value == recall_score(np.ones(len(annotated)), annotated)
    right = np.r_[np.ones(annotated.sum()), np.zeros(sum(len(one.matching.false) for one in studies))]
    assert table.precision.value == precision_score(right, np.ones(len(right)))
    smallest = {
        patient: [
            min(f(one) for one in studies if one.patient == patient)
            for f in (lambda one: one.true_g.min(), lambda one: one.found.g[one.kept].min())
        ]
        for patient in sorted({one.patient for one in studies})
    }
    true_g, g = np.array(list(smallest.values())).T
    for one in by_unit:
        if one.unit == "patient" and 0 < (true_g <= one.bound).sum() < len(true_g):
            assert one.auc == pytest.approx(roc_auc_score(true_g <= one.bound, -g))
            assert one.sensitivity.value == recall_score(true_g <= one.bound, g <= one.bound)


def test_the_bootstrap_agrees_with_scipy():
    """One vertebra a patient: drawing patients is drawing values, and the interval of their mean is scipy's."""
    rng = np.random.default_rng(5)
    errors_mm = rng.normal(0.2, 0.5, 40)
    studies = [
        compare(str(i), str(i), truth_of(column([(24.0, 24, 24)])), found_of(column([(24.0, 24 + off, 24)])))
        for i, off in enumerate(errors_mm)
    ]
    low, high = intervals(gather(studies), resamples=600, seed=0)["groups.all.all.hm_mm.bias"]
    theirs = bootstrap((errors_mm,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert (low, high) == (pytest.approx(theirs.low, abs=0.03), pytest.approx(theirs.high, abs=0.03))


def readers(*names: str) -> list:
    return [
        compare(name, name, read_truth(READINGS / f"{name}.json"), found_of(second.points, second.complete))
        for name in names
        for second in [read_truth(READINGS / "second_reader" / f"{name}.json")]
    ]


@needs_readings
def test_two_readers_agree_as_their_readme_says():
    """Its figures for 24 vertebrae: centre 0.50 mm (0.18 in plane), heights 0.27 mm, points 0.32 mm, G SD 0.018."""
    pair = readers("lidc_idri_0314", "rider_lung_1129164940")
    table, by_name = detection(gather(pair), GradingSettings()), errors(gather(pair))
    assert (table.recall.count, table.recall.n, table.precision.value) == (24, 24, 1.0)
    assert table.localization_mm.mean == pytest.approx(0.50, abs=0.01)
    assert table.in_plane_mm.mean == pytest.approx(0.18, abs=0.01)
    assert table.keypoint_mm.mean == pytest.approx(0.32, abs=0.01)
    assert by_name["heights_mm"].mae == pytest.approx(0.27, abs=0.01)
    assert by_name["g"].sd == pytest.approx(0.018, abs=0.001)
    assert abs(by_name["g"].bias) == pytest.approx(0.003, abs=0.001)


@needs_readings
def test_two_readers_of_a_spine_with_deep_nodes():
    """Its figures for 13 vertebrae: in-plane centre 0.20 mm, heights 0.42 mm (bias of hm -0.32), G -0.004 (0.023)."""
    by_name = errors(gather(readers("lidc_idri_0002")))
    assert by_name["heights_mm"].mae == pytest.approx(0.42, abs=0.01)
    assert by_name["hm_mm"].bias == pytest.approx(-0.32, abs=0.01)
    assert by_name["g"].bias == pytest.approx(-0.004, abs=0.001)


@needs_readings
def test_every_reading_matches_itself():
    for path in sorted(READINGS.glob("*.json")):
        truth = read_truth(path)
        one = compare(path.stem, path.stem, truth, found_of(truth.points, truth.complete))
        assert one.matching.pairs.tolist() == [[i, i] for i in np.flatnonzero(truth.complete)]
        assert len(one.matching.false) == len(one.matching.outside) == len(one.matching.missed) == 0
