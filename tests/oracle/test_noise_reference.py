"""Our sampler and fit of height noise against a slow reference that was written apart from them.

The reference lies beside the repository and needs numba to run in seconds. Its figures for two made cohorts were taken
with 3 x 4000 draws after 300 (`gnb2`, numba 0.68.1) and stand below, so that the comparison runs without either; its
fit of the noise is plain numpy and runs here where the file is there.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from benchmarks.noise_cases import Reading, make_spines, read_heights
from vertebra_core.epidemiology.noise_fit import Reads, fit_noise
from vertebra_core.epidemiology.noise_sampler import NEARLY_NORMAL, NoiseDraws, NoisyCases, sample_curves

REFERENCE = Path(__file__).parents[3] / "shared" / "oracles" / "epi_noise_sampler.py"
EQUAL = np.array([[2.0, 1.0], [1.0, 2.0]])
LIKE_READERS = Reading(sd_mm=0.68, correlation=0.42, freedom=5, shared=0.15)
OWN, SHARED = (0.68**2 * 0.58 * part * EQUAL for part in (0.85 * 3 / 5, 0.15))
# name: how it is read, sum of all heights, C, Cp, nu, (v74, v80, p74, p80): mean, low and high
FIGURES = {
    "normal": (
        Reading(), 185607.18356130534, 0.49 * EQUAL, 0 * EQUAL, NEARLY_NORMAL,
        (0.00924, 0.01253, 0.07480, 0.09626), (0.0055, 0.0077, 0.0460, 0.0606), (0.0140, 0.0185, 0.1097, 0.1383),
    ),
    "student": (
        LIKE_READERS, 185710.44058158968, OWN, SHARED, 5.0,
        (0.01021, 0.01372, 0.08295, 0.10316), (0.0063, 0.0087, 0.0526, 0.0674), (0.0151, 0.0199, 0.1187, 0.1453),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_corrected_shares_and_intervals_are_those_of_the_reference(name):
    how, total, scale, shared, freedom, *expected = FIGURES[name]
    rng = np.random.default_rng(5)
    spines = make_spines(300, rng)
    heights = read_heights(spines, rng, how)
    assert heights.sum() == pytest.approx(total, rel=1e-12), "another cohort than the reference had"
    counts, whole = np.ones(spines.n, bool), np.zeros(len(heights), dtype=int)
    ratios = np.log(heights[:, :2] / heights[:, 2:])
    cases = NoisyCases(ratios, heights.mean(1), spines.level, spines.patient, counts, whole)
    noise = NoiseDraws(scale[None, None], shared[None, None], np.array([[freedom]]))
    curves = sample_curves(cases, noise, np.array([0.74, 0.80]), np.random.default_rng(0), 800, 200)
    drawn = np.concatenate([curves.vertebrae, curves.patients], 1)
    mean, low, high = drawn.mean(0), *np.quantile(drawn, [0.025, 0.975], axis=0)
    width = np.array(expected[2]) - expected[1]
    assert mean == pytest.approx(np.array(expected[0]), abs=0.003)
    assert np.abs(mean - expected[0]).max() < 0.1 * width.max()
    assert np.all(np.abs(low - expected[1]) < 0.12 * width)
    assert np.all(np.abs(high - expected[2]) < 0.12 * width)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference is not beside the repository")
@pytest.mark.parametrize("how", [Reading(), Reading(freedom=4), LIKE_READERS], ids=["normal", "t4", "readers"])
def test_the_noise_of_two_reads_is_that_of_the_reference(how, monkeypatch):
    rng = np.random.default_rng(7)
    spines = make_spines(150, rng)
    twice = np.stack([read_heights(spines, rng, how) for _ in range(2)], 1)
    ours = fit_noise(Reads(twice, spines.patient), rng, kept=80)
    apart = (twice[:, 0, :2] - twice[:, 0, 2:]) - (twice[:, 1, :2] - twice[:, 1, 2:])
    scale, shared, freedom, _ = reference(monkeypatch).fit_noise(apart, spines.patient)
    theirs = scale * (freedom / (freedom - 2) if freedom else 1) + shared
    found = np.mean(ours.scale * (ours.freedom / (ours.freedom - 2))[:, None, None] + ours.shared, 0)
    assert found == pytest.approx(theirs, rel=0.15)
    assert found == pytest.approx(how.covariance(), rel=0.2)


def reference(monkeypatch) -> types.ModuleType:
    """The reference as a module; without numba its loops are plain Python."""
    if importlib.util.find_spec("numba") is None:
        stub = types.ModuleType("numba")
        stub.njit = lambda *_, **__: lambda function: function
        monkeypatch.setitem(sys.modules, "numba", stub)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("epi_noise_sampler", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
