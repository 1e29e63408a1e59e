"""Vertebrae that were measured twice, from the tables of two cohorts.

Two kinds of replicate reads serve. The same studies measured again from other series, reconstructions or made copies
lie in one frame: their vertebrae are the same where their centres are. Two scans of one patient lie in different
frames: there the level is what tells, so only vertebrae that have a name in both count, and a study whose levels are
named one off in one of the two is recognised by its heights and left out, because it compares neighbours.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy.spatial import KDTree

from vertebra_core.epidemiology.noise_fit import KEPT, Reads, fit_noise
from vertebra_core.epidemiology.noise_model import NoiseClass
from vertebra_core.errors import WrongUse
from vertebra_core.measure import KEYPOINT_NAMES

Match = Literal["level", "place"]
Same = Literal["study_key", "patient_key"]
SAME_MM = 10.0
"""Centres nearer than this are of one vertebra: neighbouring centres are 15 mm apart and more (docs/numbers.md)."""
THIN_MM, MIDDLE_MM = 1.6, 3.0
"""Bounds of the slice classes: thin slices measure best, and beyond 3 mm heights blur (docs/accuracy.md)."""
FEWEST_OF_CLASS = 40
"""Patients that a class of slices needs for a noise of its own; smaller classes join the next thicker one."""
ONE_LEVEL_OFF = 0.03
"""Median log ratio of the heights of two scans of a patient from which their levels are not the same ones: neighbours
differ by 0.046 (docs/numbers.md), and the median of eight vertebrae errs by 0.01."""
SAME_HEIGHTS_MM = 1e-3
"""Heights that agree to this were read from the same image: two images never give them."""
MOST_EQUAL = 0.5
"""Share of vertebrae with the same heights from which the second cohort is a repetition, not another read."""
HEIGHTS = ("ha_mm", "hm_mm", "hp_mm")
CENTRE = tuple(tuple(f"{point}_{axis}_mm" for point in KEYPOINT_NAMES) for axis in "xyz")
PLACE_COLUMNS = tuple(name for names in CENTRE for name in names)
NEEDED = ("study_key", "patient_key", "level", *HEIGHTS)


@dataclass(frozen=True)
class Pairs:
    """Vertebrae that two tables share.

    Parameters
    ----------
    reads : Reads
        Patients numbered from 0.
    spacing_mm : array [V]
        Of the slices, the larger of both; NaN where not known.
    n_first, n_second : int
        Measured vertebrae of either table.
    n_misnamed : int
        Patients left out because their levels are not the same ones in both (match by level only).
    """

    reads: Reads
    spacing_mm: np.ndarray
    n_first: int
    n_second: int
    n_misnamed: int


def paired_reads(
    first: tuple[pa.Table, pa.Table],
    second: tuple[pa.Table, pa.Table],
    same: Same = "study_key",
    match: Match = "place",
) -> Pairs:
    """Match the measured vertebrae of two cohorts.

    Parameters
    ----------
    first, second : tuple of pa.Table
        Tables `vertebrae` (columns `NEEDED`, and `PLACE_COLUMNS` to match by place) and `studies` (study_key,
        slice_spacing_mm) of each; one study of a patient in each if `same` is patient_key.
    same : str
        Column whose equal values mean the same study or patient: keys are the same where both cohorts were screened
        with one pseudonym key.
    match : str
        "place": nearest centres in the patient frame, within `SAME_MM`; "level": equal names.

    Raises
    ------
    WrongUse
        The cohorts have nothing in common, or are the same images measured again.
    """
    tables = [_measured(bones, studies) for bones, studies in (first, second)]
    keys = [table[same].to_numpy(zero_copy_only=False).astype(str) for table in tables]
    common = np.intersect1d(*keys)
    if not len(common):
        what = "study" if same == "study_key" else "patient"
        raise WrongUse(f"the two cohorts share no {what}: screen both with the same pseudonym key (docs/privacy.md)")
    rows = [_by_key(one, common) for one in keys]
    marks = [places(table) if match == "place" else _names(table) for table in tables]
    heights = [np.stack([table[name].to_numpy() for name in HEIGHTS], 1) for table in tables]
    couples, n_misnamed = [np.zeros((0, 3), int)], 0
    for number in range(len(common)):
        mine, theirs = rows[0][number], rows[1][number]
        a, b = (near if match == "place" else _named)(marks[0][mine], marks[1][theirs])
        couple = np.stack([mine[a], theirs[b], np.full(len(a), number)], 1)
        if match == "level" and _one_level_off(heights[0][couple[:, 0]], heights[1][couple[:, 1]]):
            n_misnamed += 1
            continue
        couples.append(couple)
    left, right, patient = np.concatenate(couples).T
    reads = Reads(np.stack([heights[0][left], heights[1][right]], 1), patient)
    equal = np.abs(reads.heights[:, 0] - reads.heights[:, 1]).max(1) < SAME_HEIGHTS_MM
    if len(equal) and equal.mean() > MOST_EQUAL:
        raise WrongUse(
            f"{equal.sum()} of {len(equal)} vertebrae have the same heights in both cohorts: they were measured on the "
            "same images, which tells nothing of noise; screen other series, reconstructions or scans"
        )
    spacings = [table["slice_spacing_mm"].to_numpy() for table in tables]
    return Pairs(reads, np.fmax(spacings[0][left], spacings[1][right]), len(tables[0]), len(tables[1]), n_misnamed)


def fit_by_slices(pairs: Pairs, rng: np.random.Generator, kept: int = KEPT) -> tuple[NoiseClass, ...]:
    """Noise of each class of slices that has `FEWEST_OF_CLASS` patients, smaller ones joined to the next thicker.

    The last class has the bound of the thickest slices that were read twice: thicker ones are not corrected. If it is
    too small, it joins the class before. `kept` draws of each.

    Raises
    ------
    WrongUse
        Too few patients altogether.
    """
    reads, spacing = pairs.reads, pairs.spacing_mm
    known = np.isfinite(spacing)
    if not known.any():
        return (NoiseClass(None, fit_noise(reads, rng, kept=kept)),)
    thickest = float(spacing[known].max())
    bounds = [bound for bound in (THIN_MM, MIDDLE_MM) if bound < thickest] + [max(thickest, THIN_MM)]
    classes, low = [], -np.inf
    for bound in bounds:
        rows = np.flatnonzero(known & (spacing > low) & (spacing <= bound))
        if len(np.unique(reads.patient[rows])) >= FEWEST_OF_CLASS:
            classes.append((bound, rows))
            low = bound
    if not classes or low < bounds[-1]:  # what is left over joins the thickest class that stands, or is all there is
        start = classes.pop()[1] if classes else np.zeros(0, int)
        rest = np.flatnonzero(known & (spacing > low))
        classes.append((bounds[-1], np.union1d(start, rest)))
    return tuple(NoiseClass(bound, fit_noise(reads.of(rows), rng, kept=kept)) for bound, rows in classes)


def _measured(bones: pa.Table, studies: pa.Table) -> pa.Table:
    """Vertebrae with three heights, and the spacing of their slices (NaN where not known)."""
    heights = np.stack([bones[name].cast(pa.float64()).fill_null(np.nan).to_numpy() for name in HEIGHTS], 1)
    bones = bones.filter(pa.array(np.all(np.isfinite(heights) & (heights > 0), axis=1)))
    spacing = dict(zip(studies["study_key"].to_pylist(), studies["slice_spacing_mm"].to_pylist(), strict=True))
    values = [spacing.get(key) for key in bones["study_key"].to_pylist()]
    own = pa.array([np.nan if value is None else float(value) for value in values], pa.float64())
    return bones.append_column("slice_spacing_mm", own)


def _by_key(keys: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Rows of each wanted key."""
    order = np.argsort(keys, kind="stable")
    starts, ends = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
    return [np.sort(order[a:b]) for a, b in zip(starts, ends, strict=True)]


def places(table: pa.Table) -> np.ndarray:
    """Centres of the six keypoints, LPS mm."""
    axes = [np.mean([table[name].to_numpy() for name in names], axis=0) for names in CENTRE]
    return np.stack(axes, 1)


def _names(table: pa.Table) -> np.ndarray:
    return np.array([name or "" for name in table["level"].to_pylist()], dtype="U8")


def near(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres that are each other's nearest, and near."""
    if not len(a) or not len(b):
        return np.zeros(0, int), np.zeros(0, int)
    apart, partner = (np.asarray(part) for part in KDTree(b).query(a))
    back = np.asarray(KDTree(a).query(b)[1])
    mine = np.flatnonzero((apart < SAME_MM) & (back[partner] == np.arange(len(a))))
    return mine, partner[mine]


def _named(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Names that occur in both; those that occur twice in one tell nothing."""
    single = [{name for name in set(names.tolist()) - {""} if (names == name).sum() == 1} for names in (a, b)]
    both = sorted(single[0] & single[1])
    return tuple(np.array([np.flatnonzero(names == name)[0] for name in both], int) for names in (a, b))  # pyright: ignore[reportReturnType]


def _one_level_off(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether vertebrae of one name are of another size throughout, as neighbours are."""
    if not len(first):
        return False
    return bool(abs(np.median(np.log(first.mean(1) / second.mean(1)))) > ONE_LEVEL_OFF)
