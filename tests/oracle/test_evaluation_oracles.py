"""Metrics against scikit-learn and against the published agreement of two readers."""

from pathlib import Path

import numpy as np
import pytest
from made_studies import found_of
from sklearn.metrics import confusion_matrix, recall_score, roc_curve

from vertebra_core.evaluation.evidence import compare, gather
from vertebra_core.evaluation.metrics import classification, detection, errors
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
