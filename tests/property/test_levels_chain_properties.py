"""The chain of names beside a slow reference that tries every row of names there is."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra_core.levels.chain import LONGEST_STEP, ChainSettings, name_chain, step_weights
from vertebra_core.levels.names import LOOKS, NAMES, VARIANTS, looks_of

FEW = VARIANTS[:2]


def by_trying_all(looks, ratio, chain_settings, variants):
    """Probability of every name and the best row of names, from all rows of names of all variants."""
    steps = step_weights(ratio)
    total, best = np.zeros((len(looks), len(NAMES))), (-np.inf, ())
    for variant in variants:
        p = chain_settings.doubt / len(LOOKS) + (1 - chain_settings.doubt) * looks @ looks_of(variant).T
        for row in combinations(range(len(variant.names)), len(looks)):
            moves = np.diff(row)
            if (moves > LONGEST_STEP).any():
                continue
            weight = np.log(variant.prior / len(variant.names))
            weight += sum(chain_settings.trust * np.log(p[k, state]) for k, state in enumerate(row))
            weight += sum(steps[k, move - 1] for k, move in enumerate(moves))
            names = tuple(variant.names[state] for state in row)
            for k, name in enumerate(names):
                total[k, NAMES.index(name)] += np.exp(weight)
            best = max(best, (weight, names))
    return total / total.sum(1, keepdims=True), best[1]


@given(
    finds=st.integers(1, 3),
    seed=st.integers(0, 10_000),
    sharpness=st.floats(0.2, 4.0),
    trust=st.floats(0.1, 1.0),
    doubt=st.floats(0.01, 0.5),
)
@settings(max_examples=10, deadline=None)
def test_the_sums_are_those_over_all_rows_of_names(finds, seed, sharpness, trust, doubt):
    rng = np.random.default_rng(seed)
    looks = np.exp(sharpness * rng.normal(size=(finds, len(LOOKS))))
    looks /= looks.sum(1, keepdims=True)
    ratio = np.exp(rng.normal(0, 0.5, finds - 1))
    chain = name_chain(looks, ratio, ChainSettings(trust, doubt), FEW)
    probability, best = by_trying_all(looks, ratio, ChainSettings(trust, doubt), FEW)
    np.testing.assert_allclose(chain.probability, probability, atol=1e-9)
    assert chain.path == best


@given(finds=st.integers(1, 24), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_names_go_down_and_probabilities_are_probabilities(finds, seed):
    rng = np.random.default_rng(seed)
    looks = rng.dirichlet(np.full(len(LOOKS), 0.2), finds)
    ratio = np.exp(rng.normal(0, 0.3, finds - 1))
    chain = name_chain(looks, ratio, ChainSettings(0.4, 0.05))
    np.testing.assert_allclose(chain.probability.sum(1), 1.0, atol=1e-9)
    np.testing.assert_allclose(chain.variants.sum(), 1.0, atol=1e-9)
    places = [NAMES.index(name) for name in chain.path]
    assert places == sorted(set(places))
