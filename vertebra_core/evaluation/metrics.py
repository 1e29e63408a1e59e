"""The paper's Tables 1 and 2, the errors of heights and G, coverage and naming, as functions of `Evidence`.

Every number is pooled over vertebrae or patients of all studies. A number that is not defined (the AUC of one
class, the mean of nothing) is None, never 0 and never 1. docs/evaluation.md defines each of them in words.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vertebra_core.evaluation.evidence import MOST_NORMAL_G, UNNAMED, Evidence, Vertebrae, rows
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import GRADES, LEVELS
from vertebra_core.tables.grades import reaches

HEIGHTS = ("ha_mm", "hm_mm", "hp_mm")
Z_95 = 1.96
"""Half width of a 95 % interval of a normal distribution in standard deviations (limits of agreement: Bland and
Altman, Lancet 1986;327:307-310)."""
SPACINGS_MM = (1.6, 3.3)
"""Bounds of slice spacing that results are reported by: up to 1.6 mm heights are read as sharply as they are in the
plane, beyond 3.3 mm only the place is (docs/numbers.md)."""


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
    n = len(values)
    if not n:
        return Spread(None, None, 0)
    mean = float(values.sum()) / n
    away = (
        values - mean
    )  # by hand: a bootstrap calls this a hundred thousand times, and np.std takes five times as long
    return Spread(mean, math.sqrt(float(away @ away) / (n - 1)) if n > 1 else None, n)


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


def detection(evidence: Evidence, grading: GradingSettings) -> Detection:
    """Localisation, recall and precision over all studies (paper Table 1)."""
    vertebrae, finds = evidence.vertebrae, evidence.finds
    near = np.isfinite(finds.distance_mm)
    moderate = reaches(vertebrae.true_g, grading.moderate)
    return Detection(
        localization_mm=spread(finds.distance_mm[near]),
        localization_moderate_mm=spread(finds.distance_mm[near & reaches(finds.closest_g, grading.moderate)]),
        in_plane_mm=spread(vertebrae.in_plane_mm[vertebrae.found]),
        keypoint_mm=spread(vertebrae.keypoints_mm[vertebrae.found].ravel()),
        recall=share(vertebrae.found),
        recall_moderate=share(vertebrae.found[moderate]),
        precision=share(finds.right),
        n_outside=evidence.n_outside,
        n_ignored=evidence.n_ignored,
    )


def share(true: np.ndarray) -> Share:
    """How many of these are true.

    Examples
    --------
    >>> share(np.array([True, False]))
    Share(count=1, n=2)
    """
    return Share(int(true.sum()), len(true))


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
    case, called = reaches(true_g, bound), reaches(g, bound)
    return Classification(unit, bound, auc(case, -g), share(called[case]), share(~called[~case]))


def auc(case: np.ndarray, score: Float[np.ndarray, "n"]) -> float | None:
    """Area under the ROC curve: the share of (case, control) pairs in the right order, ties half; None of one class.

    The Mann-Whitney statistic, as rank sums (Hanley and McNeil, Radiology 1982;143:29-36).

    Examples
    --------
    >>> auc(np.array([True, False, False]), np.array([0.9, 0.1, 0.9]))
    0.75
    """
    from scipy.stats import rankdata

    cases = int(case.sum())
    controls = len(case) - cases
    if not cases or not controls:
        return None
    return float((rankdata(score)[case].sum() - cases * (cases + 1) / 2) / (cases * controls))


def classifications(evidence: Evidence, grading: GradingSettings) -> list[Classification]:
    """The paper's Table 2: at least mild and at least moderate, by vertebra and by patient (smallest G).

    Vertebrae that were found and measured; strict: all, the missed ones as normal.
    """
    vertebrae = evidence.vertebrae
    g = np.where(vertebrae.found, vertebrae.g, MOST_NORMAL_G if evidence.strict else np.nan)
    known = np.isfinite(g)
    by_unit = {
        "vertebra": (vertebrae.true_g[known], g[known]),
        "patient": (evidence.patients.true_g, evidence.patients.g),
    }
    bounds = (grading.mild, grading.moderate)
    return [classification(*by_unit[unit], bound, unit) for bound in bounds for unit in by_unit]


@dataclass(frozen=True)
class Error:
    """Found minus true.

    Parameters
    ----------
    bias, sd, mae : float or None
        Mean, standard deviation (n - 1), mean absolute difference.
    low, high : float or None
        Limits of agreement: bias -+ 1.96 sd.
    n : int
    """

    bias: float | None
    sd: float | None
    mae: float | None
    low: float | None
    high: float | None
    n: int


def error(difference: Float[np.ndarray, "n"]) -> Error:
    """Summary of differences (found minus true).

    Examples
    --------
    >>> one = error(np.array([1.0, 3.0]))
    >>> one.bias, round(one.sd, 3), one.mae, round(one.low, 3), round(one.high, 3)
    (2.0, 1.414, 2.0, -0.772, 4.772)
    """
    signed = spread(difference)
    mae = float(np.abs(difference).sum()) / len(difference) if len(difference) else None
    if signed.mean is None or signed.sd is None:
        return Error(signed.mean, signed.sd, mae, None, None, signed.n)
    return Error(signed.mean, signed.sd, mae, signed.mean - Z_95 * signed.sd, signed.mean + Z_95 * signed.sd, signed.n)


@dataclass(frozen=True)
class Measurement:
    """How well the vertebrae of one group were found and measured.

    Parameters
    ----------
    recall : Share
    centre_mm, in_plane_mm : Spread
        Distance of matched centres in 3D and in the sagittal plane of the truth.
    ha_mm, hm_mm, hp_mm, heights_mm, g : Error
        ``heights_mm``: all three together.
    g_most_over : float or None
        The largest amount by which G was read too high.
    """

    recall: Share
    centre_mm: Spread
    in_plane_mm: Spread
    ha_mm: Error
    hm_mm: Error
    hp_mm: Error
    heights_mm: Error
    g: Error
    g_most_over: float | None


def measurement(vertebrae: Vertebrae) -> Measurement:
    """Errors over the vertebrae that were found and measured."""
    difference = vertebrae.difference[np.isfinite(vertebrae.g)]
    ha, hm, hp, g = difference.T
    return Measurement(
        recall=share(vertebrae.found),
        centre_mm=spread(vertebrae.centre_mm[vertebrae.found]),
        in_plane_mm=spread(vertebrae.in_plane_mm[vertebrae.found]),
        ha_mm=error(ha),
        hm_mm=error(hm),
        hp_mm=error(hp),
        heights_mm=error(difference[:, :3].ravel()),
        g=error(g),
        g_most_over=float(g.max()) if len(g) else None,
    )


def errors(evidence: Evidence) -> dict[str, Error]:
    """Errors of ha, hm, hp (mm), of all heights together, and of G, over found and measured vertebrae."""
    whole = measurement(evidence.vertebrae)
    return {name: getattr(whole, name) for name in (*HEIGHTS, "heights_mm", "g")}


def groups(vertebrae: Vertebrae, grading: GradingSettings) -> Iterator[tuple[str, str, np.ndarray]]:
    """Groups that results are reported by: (kind, name, mask), empty ones left out.

    Kinds: deformity (G at most mild's and moderate's bound), grade, level, slice spacing.
    """
    g, spacing, (sharp, thick) = vertebrae.true_g, vertebrae.spacing_mm, SPACINGS_MM
    bounds = {"mild": grading.mild, "moderate": grading.moderate, "severe": grading.severe}
    grade = sum(reaches(g, bound).astype(int) for bound in bounds.values())
    masks = [
        *(("deformity", f"G <= {bounds[name]:.2f}", reaches(g, bounds[name])) for name in ("mild", "moderate")),
        *(("grade", name, grade == i) for i, name in enumerate(GRADES)),
        *(("level", name, vertebrae.level == name) for name in LEVELS),
        ("spacing", f"slices <= {sharp:g} mm", spacing <= sharp),
        ("spacing", f"slices {sharp:g}-{thick:g} mm", (spacing > sharp) & (spacing <= thick)),
        ("spacing", f"slices > {thick:g} mm", spacing > thick),
    ]
    return ((kind, name, mask) for kind, name, mask in masks if mask.any())


def by_group(vertebrae: Vertebrae, grading: GradingSettings) -> dict[str, dict[str, Measurement]]:
    """Measurement of all vertebrae and of every group that is not empty, by kind and name."""
    found: dict[str, dict[str, Measurement]] = {"all": {"all": measurement(vertebrae)}}
    for kind, name, mask in groups(vertebrae, grading):
        found.setdefault(kind, {})[name] = measurement(rows(vertebrae, mask))
    return found


def coverage(vertebrae: Vertebrae) -> dict[str, Share]:
    """Share of found values within 1.96 of their standard errors of the truth; of those that have one."""
    inside = np.abs(vertebrae.difference) <= Z_95 * vertebrae.standard_errors
    known = np.isfinite(vertebrae.standard_errors) & np.isfinite(vertebrae.difference)
    return {name: share(inside[known[:, i], i]) for i, name in enumerate((*HEIGHTS, "g"))}


@dataclass(frozen=True)
class Naming:
    """How the levels of found vertebrae were named, where the truth names them.

    Parameters
    ----------
    named : Share
        Found vertebrae that were given a name at all; the rest are NULL.
    right : Share
        Right names of those given.
    right_but_shifts : Share
        The same, where all names of a patient wrong in the same direction (the whole spine shifted) are one error.
    patients_right : Share
        Patients whose names are all right, of those with a name.
    shifted : Share
        Patients whose whole spine is shifted.
    """

    named: Share
    right: Share
    right_but_shifts: Share
    patients_right: Share
    shifted: Share


def naming(vertebrae: Vertebrae) -> Naming:
    """Compare names; a whole-spine shift is told from single errors by patient."""
    nameable = vertebrae.found & (vertebrae.level != UNNAMED)
    given = nameable & (vertebrae.found_level != UNNAMED)
    place = {name: i for i, name in enumerate(LEVELS)}
    true, said = (
        np.array([place.get(name, -1) for name in column[given]]) for column in (vertebrae.level, vertebrae.found_level)
    )
    off, patient = np.sign(said - true), vertebrae.patient[given]
    by_patient = [off[patient == number] for number in np.unique(patient)]
    shifted = [bool((own > 0).all() or (own < 0).all()) for own in by_patient]
    wrong = sum(1 if shift else int((own != 0).sum()) for own, shift in zip(by_patient, shifted, strict=True))
    return Naming(
        named=Share(int(given.sum()), int(nameable.sum())),
        right=share(off == 0),
        right_but_shifts=Share(len(off) - wrong, len(off)),
        patients_right=Share(sum(not own.any() for own in by_patient), len(by_patient)),
        shifted=Share(sum(shifted), len(shifted)),
    )
