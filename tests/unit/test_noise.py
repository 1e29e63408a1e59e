"""The sampler of true height ratios: pieces against plain references, closed forms, and cohorts with known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import invwishart, multivariate_normal, norm

from benchmarks.noise_cases import Reading, make_spines, read_heights, shares_below
from vertebra_core.epidemiology.noise_algebra import Sym, inverse_wishart, normal, normal_of_precision, symmetric
from vertebra_core.epidemiology.noise_sampler import (
    NEARLY_NORMAL,
    NoiseDraws,
    NoisyCases,
    Tally,
    _Chain,
    genant_of,
    sample_curves,
)
from vertebra_core.measure import genant_index

BOUNDS = np.array([0.70, 0.74, 0.77, 0.80, 0.85])
AT_MODERATE, AT_MILD = 1, 3


def cases_of(heights, level, patient) -> NoisyCases:
    ratios = np.log(heights[:, :2] / heights[:, 2:])
    counts = np.ones(int(patient[-1]) + 1, bool)
    return NoisyCases(ratios, heights.mean(1), level, patient, counts, np.zeros(len(level), dtype=int))


def noise_of(covariance, freedom=NEARLY_NORMAL, shared=None) -> NoiseDraws:
    shared = np.zeros((2, 2)) if shared is None else shared
    return NoiseDraws(np.array([[covariance]]), np.array([[shared]]), np.array([[freedom]]))


def cohort(n: int, seed: int, how: Reading):
    rng = np.random.default_rng(seed)
    spines = make_spines(n, rng)
    heights = read_heights(spines, rng, how)
    return spines, heights, cases_of(heights, spines.level, spines.patient)


def flat_cohort(n: int, levels: int, seed: int, mean=(-0.16, -0.10), sd=(0.05, 0.02), noise_sd=0.0, h=20.0):
    """Vertebrae of equal height 20 mm whose log ratios are normal; what is read has normal noise on top."""
    rng = np.random.default_rng(seed)
    true = np.array(mean) + rng.standard_normal((n * levels, 2)) * sd
    ratios = true + rng.standard_normal((n * levels, 2)) * noise_sd / h
    patient, level = np.repeat(np.arange(n), levels), np.tile(np.arange(levels), n)
    whole = np.zeros(n * levels, dtype=int)
    return true, NoisyCases(ratios, np.full(n * levels, h), level, patient, np.ones(n, bool), whole)


# -- pieces --------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.5, 40.0), min_size=3, max_size=3))
def test_g_from_log_ratios_is_g_from_heights(heights):
    heights = np.array([heights])
    logs = np.log(heights[:, :2] / heights[:, 2:])
    assert genant_of(*logs.T) == pytest.approx(genant_index(heights), rel=1e-12)


def test_inverses_products_and_norms_are_those_of_matrices():
    matrices = np.array([[[2.0, 0.5], [0.5, 1.0]], [[0.3, -0.1], [-0.1, 0.2]]])
    vectors = np.array([[1.0, -2.0], [0.3, 0.7]])
    ours = symmetric(matrices)
    assert np.stack(ours.apply(*vectors.T), 1) == pytest.approx(np.einsum("nij,nj->ni", matrices, vectors))
    assert ours.norm(*vectors.T) == pytest.approx(np.einsum("ni,nij,nj->n", vectors, matrices, vectors))
    inverse = np.stack([ours.inverse().take(np.array([i])).matrix()[..., 0] for i in (0, 1)])
    assert inverse == pytest.approx(np.linalg.inv(matrices))


def test_normal_draws_have_the_covariance_and_the_mean_asked_for():
    rng = np.random.default_rng(0)
    drawn = np.stack(normal(rng, Sym(2.0, -0.8, 1.0), 40_000))
    assert np.cov(drawn) == pytest.approx(np.array([[2.0, -0.8], [-0.8, 1.0]]), abs=0.04)
    precision = np.array([[3.0, 1.0], [1.0, 2.0]])
    drawn = np.stack(normal_of_precision(rng, symmetric(precision), (np.full(40_000, 1.0), np.full(40_000, -2.0))))
    assert drawn.mean(1) == pytest.approx(np.linalg.solve(precision, [1.0, -2.0]), abs=0.02)
    assert np.cov(drawn) == pytest.approx(np.linalg.inv(precision), abs=0.02)


def test_inverse_wishart_draws_are_those_of_scipy():
    rng, scale = np.random.default_rng(1), np.array([[2.0, 0.7], [0.7, 1.0]])
    ours = np.array([inverse_wishart(rng, 9.0, symmetric(scale)).matrix() for _ in range(20_000)])
    theirs = invwishart(9, scale)
    assert ours.mean(0) == pytest.approx(theirs.mean(), rel=0.03)
    assert ours.var(0) == pytest.approx(theirs.var(), rel=0.15)


def test_the_tally_counts_as_one_would_by_hand():
    level = np.zeros(6, dtype=int)
    heights = np.array([[20, 25, 25], [25, 25, 25], [18.5, 25, 25], [14, 25, 25], [24, 25, 25], [25, 20.01, 25]], float)
    cases = cases_of(heights, level, np.array([0, 0, 1, 2, 2, 2]))
    tally, g = Tally(cases, np.array([0.74, 0.80])), genant_index(heights)
    bones, people = tally.shares(g)
    assert bones == pytest.approx([2 / 6, 3 / 6])  # 0.74 and 0.80 themselves are in, 0.8004 is not
    assert people == pytest.approx([2 / 3, 3 / 3])
    weights = np.array([1.0, 2.0, 5.0])
    bones, people = tally.shares(g, weights)
    assert bones == pytest.approx([(2 + 5) / (2 + 2 + 15), (2 + 5 + 1) / 19])
    assert people == pytest.approx([7 / 8, 1.0])


def test_a_patient_with_too_few_vertebrae_counts_for_vertebrae_only():
    heights = np.array([[14, 25, 25], [25, 25, 25], [25, 25, 25]], float)
    cases = cases_of(heights, np.zeros(3, dtype=int), np.array([0, 1, 1]))
    cases = NoisyCases(
        *(getattr(cases, f) for f in ("ratios", "height_mm", "level", "patient")),
        np.array([0, 1], bool),
        cases.noise_class,
    )
    bones, people = Tally(cases, np.array([0.8])).shares(genant_index(heights))
    assert (bones[0], people[0]) == (pytest.approx(1 / 3), 0.0)


def test_components_and_true_ratios_are_drawn_from_their_conditionals():
    """Against scipy's densities and the textbook formula for a normal mean, vertebra by vertebra."""
    _, heights, cases = cohort(12, 3, Reading())
    covariance = Reading().covariance()
    chain = _Chain(cases, noise_of(covariance), np.random.default_rng(0))
    chain._take_noise(0)
    error = chain.scale.times(chain.over_h**2 / chain.lam)
    repeats = 3000
    drawn = np.array([chain._components(error) for _ in range(repeats)])
    spread = [one.matrix() for one in chain.spread]
    for j in (0, 5, 40):
        own = cases.ratios[j] - [chain.mu[0][cases.level[j]], chain.mu[1][cases.level[j]]]
        noise = covariance / cases.height_mm[j] ** 2
        density = [multivariate_normal(chain.m[k], spread[k] + noise).pdf(own) for k in range(3)]
        chance = chain.shares[chain.prone[cases.patient[j]]] * density
        share = [(drawn[:, j] == k).mean() for k in range(3)]
        assert share == pytest.approx(chance / chance.sum(), abs=0.03)
    chain.z = np.ones(len(heights), dtype=int)
    prior = chain._spread_of_each()
    centre = tuple(chain.m[:, axis][chain.z] for axis in (0, 1))
    x = np.array(
        [np.stack(chain._true_deviation(prior, prior.plus(error).inverse(), centre), 1) for _ in range(repeats)]
    )
    j = 7
    own = cases.ratios[j] - [chain.mu[0][cases.level[j]], chain.mu[1][cases.level[j]]]
    within, noise = spread[1], covariance / cases.height_mm[j] ** 2
    left = np.linalg.inv(np.linalg.inv(within) + np.linalg.inv(noise))
    mean = left @ (np.linalg.inv(within) @ chain.m[1] + np.linalg.inv(noise) @ own)
    assert x[:, j].mean(0) == pytest.approx(mean, abs=0.003)
    assert np.cov(x[:, j].T) == pytest.approx(left, rel=0.15, abs=1e-5)


# -- the whole of it -----------------------------------------------------------------------------------------------


def test_without_noise_the_answer_is_what_was_read():
    _, heights, cases = cohort(200, 1, Reading())
    curves = sample_curves(cases, noise_of(np.zeros((2, 2))), BOUNDS, np.random.default_rng(0), 400, 100)
    bones, people = Tally(cases, BOUNDS).shares(genant_index(heights))
    assert np.all(curves.sample_vertebrae == bones)
    assert np.all(curves.sample_patients == people)
    spread = np.sqrt(people * (1 - people) / 200)
    assert curves.patients.mean(0) == pytest.approx(people, abs=0.01)
    assert curves.patients.std(0) == pytest.approx(spread, rel=0.2)  # the bootstrap of patients is binomial here


def test_nearly_no_noise_is_nearly_what_was_read():
    _, heights, cases = cohort(150, 2, Reading())
    curves = sample_curves(cases, noise_of(1e-6 * np.eye(2)), BOUNDS, np.random.default_rng(0), 100, 50)
    bones, people = Tally(cases, BOUNDS).shares(genant_index(heights))
    assert curves.sample_vertebrae.mean(0) == pytest.approx(bones, abs=5e-4)
    assert curves.sample_patients.mean(0) == pytest.approx(people, abs=5e-3)


def test_normal_ratios_with_normal_noise_give_the_closed_form():
    """log ha/hp ~ N(-0.16, 0.05), lower than hm/hp: P(G <= t) = Phi((log t + 0.16) / SD), with and without noise."""
    sd_true, noise_sd, h = 0.05, 1.0, 20.0
    _, cases = flat_cohort(400, 10, 4, noise_sd=noise_sd)
    curves = sample_curves(cases, noise_of(noise_sd**2 * np.eye(2)), BOUNDS, np.random.default_rng(1), 200, 100)
    truth = norm.cdf((np.log(BOUNDS) + 0.16) / sd_true)
    apparent = norm.cdf((np.log(BOUNDS) + 0.16) / np.hypot(sd_true, noise_sd / h))
    bones, people = Tally(cases, BOUNDS).shares(genant_of(*cases.ratios.T))
    assert bones[AT_MILD] == pytest.approx(apparent[AT_MILD], abs=0.02)
    assert apparent[AT_MILD] - truth[AT_MILD] > 0.07
    assert curves.vertebrae.mean(0) == pytest.approx(truth, abs=0.02)
    of_patients = 1 - (1 - truth) ** 10
    assert people[AT_MILD] - of_patients[AT_MILD] > 0.2
    assert curves.patients.mean(0)[AT_MODERATE : AT_MILD + 1] == pytest.approx(
        of_patients[AT_MODERATE : AT_MILD + 1], abs=0.06
    )


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_what_noise_added_is_taken_away(seed):
    """Noise of 0.7 mm makes 30 % of patients reach 0.80 where 11 % do; the correction comes within 3 points."""
    spines, heights, cases = cohort(500, seed, Reading(sd_mm=0.7))
    free, read = (shares_below(spines, h, BOUNDS)[1] for h in (spines.heights, heights))
    curves = sample_curves(cases, noise_of(Reading().covariance()), BOUNDS, np.random.default_rng(seed), 200, 120)
    corrected = curves.sample_patients.mean(0)
    assert read[AT_MILD] - free[AT_MILD] > 0.15
    assert abs(corrected[AT_MILD] - free[AT_MILD]) < 0.03
    assert abs(corrected[AT_MODERATE] - free[AT_MODERATE]) < 0.02
    for curve in (*curves.vertebrae, *curves.patients, corrected):
        assert np.all(np.diff(curve) >= 0)
        assert np.all((curve >= 0) & (curve <= 1))
    low, high = np.quantile(curves.patients, [0.025, 0.975], axis=0)
    assert low[AT_MILD] < 0.109 < high[AT_MILD]  # in the population, of 400 000 made patients


def test_equal_seeds_give_equal_draws_and_other_seeds_do_not():
    _, _, cases = cohort(60, 5, Reading())

    def drawn(seed):
        return sample_curves(cases, noise_of(Reading().covariance()), BOUNDS, np.random.default_rng(seed), 30, 5)

    assert np.array_equal(drawn(1).patients, drawn(1).patients)
    assert not np.array_equal(drawn(1).patients, drawn(2).patients)


def test_each_vertebra_is_corrected_by_the_noise_of_its_class():
    """Half of the cohort is read without much error: telling so must give another answer than one noise for all."""
    _, _, cases = cohort(120, 6, Reading())
    first = (cases.patient < 60).astype(int)
    two = NoisyCases(cases.ratios, cases.height_mm, cases.level, cases.patient, cases.counts, first)
    scale = np.array([[Reading().covariance(), 1e-6 * np.eye(2)]])
    noise = NoiseDraws(scale, np.zeros_like(scale), np.full((1, 2), NEARLY_NORMAL))
    curves = sample_curves(two, noise, BOUNDS, np.random.default_rng(0), 120, 60)
    exact = Tally(cases, BOUNDS).shares(
        genant_of(*cases.ratios.T),
        (cases.patient[np.flatnonzero(np.diff(cases.patient, prepend=-1))] < 60).astype(float),
    )[1]
    everyone = Tally(cases, BOUNDS).shares(genant_of(*cases.ratios.T))[1]
    corrected = curves.sample_patients.mean(0)[AT_MILD]
    assert exact[AT_MILD] / 2 - 0.01 < corrected < everyone[AT_MILD] - 0.03
