"""Agreement of a program of known error with the truth: limits, ICC, kappa, ROC, calibration, and the figures."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from made_studies import column, moved, truth_of
from PIL import Image

from flows.agreement_tables import print_with_readers
from flows.commands.evaluate import draw
from vertebra_core.evaluation.evidence import Evidence, compare, gather, rows
from vertebra_core.evaluation.matching import NOTHING_FOUND, Found
from vertebra_core.evaluation.with_readers import MEASURES, true_and_found, with_readers
from vertebra_core.measure import genant_index
from vertebra_core.statistics.icc import icc

ERROR_MM, BIAS_MM = 0.5, 0.3
LEVELS = ("T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1")


def made(patients: int, seed: int, states: float = 1.0) -> Evidence:
    """Heights read with an error that is stated `states` times too small; one find in nine is false."""
    rng = np.random.default_rng(seed)
    studies = []
    for number in range(patients):
        true = rng.normal(25, 1.5, (8, 3)) * np.where(rng.random((8, 1)) < 0.15, [0.68, 1, 1], 1)
        read = true + rng.normal(BIAS_MM, ERROR_MM, true.shape)
        points = np.concatenate([column(read.tolist()), moved(column([[24.0] * 3]), z=-15.0)])
        heights = np.concatenate([read, [[24.0] * 3]])
        errors = np.c_[np.full((9, 3), ERROR_MM / states), np.full(9, 0.03)]
        found = Found(
            points, np.ones(9, bool), heights, genant_index(heights), (*LEVELS, None), errors,
            np.r_[np.full(8, 0.97), 0.6], np.r_[np.full(8, 0.9), np.nan],
        )  # fmt: skip
        truth = replace(truth_of(column(true.tolist())), levels=LEVELS)
        studies.append(compare(str(number), str(number), truth, found))
    return gather(studies)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return made(60, seed=1)


@pytest.fixture(scope="module")
def found(evidence):
    return with_readers(evidence, resamples=100)


def test_limits_are_those_of_the_error_that_was_made(found):
    for name in ("ha_mm", "hm_mm", "hp_mm"):
        one = found.limits[name]
        assert (one.n, one.clusters) == (60 * 8, 60)
        assert one.bias_low < BIAS_MM < one.bias_high
        assert one.sd == pytest.approx(ERROR_MM, rel=0.1)
        assert one.high_interval[0] < BIAS_MM + 1.96 * ERROR_MM < one.high_interval[1]


def test_the_icc_names_its_form_and_has_an_interval_by_patient(evidence, found):
    """By formula: variance between over the sum of that, of half the error's and of half the squared bias."""
    one = found.icc["hm_mm"]
    assert (one.form, one.n) == ("ICC(2,1)", 480)
    assert one.low < 1.5**2 / (1.5**2 + ERROR_MM**2 / 2 + BIAS_MM**2 / 2) < one.high
    both = true_and_found(rows(evidence.vertebrae, np.isfinite(evidence.vertebrae.g)))[:, 1]
    assert one.value == pytest.approx(icc(both).value)


def test_grades_add_up_and_kappa_is_between_its_limits(found):
    assert sum(map(sum, found.grades.table)) == 480
    assert set(found.grades.kappa) == {"plain", "linear", "quadratic", "G <= 0.80", "G <= 0.74", "G <= 0.60"}
    for one in found.grades.kappa.values():
        assert one.value is None or one.low < one.value <= one.high


def test_roc_areas_of_vertebrae_are_less_sure_than_if_they_were_independent(found):
    area = found.roc["vertebra"]["G <= 0.80"]
    assert 0.5 < area.low < area.value < area.high <= 1
    assert area.cases + area.controls == 480


def test_stated_probabilities_are_held_to_what_came_true(found):
    """8 of 9 finds are right and 0.97 or 0.6 was stated; every name is right, and 0.9 was stated."""
    assert (found.score.n, found.score.mean_observed) == (60 * 9, pytest.approx(8 / 9))
    assert found.level_confidence.mean_observed == 1.0
    assert found.level_confidence.mean_stated == pytest.approx(0.9)
    assert found.level_confidence.slope is None  # of one outcome there is none


@pytest.mark.parametrize(("states", "scale"), [(1.0, 1.0), (2.0, 2.0)])
def test_stated_errors_that_are_too_small_are_found_out(states, scale):
    one = with_readers(made(40, seed=2, states=states), resamples=0).standard_errors["hp_mm"]
    assert one.scale == pytest.approx(scale * np.hypot(1, BIAS_MM / ERROR_MM), rel=0.08)
    covered = {c.nominal: c for c in one.coverage}
    assert (covered[0.95].high < 0.9) == (states > 1)
    assert covered[0.5].share < covered[0.8].share < covered[0.95].share


def test_nothing_found_has_no_numbers_and_no_crash(tmp_path, capsys):
    truth = truth_of(column([[24.0] * 3] * 3))
    nothing = gather([compare("a", "a", truth, NOTHING_FOUND)])
    answer = with_readers(nothing)
    assert all(answer.limits[name].bias is None for name in MEASURES)
    print_with_readers(answer)
    assert "n/a" in capsys.readouterr().out
    json.dumps(asdict(answer), allow_nan=False)
    assert len(draw(nothing, answer, tmp_path / "figures")) == 4


def test_figures_are_drawn_and_say_in_words_what_they_show(evidence, found, tmp_path):
    paths = draw(evidence, found, tmp_path / "figures")
    assert [path.stem for path in paths] == ["agreement", "roc", "probabilities", "errors"]
    for path in paths:
        image = Image.open(path)
        assert min(image.size) > 400
        assert len(image.info["Description"]) > 30
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn
    assert f"n {found.limits['g'].n}" in Image.open(paths[0]).info["Description"]


def test_a_person_reads_every_table(found, capsys):
    print_with_readers(found)
    out = capsys.readouterr().out
    for words in ("Limits of agreement", "ICC(2,1)", "Kappa", "ROC", "Stated probabilities", "Stated standard errors"):
        assert words in out
