"""Counting: the row of names that fits the looks, the sizes and the distances of all vertebrae of a spine.

Every row that a spine can have is weighed: any variant of the spine (`vertebra_core.levels.names`), any first name, and
from each find to the next the step that the distance makes most likely, or another at one place. The weights of a few
thousand rows give the probability of every name; the best row gives names that never repeat.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from vertebra_core.levels.names import CERVICAL, MEASURED, NAMES, SACRUM, VARIANTS, Variant, looks_of
from vertebra_core.levels.sizes import LOG_SIZES, SizeSpread, size_evidence

LONGEST_STEP = 4
"""A gap of more vertebrae than three is not counted across."""
MISSED = 0.01
"""Chance that the vertebra after a find was missed: below what the detector misses of all (docs/experiments.md), for
each of them is one in a row."""
STEP_SD = 0.15
"""SD of log(distance / expected distance of neighbours): 0.065 on annotated spines, wider for what the detector errs
and for crushed bodies."""
OVERLOOKED = 0.03
"""Chance that the row of finds ends although the scan goes on and another vertebra follows: more than the detector
misses elsewhere, for the ends are where skull base and sacrum hide them."""
FOREIGN = 0.1
"""Chance that a C2, S1 or S2 in view is found at all: the detector learned from spines between C3 and L5."""
WILD_SD = 4.0
"""Beyond this many SD a distance is no evidence but a blunder, in the points or in the patient."""


@dataclass(frozen=True)
class Finds:
    """What is known of k finds, from the top down.

    Parameters
    ----------
    looks : array [k, looks]
        Probability of each of `LOOKS`.
    ratio : array [k - 1]
        Distance of each find from the next over the distance expected of neighbours.
    sizes : array [k, 2]
        Log of posterior height and depth, mm; NaN where one says nothing.
    ends : tuple of bool
        Whether the scan shows the whole place of a further vertebra above the first and below the last find: then
        there is none that is measured, and these are the ends of the spine.
    """

    looks: Float[np.ndarray, "k looks"]
    ratio: Float[np.ndarray, "g"]
    sizes: Float[np.ndarray, "k 2"]
    ends: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class Trust:
    """How far the evidence is trusted, fitted on patients that the network did not learn from.

    Parameters
    ----------
    looks : float
        Exponent of the looks' probabilities: neighbours see much of the same image, so their evidence may not be
        multiplied in full.
    doubt : float
        Chance that a look says nothing at all.
    spread : SizeSpread
    """

    looks: float
    doubt: float
    spread: SizeSpread


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
        Probability of each variant.
    """

    path: tuple[str, ...]
    probability: Float[np.ndarray, "k names"]
    variants: Float[np.ndarray, "variants"]


def step_weights(ratio: Float[np.ndarray, "g"]) -> Float[np.ndarray, "g steps"]:
    """Log weight of moving 1 .. `LONGEST_STEP` names on, from each distance over the one expected of neighbours."""
    steps = np.arange(1, LONGEST_STEP + 1)
    off = np.abs(np.log(np.maximum(ratio, 1e-3))[:, None] - np.log(steps))
    return (steps - 1) * np.log(MISSED) - 0.5 * np.minimum(off / STEP_SD, WILD_SD) ** 2


def step_patterns(weights: Float[np.ndarray, "g steps"]) -> Int[np.ndarray, "m g"]:
    """The most likely steps of all gaps, and every way to differ from them at one gap."""
    likely = weights.argmax(1) + 1
    patterns = [likely]
    for gap in range(len(likely)):
        for step in range(1, LONGEST_STEP + 1):
            if step != likely[gap]:
                patterns.append(np.r_[likely[:gap], step, likely[gap + 1 :]])
    return np.stack(patterns).astype(int)


def overlooked(row: Int[np.ndarray, "p k"], variant: Variant, ends: tuple[bool, bool]) -> Int[np.ndarray, "p"]:
    """At how many ends a row stops short of C3 or of the last lumbar vertebra although the scan goes on there."""
    names = variant.names
    above = ends[0] & (row[:, 0] > names.index(CERVICAL[0]))
    below = ends[1] & (row[:, -1] < names.index(SACRUM) - 1)
    return above.astype(int) + below.astype(int)


def name_chain(finds: Finds, trust: Trust, variants: tuple[Variant, ...] = VARIANTS) -> Chain:
    """Name k finds from the top down.

    Raises
    ------
    ValueError
        More finds than any spine has names.
    """
    weights = step_weights(finds.ratio)
    patterns = step_patterns(weights)
    pattern_weight = np.take_along_axis(weights[None], patterns[..., None] - 1, 2)[..., 0].sum(1)
    moved = np.pad(np.cumsum(patterns, axis=1), ((0, 0), (1, 0)))  # [m, k] names further down than the first find
    k = np.arange(len(finds.looks))
    rows, scores, kinds = [], [], []
    for kind, variant in enumerate(variants):
        table = looks_of(variant)
        first, pattern = np.nonzero(np.arange(len(table))[:, None] + moved[:, -1] < len(table))
        row = first[:, None] + moved[pattern]  # [p, k] places in the variant's names
        seen = trust.doubt / table.shape[1] + (1 - trust.doubt) * finds.looks @ table.T
        score = trust.looks * np.log(seen)[k, row].sum(1) + pattern_weight[pattern]
        score += size_evidence(finds.sizes, (table @ LOG_SIZES)[row], trust.spread)
        foreign = ~np.isin(variant.names, MEASURED)
        score += np.log(OVERLOOKED) * overlooked(row, variant, finds.ends) + np.log(FOREIGN) * foreign[row].sum(1)
        scores.append(score + np.log(variant.prior) - np.log(len(table)))
        rows.append(np.array([NAMES.index(name) for name in variant.names])[row])
        kinds.append(np.full(len(row), kind))
    row, score, kind = np.concatenate(rows), np.concatenate(scores), np.concatenate(kinds)
    if not len(score):
        raise ValueError(f"{len(k)} finds are more than a spine has names")
    share = np.exp(score - logsumexp(score))
    probability = np.zeros((len(k), len(NAMES)))
    np.add.at(probability, (k[None], row), share[:, None])
    path = tuple(NAMES[i] for i in row[score.argmax()])
    return Chain(path, probability, np.bincount(kind, share, len(variants)))
