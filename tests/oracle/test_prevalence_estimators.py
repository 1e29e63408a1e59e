"""Every estimator of the prevalence against numbers of R 4.2.2 packages or of the article that proposed it."""

import numpy as np
import pytest
from scipy.stats import binomtest

from vertebra_core.epidemiology.clusters import (
    beta_interval,
    bootstrap_interval,
    clustered_share,
    gee_share,
    linearised_se,
    logit_interval,
)
from vertebra_core.epidemiology.coverage import hajek
from vertebra_core.epidemiology.intervals import binomial_interval, share_of
from vertebra_core.epidemiology.misclassification import lang_reiczigel, rogan_gladen
from vertebra_core.epidemiology.standard_populations import STANDARDS
from vertebra_core.epidemiology.standardise import gamma_interval, standardise
from vertebra_core.epidemiology.trends import cochran_armitage, logistic_slope

BINOMIAL = [  # R stats::prop.test(correct=FALSE) and stats::binom.test; epitools::binom.wilson
    (81, 263, (0.255288519878274, 0.3662095769828), (0.252736745585271, 0.367621922601351)),
    (15, 148, (0.0623863995307363, 0.160487241723308), (0.0578440100834486, 0.161650490349479)),
    (0, 20, (0.0, 0.161125158052819), (0.0, 0.168433470983085)),
    (1, 29, (0.00611321429276266, 0.171755218793203), (0.000872646883579923, 0.177644295488723)),
    (20, 20, (0.838874841947181, 1.0), (0.831566529016915, 1.0)),
    (100, 1140, (0.072651827810338, 0.105555962481557), (0.0719399976559473, 0.105662310233907)),
]

DOWN_STANDARD = [319933, 931318, 786511, 488235, 237863, 61313]
DOWN = [  # Down syndrome by age of mother and birth order, Fay and Feuer 1997; asht::wspoissonTest 1.0.1
    ([107, 141, 60, 40, 39, 25], [230061, 329449, 114920, 39487, 14208, 3052],
     0.000923045255331994, 0.000804417498507042, 0.00105763345749261, 0.00105356318312535),
    ([25, 150, 110, 84, 82, 39], [72202, 326701, 208667, 83228, 28466, 5375],
     0.000911741168346641, 0.000823612116520044, 0.00100867576317251, 0.0010065723870629),
    ([3, 71, 114, 103, 108, 75], [15050, 175702, 207081, 117300, 45026, 8660],
     0.000850692213383019, 0.000771834534027216, 0.000942235698322065, 0.000936395933878847),
    ([1, 26, 64, 89, 137, 96], [2293, 68800, 132424, 98301, 46075, 9834],
     0.000927178650551998, 0.000800099927553993, 0.00114669444822584, 0.00108007930135843),
    ([0, 8, 63, 112, 262, 295], [327, 30666, 123419, 149919, 104088, 34392],
     0.000755290074452568, 0.000677021204176466, 0.00188300172727776, 0.0011285842908498),
]  # fmt: skip

AGED_N = np.array([812, 905, 1010, 1123, 1098, 876, 541, 260, 85])
AGED_X = np.array([19, 27, 41, 63, 84, 95, 81, 52, 21])
"""People of 50-54, 55-59 ... 85-89, 90+, and how many of them are positive."""

VERTEBRAE = np.array([13, 12, 13, 9, 13, 13, 7, 13, 11, 13, 13, 6, 13, 13, 12, 13, 10, 13, 13, 8])
POSITIVE = np.array([1, 0, 2, 0, 4, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0, 2, 1, 0, 0, 1])


@pytest.mark.parametrize(("count", "n", "wilson", "exact"), BINOMIAL)
def test_binomial_intervals_are_those_of_r(count, n, wilson, exact):
    ours = share_of(count, n)
    assert (ours.share, ours.low, ours.high) == pytest.approx((count / n, *wilson), abs=1e-9)
    assert binomial_interval(count, n, "clopper-pearson") == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("n", [1, 7, 60])
def test_scipy_agrees_for_every_count(n):
    for count in range(n + 1):
        for ours, theirs in (("wilson", "wilson"), ("clopper-pearson", "exact")):
            interval = binomtest(count, n).proportion_ci(0.95, method=theirs)
            assert binomial_interval(count, n, ours) == pytest.approx((interval.low, interval.high), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "total", "from_50"),
    [
        # sums of the publications (WHO's per cents add to 100.035) and of the bands from 50 on
        ("esp2013", 100_000, (39_000, 0.1794871794871795, 0.025641025641025640)),
        ("who", 100.035, (21.875, 0.24548571428571428, 0.195 / 21.875)),
        ("us2000", 274_633_642, (75_895_345, 0.2269488201153839, 0.020826125765684312)),
    ],
)
def test_standard_populations_add_up_to_what_was_published(name, total, from_50):
    standard = STANDARDS[name]
    assert sum(standard.weights) == pytest.approx(total, rel=1e-12)
    assert standard.band_names()[:2] == ("0-4", "5-9")
    old = np.array([w for start, w in zip(standard.starts, standard.weights, strict=True) if start >= 50])
    assert (old.sum(), old[0] / old.sum(), old[-1] / old.sum()) == pytest.approx(from_50, rel=1e-12)


@pytest.mark.parametrize(("cases", "births", "rate", "low", "high", "tiwari"), DOWN)
def test_gamma_intervals_are_those_of_fay_and_feuer_and_of_tiwari(cases, births, rate, low, high, tiwari):
    factors = np.array(DOWN_STANDARD) / sum(DOWN_STANDARD) / np.array(births)
    assert float(factors @ np.array(cases)) == pytest.approx(rate, abs=1e-12)
    assert gamma_interval(np.array(cases), factors) == pytest.approx((low, high), abs=1e-10)
    assert gamma_interval(np.array(cases), factors, tiwari=True) == pytest.approx((low, tiwari), abs=1e-10)


@pytest.mark.parametrize(
    ("method", "low", "high"),
    [
        ("wilson", 0.0621835508174706, 0.0740669646227485),  # R by formula
        ("clopper-pearson", 0.0620572945167084, 0.0740804964672791),
        ("gamma", 0.0617036946265026, 0.074686056252947),  # asht, epitools::ageadjust.direct, epiR
        ("tiwari", 0.0617036946265026, 0.074530599714938),  # asht
    ],
)
def test_standardised_prevalence_and_its_intervals_are_those_of_r(method, low, high):
    weights = np.array(STANDARDS["esp2013"].weights[10:])
    ours = standardise(AGED_X, AGED_N, weights, method)
    assert (ours.share, ours.low, ours.high) == pytest.approx((0.067884562071669, low, high), abs=1e-9)
    assert ours.n_effective == pytest.approx(6892.64242588009, abs=1e-4)


@pytest.mark.parametrize(
    ("count", "se", "sp", "raw", "wilson", "exact"),
    [  # epiR::epi.prev 2.0.57; its limits are not truncated
        (150, 0.85, 0.95, 0.125, (0.0990125906413603, 0.1543358230335), (0.0980310138952159, 0.154572660708795)),
        (40, 0.80, 0.97, 0.012987012987013, (-0.000635099109801663, 0.0311813560016336),
         (-0.00165243469364836, 0.0312632426225562)),
        (12, 0.80, 0.98, -0.0102564102564103, (-0.0168235284533288, 0.00109906214807457),
         (-0.017672403128724, 0.00111240973209809)),
    ],
)  # fmt: skip
def test_rogan_gladen_is_that_of_epir(count, se, sp, raw, wilson, exact):
    for method, limits in (("wilson", wilson), ("clopper-pearson", exact)):
        ours = rogan_gladen(count, 1000, se, sp, method)
        assert (ours.raw, ours.raw_low, ours.raw_high) == pytest.approx((raw, *limits), abs=1e-9)
        assert (ours.share, ours.low) == (max(ours.raw, 0.0), max(ours.raw_low, 0.0))
        assert (ours.warning is None) == (raw >= 0)


@pytest.mark.parametrize(
    ("ap", "n", "se", "n_se", "sp", "n_sp", "estimate", "low", "high"),
    [  # Lang and Reiczigel 2014, examples 1 to 4, by asht::prevSeSp 1.0.1; the last one made for this task
        (0.359801488833747, 11284, 0.994413407821229, 179, 0.997214484679666, 359,
         0.360030184924523, 0.348673545667138, 0.372082954561085),
        (0.0171659373948166, 2971, 0.96969696969697, 33, 1.0, 20, 0.0177023729384045, 0.0, 0.0533450764747319),
        (0.06, 11862, 0.8, 10, 1.0, 12, 0.075, 0.0, 0.14666839342382),
        (0.508840864440079, 509, 0.661417322834646, 127, 0.880733944954128, 109,
         0.718572163416923, 0.58486786835901, 0.866458208820525),
        (0.100196463654224, 509, 0.560975609756098, 41, 0.958974358974359, 195,
         0.113800992762935, 0.0366098105108738, 0.194694062163026),
        (0.229990800367985, 1087, 0.66, 226, 0.9, 861, 0.232126429228545, 0.175660079932288, 0.292912305838757),
    ],
)  # fmt: skip
def test_lang_reiczigel_is_as_published(ap, n, se, n_se, sp, n_sp, estimate, low, high):
    ours = lang_reiczigel(ap, n, se, n_se, sp, n_sp)
    assert (ours.share, ours.low, ours.high) == pytest.approx((estimate, low, high), abs=1e-9)


def test_clustered_share_is_that_of_rs_survey():
    p, se = POSITIVE.sum() / VERTEBRAE.sum(), linearised_se(POSITIVE, VERTEBRAE)
    assert (p, se) == pytest.approx((0.0692640692640693, 0.0220015221270532), abs=1e-12)  # svymean
    assert logit_interval(p, se, 19) == pytest.approx((0.0351492977451241, 0.13196103961165), abs=1e-9)  # svyciprop
    assert beta_interval(p, se, 20, 231) == pytest.approx((0.0307062681021499, 0.131065245504209), abs=1e-9)
    ours = clustered_share(POSITIVE, VERTEBRAE)
    assert (ours.method, ours.n_patients) == ("beta", 20)
    assert ours.design_effect == pytest.approx(1.72702573177863 * 231 / 230, abs=0.01)


def test_gee_is_that_of_geepack_and_statsmodels():
    independent, exchangeable = (gee_share(POSITIVE, VERTEBRAE, way) for way in (False, True))
    assert (independent.beta, independent.se) == pytest.approx((-2.59804930588788, 0.332644270436765), abs=1e-7)
    # geepack 1.3.9; statsmodels has another denominator of the moment estimate of alpha
    assert exchangeable.beta == pytest.approx(-2.59983727239869, abs=5e-4)
    assert exchangeable.se == pytest.approx(0.325114778626872, abs=5e-4)
    assert exchangeable.alpha == pytest.approx(0.0590098211113666, abs=5e-4)


def test_patient_bootstrap_is_the_plain_one_drawn_faster():
    """20 000 draws of whole patients with numpy gave 0.0304 to 0.1142; here patients with equal counts are pooled."""
    assert bootstrap_interval(POSITIVE, VERTEBRAE, draws=20_000) == pytest.approx(
        (0.030434782608695653, 0.1141552511415525), abs=0.002
    )


def test_hajek_is_that_of_rs_svymean():
    chance = np.array([0.95] * 3 + [0.6] * 4 + [0.3] * 3)
    ours = hajek(np.array([0, 1, 0, 0, 0, 1, 0, 1, 1, 0]), 1 / chance)
    assert (ours.share, ours.se) == pytest.approx((0.473451327433628, 0.184908977367944), abs=1e-9)
    assert ours.n_effective == pytest.approx(8.22744845360825, abs=1e-8)


@pytest.mark.parametrize(
    ("counts", "ns", "chi2", "p"),
    [  # stats::prop.trend.test: the example of its help page, and the people of this file
        ([83, 90, 129, 70], [86, 93, 136, 82], 8.22492228519771, 0.00413189747764149),
        (AGED_X, AGED_N, 214.336565367688, 1.55523135579645e-48),
    ],
)
def test_cochran_armitage_is_that_of_r(counts, ns, chi2, p):
    ours = cochran_armitage(counts, ns, np.arange(len(ns)))
    assert ours.chi2 == pytest.approx(chi2, abs=1e-8)
    assert ours.p == pytest.approx(p, rel=1e-6)


def test_logistic_slope_is_that_of_rs_glm():
    ours = logistic_slope(AGED_X, AGED_N, np.arange(9))
    assert (ours.beta, ours.se) == pytest.approx((0.345337255411104, 0.0244770113248513), abs=1e-6)
    assert ours.odds_ratio == pytest.approx(1.41246620121824, abs=1e-5)


def test_clustered_slope_is_gee_with_independent_working_structure():
    """The same vertebrae one by one in statsmodels' GEE."""
    import statsmodels.api as sm

    score = np.arange(20) % 4
    groups = np.repeat(np.arange(20), VERTEBRAE)
    y = np.concatenate([np.arange(n) < k for k, n in zip(POSITIVE, VERTEBRAE, strict=True)]).astype(float)
    theirs = sm.GEE(y, sm.add_constant(score[groups].astype(float)), groups, family=sm.families.Binomial()).fit()
    ours = logistic_slope(POSITIVE, VERTEBRAE, score, clustered=True)
    assert (ours.beta, ours.se) == pytest.approx((theirs.params[1], theirs.bse[1]), abs=1e-6)
