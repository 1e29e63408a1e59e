"""How well readers agree with each other: distances, heights, G, grades, and one reader as a classifier.

Pairs take each pair of readers once per vertebra. What has a direction (kappa, sensitivity, AUC) takes each pair in
both. Limits of agreement are 1.96 times the root mean square of the pair difference: the order of a pair of readers
has no meaning, so there is no bias term.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from vertebra_core.evaluation.metrics import Z_95, auc
from vertebra_core.evaluation.readings import Readings
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import GRADES
from vertebra_core.tables.grades import reaches

COLUMN, ROW, SLICE = range(3)
SAGITTAL = [ROW, SLICE]
COVERED_MM = 5.0
"""A vertebra is in the extent of a reader if its centre is at most this far above the first or below the last one
marked there: a quarter of the distance of two centres."""
SEVERITIES = (0.0, 0.6, 0.74, 0.8, 0.85, 0.9, 1.0)
"""Bounds of mean G that the difference of G is reported by."""


@dataclass(frozen=True)
class Distances:
    """Distances in mm, n of them; sd is that of the n values themselves (not n - 1)."""

    mean: float | None
    sd: float | None
    p50: float | None
    p95: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Difference of a pair of readers.

    Parameters
    ----------
    rms, limits, mae, p50, p95 : float
        Root mean square, 1.96 times that, and mean, median and 95th percentile of the absolute difference.
    """

    rms: float
    limits: float
    mae: float
    p50: float
    p95: float


@dataclass(frozen=True)
class Agreement:
    """Every figure of the agreement between readers.

    Parameters
    ----------
    grades, worst_grades : mapping
        Vertebrae by the grade of their mean G, and series by that of their smallest mean G.
    centre_mm, centre_moderate_mm, in_plane_mm : Distances
        Of paired centres in 3D (moderate: mean G of the pair <= 0.74), and in the sagittal plane.
    centre_sd_mm : tuple of float
        SD of the difference of centres along row (y), column (x), slice (z).
    others_mm, others_moderate_mm, others_in_plane_mm, others_in_plane_moderate_mm : Distances
        A reading against the mean of the others (moderate: their G <= 0.74).
    point_mm, point_p95_mm : tuple of float
        Mean and 95th percentile of the distance of each of the six points in the sagittal plane.
    point_sd_y_mm, point_sd_z_mm : tuple of float
        One reader's own SD for each of the six points: SD of the pair difference over the root of two.
    heights_mm : mapping
        Difference of ha, hm, hp.
    g : Difference
    g_over : mapping
        Share of pairs that differ in G by more than 0.1 and 0.2.
    g_noise, g_within_sd : float
        One reader's own noise: rms over the root of two, and the SD within vertebrae by analysis of variance.
    g_others_rms, g_others_mae : float
        A reading against the mean of the others.
    icc : float
        ICC(1,1) of G (Shrout and Fleiss 1979), groups of unequal size.
    g_rms_by_severity : mapping
        By mean G of the pair.
    confusion : tuple of tuple of float
        Grades 0 to 3 of a pair, both directions, each counted half.
    grades_equal : float
    kappa : mapping
        Of four grades: plain, linear, quadratic. None where all are of one grade.
    kappa_at : mapping
        Of G <= 0.80, 0.74, 0.60.
    f1 : float or None
        Matched readings of all readings, pair by pair.
    covered_found, covered : int
        Readings inside the extent that both readers cover, and how many of them are matched.
    levels_equal : float or None
        Share of pairs whose names are equal; None where there are no names.
    """

    series: int
    readings: int
    vertebrae: int
    grades: Mapping[str, int]
    worst_grades: Mapping[str, int]
    reader_pairs: int
    pairs: int
    centre_mm: Distances
    centre_moderate_mm: Distances
    in_plane_mm: Distances
    centre_sd_mm: tuple[float, ...]
    others_mm: Distances
    others_moderate_mm: Distances
    others_in_plane_mm: Distances
    others_in_plane_moderate_mm: Distances
    point_mm: tuple[float, ...]
    point_p95_mm: tuple[float, ...]
    point_sd_y_mm: tuple[float, ...]
    point_sd_z_mm: tuple[float, ...]
    heights_mm: Mapping[str, Difference]
    g: Difference
    g_over: Mapping[str, float]
    g_noise: float
    g_within_sd: float
    g_others_rms: float
    g_others_mae: float
    icc: float | None
    g_rms_by_severity: Mapping[str, float]
    confusion: tuple[tuple[float, ...], ...]
    grades_equal: float
    kappa: Mapping[str, float | None]
    kappa_at: Mapping[str, float | None]
    f1: float | None
    covered_found: int
    covered: int
    levels_equal: float | None


def agreement(readings: Readings, grading: GradingSettings | None = None) -> Agreement:
    """All figures of one set of readings, which has at least one matched pair."""
    grading = grading or GradingSettings()
    a, b = readings.pairs.T
    away = readings.points[a] - readings.points[b]
    centre, heights, g = away.mean(1), readings.heights[a] - readings.heights[b], readings.g[a] - readings.g[b]
    pair_g = (readings.g[a] + readings.g[b]) / 2
    moderate = reaches(pair_g, grading.moderate)
    in_plane = np.linalg.norm(away[..., SAGITTAL], axis=-1)
    others = (readings.points - readings.of_others(readings.points)).mean(1)
    others_moderate = reaches(readings.of_others(readings.g), grading.moderate)
    own_g, others_g = _against_others(readings)
    found, covered = _covered(readings)
    return Agreement(
        series=len({number for number, _ in readings.readers}),
        readings=len(readings.points),
        vertebrae=len(readings.n_of_vertebra),
        **_counts(readings, grading),
        reader_pairs=len(readings.reader_pairs),
        pairs=len(a),
        centre_mm=distances(centre),
        centre_moderate_mm=distances(centre[moderate]),
        in_plane_mm=distances(centre[:, SAGITTAL]),
        centre_sd_mm=tuple(centre[:, [ROW, COLUMN, SLICE]].std(0).tolist()),
        others_mm=distances(others),
        others_moderate_mm=distances(others[others_moderate]),
        others_in_plane_mm=distances(others[:, SAGITTAL]),
        others_in_plane_moderate_mm=distances(others[others_moderate][:, SAGITTAL]),
        point_mm=tuple(in_plane.mean(0).tolist()),
        point_p95_mm=tuple(np.percentile(in_plane, 95, axis=0).tolist()),
        point_sd_y_mm=tuple((away[..., ROW].std(0) / np.sqrt(2)).tolist()),
        point_sd_z_mm=tuple((away[..., SLICE].std(0) / np.sqrt(2)).tolist()),
        heights_mm={name: difference(heights[:, i]) for i, name in enumerate(("ha", "hm", "hp"))},
        g=difference(g),
        g_over={f"{over:g}": float((np.abs(g) > over).mean()) for over in (0.1, 0.2)},
        g_noise=_rms(g) / float(np.sqrt(2)),
        **_variance(readings),
        g_others_rms=_rms(own_g - others_g),
        g_others_mae=float(np.abs(own_g - others_g).mean()),
        g_rms_by_severity={
            f"{low:g} < G <= {high:g}": _rms(g[reaches(pair_g, high) & ~reaches(pair_g, low)])
            for low, high in pairwise(SEVERITIES)
            if (reaches(pair_g, high) & ~reaches(pair_g, low)).any()
        },
        **_grades(readings, grading),
        f1=_f1(readings),
        covered_found=found,
        covered=covered,
        levels_equal=_levels_equal(readings),
    )


def distances(away: Float[np.ndarray, "n d"]) -> Distances:
    """Lengths of n vectors; the mean of nothing is None.

    Examples
    --------
    >>> distances(np.array([[3.0, 4.0], [0.0, 1.0]])).mean
    3.0
    """
    length = np.linalg.norm(away, axis=-1)
    length = length[np.isfinite(length)]
    if not len(length):
        return Distances(None, None, None, None, 0)
    p50, p95 = np.percentile(length, [50, 95]).tolist()
    return Distances(float(length.mean()), float(length.std()), p50, p95, len(length))


def difference(values: Float[np.ndarray, "n"]) -> Difference:
    """Summary of the differences of n >= 1 pairs.

    Examples
    --------
    >>> one = difference(np.array([3.0, -4.0, 0.0, 0.0]))
    >>> one.rms, round(one.limits, 2), one.mae
    (2.5, 4.9, 1.75)
    """
    size, rms = np.abs(values), _rms(values)
    p50, p95 = np.percentile(size, [50, 95]).tolist()
    return Difference(rms, Z_95 * rms, float(size.mean()), p50, p95)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def _counts(readings: Readings, grading: GradingSettings) -> dict[str, dict[str, int]]:
    mean = readings.mean(readings.g)
    smallest = np.full(int(readings.series.max()) + 1, np.inf)
    np.minimum.at(smallest, readings.series, mean[readings.vertebra])
    return {"grades": _by_grade(mean, grading), "worst_grades": _by_grade(smallest[np.isfinite(smallest)], grading)}


def _by_grade(g: np.ndarray, grading: GradingSettings) -> dict[str, int]:
    n = [len(g), *(int(reaches(g, bound).sum()) for bound in (grading.mild, grading.moderate, grading.severe)), 0]
    return {name: here - beyond for name, here, beyond in zip(GRADES, n[:-1], n[1:], strict=True)}


def _against_others(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    """G of every reading whose vertebra has another, and the mean G of the others."""
    others = readings.of_others(readings.g)
    known = np.isfinite(others)
    return readings.g[known], others[known]


def _variance(readings: Readings) -> dict[str, float | None]:
    """SD within vertebrae and ICC(1,1) by one-way analysis of variance, over vertebrae with two readings and more."""
    several = readings.n_of_vertebra > 1
    n = readings.n_of_vertebra[several]
    mine = several[readings.vertebra]
    values, mean = readings.g[mine], readings.mean(readings.g)
    within = float(((values - mean[readings.vertebra[mine]]) ** 2).sum() / (n.sum() - len(n)))
    between = float((n * (mean[several] - values.mean()) ** 2).sum() / max(len(n) - 1, 1))
    size = (n.sum() - (n**2).sum() / n.sum()) / max(len(n) - 1, 1)  # mean group size where sizes differ
    spread = between + (size - 1) * within
    return {"g_within_sd": within**0.5, "icc": float((between - within) / spread) if spread else None}


def _grades(readings: Readings, grading: GradingSettings) -> dict:
    """Agreement on grades, each pair in both directions."""
    from sklearn.metrics import confusion_matrix

    a, b = readings.pairs.T
    one, other = readings.g[np.r_[a, b]], readings.g[np.r_[b, a]]
    bounds = (grading.mild, grading.moderate, grading.severe)
    own, theirs = (np.sum([reaches(g, bound) for bound in bounds], axis=0) for g in (one, other))
    matrix = confusion_matrix(own, theirs, labels=range(len(bounds) + 1)) / 2
    weights = {"plain": None, "linear": "linear", "quadratic": "quadratic"}
    return {
        "confusion": tuple(map(tuple, matrix.tolist())),
        "grades_equal": float((own == theirs).mean()),
        "kappa": {name: kappa(own, theirs, weight) for name, weight in weights.items()},
        "kappa_at": {f"{bound:.2f}": kappa(reaches(one, bound), reaches(other, bound)) for bound in bounds},
    }


def kappa(one: np.ndarray, other: np.ndarray, weights: str | None = None) -> float | None:
    """Cohen's kappa, weighted "linear", "quadratic" or not at all; None where both say one and the same thing.

    Examples
    --------
    >>> kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])), kappa(np.zeros(3), np.zeros(3))
    (0.5, None)
    """
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.r_[one, other])) < 2:
        return None
    return float(cohen_kappa_score(one, other, weights=weights))


def _f1(readings: Readings) -> float | None:
    n = np.bincount(readings.reader, minlength=len(readings.readers))
    total = int(n[readings.reader_pairs].sum())
    return 2 * len(readings.pairs) / total if total else None


def _covered(readings: Readings) -> tuple[int, int]:
    """Readings inside the extent that both readers of a pair cover: how many are matched, and how many there are."""
    found = covered = 0
    height = readings.centres[:, SLICE]
    matched_with = {frozenset(pair) for pair in zip(*readings.reader[readings.pairs.T], strict=True)}
    for pair in readings.reader_pairs:
        own = [np.flatnonzero(readings.reader == reader) for reader in pair]
        low = max(height[mine].min() for mine in own) - COVERED_MM
        high = min(height[mine].max() for mine in own) + COVERED_MM
        inside = np.concatenate([mine[(height[mine] >= low) & (height[mine] <= high)] for mine in own])
        covered += len(inside)
        if frozenset(pair.tolist()) in matched_with:
            ours = readings.pairs[(readings.reader[readings.pairs] == pair).all(1)]
            found += int(np.isin(inside, ours).sum())
    return found, covered


def _levels_equal(readings: Readings) -> float | None:
    named = [(readings.levels[a], readings.levels[b]) for a, b in readings.pairs if readings.levels[a]]
    return sum(a == b for a, b in named) / len(named) if named else None


@dataclass(frozen=True)
class ReaderAsClassifier:
    """One reader as a classifier of G <= bound.

    Parameters
    ----------
    truth : str
        "one other reader" or "mean of the others".
    unit : str
        "vertebra" or "patient".
    """

    truth: str
    unit: str
    bound: float
    auc: float | None
    sensitivity: float | None
    specificity: float | None
    precision: float | None
    kappa: float | None


def readers_as_classifiers(readings: Readings, grading: GradingSettings | None = None) -> list[ReaderAsClassifier]:
    """Each reader against one other and against the mean of the others, by vertebra and by patient (smallest G)."""
    grading = grading or GradingSettings()
    a, b = readings.pairs.T
    smallest = np.array([readings.g[readings.reader == reader].min() for reader in range(len(readings.readers))])
    one, two = readings.reader_pairs.T
    against = [
        ("one other reader", "vertebra", readings.g[np.r_[b, a]], readings.g[np.r_[a, b]]),
        ("mean of the others", "vertebra", *reversed(_against_others(readings))),
        ("one other reader", "patient", smallest[np.r_[two, one]], smallest[np.r_[one, two]]),
    ]
    bounds = (grading.mild, grading.moderate, grading.severe)
    return [_classifier(truth, unit, bound, true, g) for truth, unit, true, g in against for bound in bounds]


def _classifier(truth: str, unit: str, bound: float, true_g: np.ndarray, g: np.ndarray) -> ReaderAsClassifier:
    case, called = reaches(true_g, bound), reaches(g, bound)
    return ReaderAsClassifier(
        truth,
        unit,
        bound,
        auc(case, -g),
        _mean(called[case]),
        _mean(~called[~case]),
        _mean(case[called]),
        kappa(case, called),
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
