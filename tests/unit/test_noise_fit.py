"""The noise of heights from replicate reads: made reads with known noise, bias, gaps, too little to go by."""

import numpy as np
import pytest

from benchmarks.noise_cases import Reading, make_spines, read_heights
from vertebra_core.epidemiology.noise_fit import FittedNoise, Reads, fit_noise
from vertebra_core.errors import WrongUse


def made_reads(n: int, reads: int, seed: int, how: Reading) -> tuple[Reads, np.random.Generator]:
    rng = np.random.default_rng(seed)
    spines = make_spines(n, rng)
    return Reads(np.stack([read_heights(spines, rng, how) for _ in range(reads)], 1), spines.patient), rng


def total(fitted: FittedNoise) -> np.ndarray:
    """Draws of the covariance of one read."""
    return fitted.scale * (fitted.freedom / (fitted.freedom - 2))[:, None, None] + fitted.shared


@pytest.mark.parametrize("reads", [2, 3])
def test_heavy_tails_and_shared_errors_are_told_apart(reads):
    how = Reading(sd_mm=0.68, correlation=0.42, freedom=5, shared=0.15)
    given, rng = made_reads(200, reads, 1, how)
    fitted = fit_noise(given, rng, kept=80)
    own, shared = how.covariance() * 0.85 * 3 / 5, how.covariance() * 0.15
    assert fitted.scale.mean(0) == pytest.approx(own, rel=0.12)
    assert fitted.shared.mean(0) == pytest.approx(shared, abs=0.025)
    assert 4 <= np.median(fitted.freedom) <= 7
    assert total(fitted).mean(0) == pytest.approx(how.covariance(), abs=0.06)  # 2.5 standard errors
    assert fitted.n_patients == 200
    assert fitted.n_reads == reads * fitted.n_vertebrae == reads * len(given.patient)


def test_the_posterior_is_as_wide_as_the_estimates_scatter():
    """Over made replicate studies the draws of the SD cover the true one about as often as they claim."""
    inside = []
    for seed in range(12):
        given, rng = made_reads(40, 2, 100 + seed, Reading())
        low, high = np.quantile(total(fit_noise(given, rng, kept=50))[:, 1, 1], [0.05, 0.95])
        inside.append(low < Reading().covariance()[1, 1] < high)
    assert sum(inside) >= 8  # 10.8 of 12 expected; fewer than 8 once in fifty


def test_normal_errors_without_a_shared_part_are_a_plain_covariance():
    given, rng = made_reads(100, 2, 3, Reading())
    fitted = fit_noise(given, rng, student=False, shared=False, kept=60)
    apart = given.heights[..., :2] - given.heights[..., 2:]
    assert not fitted.shared.any()
    assert fitted.scale.mean(0) == pytest.approx(np.cov((apart[:, 0] - apart[:, 1]).T) / 2, rel=0.03)


def test_a_bias_between_reads_is_reported_and_is_no_noise():
    given, _ = made_reads(60, 2, 4, Reading(sd_mm=0.3))
    moved = given.heights.copy()
    moved[:, 1, 1] -= 0.8
    plain, biased = (
        fit_noise(Reads(h, given.patient), np.random.default_rng(0), kept=40) for h in (given.heights, moved)
    )
    assert biased.bias_mm[0, 1] - biased.bias_mm[1, 1] == pytest.approx(0.8, abs=0.1)
    assert total(biased).mean(0) == pytest.approx(total(plain).mean(0), rel=0.1)


def test_vertebrae_read_once_say_nothing_and_gaps_are_no_matter():
    given, _ = made_reads(60, 3, 5, Reading())
    holes = given.heights.copy()
    holes[::2, 2] = np.nan
    holes[::5, 1:] = np.nan
    fitted = fit_noise(Reads(holes, given.patient), np.random.default_rng(0), kept=40)
    twice = np.isfinite(holes).all(2).sum(1) >= 2
    assert fitted.n_vertebrae == twice.sum()
    assert total(fitted).mean(0) == pytest.approx(Reading().covariance(), rel=0.2)
    assert np.isfinite(fitted.scale).all()


@pytest.mark.parametrize("n", [0, 9])
def test_too_few_patients_are_refused(n):
    given, rng = made_reads(12, 2, 6, Reading())
    with pytest.raises(WrongUse, match=f"replicate reads of {n} patients"):
        fit_noise(given.of(given.patient < n), rng)
