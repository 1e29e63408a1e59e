"""How noisy heights are, from reads of the same vertebrae: two or more scans, reconstructions, runs or readers.

The model of a read is that of `vertebra_core.epidemiology.noise_sampler` in millimetres: with y = (ha-hp, hm-hp), whose
errors over the height are to first order those of (log ha/hp, log hm/hp),

    y_vk = true_v + bias_k + E_pk + e_vk,   e_vk Student with scale C and nu degrees of freedom,  E_pk normal(0, Cp)

for vertebra v of patient p in read k. Nothing is assumed of the true values (flat prior, integrated out), so that only
differences between reads speak. The posterior of (C, Cp, nu) is drawn by Gibbs: a Student error is a normal one with a
precision of its own (Gelman et al., Bayesian Data Analysis, section 17.2), nu is drawn from a grid with those
precisions integrated out. Its draws, not only its mean, go into the correction.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

from vertebra_core.epidemiology.noise_algebra import Sym, inverse_wishart, normal, symmetric
from vertebra_core.epidemiology.noise_sampler import NEARLY_NORMAL, NoiseDraws
from vertebra_core.errors import WrongUse

FREEDOM_GRID = np.array([2.2, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 11.0, 15.0, 22.0, 35.0, 60.0])
"""Student degrees of freedom that are tried, equally likely before the data; 60 is normal for all purposes."""
PRIOR_FREEDOM = 4.0
PRIOR_SCALE_MM2 = 0.05
PRIOR_SHARED_MM2 = 0.02
"""Inverse Wishart priors of C and of Cp, worth one vertebra and one patient with errors of 0.2 mm and 0.14 mm."""
FEWEST_PATIENTS = 10
"""Fewer say next to nothing of what patients share; 40 are asked for (docs/noise.md)."""
KEPT, EVERY, BURN_IN = 200, 5, 300


@dataclass(frozen=True)
class Reads:
    """V vertebrae of n patients, each read up to K times.

    Parameters
    ----------
    heights : array [V, K, 3]
        ha, hm and hp, mm; NaN where a vertebra was not read.
    patient : array [V]
        Number of the patient.
    """

    heights: Float[np.ndarray, "V K 3"]
    patient: Int[np.ndarray, "V"]

    def of(self, rows: np.ndarray) -> "Reads":
        """Some of the vertebrae."""
        return Reads(self.heights[rows], self.patient[rows])


@dataclass(frozen=True)
class FittedNoise:
    """What replicate reads say of the noise of one read.

    Parameters
    ----------
    scale, shared : array [D, 2, 2]
        Draws of C and Cp, mm2.
    freedom : array [D]
        Draws of nu.
    bias_mm : array [K, 2]
        Median of each read over the vertebra's mean read, of (ha-hp, hm-hp): taken out, because it is no noise.
    n_patients, n_vertebrae, n_reads : int
        What it rests on; n_reads counts every read of every vertebra.
    """

    scale: Float[np.ndarray, "D 2 2"]
    shared: Float[np.ndarray, "D 2 2"]
    freedom: Float[np.ndarray, "D"]
    bias_mm: Float[np.ndarray, "K 2"]
    n_patients: int
    n_vertebrae: int
    n_reads: int

    def draws(self) -> NoiseDraws:
        """As the only noise class of a sampler."""
        return NoiseDraws(self.scale[:, None], self.shared[:, None], self.freedom[:, None])


def fit_noise(
    reads: Reads, rng: np.random.Generator, student: bool = True, shared: bool = True, kept: int = KEPT
) -> FittedNoise:
    """Draw the noise of one read from its posterior.

    Parameters
    ----------
    reads : Reads
    rng : np.random.Generator
    student, shared : bool
        Without, errors are normal, or nothing is shared by the vertebrae of a read: for studies of what is lost then.
    kept : int
        Draws, one of every `EVERY` iterations.

    Raises
    ------
    WrongUse
        Vertebrae of fewer than `FEWEST_PATIENTS` patients were read twice.
    """
    y, present, patient = _usable(reads)
    n = int(patient.max(initial=-1)) + 1
    if n < FEWEST_PATIENTS:
        raise WrongUse(f"replicate reads of {n} patients; at least {FEWEST_PATIENTS} are needed, 40 are asked for")
    y, bias = _without_bias(y, present)
    gibbs = _Gibbs(y, present, patient, rng, student, shared)
    draws = []
    for iteration in range(BURN_IN + kept * EVERY):
        gibbs.step()
        if iteration >= BURN_IN and (iteration - BURN_IN) % EVERY == 0:
            draws.append((gibbs.scale.matrix(), gibbs.common.matrix(), gibbs.freedom))
    scale, common, freedom = (np.array(one) for one in zip(*draws, strict=True))
    return FittedNoise(scale, common, freedom, bias, n, len(y), int(present.sum()))


def _usable(reads: Reads) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Millimetres [V, K, 2] (0 where not read), which are there, and patients numbered without gaps."""
    heights = np.asarray(reads.heights, float)
    present = np.all(np.isfinite(heights) & (heights > 0), axis=-1)
    twice = present.sum(1) >= 2
    heights, present = heights[twice], present[twice]
    y = np.where(present[..., None], heights[..., :2] - heights[..., 2:], 0.0)
    return y, present, np.unique(np.asarray(reads.patient)[twice], return_inverse=True)[1]


def _without_bias(y: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = y.sum(1) / present.sum(1)[:, None]
    off = np.where(present[..., None], y - mean[:, None], np.nan)
    bias = np.nan_to_num(np.nanmedian(off[:, present.any(0)], axis=0)) if len(y) else np.zeros((0, 2))
    every = np.zeros((y.shape[1], 2))
    every[present.any(0)] = bias
    return (y - every) * present[..., None], every


class _Gibbs:
    """State of the sampler of the noise; `step` moves all of it once."""

    def __init__(
        self,
        y: np.ndarray,
        present: np.ndarray,
        patient: np.ndarray,
        rng: np.random.Generator,
        student: bool,
        shared: bool,
    ) -> None:
        self.y, self.present, self.patient, self.rng = y, present.astype(float), patient, rng
        self.student, self.with_shared = student, shared
        self.n, self.k = int(patient.max()) + 1, y.shape[1]
        self.read_at_all = np.zeros((self.n, self.k))
        np.maximum.at(self.read_at_all, patient, self.present)
        self.one_hot = np.zeros((self.n, len(y)))
        self.one_hot[patient, np.arange(len(y))] = 1.0
        self.freedom = 6.0 if student else NEARLY_NORMAL
        self.scale, self.common = Sym(0.5, 0.25, 0.5), Sym(0.05, 0.02, 0.05) if shared else Sym(0.0, 0.0, 0.0)
        self.weight = self.present.copy()
        self.shift = np.zeros((self.n, self.k, 2))

    def step(self) -> None:
        """One iteration."""
        if self.with_shared:
            self._draw_shifts()
        error = self.y - self.shift[self.patient]
        mean = (self.weight[..., None] * error).sum(1) / self.weight.sum(1)[:, None]
        off = error - mean[:, None]
        squares = symmetric(np.einsum("vk,vka,vkb->ab", self.weight, off, off))
        freedom = PRIOR_FREEDOM + self.present.sum() - len(self.y)  # each true value costs one read
        self.scale = inverse_wishart(self.rng, freedom, squares.plus(Sym(PRIOR_SCALE_MM2, 0.0, PRIOR_SCALE_MM2)))
        # The true values, about the mean of the reads.
        scatter = np.stack(normal(self.rng, self.scale, len(self.y)), -1) / np.sqrt(self.weight.sum(1))[:, None]
        if self.student:
            self._draw_tails(off - scatter[:, None])

    def _draw_shifts(self) -> None:
        """What the vertebrae of a patient share in each read, all reads together, true values integrated out."""
        contrast = -self.weight[:, :, None] * self.weight[:, None, :] / self.weight.sum(1)[:, None, None]
        contrast[:, np.arange(self.k), np.arange(self.k)] += self.weight
        inverse = self.scale.inverse().matrix()
        by_patient = (self.one_hot @ contrast.reshape(len(self.y), -1)).reshape(self.n, self.k, self.k)
        precision = np.einsum("nij,ab->niajb", by_patient, inverse).reshape(self.n, 2 * self.k, 2 * self.k)
        precision += np.kron(np.eye(self.k), self.common.inverse().matrix())
        pull = self.one_hot @ (np.einsum("vij,vjb->vib", contrast, self.y) @ inverse).reshape(len(self.y), -1)
        root = np.linalg.cholesky(precision)
        noise = np.linalg.solve(root.transpose(0, 2, 1), self.rng.standard_normal((self.n, 2 * self.k, 1)))
        drawn = np.linalg.solve(precision, pull[..., None]) + noise
        self.shift = drawn[..., 0].reshape(self.n, self.k, 2)
        own = self.shift * self.read_at_all[..., None]
        squares = symmetric(np.einsum("nka,nkb->ab", own, own)).plus(Sym(PRIOR_SHARED_MM2, 0.0, PRIOR_SHARED_MM2))
        self.common = inverse_wishart(self.rng, PRIOR_FREEDOM + self.read_at_all.sum(), squares)

    def _draw_tails(self, error: np.ndarray) -> None:
        """Degrees of freedom, then the precision of each read."""
        distance = self.scale.inverse().norm(error[..., 0], error[..., 1])
        there = distance[self.present > 0]
        nu = FREEDOM_GRID
        each = gammaln(nu / 2 + 1) - gammaln(nu / 2) - np.log(nu)
        logs = len(there) * each - (nu / 2 + 1) * np.log1p(there[:, None] / nu).sum(0)
        chance = np.exp(logs - logs.max())
        self.freedom = float(self.rng.choice(nu, p=chance / chance.sum()))
        gamma = self.rng.standard_gamma(self.freedom / 2 + 1, distance.shape)
        self.weight = 2 / (self.freedom + distance) * gamma * self.present
