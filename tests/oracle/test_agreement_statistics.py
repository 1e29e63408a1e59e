"""Estimators of agreement against published numbers, other programs, and slow independent ways."""

import numpy as np
import pytest

from vertebra_core.statistics.bland_altman import limits_of_agreement
from vertebra_core.statistics.calibration import calibration, error_calibration
from vertebra_core.statistics.icc import icc
from vertebra_core.statistics.kappa import weighted_kappa
from vertebra_core.statistics.paired import paired_shares
from vertebra_core.statistics.roc import roc_area

# Peak flow, 17 people, Wright and mini meter, first readings (Bland and Altman 1986, table 1).
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Cardiac output, 12 people with 2 to 5 differences each, the true value varying (Bland and Altman 2007, section 3).
SUBJECT = np.repeat(np.arange(1, 13), [3, 4, 2, 5, 3, 3, 4, 2, 3, 5, 4, 3])
CARDIAC = np.array([
    -0.98, -0.21, -0.75, 0.17, 0.03, 0.69, -0.2, -0.77, -0.79, -0.34, -0.59, -0.12, -0.28, -0.32, 0.45, 0.1, 0.43,
    -0.77, -0.84, -0.74,
    1.02, -0.33, 0.09, 0.9, 0.26, 1.3, -0.23, -0.07, -0.85, -0.19, 0.33, -0.73, 0.33, -0.41, -1.45, 0.39,
    0.29, -0.01, 0.5, -0.11, -0.46,
])  # fmt: skip
GENANT = np.array([[880, 41, 6, 1], [38, 60, 14, 2], [4, 17, 52, 6], [0, 1, 7, 31]])

# Shrout and Fleiss 1979, table 2: six targets, four judges.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
# Subarachnoid haemorrhage, 113 patients: outcome and two markers (data set aSAH of R's pROC).
POOR = np.array([
    0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1,
    1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1,
    1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0,
    0, 1, 0, 0, 0,
])  # fmt: skip
S100B = np.array([
    0.13, 0.14, 0.1, 0.04, 0.13, 0.1, 0.47, 0.16, 0.18, 0.1, 0.12, 0.1, 0.44, 0.71, 0.04, 0.08,
    0.49, 0.04, 0.07, 0.33, 0.09, 0.09, 0.07, 0.11, 0.07, 0.17, 0.07, 0.11, 0.13, 0.19, 0.05, 0.16,
    0.41, 0.14, 0.34, 0.35, 0.48, 0.09, 0.96, 0.25, 0.5, 0.46, 0.16, 0.07, 0.43, 0.45, 0.11, 0.08,
    0.09, 0.86, 0.52, 0.08, 0.06, 0.13, 2.07, 0.1, 0.14, 0.15, 0.07, 0.06, 0.77, 0.05, 0.09, 0.3,
    0.03, 0.09, 0.04, 0.23, 0.7, 0.09, 0.27, 0.71, 0.08, 0.26, 0.08, 0.16, 0.09, 0.13, 0.1, 0.08,
    0.11, 0.33, 0.11, 0.28, 0.07, 0.1, 0.32, 0.22, 0.07, 0.05, 0.24, 0.38, 0.1, 0.15, 0.08, 0.14,
    0.1, 0.07, 0.04, 0.19, 0.56, 0.14, 0.58, 0.32, 0.82, 0.74, 0.15, 0.47, 0.17, 0.44, 0.15, 0.5,
    0.48,
])  # fmt: skip
WFNS = np.array([
    1, 1, 1, 1, 3, 2, 5, 4, 1, 2, 5, 2, 5, 5, 1, 2, 5, 2, 2, 5, 2, 1, 1, 1, 1, 2, 1, 2, 1, 1, 3, 4, 2, 1, 4, 5,
    4, 1, 4, 2, 5, 5, 1, 1, 2, 4, 1, 1, 2, 5, 5, 2, 1, 2, 5, 1, 2, 2, 2, 1, 5, 1, 1, 2, 5, 2, 1, 4, 5, 2, 4, 4,
    1, 4, 1, 2, 1, 4, 2, 1, 2, 3, 2, 4, 2, 1, 4, 5, 1, 1, 5, 4, 2, 2, 1, 1, 1, 3, 1, 2, 5, 2, 2, 5, 5, 5, 2, 4,
    4, 5, 1, 1, 1,
])  # fmt: skip
# Sixty linear predictors and outcomes, made.
PREDICTOR = np.array([
    -2.25, -1.38, -0.66, -2.5, -0.75, -0.96, -0.89, 0.45, -2.58, 0.65, -1.97, -2.47, -1.93, -0.67,
    -0.8, -1.4, -2.24, -1.84, 0.59, -0.74, -1.75, -2.22, -1.26, -3.17, -1.63, -1.96, 0.51, 0.32,
    -1.09, -2.48, 0.17, 0.11, -0.05, -0.04, -1.46, -0.08, 0.69, -0.95, -2.27, 0.03, 0.02, -1.4,
    1.21, -2.03, -0.55, -3.95, -1.21, 0.47, -1.59, -2.17, -0.06, -2.05, -0.65, -3.26, -2.83, -1.59,
    -2.35, 0.77, 0.19, -2.02,
])  # fmt: skip
CAME_TRUE = np.array([
    0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0,
    1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
])  # fmt: skip


def gradings(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.divmod(np.repeat(np.arange(table.size), table.ravel()), len(table))


def test_limits_of_single_differences_are_those_of_bland_and_altman():
    """R by formula; published with 2 SD: mean -2.1, SD 38.8."""
    one = limits_of_agreement(np.array(WRIGHT) - np.array(MINI, float))
    assert (one.bias, one.sd) == (pytest.approx(-2.11764705882353), pytest.approx(38.7651298736074))
    assert (one.low, one.high) == (pytest.approx(-78.097301611094), pytest.approx(73.8620074934469))
    assert (one.bias_low, one.bias_high) == (pytest.approx(-22.0488376966452), pytest.approx(17.8135435789981))
    assert one.low_interval == (pytest.approx(-112.619136451142), pytest.approx(-43.5754667710458))
    assert one.high_interval == (pytest.approx(39.3401726533987), pytest.approx(108.383842333495))


def test_limits_of_several_differences_of_a_patient_add_both_parts_of_the_variance():
    """R anova: variance 0.2277 within and 0.1266 between."""
    one = limits_of_agreement(CARDIAC, SUBJECT)
    assert (one.n, one.clusters) == (41, 12)
    assert (one.bias, one.sd) == (pytest.approx(-0.128292682926829), pytest.approx(0.595184217278931))
    assert (one.low, one.high) == (pytest.approx(-1.29485374879353), pytest.approx(1.03826838293988))


def test_intervals_of_limits_are_those_of_a_bootstrap_over_patients():
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(150), 8)
    difference = rng.normal(0.3, 0.6, 150)[patient] + rng.normal(0, 0.8, len(patient))
    one = limits_of_agreement(difference, patient)
    own = difference.reshape(150, 8)
    drawn = []
    for _ in range(1000):
        again = own[rng.integers(150, size=150)]
        limits = limits_of_agreement(again.ravel(), patient)
        drawn.append((limits.bias, limits.low, limits.high))
    slow = np.percentile(drawn, [2.5, 97.5], axis=0)
    quick = np.array([(one.bias_low, one.bias_high), one.low_interval, one.high_interval]).T
    assert np.abs(quick - slow).max() < 0.15 * np.diff(slow, axis=0).max()


def test_vertebrae_alone_would_make_intervals_too_narrow():
    """The same differences as patients of their own: half the width and less."""
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(60), 10)
    difference = rng.normal(0, 1, 60)[patient] + rng.normal(0, 0.3, len(patient))
    clustered, alone = limits_of_agreement(difference, patient), limits_of_agreement(difference)
    assert clustered.bias_high - clustered.bias_low > 2 * (alone.bias_high - alone.bias_low)


@pytest.mark.parametrize("differences", [[], [0.4]])
def test_limits_of_too_few_are_not_defined(differences):
    one = limits_of_agreement(np.array(differences))
    assert (one.sd, one.low, one.low_interval) == (None, None, None)


@pytest.mark.parametrize(
    ("weights", "kappa", "se"),
    [
        ("plain", 0.6608744454426537, 0.02456452198025479),
        ("linear", 0.7710498569061606, 0.019526220390630646),
        ("quadratic", 0.8595136951768387, 0.016257945503499127),
    ],
)
def test_kappa_is_that_of_fleiss_cohen_and_everitt(weights, kappa, se):
    """statsmodels cohens_kappa; points also psych, irr and scikit-learn."""
    one, other = gradings(GENANT)
    found = weighted_kappa(one, other, 4, weights)
    n = len(one)
    assert (found.value, found.se) == (pytest.approx(kappa), pytest.approx(se * (n / (n - 1)) ** 0.5))


def test_kappa_of_repeated_patients_is_as_sure_as_of_the_patients_alone():
    """Each vertebra four times over says nothing new: clusters keep the interval, single vertebrae halve it."""
    one, other = gradings(GENANT // 4)
    patient = np.arange(len(one))
    alone = weighted_kappa(one, other, 4, "linear")
    again = weighted_kappa(*(np.tile(g, 4) for g in (one, other)), 4, "linear", np.tile(patient, 4))
    careless = weighted_kappa(*(np.tile(g, 4) for g in (one, other)), 4, "linear")
    assert (again.value, again.se) == (pytest.approx(alone.value), pytest.approx(alone.se))
    assert careless.se == pytest.approx(alone.se / 2, rel=0.01)


def test_kappa_of_one_grade_is_not_defined():
    assert weighted_kappa(np.zeros(9, int), np.zeros(9, int), 4).value is None
    assert weighted_kappa(np.zeros(0, int), np.zeros(0, int), 4).value is None


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, table III
        ((14, 5, 0, 22), 0.011, 0.226),  # Altman et al. 2000, Statistics with confidence, table 6.2
    ],
)
def test_the_interval_of_paired_shares_is_newcombes(cells, low, high):
    first, second = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], cells, axis=0).T.astype(bool)
    one = paired_shares(second, first)  # the published difference is first minus second
    assert (round(one.low, len(str(low)) - 2), round(one.high, len(str(high)) - 2)) == (low, high)


def test_the_test_of_paired_shares_is_exact_mcnemar():
    """statsmodels; by hand: 12 and 2 of 14 have p = 2 (1 + 14 + 91) / 2^14."""
    from statsmodels.stats.contingency_tables import mcnemar

    first, second = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], (36, 12, 2, 0), axis=0).T.astype(bool)
    p = paired_shares(first, second).p
    assert p == pytest.approx(2 * (1 + 14 + 91) / 2**14) == pytest.approx(mcnemar([[36, 12], [2, 0]]).pvalue)


def test_paired_shares_of_nobody_and_of_nobody_who_changed():
    assert paired_shares(np.zeros(0, bool), np.zeros(0, bool)).difference is None
    same = paired_shares(np.arange(50) < 10, np.arange(50) < 10)
    assert (same.difference, same.p) == (0.0, 1.0)
    assert same.low < 0 < same.high


@pytest.mark.parametrize(
    ("form", "value", "low", "high"),
    [
        ("ICC(1,1)", 0.165741768405476, -0.132932324874751, 0.722560062328121),
        ("ICC(2,1)", 0.289763779527559, 0.018786513374712, 0.761084369648953),
        ("ICC(3,1)", 0.714840714840715, 0.342464765033925, 0.94585825995536),
    ],
)
def test_icc_is_that_of_shrout_and_fleiss(form, value, low, high):
    """R psych::ICC; published 0.17, 0.29, 0.71; ICC(2,1) also irr."""
    one = icc(JUDGES, form)
    assert (one.value, one.low, one.high) == (pytest.approx(value), pytest.approx(low), pytest.approx(high))


def test_icc_of_equal_values_and_of_too_few():
    assert icc(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])).value == pytest.approx(1.0)
    assert icc(np.array([[1.0, 1.0]])).value is None
    assert icc(np.ones((4, 2))).value is None


@pytest.mark.parametrize(
    ("score", "area", "low", "high"),
    [(S100B, 0.731368563685637, 0.630118211761623, 0.832618915609651),
     (WFNS, 0.823678861788618, 0.748534887819453, 0.898822835757783)],
)  # fmt: skip
def test_roc_areas_and_their_intervals_are_delongs(score, area, low, high):
    """R pROC; every patient a cluster of one gives the same."""
    for cluster in (None, np.arange(len(POOR))):
        one = roc_area(POOR == 1, score, cluster)
        assert (one.value, one.low, one.high) == (pytest.approx(area), pytest.approx(low), pytest.approx(high))


def test_roc_intervals_of_clusters_are_those_of_a_bootstrap_over_patients():
    rng = np.random.default_rng(4)
    patient = np.repeat(np.arange(120), 7)
    frail = rng.normal(0, 1, 120)[patient]
    case = rng.random(len(patient)) < 1 / (1 + np.exp(2 - frail))
    score = 1.2 * case + frail + rng.normal(0, 1, len(patient))
    one = roc_area(case, score, patient)
    drawn = []
    for _ in range(500):
        again = (rng.integers(120, size=120)[:, None] * 7 + np.arange(7)).ravel()
        drawn.append(roc_area(case[again], score[again]).value)
    assert one.se == pytest.approx(np.std(drawn), rel=0.12)


def test_roc_intervals_of_repeated_patients_are_as_sure_as_of_the_patients_alone():
    case, patient = POOR == 1, np.arange(len(POOR))
    again = roc_area(np.tile(case, 4), np.tile(S100B, 4), np.tile(patient, 4))
    assert again.se == pytest.approx(roc_area(case, S100B).se)
    assert roc_area(np.tile(case, 4), np.tile(S100B, 4)).se == pytest.approx(again.se / 2, rel=0.03)


def test_roc_area_of_one_class_is_not_defined():
    assert roc_area(np.ones(4, bool), np.arange(4.0)).value is None


def test_calibration_is_that_of_r():
    """stats::glm: recalibration on the logit, and intercept with an offset."""
    one = calibration(1 / (1 + np.exp(-PREDICTOR)), CAME_TRUE == 1)
    assert (one.slope, one.slope_se) == (pytest.approx(1.03003167346609), pytest.approx(0.329712221859926, rel=1e-5))
    assert one.in_the_large == pytest.approx(-0.169795178983445)
    assert one.in_the_large_se == pytest.approx(0.326443995002679, rel=1e-5)
    assert (one.brier, one.mean_stated) == (pytest.approx(0.157882207245697), pytest.approx(0.293875115265367))
    assert sum(part.n for part in one.bins) == 60


def test_stated_errors_that_are_right_cover_as_often_as_they_say():
    rng = np.random.default_rng(6)
    stated = rng.uniform(0.2, 1.0, 20_000)
    one = error_calibration(rng.normal(0, stated), stated)
    assert one.scale == pytest.approx(1, abs=0.02)
    for part in one.coverage:
        assert part.low < part.nominal < part.high or part.share == pytest.approx(part.nominal, abs=0.01)
    assert [part.observed for part in one.bins] == pytest.approx([part.stated for part in one.bins], rel=0.1)
