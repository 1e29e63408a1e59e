"""Counting: the chain of names that fits the looks of all vertebrae of a spine, and how sure each name is.

A hidden Markov model. States are the names of one variant of the spine (`vertebra_core.levels.names`), from the top
down; each find moves at least one name on, more where the distance says that a vertebra was missed. Forward and
backward sums (Rabiner, Proc IEEE 1989;77:257) over all variants give the exact probability of every name, the best
path gives names that never repeat.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from vertebra_core.levels.names import NAMES, VARIANTS, Variant, looks_of

LONGEST_STEP = 4
"""A gap of more vertebrae than three is not counted across."""
MISSED = 0.01
"""Chance that the vertebra after a find was missed: below what the detector misses of all (docs/experiments.md), for
each of them is one in a row."""
STEP_SD = 0.15
"""SD of log(distance / expected distance of neighbours): 0.065 on annotated spines, wider for what the detector errs
and for crushed bodies."""
WILD_SD = 4.0
"""Beyond this many SD a distance is no evidence but a blunder, in the points or in the patient."""


@dataclass(frozen=True)
class ChainSettings:
    """How far the looks are trusted; both numbers are fitted on patients that the network did not learn from.

    Parameters
    ----------
    trust : float
        Exponent of the looks' probabilities: neighbours see much of the same image, so their evidence may not be
        multiplied in full.
    doubt : float
        Chance that a look says nothing at all.
    """

    trust: float
    doubt: float


@dataclass(frozen=True)
class Chain:
    """Names of k finds.

    Parameters
    ----------
    path : tuple of str
        The most probable names of the whole spine, each lower than the one before.
    probability : array [k, names]
        Of every name of `NAMES` for every find; rows sum to 1.
    variants : array [variants]
        Probability of each of `VARIANTS`.
    """

    path: tuple[str, ...]
    probability: Float[np.ndarray, "k names"]
    variants: Float[np.ndarray, "variants"]


def step_weights(ratio: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k steps"]:
    """Log weight of moving 1 .. `LONGEST_STEP` names on, from each distance over the one expected of neighbours."""
    steps = np.arange(1, LONGEST_STEP + 1)
    off = np.abs(np.log(np.maximum(ratio, 1e-3))[:, None] - np.log(steps))
    return (steps - 1) * np.log(MISSED) - 0.5 * np.minimum(off / STEP_SD, WILD_SD) ** 2


def name_chain(
    looks: Float[np.ndarray, "k looks"],
    ratio: Float[np.ndarray, "g"],
    settings: ChainSettings,
    variants: tuple[Variant, ...] = VARIANTS,
) -> Chain:
    """Name k finds from the top down.

    Parameters
    ----------
    looks : array [k, looks]
        Probability of each of `LOOKS`.
    ratio : array [k - 1]
        Distance of each find from the next over the distance expected of neighbours.
    settings : ChainSettings
    variants : tuple of Variant
    """
    steps = step_weights(ratio)
    totals, marginals, best = [], [], []
    for variant in variants:
        states = looks_of(variant)
        evidence = settings.trust * np.log(settings.doubt / looks.shape[1] + (1 - settings.doubt) * looks @ states.T)
        forward, backward = _sums(evidence, steps), _sums(evidence[::-1, ::-1], steps[::-1])[::-1, ::-1]
        together = forward + backward - evidence
        start = np.log(variant.prior) - np.log(len(states))
        totals.append(start + logsumexp(forward[-1]))
        marginals.append(together + start)
        score, path = _best(evidence, steps)
        best.append((start + score, tuple(variant.names[i] for i in path)))
    whole = logsumexp(totals)
    probability = np.zeros((len(looks), len(NAMES)))
    for variant, marginal in zip(variants, marginals, strict=True):
        columns = [NAMES.index(name) for name in variant.names]
        probability[:, columns] += np.exp(marginal - whole)
    return Chain(max(best)[1], probability, np.exp(np.array(totals) - whole))


def _moved(row: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Log weights [steps, states] of arriving at each state by each step; -inf where no state lies before."""
    moved = np.full((len(steps), len(row)), -np.inf)
    for i, weight in enumerate(steps):
        moved[i, i + 1 :] = row[: len(row) - i - 1] + weight
    return moved


def _sums(evidence: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Log of the summed weight of all paths up to each find and state."""
    total = np.empty_like(evidence)
    total[0] = evidence[0]
    for k in range(1, len(evidence)):
        total[k] = evidence[k] + logsumexp(_moved(total[k - 1], steps[k - 1]), axis=0)
    return total


def _best(evidence: np.ndarray, steps: np.ndarray) -> tuple[float, list[int]]:
    """Log weight of the best path, and its states (Viterbi)."""
    total, came = evidence[0], []
    for k in range(1, len(evidence)):
        moved = _moved(total, steps[k - 1])
        came.append(np.argmax(moved, axis=0) + 1)
        total = evidence[k] + moved.max(0)
    state = int(np.argmax(total))
    path = [state]
    for back in reversed(came):
        state -= int(back[state])
        path.append(state)
    return float(total.max()), path[::-1]
