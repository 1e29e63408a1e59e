"""Cohorts with known true heights, and how they may be read: what the noise correction is tried on.

True heights are T4 to L4 with the level's own shape, variation between patients and within them, and fractures that
cluster in a few patients. A read adds errors of heights. All numbers are of one generator, stated here once, so that
every situation of docs/noise.md is a set of arguments.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.measure import genant_index
from vertebra_core.tables.columns import LEVELS

VIEW = LEVELS[LEVELS.index("T4") : LEVELS.index("T13")] + LEVELS[LEVELS.index("L1") : LEVELS.index("L5")]
HP_MM = np.array([17.5, 18, 18.6, 19.2, 19.8, 20.5, 21.5, 22.8, 24.3, 25.6, 26.6, 27.2, 27.3])
"""Mean posterior heights, T4 to L4."""
HA_OVER_HP = np.array([0.945, 0.935, 0.925, 0.92, 0.92, 0.935, 0.945, 0.935, 0.93, 0.94, 0.96, 0.985, 1.005])
HM_OVER_HP = np.array([0.93, 0.925, 0.925, 0.92, 0.92, 0.925, 0.925, 0.92, 0.915, 0.915, 0.915, 0.92, 0.92])
IN_VIEW = {8: 0.25, 9: 0.25, 10: 0.2, 11: 0.1, 12: 0.1, 13: 0.1}
"""Share of patients by number of neighbouring levels in view: 9.85 on average."""
CORRELATION = 0.35
SIZE_SD = 0.058
"""Of log height between patients (docs/numbers.md)."""


@dataclass(frozen=True)
class World:
    """Who there is.

    Parameters
    ----------
    within_sd, between_sd : tuple of float
        SD of log ha/hp and log hm/hp within a patient and between patients.
    prone : float
        Share of patients with many fractures.
    fractured, fractured_low : float
        Chance that a vertebra of a prone and of another patient is fractured.
    """

    within_sd: tuple[float, float] = (0.040, 0.034)
    between_sd: tuple[float, float] = (0.024, 0.020)
    prone: float = 0.12
    fractured: float = 0.12
    fractured_low: float = 0.003


USUAL = World()
WIDE = World(within_sd=(0.050, 0.042), between_sd=(0.028, 0.024))
RARE = replace(USUAL, fractured=0.2 * USUAL.fractured, fractured_low=0.2 * USUAL.fractured_low)


@dataclass(frozen=True)
class Reading:
    """How heights are read: independent errors unless said.

    Parameters
    ----------
    sd_mm : float
        SD of the error of a height.
    correlation : float
        Between the errors of the three heights of a vertebra.
    freedom : float, optional
        Student degrees of freedom of the error, scaled to keep `sd_mm`; normal without.
    outliers, outlier_times : float
        Share of vertebrae whose errors are that many times as large.
    shared : float
        Share of the error variance that all vertebrae of a read have in common.
    bias_mm : tuple of float
        Added to ha, hm and hp.
    shrink : float
        Each height moves by this share towards the mean of its level, as of an output that hugs the mean.
    """

    sd_mm: float = 0.7
    correlation: float = 0.0
    freedom: float | None = None
    outliers: float = 0.0
    outlier_times: float = 3.5
    shared: float = 0.0
    bias_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shrink: float = 0.0

    def covariance(self) -> Float[np.ndarray, "2 2"]:
        """Covariance of the errors of (ha-hp, hm-hp), mm2; outliers not counted."""
        return self.sd_mm**2 * (1 - self.correlation) * np.array([[2.0, 1.0], [1.0, 2.0]])


@dataclass(frozen=True)
class Spines:
    """True heights of N vertebrae.

    Parameters
    ----------
    heights : array [N, 3]
        ha, hm and hp, mm.
    level, patient : array [N]
        Numbers from 0; patients ascend.
    """

    heights: Float[np.ndarray, "N 3"]
    level: Int[np.ndarray, "N"]
    patient: Int[np.ndarray, "N"]

    @property
    def n(self) -> int:
        """Patients."""
        return int(self.patient[-1]) + 1


def make_spines(n: int, rng: np.random.Generator, world: World = USUAL) -> Spines:
    """True spines of n patients."""
    seen = rng.choice(list(IN_VIEW), n, p=list(IN_VIEW.values()))
    first = rng.integers(0, len(VIEW) - seen + 1)
    patient = np.repeat(np.arange(n), seen)
    level = np.concatenate([np.arange(a, a + k) for a, k in zip(first, seen, strict=True)])
    logs = np.log(np.stack([HA_OVER_HP, HM_OVER_HP], 1))[level]
    logs += _correlated(rng, n, world.between_sd)[patient] + _correlated(rng, len(level), world.within_sd)
    hp = HP_MM[level] * np.exp(SIZE_SD * rng.standard_normal(n))[patient]
    heights = np.stack([hp * np.exp(logs[:, 0]), hp * np.exp(logs[:, 1]), hp], 1)
    chance = np.where(rng.random(n) < world.prone, world.fractured, world.fractured_low)[patient]
    return Spines(_fracture(rng, heights, rng.random(len(level)) < chance), level, patient)


def read_heights(spines: Spines, rng: np.random.Generator, how: Reading) -> Float[np.ndarray, "N 3"]:
    """One read of the heights, mm."""
    n = len(spines.heights)
    each = np.sqrt(1 - how.shared) * _equally_correlated(rng, n, how.correlation)
    if how.freedom:
        each *= np.sqrt((how.freedom - 2) / rng.chisquare(how.freedom, n))[:, None]
    each[rng.random(n) < how.outliers] *= how.outlier_times
    common = np.sqrt(how.shared) * _equally_correlated(rng, spines.n, how.correlation)[spines.patient]
    middle = HP_MM[spines.level, None] * np.stack([HA_OVER_HP, HM_OVER_HP, np.ones(len(VIEW))], 1)[spines.level]
    heights = spines.heights + how.shrink * (middle - spines.heights)
    return np.maximum(heights + how.bias_mm + how.sd_mm * (each + common), 1.0)


def shares_below(spines: Spines, heights: Float[np.ndarray, "N 3"], thresholds: np.ndarray) -> tuple[np.ndarray, ...]:
    """Share of vertebrae and of patients with G at most each threshold."""
    g = genant_index(heights)
    worst = np.minimum.reduceat(g, np.flatnonzero(np.diff(spines.patient, prepend=-1)))
    return tuple((values[:, None] <= thresholds + 1e-9).mean(0) for values in (g, worst))


def _correlated(rng: np.random.Generator, n: int, sd: tuple[float, float]) -> np.ndarray:
    a, b = rng.standard_normal((2, n))
    return np.stack([sd[0] * a, sd[1] * (CORRELATION * a + np.sqrt(1 - CORRELATION**2) * b)], 1)


def _equally_correlated(rng: np.random.Generator, n: int, correlation: float) -> np.ndarray:
    common = rng.standard_normal((n, 1))
    return np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.standard_normal((n, 3))


def _fracture(rng: np.random.Generator, heights: np.ndarray, broken: np.ndarray) -> np.ndarray:
    """What is left of the lowest height is 0.48 to 0.93 of it; three in five are wedges, the others biconcave."""
    left = 0.48 + 0.45 * rng.beta(2.2, 1.8, len(heights))
    wedge = rng.random(len(heights)) < 0.6
    factors = np.stack([np.where(wedge, left, left**0.25), np.where(wedge, left**0.5, left), np.ones(len(heights))], 1)
    return np.where(broken[:, None], heights * factors, heights)
