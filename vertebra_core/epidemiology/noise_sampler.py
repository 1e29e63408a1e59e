"""What heights would be without their measurement noise: a Gibbs sampler of the true height ratios of a cohort.

The model (docs/noise.md), for vertebra j of patient i at level l, with r = (log ha/hp, log hm/hp) and h the mean of its
three heights:

    read      r_j = true_j + E_i / h_j + e_j,   e_j Student with scale C / h_j^2 and nu,  E_i normal with covariance Cp
    true      true_j = mu_l + b_i + x_j,        b_i normal with covariance Omega
    mixture   x_j normal with (m_k, T_k);       k = 0 healthy, m_0 = 0;  k = 1, 2 fractured
    patients  of two classes, a small one with many fractures; each has its own shares of k

C, Cp and nu come from replicate reads (`vertebra_core.epidemiology.noise_fit`) and are never updated by the cohort:
each run walks through draws of their posterior ("cut", Plummer 2015). Everything else has conjugate conditionals
(Gelman et al., Bayesian Data Analysis, chapters 11, 15 and 22); the true ratios are integrated out where that costs
nothing, which mixes faster. All vertebrae are drawn at once in numpy.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vertebra_core.epidemiology.noise_algebra import Sym, inverse_wishart, normal, normal_of_precision, symmetric
from vertebra_core.tables.grades import FLOATING_ERROR

COMPONENTS = 3
HEALTHY = 0
PRIOR_MEAN = ((0.0, 0.0), (-0.28, -0.15), (-0.08, -0.25))
"""Where fractures lie from the level's healthy mean: a wedge (ha/hp down by a quarter, hm/hp half as much in logs) and
a biconcave one. Log ratios."""
PRIOR_MEAN_SD = 0.15
"""Wide enough for a mild or a severe fracture to be the centre instead."""
HEALTHY_SPREAD = Sym(0.0016, 0.0, 0.0012)
"""Variance of healthy log ratios within a patient and level: SD 0.040 and 0.035 (readers: docs/numbers.md)."""
HEALTHY_FREEDOM = 6.0
FRACTURE_SPREAD = Sym(0.04, 0.0, 0.04)
FRACTURE_FREEDOM = 5.0
"""Inverse Wishart (5, 0.04 I): mean variance 0.02, SD 0.14, and weak: a handful of fractures overrules it."""
PATIENT_SPREAD = Sym(0.0016, 0.0, 0.0012)
PATIENT_FREEDOM = 4.0
LEVEL_PRECISION = 1 / 0.15**2
"""Of a level's mean around the cohort's: holds levels that were hardly seen, moves no other."""
CLASS_PRIOR = (2.0, 1.0)
"""Beta prior of the share of patients with few and with many fractures."""
SHARE_PRIOR = ((40.0, 0.4, 0.4), (4.0, 0.7, 0.7))
"""Dirichlet priors of the components by class of patients: 2 % and 26 % fractured, worth 41 and 5 vertebrae."""
HOLD = 5
"""Iterations that one draw of the noise is kept for, so that the rest settles under it."""
NEARLY_NONE_MM2 = 1e-9
"""Stands for a shared covariance of 0 where another class of slices has one."""
NEARLY_NORMAL = 1e5
"""Degrees of freedom from which a Student error is a normal one."""


@dataclass(frozen=True)
class NoisyCases:
    """N vertebrae of n patients, as read.

    Parameters
    ----------
    ratios : array [N, 2]
        log(ha/hp) and log(hm/hp).
    height_mm : array [N]
        Mean of the three heights, mm.
    level : array [N]
        Number of the level, from 0.
    patient : array [N]
        Number of the patient, ascending, none left out.
    counts : array [n]
        Which patients are counted as patients (all vertebrae are).
    noise_class : array [N]
        Which noise applies.
    """

    ratios: Float[np.ndarray, "N 2"]
    height_mm: Float[np.ndarray, "N"]
    level: Int[np.ndarray, "N"]
    patient: Int[np.ndarray, "N"]
    counts: Bool[np.ndarray, "n"]
    noise_class: Int[np.ndarray, "N"]


@dataclass(frozen=True)
class NoiseDraws:
    """D draws of the noise of each of c classes.

    Parameters
    ----------
    scale : array [D, c, 2, 2]
        C: Student scale of the errors of (ha-hp, hm-hp) of a vertebra, mm2.
    shared : array [D, c, 2, 2]
        Cp: covariance of the error that all vertebrae of one read share, mm2; all 0 for none.
    freedom : array [D, c]
        Student degrees of freedom.
    """

    scale: Float[np.ndarray, "D c 2 2"]
    shared: Float[np.ndarray, "D c 2 2"]
    freedom: Float[np.ndarray, "D c"]

    def times(self, factor: float) -> "NoiseDraws":
        """With all standard deviations multiplied by `factor`."""
        return NoiseDraws(self.scale * factor**2, self.shared * factor**2, self.freedom)


@dataclass(frozen=True)
class Curves:
    """Shares with G <= t for T thresholds, in D draws.

    Parameters
    ----------
    vertebrae, patients : array [D, T]
        Shares in the population: patients weighted by a Bayesian bootstrap (Rubin 1981).
    sample_vertebrae, sample_patients : array [D, T]
        Shares in this very sample.
    """

    vertebrae: Float[np.ndarray, "D T"]
    patients: Float[np.ndarray, "D T"]
    sample_vertebrae: Float[np.ndarray, "D T"]
    sample_patients: Float[np.ndarray, "D T"]


class Tally:
    """Counts G <= t by vertebra and by patient, weighted and not.

    Parameters
    ----------
    cases : NoisyCases
    thresholds : array [T]
        Ascending; bounds included.
    """

    def __init__(self, cases: NoisyCases, thresholds: Float[np.ndarray, "T"]) -> None:
        self._bounds = np.asarray(thresholds) + FLOATING_ERROR
        self._patient, self._counts = cases.patient, cases.counts
        self._starts = first_rows(cases.patient)
        self._n_bones = np.bincount(cases.patient, minlength=len(cases.counts)).astype(float)

    def shares(
        self, g: Float[np.ndarray, "N"], weights: Float[np.ndarray, "n"] | None = None
    ) -> tuple[np.ndarray, ...]:
        """Share of vertebrae and of patients at or below each threshold."""
        weights = np.ones(len(self._counts)) if weights is None else weights
        low = np.flatnonzero(g <= self._bounds[-1])
        bones = self._cumulated(g[low], weights[self._patient[low]]) / (weights @ self._n_bones)
        counted = weights * self._counts
        people = self._cumulated(np.minimum.reduceat(g, self._starts), counted) / max(counted.sum(), 1e-300)
        return bones, people

    def _cumulated(self, g: np.ndarray, weights: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self._bounds, g)
        return np.bincount(place, weights, len(self._bounds) + 1)[:-1].cumsum()


def first_rows(patient: Int[np.ndarray, "N"]) -> Int[np.ndarray, "n"]:
    """First row of each patient."""
    return np.flatnonzero(np.diff(patient, prepend=-1))


def genant_of(a: Float[np.ndarray, "N"], b: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Genant index from log(ha/hp) and log(hm/hp): min/max of (ha, hm, hp).

    Examples
    --------
    >>> genant_of(np.log([20 / 25]), np.log([22 / 25])).round(12).tolist()
    [0.8]
    """
    return np.exp(np.minimum(np.minimum(a, b), 0) - np.maximum(np.maximum(a, b), 0))


def sample_curves(
    cases: NoisyCases,
    noise: NoiseDraws,
    thresholds: Float[np.ndarray, "T"],
    rng: np.random.Generator,
    draws: int,
    burn_in: int,
) -> Curves:
    """Curves of the true G in `draws` iterations of one chain, after `burn_in` that are not kept.

    Without noise (all of C and Cp 0) the true ratios are the read ones, and only the bootstrap is drawn.
    """
    tally = Tally(cases, thresholds)
    chain = None if not (noise.scale.any() or noise.shared.any()) else _Chain(cases, noise, rng)
    g = genant_of(*cases.ratios.T)
    kept: list[tuple[np.ndarray, ...]] = []
    for iteration in range(draws if chain is None else burn_in + draws):
        if chain is not None:
            g = genant_of(*chain.step(iteration))
            if iteration < burn_in:
                continue
        weights = rng.standard_exponential(len(cases.counts))
        kept.append((*tally.shares(g, weights), *tally.shares(g)))
    bones, people, own_bones, own_people = (np.array(one) for one in zip(*kept, strict=True))
    return Curves(bones, people, own_bones, own_people)


class _Chain:
    """State of the sampler; `step` moves all of it once."""

    def __init__(self, cases: NoisyCases, noise: NoiseDraws, rng: np.random.Generator) -> None:
        self.rng, self.noise, self.cases = rng, noise, cases
        self.read = tuple(np.ascontiguousarray(cases.ratios.T))
        self.over_h = 1 / cases.height_mm
        self.patient, self.level = cases.patient, cases.level
        self.starts = first_rows(cases.patient)
        self.n, self.n_levels = len(cases.counts), int(cases.level.max()) + 1
        self.centre = tuple(float(np.median(read)) for read in self.read)
        self.mu = tuple(np.full(self.n_levels, centre) for centre in self.centre)
        self.b = (np.zeros(self.n), np.zeros(self.n))
        self.base = self._healthy_mean()
        self.moved: tuple[np.ndarray, ...] = (np.zeros(len(self.patient)), np.zeros(len(self.patient)))
        self.patient_spread = PATIENT_SPREAD.times(0.3)
        self.lam = np.ones(len(self.patient))
        self.m = np.array(PRIOR_MEAN)
        self.spread = [HEALTHY_SPREAD, *[FRACTURE_SPREAD.times(0.6)] * (COMPONENTS - 1)]
        self.shares = np.array([[0.97, 0.015, 0.015], [0.8, 0.1, 0.1]])
        self.prone_share = 0.15
        self.prone = (rng.random(self.n) < self.prone_share).astype(int)

    def step(self, iteration: int) -> tuple[np.ndarray, ...]:
        """One iteration; the true log ratios of all vertebrae."""
        if iteration % HOLD == 0:
            self._take_noise(iteration // HOLD % len(self.noise.freedom))
        error = self.scale.times(self.over_h * self.over_h / self.lam)
        self.z = self._components(error)
        prior = self._spread_of_each()
        weight = prior.plus(error).inverse()
        centre = tuple(self.m[:, axis][self.z] for axis in (0, 1))
        bare = tuple(read - m for read, m in zip(self.read, centre, strict=True))
        self._draw_levels(weight, bare)
        self._draw_patients(weight, bare)
        self.base = self._healthy_mean()
        self._draw_shifts(weight, bare)
        x = self._true_deviation(prior, weight, centre)
        true = tuple(part + own for part, own in zip(self.base, x, strict=True))
        self._draw_tails(true)
        self.patient_spread = inverse_wishart(
            self.rng, PATIENT_FREEDOM + self.n, PATIENT_SPREAD.plus(_squares(*self.b))
        )
        self._draw_mixture(x)
        self._draw_classes()
        return true

    def _take_noise(self, number: int) -> None:
        """The next draw of the noise, by vertebra, and the covariance of the shared error by patient."""
        own = self.cases.noise_class
        self.scale = symmetric(self.noise.scale[number]).take(own)
        self.scale_inverse = symmetric(np.linalg.pinv(self.noise.scale[number])).take(own)
        self.freedom = self.noise.freedom[number][own]
        shared = self.noise.shared[number]
        self.has_shift = bool(shared.any())
        if self.has_shift:
            inverse = np.linalg.inv(shared + NEARLY_NONE_MM2 * np.eye(2))
            self.shift_precision = symmetric(inverse).take(own[self.starts])

    def _spread_of_each(self) -> Sym:
        """Covariance of the component of each vertebra."""
        parts = ([getattr(one, name) for one in self.spread] for name in Sym._fields)
        return Sym(*(np.take(part, self.z) for part in parts))

    def _by_patient(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, self.starts)

    def _healthy_mean(self) -> tuple[np.ndarray, ...]:
        """mu + b of each vertebra."""
        return tuple(mu[self.level] + b[self.patient] for mu, b in zip(self.mu, self.b, strict=True))

    def _components(self, error: Sym) -> np.ndarray:
        """Component of each vertebra, the true ratios integrated out."""
        x = [read - base - moved for read, base, moved in zip(self.read, self.base, self.moved, strict=True)]
        log_shares = np.log(self.shares)[self.prone]
        logs = np.empty((COMPONENTS, len(self.patient)))
        for k in range(COMPONENTS):
            covariance = error.plus(self.spread[k])
            determinant = covariance.determinant()
            a, b = x[0] - self.m[k, 0], x[1] - self.m[k, 1]
            distance = (covariance.bb * a * a - 2 * covariance.ab * a * b + covariance.aa * b * b) / determinant
            logs[k] = log_shares[:, k][self.patient] - 0.5 * (np.log(determinant) + distance)
        ladder = np.exp(logs - logs.max(0)).cumsum(0)
        return (self.rng.random(len(self.patient)) * ladder[-1] > ladder[:-1]).sum(0)

    def _draw_levels(self, weight: Sym, bare: tuple[np.ndarray, ...]) -> None:
        rest = [own - b[self.patient] - moved for own, b, moved in zip(bare, self.b, self.moved, strict=True)]
        pull = weight.apply(*rest)
        precision = Sym(*(np.bincount(self.level, part, self.n_levels) for part in weight))
        precision = precision.plus(Sym(LEVEL_PRECISION, 0.0, LEVEL_PRECISION))
        pulls = [
            np.bincount(self.level, part, self.n_levels) + LEVEL_PRECISION * centre
            for part, centre in zip(pull, self.centre, strict=True)
        ]
        self.mu = normal_of_precision(self.rng, precision, (pulls[0], pulls[1]))

    def _draw_patients(self, weight: Sym, bare: tuple[np.ndarray, ...]) -> None:
        rest = [own - mu[self.level] - moved for own, mu, moved in zip(bare, self.mu, self.moved, strict=True)]
        first, second = weight.apply(*rest)
        precision = Sym(*map(self._by_patient, weight)).plus(self.patient_spread.inverse())
        self.b = normal_of_precision(self.rng, precision, (self._by_patient(first), self._by_patient(second)))

    def _draw_shifts(self, weight: Sym, bare: tuple[np.ndarray, ...]) -> None:
        """The error that all vertebrae of a patient's read share, mm."""
        if not self.has_shift:
            return
        rest = [own - base for own, base in zip(bare, self.base, strict=True)]
        first, second = weight.apply(*rest)
        squared = self.over_h * self.over_h
        precision = Sym(*(self._by_patient(part * squared) for part in weight)).plus(self.shift_precision)
        pull = (self._by_patient(first * self.over_h), self._by_patient(second * self.over_h))
        shift = normal_of_precision(self.rng, precision, pull)
        self.moved = tuple(part[self.patient] * self.over_h for part in shift)

    def _true_deviation(self, prior: Sym, weight: Sym, centre: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """x of each vertebra: a normal mean, with the component as prior and the read ratio as its one measurement."""
        off = [
            read - base - moved - m
            for read, base, moved, m in zip(self.read, self.base, self.moved, centre, strict=True)
        ]
        first, second = prior.apply(*weight.apply(*off))
        # T - T W T, the covariance that is left
        column_a = weight.apply(prior.aa, prior.ab)
        column_b = weight.apply(prior.ab, prior.bb)
        left = Sym(
            prior.aa - (prior.aa * column_a[0] + prior.ab * column_a[1]),
            prior.ab - (prior.aa * column_b[0] + prior.ab * column_b[1]),
            prior.bb - (prior.ab * column_b[0] + prior.bb * column_b[1]),
        )
        noise = normal(self.rng, left, len(self.z))
        return centre[0] + first + noise[0], centre[1] + second + noise[1]

    def _draw_tails(self, true: tuple[np.ndarray, ...]) -> None:
        """The Student error as a normal one of its own precision: 1 on average, small for an outlier."""
        if self.freedom.min() >= NEARLY_NORMAL:
            return
        off = [read - own - moved for read, own, moved in zip(self.read, true, self.moved, strict=True)]
        distance = self.scale_inverse.norm(*off) * self.cases.height_mm**2
        self.lam = 2 / (self.freedom + distance) * self.rng.standard_gamma(self.freedom / 2 + 1)

    def _draw_mixture(self, x: tuple[np.ndarray, ...]) -> None:
        """Mean and covariance of the components."""
        for k in range(COMPONENTS):
            rows = np.flatnonzero(self.z == k)
            a, b = x[0][rows], x[1][rows]
            if k == HEALTHY:
                scale, freedom = HEALTHY_SPREAD.times(3.0), HEALTHY_FREEDOM
            else:
                scale, freedom = FRACTURE_SPREAD, FRACTURE_FREEDOM
                inverse, prior = self.spread[k].inverse(), 1 / PRIOR_MEAN_SD**2
                pull = inverse.apply(a.sum(), b.sum())
                pull = (np.array(pull[0] + prior * PRIOR_MEAN[k][0]), np.array(pull[1] + prior * PRIOR_MEAN[k][1]))
                self.m[k] = normal_of_precision(self.rng, inverse.times(len(rows)).plus(Sym(prior, 0.0, prior)), pull)
            squares = _squares(a - self.m[k, 0], b - self.m[k, 1])
            self.spread[k] = inverse_wishart(self.rng, freedom + len(rows), scale.plus(squares))

    def _draw_classes(self) -> None:
        """Class of each patient, and the shares of the components in both."""
        counts = np.stack([self._by_patient((self.z == k).astype(float)) for k in range(COMPONENTS)], 1)
        odds = counts @ np.log(self.shares[1] / self.shares[0]) + np.log(self.prone_share / (1 - self.prone_share))
        self.prone = (self.rng.random(self.n) < 1 / (1 + np.exp(-np.clip(odds, -500, 500)))).astype(int)
        n_prone = self.prone.sum()
        self.prone_share = self.rng.beta(CLASS_PRIOR[1] + n_prone, CLASS_PRIOR[0] + self.n - n_prone)
        for number, prior in enumerate(SHARE_PRIOR):
            drawn = self.rng.dirichlet(np.array(prior) + counts[self.prone == number].sum(0))
            self.shares[number] = np.maximum(drawn, 1e-12)


def _squares(a: np.ndarray, b: np.ndarray) -> Sym:
    """Sums of squares and of products."""
    return Sym(a @ a, a @ b, b @ b)
