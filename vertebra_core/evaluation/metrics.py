"""The paper's Tables 1 and 2, and the errors of heights and G, over many studies.

Every number is pooled over vertebrae or patients of all studies. A number that is not defined (the AUC of one
class, the mean of nothing) is None, never 0 and never 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from vertebra_core.evaluation.matching import Found, Matching, match, strictly, truth_line
from vertebra_core.measure import genant_index
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.grades import reaches
from vertebra_core.truth import Truth

HEIGHTS = ("ha_mm", "hm_mm", "hp_mm")
MOST_NORMAL_G = 1.0
"""The largest G there is: what a vertebra that was not found counts as under `strict`."""


@dataclass(frozen=True)
class Comparison:
    """One study beside its truth.

    Parameters
    ----------
    name : str
        For the reader of the output.
    patient : str
        Studies of one patient share it.
    """

    name: str
    patient: str
    truth: Truth
    found: Found
    matching: Matching
    strict: bool = False

    @cached_property
    def true_heights(self) -> Float[np.ndarray, "k 3"]:
        """Heights of all annotated vertebrae, mm."""
        return np.linalg.norm(self.truth.points[:, 0::2] - self.truth.points[:, 1::2], axis=-1)

    @cached_property
    def true_g(self) -> Float[np.ndarray, "k"]:
        """Genant index of all annotated vertebrae."""
        return genant_index(self.true_heights)

    @property
    def kept(self) -> np.ndarray:
        """Finds that count: the matched and the false ones."""
        return np.sort(np.r_[self.matching.pairs[:, 1], self.matching.false])


def compare(name: str, patient: str, truth: Truth, found: Found, strict: bool = False) -> Comparison:
    """Match one study with its truth; `strict` as in `vertebra_core.evaluation.matching.strictly`."""
    matching = match(truth, found)
    return Comparison(name, patient, truth, found, strictly(matching, found) if strict else matching, strict)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of n values; None where there are too few."""

    mean: float | None
    sd: float | None
    n: int


def spread(values: Float[np.ndarray, "n"]) -> Spread:
    """Mean and SD.

    Examples
    --------
    >>> spread(np.array([1.0, 3.0]))
    Spread(mean=2.0, sd=1.4142135623730951, n=2)
    """
    mean = float(np.mean(values)) if len(values) else None
    return Spread(mean, float(np.std(values, ddof=1)) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Share:
    """`count` of `n`; `value` is None where n is 0."""

    count: int
    n: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.count / self.n if self.n else None


@dataclass(frozen=True)
class Detection:
    """The paper's Table 1 (all vertebrae, and those with a true G <= 0.74).

    Parameters
    ----------
    localization_mm, localization_moderate_mm : Spread
        3D distance of the centre of each find to the closest annotated vertebra.
    in_plane_mm : Spread
        Distance of matched centres in the straightened sagittal plane.
    keypoint_mm : Spread
        Distance of matched keypoints in that plane.
    recall, recall_moderate : Share
        Complete annotated vertebrae that were found.
    precision : Share
        Finds that are one; those outside the annotated range and on cut vertebrae do not count, unless strict.
    n_outside, n_ignored : int
    """

    localization_mm: Spread
    localization_moderate_mm: Spread
    in_plane_mm: Spread
    keypoint_mm: Spread
    recall: Share
    recall_moderate: Share
    precision: Share
    n_outside: int
    n_ignored: int


def detection(comparisons: Sequence[Comparison], grading: GradingSettings) -> Detection:
    """Localisation, recall and precision over all studies (paper Table 1)."""
    distance, closest_g = _joined([_localization(one) for one in comparisons], 2)
    in_plane, keypoints = _joined([_in_plane(one) for one in comparisons], 2)
    g_found, g_missed = (
        _concatenate([one.true_g[index(one.matching)] for one in comparisons])
        for index in (lambda m: m.pairs[:, 0], lambda m: m.missed)
    )
    n_moderate = int(reaches(g_found, grading.moderate).sum())
    n_moderate_missed = int(reaches(g_missed, grading.moderate).sum())
    n_false = sum(len(one.matching.false) for one in comparisons)
    return Detection(
        localization_mm=spread(distance),
        localization_moderate_mm=spread(distance[reaches(closest_g, grading.moderate)]),
        in_plane_mm=spread(in_plane),
        keypoint_mm=spread(keypoints),
        recall=Share(len(g_found), len(g_found) + len(g_missed)),
        recall_moderate=Share(n_moderate, n_moderate + n_moderate_missed),
        precision=Share(len(g_found), len(g_found) + n_false),
        n_outside=sum(len(one.matching.outside) for one in comparisons),
        n_ignored=sum(len(one.matching.ignored) for one in comparisons),
    )


def _localization(one: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """3D distance of every find that counts to the closest complete annotated centre, and the true G there."""
    complete = np.flatnonzero(one.truth.complete)
    if not len(complete) or not len(one.kept):
        return np.zeros(0), np.zeros(0)
    apart = cdist(one.found.points[one.kept].mean(1), one.truth.points[complete].mean(1))
    return apart.min(1), one.true_g[complete[apart.argmin(1)]]


def _in_plane(one: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Distances (v, s) of matched centres and of their six keypoints in the frame of the truth, mm."""
    true, found = one.matching.pairs.T
    if not len(true):
        return np.zeros(0), np.zeros(0)
    line = truth_line(one.truth.points)
    away = (line.straight_from_patient(one.found.points[found]) - line.straight_from_patient(one.truth.points[true]))[
        ..., 1:
    ]
    return np.linalg.norm(away.mean(1), axis=-1), np.linalg.norm(away, axis=-1).ravel()


@dataclass(frozen=True)
class Classification:
    """One cell block of the paper's Table 2: at least this grade, by vertebra or by patient.

    Parameters
    ----------
    bound : float
        A case has a true G <= bound; the program calls one at its own G <= bound.
    auc : float or None
        Area under the ROC curve of -G; None where all or none are cases.
    sensitivity, specificity : Share
    """

    unit: str
    bound: float
    auc: float | None
    sensitivity: Share
    specificity: Share


def classification(
    true_g: Float[np.ndarray, "n"], g: Float[np.ndarray, "n"], bound: float, unit: str
) -> Classification:
    """Classify by G <= bound.

    Examples
    --------
    >>> classification(np.array([0.7, 0.9]), np.array([0.73, 0.74]), 0.74, "vertebra").specificity
    Share(count=0, n=1)
    """
    from sklearn.metrics import roc_auc_score

    case, called = reaches(true_g, bound), reaches(g, bound)
    auc = float(roc_auc_score(case, -g)) if 0 < case.sum() < len(case) else None
    sensitivity = Share(int((called & case).sum()), int(case.sum()))
    specificity = Share(int((~called & ~case).sum()), int((~case).sum()))
    return Classification(unit, bound, auc, sensitivity, specificity)


def classifications(comparisons: Sequence[Comparison], grading: GradingSettings) -> list[Classification]:
    """The paper's Table 2: at least mild and at least moderate, by vertebra and by patient (smallest G)."""
    by_unit = {"vertebra": _by_vertebra(comparisons), "patient": _by_patient(comparisons)}
    bounds = (grading.mild, grading.moderate)
    return [classification(*by_unit[unit], bound, unit) for bound in bounds for unit in by_unit]


def _by_vertebra(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """True and found G of the vertebrae that were found and measured; strict: of all, the missed ones as normal."""
    true_g, g = _joined([_paired_g(one) for one in comparisons], 2)
    measured = np.isfinite(g)
    return true_g[measured], g[measured]


def _paired_g(one: Comparison) -> tuple[np.ndarray, np.ndarray]:
    true, found = one.matching.pairs.T
    missed = one.matching.missed if one.strict else np.zeros(0, int)
    return one.true_g[np.r_[true, missed]], np.r_[one.found.g[found], np.full(len(missed), MOST_NORMAL_G)]


def _by_patient(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest true and found G of each patient; one without a measured find is left out, strict: called normal."""
    smallest: dict[str, tuple[float, float]] = {}
    for one in comparisons:
        true_g = np.min(one.true_g[one.truth.complete], initial=np.inf)
        measured = one.found.g[one.kept]
        g = np.min(measured[np.isfinite(measured)], initial=MOST_NORMAL_G if one.strict else np.inf)
        before = smallest.get(one.patient, (np.inf, np.inf))
        smallest[one.patient] = min(before[0], float(true_g)), min(before[1], float(g))
    pairs = np.array([pair for pair in smallest.values() if np.isfinite(pair).all()]).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


@dataclass(frozen=True)
class Error:
    """Found minus true: bias is the mean, sd its spread, mae the mean absolute difference."""

    bias: float | None
    sd: float | None
    mae: float | None
    n: int


def error(difference: Float[np.ndarray, "n"]) -> Error:
    """Summary of differences (found minus true)."""
    signed, size = spread(difference), spread(np.abs(difference))
    return Error(signed.mean, signed.sd, size.mean, signed.n)


def errors(comparisons: Sequence[Comparison]) -> dict[str, Error]:
    """Errors of ha, hm, hp (mm), of all heights together, and of G, over found and measured vertebrae."""
    heights, g = _joined([_differences(one) for one in comparisons], 2)
    heights = heights.reshape(-1, 3)
    by_height = {name: error(heights[:, i]) for i, name in enumerate(HEIGHTS)}
    return {**by_height, "heights_mm": error(heights.ravel()), "g": error(g)}


def _differences(one: Comparison) -> tuple[np.ndarray, np.ndarray]:
    true, found = one.matching.pairs.T
    measured = np.isfinite(one.found.g[found])
    true, found = true[measured], found[measured]
    return (one.found.heights[found] - one.true_heights[true]).ravel(), one.found.g[found] - one.true_g[true]


def _joined(parts: Sequence[tuple[np.ndarray, ...]], n: int) -> tuple[np.ndarray, ...]:
    return tuple(_concatenate([part[i] for part in parts]) for i in range(n))


def _concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0)
