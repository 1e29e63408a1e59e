"""Cohen's kappa of two gradings, plain or weighted, with an interval that knows of patients."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.statistics.influence import clustered_se, half_width, known, renumbered

Weights = Literal["plain", "linear", "quadratic"]
WEIGHTS: tuple[Weights, ...] = ("plain", "linear", "quadratic")


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance.

    Parameters
    ----------
    value : float or None
        None where both gradings say one and the same thing throughout.
    se, low, high : float or None
        None also for fewer than two patients.
    """

    value: float | None
    se: float | None = None
    low: float | None = None
    high: float | None = None


def weighted_kappa(
    one: Int[np.ndarray, "n"],
    other: Int[np.ndarray, "n"],
    size: int,
    weights: Weights = "plain",
    cluster: Int[np.ndarray, "n"] | None = None,
) -> Kappa:
    """Kappa of the gradings of n things.

    Parameters
    ----------
    one, other : array
        Grades 0 to `size` - 1.
    weights : str
        Disagreement weighs 1 ("plain"), or by the distance of grades or its square.
    cluster : array, optional
        Number of the patient of each; without it each is a patient of its own.

    Notes
    -----
    Cohen 1960 and 1968. The variance is that of Fleiss, Cohen and Everitt 1969 (delta method) with influences added
    up by patient; without clusters it is theirs, times n / (n - 1).

    Examples
    --------
    >>> weighted_kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 2).value
    0.5
    """
    n = len(one)
    if not n:
        return Kappa(None)
    agree = _agreement_weights(size, weights)
    cells = np.bincount(np.asarray(one) * size + other, minlength=size**2).reshape(size, size) / n
    rows, columns = cells.sum(1), cells.sum(0)
    by_row, by_column = agree @ columns, agree.T @ rows  # mean weight that a grade meets by chance
    observed, chance = float((agree * cells).sum()), float(rows @ by_row)
    if chance >= 1:
        return Kappa(None)
    value = (observed - chance) / (1 - chance)
    influence = agree[one, other] - (by_row[one] + by_column[other]) * (1 - value)
    influence = (influence - influence.mean()) / (1 - chance) / n
    clusters = n if cluster is None else renumbered(cluster)[1]
    se = clustered_se(influence, cluster)
    half = half_width(se, clusters)
    return Kappa(value, known(se), known(value - half), known(min(value + half, 1.0)))


def _agreement_weights(size: int, weights: Weights) -> Float[np.ndarray, "size size"]:
    away = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) / max(size - 1, 1)
    power = {"plain": away > 0, "linear": away, "quadratic": away**2}[weights]
    return 1.0 - power
