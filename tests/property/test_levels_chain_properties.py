"""The chain of names beside a slow reference that tries every row of names there is."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from vertebra_core.levels.chain import FOREIGN, LONGEST_STEP, OVERLOOKED, Finds, Trust, name_chain, step_weights
from vertebra_core.levels.names import LOOKS, NAMES, VARIANTS, looks_of
from vertebra_core.levels.sizes import LOG_SIZES, SizeSpread, size_evidence

FEW = VARIANTS[:2]
SPREAD = SizeSpread((0.07, 0.1), (0.05, 0.08))


def random_finds(count: int, rng: np.random.Generator, sharpness: float) -> Finds:
    looks = np.exp(sharpness * rng.normal(size=(count, len(LOOKS))))
    sizes = LOG_SIZES[rng.integers(len(LOOKS), size=count)] + rng.normal(0, 0.1, (count, 2))
    sizes[rng.random((count, 2)) < 0.2] = np.nan
    ends = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    return Finds(looks / looks.sum(1, keepdims=True), np.exp(rng.normal(0, 0.5, count - 1)), sizes, ends)


def by_trying_all(finds: Finds, trust: Trust, variants):
    """Probability of every name and the best row of names, from all rows of names of all variants."""
    steps = step_weights(finds.ratio)
    likely = steps.argmax(1) + 1
    count = len(finds.looks)
    total, best = np.zeros((count, len(NAMES))), (-np.inf, ())
    for variant in variants:
        table = looks_of(variant)
        p = trust.doubt / len(LOOKS) + (1 - trust.doubt) * finds.looks @ table.T
        for row in combinations(range(len(variant.names)), count):
            moves = np.diff(row)
            if (moves > LONGEST_STEP).any() or (moves != likely).sum() > 1:
                continue
            weight = np.log(variant.prior / len(variant.names))
            weight += sum(trust.looks * np.log(p[k, state]) for k, state in enumerate(row))
            weight += sum(steps[k, move - 1] for k, move in enumerate(moves))
            weight += gaussian(finds.sizes, (table @ LOG_SIZES)[list(row)], trust.spread)
            names = tuple(variant.names[state] for state in row)
            weight += np.log(FOREIGN) * len({"C2", "S1", "S2"} & set(names))
            if finds.ends[0] and names[0] not in ("C2", "C3"):
                weight += np.log(OVERLOOKED)
            if finds.ends[1] and names[-1] not in (f"L{variant.lumbar}", "S1", "S2"):
                weight += np.log(OVERLOOKED)
            for k, name in enumerate(names):
                total[k, NAMES.index(name)] += np.exp(weight)
            best = max(best, (weight, names))
    return total / total.sum(1, keepdims=True), best[1]


def gaussian(sizes, expected, spread: SizeSpread) -> float:
    """Log density of the known sizes, with the full covariance matrix."""
    total = 0.0
    for feature in range(2):
        known = np.isfinite(sizes[:, feature])
        if known.any():
            shared, own = spread.patient[feature], spread.vertebra[feature]
            covariance = own**2 * np.eye(known.sum()) + shared**2
            total += multivariate_normal.logpdf(sizes[known, feature], expected[known, feature], covariance)
    return total


@given(
    count=st.integers(1, 3),
    seed=st.integers(0, 10_000),
    sharpness=st.floats(0.2, 4.0),
    looks=st.floats(0.1, 1.0),
    doubt=st.floats(0.01, 0.5),
)
@settings(max_examples=6, deadline=None)
def test_the_weights_are_those_of_all_rows_of_names(count, seed, sharpness, looks, doubt):
    """But for rows that differ from the likely steps at two gaps, which both leave out."""
    finds = random_finds(count, np.random.default_rng(seed), sharpness)
    trust = Trust(looks, doubt, SPREAD)
    chain = name_chain(finds, trust, FEW)
    probability, best = by_trying_all(finds, trust, FEW)
    np.testing.assert_allclose(chain.probability, probability, atol=1e-9)
    assert chain.path == best


@given(count=st.integers(1, 22), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_size_evidence_is_a_gaussian_with_a_shared_error(count, seed):
    rng = np.random.default_rng(seed)
    finds = random_finds(count, rng, 1.0)
    rows = LOG_SIZES[rng.integers(len(LOOKS), size=(2, count))]
    fast = size_evidence(finds.sizes, rows, SPREAD)
    slow = [gaussian(finds.sizes, row, SPREAD) for row in rows]
    np.testing.assert_allclose(fast[1] - fast[0], slow[1] - slow[0], rtol=1e-7, atol=1e-7)


@given(count=st.integers(1, 24), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_names_go_down_and_probabilities_are_probabilities(count, seed):
    finds = random_finds(count, np.random.default_rng(seed), 2.0)
    chain = name_chain(Finds(finds.looks, np.ones(count - 1), finds.sizes), Trust(0.4, 0.05, SPREAD))
    np.testing.assert_allclose(chain.probability.sum(1), 1.0, atol=1e-9)
    np.testing.assert_allclose(chain.variants.sum(), 1.0, atol=1e-9)
    places = [NAMES.index(name) for name in chain.path]
    assert places == sorted(set(places))
    assert chain.probability.max() <= 1 + 1e-9


@given(seed=st.integers(0, 10_000), factor=st.floats(0.8, 1.25))
@settings(max_examples=15, deadline=None)
def test_whatever_grows_all_vertebrae_alike_hardly_moves_the_names(seed, factor):
    """The size of a patient is one error that all share: only C against L may be told by it."""
    rng = np.random.default_rng(seed)
    sizes = LOG_SIZES[8:19] + rng.normal(0, 0.04, (11, 2))
    flat = np.full((11, len(LOOKS)), 1 / len(LOOKS))
    wide = Trust(0.4, 0.05, SizeSpread((5.0, 5.0), SPREAD.vertebra))
    usual = name_chain(Finds(flat, np.ones(10), sizes), wide)
    grown = name_chain(Finds(flat, np.ones(10), sizes + np.log(factor)), wide)
    np.testing.assert_allclose(usual.probability, grown.probability, atol=5e-3)
