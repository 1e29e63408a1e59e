"""What a set of studies says about the program, as flat columns: one row per annotated vertebra, find and patient.

`compare` matches one study with its truth; `gather` lays many of them side by side. Every metric is a function of the
columns, and a bootstrap takes the rows of some patients again (`take`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from vertebra_core.evaluation.matching import Found, Matching, match, strictly, truth_line
from vertebra_core.measure import genant_index
from vertebra_core.truth import Truth

MOST_NORMAL_G = 1.0
"""The largest G there is: what a vertebra that was not found counts as under `strict`."""
UNNAMED = ""
"""A level that is not known, in columns."""
Rows = TypeVar("Rows", bound="Vertebrae | Finds | Patients")


@dataclass(frozen=True)
class Comparison:
    """One study beside its truth.

    Parameters
    ----------
    name : str
        For the reader of the output.
    patient : str
        Studies of one patient share it.
    spacing_mm : float
        Distance of the slices; NaN where not known.
    """

    name: str
    patient: str
    truth: Truth
    found: Found
    matching: Matching
    strict: bool = False
    spacing_mm: float = np.nan

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


def compare(
    name: str, patient: str, truth: Truth, found: Found, strict: bool = False, spacing_mm: float = np.nan
) -> Comparison:
    """Match one study with its truth; `strict` as in `vertebra_core.evaluation.matching.strictly`."""
    matching = match(truth, found)
    matching = strictly(matching, found) if strict else matching
    return Comparison(name, patient, truth, found, matching, strict, spacing_mm)


@dataclass(frozen=True)
class Vertebrae:
    """Columns of the n complete annotated vertebrae. What was not found or not measured is NaN.

    Parameters
    ----------
    patient : array [n]
        Number of the patient.
    spacing_mm : array [n]
        Distance of the slices of its study.
    level, found_level : array [n] of str
        "" where not named.
    found : array [n], bool
    true_heights, heights : array [n, 3]
        ha, hm, hp, mm.
    true_g, g : array [n]
    standard_errors : array [n, 4]
        Of ha, hm, hp (mm) and G, as the program says.
    level_confidence : array [n]
        That `found_level` is right, as the program says.
    centre_mm : array [n]
        3D distance of the centres.
    in_plane_mm : array [n]
        The same in the straightened sagittal plane of the truth.
    keypoints_mm : array [n, 6]
        Distances of the keypoints in that plane.
    """

    patient: Int[np.ndarray, "n"]
    spacing_mm: Float[np.ndarray, "n"]
    level: np.ndarray
    found_level: np.ndarray
    found: Bool[np.ndarray, "n"]
    true_heights: Float[np.ndarray, "n 3"]
    heights: Float[np.ndarray, "n 3"]
    true_g: Float[np.ndarray, "n"]
    g: Float[np.ndarray, "n"]
    standard_errors: Float[np.ndarray, "n 4"]
    level_confidence: Float[np.ndarray, "n"]
    centre_mm: Float[np.ndarray, "n"]
    in_plane_mm: Float[np.ndarray, "n"]
    keypoints_mm: Float[np.ndarray, "n 6"]

    @property
    def difference(self) -> Float[np.ndarray, "n 4"]:
        """Found minus true ha, hm, hp (mm) and G."""
        return np.concatenate([self.heights - self.true_heights, (self.g - self.true_g)[:, None]], axis=1)


@dataclass(frozen=True)
class Finds:
    """Columns of the n finds that count (matched or false).

    Parameters
    ----------
    right : array [n], bool
    distance_mm, closest_g : array [n]
        3D distance of the centre to the closest complete annotated vertebra, and the true G there; NaN where the
        study has none.
    score : array [n]
        Probability that it is one, as the program says; NaN where it does not.
    """

    patient: Int[np.ndarray, "n"]
    right: Bool[np.ndarray, "n"]
    distance_mm: Float[np.ndarray, "n"]
    closest_g: Float[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]


@dataclass(frozen=True)
class Patients:
    """Columns of the n patients that have a complete annotated vertebra and a measured find (strict: all).

    Parameters
    ----------
    true_g, g : array [n]
        Smallest Genant index over all studies.
    """

    patient: Int[np.ndarray, "n"]
    true_g: Float[np.ndarray, "n"]
    g: Float[np.ndarray, "n"]


@dataclass(frozen=True)
class Evidence:
    """Everything the metrics need.

    Parameters
    ----------
    strict : bool
        Missed vertebrae count as called normal.
    n_patients : int
    n_outside, n_ignored : int
        Finds that do not count.
    """

    vertebrae: Vertebrae
    finds: Finds
    patients: Patients
    strict: bool
    n_patients: int
    n_outside: int = 0
    n_ignored: int = 0


def gather(comparisons: Sequence[Comparison]) -> Evidence:
    """Columns of all studies; patients are numbered in the order they appear in."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(one.patient for one in comparisons))}
    return Evidence(
        vertebrae=_joined([_vertebrae(one, numbers[one.patient]) for one in comparisons] or [_NO_VERTEBRAE]),
        finds=_joined([_finds(one, numbers[one.patient]) for one in comparisons] or [_NO_FINDS]),
        patients=_patients(comparisons, numbers),
        strict=any(one.strict for one in comparisons),
        n_patients=len(numbers),
        n_outside=sum(len(one.matching.outside) for one in comparisons),
        n_ignored=sum(len(one.matching.ignored) for one in comparisons),
    )


def rows(columns: Rows, index: np.ndarray) -> Rows:
    """Some rows (a mask or numbers) of columns."""
    return replace(columns, **{field.name: getattr(columns, field.name)[index] for field in fields(columns)})


def take(evidence: Evidence, patients: Int[np.ndarray, "m"]) -> Evidence:
    """The evidence of these patients, one that is named twice counting twice."""
    return replace(
        evidence,
        vertebrae=_drawn(evidence.vertebrae, patients),
        finds=_drawn(evidence.finds, patients),
        patients=_drawn(evidence.patients, patients),
        n_patients=len(patients),
    )


def _drawn(columns: Rows, patients: np.ndarray) -> Rows:
    """The rows of these patients, numbered anew."""
    mine = [np.flatnonzero(columns.patient == number) for number in patients]
    index = np.concatenate([*mine, np.zeros(0, int)])
    return replace(rows(columns, index), patient=np.repeat(np.arange(len(patients)), [len(own) for own in mine]))


def _at(place: np.ndarray, n: int, values: np.ndarray, empty: float | str = np.nan) -> np.ndarray:
    """A column of n rows with the values at their places."""
    column = np.full((n, *values.shape[1:]), empty, values.dtype)
    column[place] = values
    return column


def _vertebrae(one: Comparison, patient: int) -> Vertebrae:
    complete = np.flatnonzero(one.truth.complete)
    n, found, place = len(complete), one.found, np.searchsorted(complete, one.matching.pairs[:, 0])
    mine = one.matching.pairs[:, 1]
    unmeasured = ~np.isfinite(found.g[mine])

    heights, g = found.heights[mine].copy(), found.g[mine]
    heights[unmeasured] = np.nan
    names = np.array([found.levels[i] or UNNAMED for i in mine] if found.levels else [UNNAMED] * len(mine), object)
    confidence = np.full(len(mine), np.nan) if found.level_confidence is None else found.level_confidence[mine]
    errors = np.full((len(mine), 4), np.nan) if found.standard_errors is None else found.standard_errors[mine]
    centre_mm, in_plane_mm, keypoints_mm = _distances(one)
    levels = np.array([one.truth.levels[i] or UNNAMED for i in complete], object)
    return Vertebrae(
        patient=np.full(n, patient),
        spacing_mm=np.full(n, one.spacing_mm),
        level=levels,
        found_level=_at(place, n, names, UNNAMED),
        found=np.isin(np.arange(n), place),
        true_heights=one.true_heights[complete],
        heights=_at(place, n, heights),
        true_g=one.true_g[complete],
        g=_at(place, n, g),
        standard_errors=_at(place, n, errors),
        level_confidence=_at(place, n, confidence),
        centre_mm=_at(place, n, centre_mm),
        in_plane_mm=_at(place, n, in_plane_mm),
        keypoints_mm=_at(place, n, keypoints_mm),
    )


def _distances(one: Comparison) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances of matched centres in 3D, of centres and of keypoints in the straightened plane of the truth, mm."""
    true, found = one.matching.pairs.T
    if not len(true):
        return np.zeros(0), np.zeros(0), np.zeros((0, 6))
    true_points, points = one.truth.points[true], one.found.points[found]
    line = truth_line(one.truth.points)
    away = (line.straight_from_patient(points) - line.straight_from_patient(true_points))[..., 1:]
    centre = np.linalg.norm(points.mean(1) - true_points.mean(1), axis=-1)
    return centre, np.linalg.norm(away.mean(1), axis=-1), np.linalg.norm(away, axis=-1)


def _finds(one: Comparison, patient: int) -> Finds:
    complete, kept = np.flatnonzero(one.truth.complete), one.kept
    distance, closest_g = np.full((2, len(kept)), np.nan)
    if len(complete) and len(kept):
        apart = cdist(one.found.points[kept].mean(1), one.truth.points[complete].mean(1))
        distance, closest_g = apart.min(1), one.true_g[complete[apart.argmin(1)]]
    score = np.full(len(kept), np.nan) if one.found.scores is None else one.found.scores[kept]
    return Finds(np.full(len(kept), patient), np.isin(kept, one.matching.pairs[:, 1]), distance, closest_g, score)


def _patients(comparisons: Sequence[Comparison], numbers: dict[str, int]) -> Patients:
    """Smallest true and found G of each patient; one without a measured find is left out, strict: called normal."""
    smallest = np.full((len(numbers), 2), np.inf)
    for one in comparisons:
        measured = one.found.g[one.kept]
        g = np.min(measured[np.isfinite(measured)], initial=MOST_NORMAL_G if one.strict else np.inf)
        true_g = np.min(one.true_g[one.truth.complete], initial=np.inf)
        number = numbers[one.patient]
        smallest[number] = np.minimum(smallest[number], [true_g, g])
    known = np.isfinite(smallest).all(1)
    return Patients(np.flatnonzero(known), *smallest[known].T)


def _joined(parts: Sequence[Rows]) -> Rows:
    names = [field.name for field in fields(parts[0])]
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


_NONE, _NO_NAMES = np.zeros(0), np.zeros(0, object)
_NO_VERTEBRAE = Vertebrae(
    patient=np.zeros(0, int),
    spacing_mm=_NONE,
    level=_NO_NAMES,
    found_level=_NO_NAMES,
    found=np.zeros(0, bool),
    true_heights=np.zeros((0, 3)),
    heights=np.zeros((0, 3)),
    true_g=_NONE,
    g=_NONE,
    standard_errors=np.zeros((0, 4)),
    level_confidence=_NONE,
    centre_mm=_NONE,
    in_plane_mm=_NONE,
    keypoints_mm=np.zeros((0, 6)),
)
_NO_FINDS = Finds(np.zeros(0, int), np.zeros(0, bool), _NONE, _NONE, _NONE)
