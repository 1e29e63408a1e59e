"""Prevalence corrected for the noise of the heights: G is a minimum over a maximum, so noise alone makes deformities.

The question is pure: vertebrae and index studies of a cohort, and the measured noise
(`vertebra_core.epidemiology.noise_model`). The answer is the curve of the share with G <= t, for vertebrae and for
patients, as read and as it would be without noise, with 95 % intervals (docs/noise.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from vertebra_core.epidemiology.noise_model import ASKED_PATIENTS, NoiseModel, check_noise
from vertebra_core.epidemiology.noise_sampler import Curves, NoiseDraws, NoisyCases, sample_curves
from vertebra_core.epidemiology.strata import level_codes, place_in
from vertebra_core.errors import WrongUse
from vertebra_core.tables.columns import LEVELS

THRESHOLDS = tuple(round(0.70 + 0.01 * i, 2) for i in range(16))
"""0.70 to 0.85: from below the bound of moderate (0.74) to beyond that of mild (0.80)."""
FEWEST_COUNTED = 150
"""Patients that a correction needs: the fewest that the study of docs/noise.md tried."""
MOST_PATIENTS = 1000
"""Of more, as many are drawn at random: an interval of +-2 percentage points, in half a minute."""
CHAINS, DRAWS, BURN_IN = 2, 1000, 300
SMALLER, LARGER = 0.8, 1.2
"""Factors on the SD of the noise, to show what an error of a fifth in it would do."""
LARGEST_RHAT = 1.1
"""Chains that agree to less are not a result (Gelman and Rubin 1992; Gelman et al., BDA3, section 11.4)."""
CONFIDENCE_ENDS = (0.025, 0.975)
NEEDED = ("study_key", "level", "ha_mm", "hm_mm", "hp_mm")
_LEVEL_NOT_KNOWN = len(LEVELS)


class NotCorrectable(WrongUse):
    """The correction would not hold for these patients; the reason stands after "not corrected:"."""


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class CorrectedShare:
    """Share with G <= `threshold`.

    Parameters
    ----------
    apparent : Interval
        As read.
    corrected : Interval
        Without noise.
    smaller_noise, larger_noise : float
        Corrected, were the SD of the noise a fifth smaller or larger than measured.
    """

    threshold: float
    apparent: Interval
    corrected: Interval
    smaller_noise: float
    larger_noise: float


@dataclass(frozen=True)
class NoiseUsed:
    """The noise behind a correction: `vertebra_core.epidemiology.noise_model`.

    Parameters
    ----------
    covariances_mm2 : tuple
        Of the errors of (ha-hp, hm-hp), by class of slices.
    """

    measured_on: str
    model_digest: str
    source: str
    n_patients: int
    covariances_mm2: tuple


@dataclass(frozen=True)
class CorrectedPrevalence:
    """Apparent and corrected curves.

    Parameters
    ----------
    noise : NoiseUsed
    patients, vertebrae : tuple of CorrectedShare
        By ascending threshold.
    n_patients : int
        Patients behind the curves, drawn at random from `n_eligible`.
    n_counted : int
        Of these, patients with enough vertebrae for the curve of patients.
    n_vertebrae : int
    n_eligible : int
        Patients with an index study and slices of a class of the noise.
    n_outside : int
        Patients left out of both curves: the noise was not measured for slices like theirs.
    min_vertebrae : int
    rhat : float
        Agreement of the chains at the thresholds, worst; 1 is perfect.
    remarks : tuple of str
        What a reader has to know.
    """

    noise: NoiseUsed
    patients: tuple[CorrectedShare, ...]
    vertebrae: tuple[CorrectedShare, ...]
    n_patients: int
    n_counted: int
    n_vertebrae: int
    n_eligible: int
    n_outside: int
    min_vertebrae: int
    rhat: float
    remarks: tuple[str, ...]

    def at(self, threshold: float, unit: str = "patients") -> CorrectedShare:
        """The share at one of the thresholds."""
        return next(one for one in getattr(self, unit) if abs(one.threshold - threshold) < 1e-9)


def corrected_prevalence(
    vertebrae: pa.Table,
    index_studies: pa.Table,
    noise: NoiseModel | None,
    model_digest: str,
    min_vertebrae: int = 7,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
    most_patients: int = MOST_PATIENTS,
    draws: int = DRAWS,
    fewest_counted: int = FEWEST_COUNTED,
) -> CorrectedPrevalence:
    """Apparent and corrected share with G <= t, of vertebrae and of patients (their smallest G).

    Parameters
    ----------
    vertebrae : pa.Table
        Columns `NEEDED`; rows of other studies and without heights are passed over.
    index_studies : pa.Table
        One study of each patient (columns study_key, slice_spacing_mm), of one group if groups are compared: each
        group is fitted alone, or common fractures would be lent to the group that has few.
    noise : NoiseModel, optional
        None is refused, so that a caller need not ask.
    model_digest : str
        Of the networks that measured the cohort.
    min_vertebrae : int
        Measured vertebrae that make a patient count in the curve of patients; in that of vertebrae all count.
    thresholds : sequence of float
    seed : int
        Equal seeds give equal numbers.
    most_patients : int
        Of more patients, so many are drawn at random.
    draws : int
        Of each chain.
    fewest_counted : int
        Patients with enough vertebrae that are needed.

    Raises
    ------
    WrongUse
        No noise, or noise measured with other networks.
    NotCorrectable
        Too few patients, or chains that do not agree.
    """
    noise = check_noise(noise, model_digest)
    bounds = np.array(sorted(set(thresholds)), float)
    classes = noise.class_of(index_studies["slice_spacing_mm"].cast(pa.float64()).fill_null(np.nan).to_numpy())
    rng = np.random.default_rng(seed)
    cases, n_eligible = _cases(vertebrae, index_studies, classes, min_vertebrae, rng, most_patients)
    n_counted = int(cases.counts.sum())
    if n_counted < fewest_counted:
        raise NotCorrectable(
            f"{n_counted} patients with {min_vertebrae} vertebrae or more and known noise; {fewest_counted} are needed"
        )
    drawn = noise.draws()
    read = sample_curves(cases, no_noise(drawn), bounds, rng, draws, 0)
    chains = [sample_curves(cases, drawn, bounds, rng, draws, BURN_IN) for _ in range(CHAINS)]
    rhat = worst_rhat([one.sample_patients for one in chains])
    if rhat > LARGEST_RHAT:
        raise NotCorrectable(f"the chains do not agree (R-hat {rhat:.2f}, at most {LARGEST_RHAT})")
    others = [sample_curves(cases, drawn.times(by), bounds, rng, draws // 2, BURN_IN) for by in (SMALLER, LARGER)]
    n_outside = int((classes < 0).sum())
    return CorrectedPrevalence(
        noise=_used(noise),
        patients=_curve(bounds, "patients", read, chains, others),
        vertebrae=_curve(bounds, "vertebrae", read, chains, others),
        n_patients=len(cases.counts),
        n_counted=n_counted,
        n_vertebrae=len(cases.level),
        n_eligible=n_eligible,
        n_outside=n_outside,
        min_vertebrae=min_vertebrae,
        rhat=rhat,
        remarks=_remarks(noise, len(cases.counts), n_eligible, n_outside, n_eligible > most_patients),
    )


def no_noise(noise: NoiseDraws) -> NoiseDraws:
    """The same classes, read without error."""
    return noise.times(0.0)


def worst_rhat(chains: Sequence[Float[np.ndarray, "D T"]]) -> float:
    """Largest potential scale reduction over the columns, each chain split in two (BDA3, section 11.4).

    Examples
    --------
    >>> steady, moved = np.array([[1.0], [2.0], [1.0], [2.0]]), np.array([[5.0], [6.0], [5.0], [6.0]])
    >>> worst_rhat([steady, steady]), worst_rhat([steady, moved]) > 3
    (0.7071067811865476, True)
    """
    half = min(len(one) for one in chains) // 2
    parts = np.stack([part for one in chains for part in (one[:half], one[-half:])])
    within, between = parts.var(1, ddof=1).mean(0), parts.mean(1).var(0, ddof=1)
    steady = within > 0
    if not steady.any():
        return 1.0
    return float(np.sqrt((half - 1) / half + between[steady] / within[steady]).max())


def _cases(
    vertebrae: pa.Table,
    index_studies: pa.Table,
    classes: np.ndarray,
    min_vertebrae: int,
    rng: np.random.Generator,
    most_patients: int,
) -> tuple[NoisyCases, int]:
    """Vertebrae of the patients whose noise is known, or of some of them, and how many such patients there are.

    The patients are chosen first, so that of a million only the rows of a thousand are ever looked at closely.
    """
    eligible = np.flatnonzero(classes >= 0)
    chosen = eligible
    if len(eligible) > most_patients:
        chosen = np.sort(rng.choice(eligible, most_patients, replace=False))
    keys = index_studies["study_key"].combine_chunks().take(pa.array(chosen))
    row = place_in(vertebrae["study_key"], keys)
    vertebrae, row = vertebrae.filter(pa.array(row >= 0)), row[row >= 0]
    heights = np.stack([vertebrae[name].cast(pa.float64()).fill_null(np.nan).to_numpy() for name in NEEDED[2:]], 1)
    study = chosen[row]
    kept = np.flatnonzero(np.all(np.isfinite(heights) & (heights > 0), axis=1))
    kept = kept[np.argsort(study[kept], kind="stable")]
    studies, patient, counts = np.unique(study[kept], return_inverse=True, return_counts=True)
    level = level_codes(vertebrae["level"])[kept]
    level[level < 0] = _LEVEL_NOT_KNOWN
    heights = heights[kept]
    cases = NoisyCases(
        ratios=np.log(heights[:, :2] / heights[:, 2:]),
        height_mm=heights.mean(1),
        level=np.unique(level, return_inverse=True)[1],
        patient=patient,
        counts=counts >= min_vertebrae,
        noise_class=classes[studies][patient],
    )
    return cases, len(eligible)


def _curve(
    bounds: np.ndarray, unit: str, read: Curves, chains: Sequence[Curves], others: Sequence[Curves]
) -> tuple[CorrectedShare, ...]:
    apparent = _interval([read], unit)
    corrected = _interval(chains, unit)
    smaller, larger = (getattr(one, f"sample_{unit}").mean(0) for one in others)
    return tuple(
        CorrectedShare(float(t), Interval(*a), Interval(*c), float(s), float(g))
        for t, a, c, s, g in zip(bounds, apparent, corrected, smaller, larger, strict=True)
    )


def _interval(curves: Sequence[Curves], unit: str) -> list[list[float]]:
    """Share and ends of the interval, by threshold."""
    own = np.concatenate([getattr(one, f"sample_{unit}") for one in curves]).mean(0)
    low, high = np.quantile(np.concatenate([getattr(one, unit) for one in curves]), CONFIDENCE_ENDS, axis=0)
    return np.stack([own, low, high], 1).tolist()


def _used(noise: NoiseModel) -> NoiseUsed:
    covariances = tuple(tuple(map(tuple, one.covariance.tolist())) for one in noise.classes)
    return NoiseUsed(noise.measured_on, noise.model_digest, noise.source, noise.n_patients, covariances)


def _remarks(noise: NoiseModel, n_patients: int, n_eligible: int, n_outside: int, drawn: bool) -> tuple[str, ...]:
    remarks = []
    if drawn:
        remarks.append(f"{n_patients} of {n_eligible} patients, drawn at random, are behind both curves.")
    if n_outside:
        remarks.append(f"{n_outside} patients are left out: the noise of slices like theirs was not measured.")
    if noise.n_patients < ASKED_PATIENTS:
        remarks.append(f"The noise was measured on {noise.n_patients} patients; {ASKED_PATIENTS} are asked for.")
    return tuple(remarks)
