"""The paper's protocol: readers' points in the patient, their consensus, folds of patients, and readers as experts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vertebra_core.errors import WrongUse
from vertebra_core.evaluation.evidence import Comparison, compare
from vertebra_core.evaluation.matching import Found
from vertebra_core.evaluation.metrics import spread
from vertebra_core.evaluation.readings import same_vertebra
from vertebra_core.evaluation.summary import Summary, numbers
from vertebra_core.geometry import apply_affine
from vertebra_core.measure import genant_index
from vertebra_core.reading.grid import slice_grid
from vertebra_core.reading.headers import SliceHeader
from vertebra_core.settings import ReadingSettings
from vertebra_core.truth import Truth

FOLDS = 5
"""Paper section 5.1: fivefold cross-validation."""
CONSENSUS = "mean of the readers"
PAPER_TABLE_1 = {
    "Proposed": ("0.97 (0.64)", "1.14 (0.69)", "0.997 (0.003)", "1.000 (0.000)", "0.993 (0.002)"),
    "Experts": ("1.01 (0.98)", "1.17 (0.78)", "0.983 (0.006)", "0.973 (0.013)", "0.996 (0.001)"),
}
"""Localisation mm (all, G <= 0.74), recall (all, G <= 0.74), precision, as the paper prints them."""
PAPER_TABLE_2 = {
    ("mild", "Proposed"): (".87 (.02)", ".93 (.03)", ".93 (.01)", ".68 (.08)", ".65 (.03)", ".94 (.03)"),
    ("mild", "Experts"): (".91 (.02)", ".91 (.05)", ".91 (.01)", ".60 (.11)", ".70 (.05)", ".90 (.05)"),
    ("moderate", "Proposed"): (".94 (.02)", ".93 (.03)", ".98 (.01)", ".86 (.05)", ".75 (.05)", ".84 (.05)"),
    ("moderate", "Experts"): (".98 (.01)", ".95 (.03)", ".97 (.01)", ".83 (.07)", ".79 (.06)", ".88 (.07)"),
}
"""ROC AUC, specificity, sensitivity, each by vertebra and by patient, as the paper prints them."""


@dataclass(frozen=True)
class Marks:
    """What one reader marked in one CT: k vertebrae.

    Parameters
    ----------
    points : array [k, 6, 3]
        LPS mm.
    levels : tuple of (str or None)
    """

    points: Float[np.ndarray, "k 6 3"]
    levels: tuple[str | None, ...]


def patient_from_stack(
    voxels: Float[np.ndarray, "*n 3"], headers: Sequence[SliceHeader], settings: ReadingSettings
) -> Float[np.ndarray, "*n 3"]:
    """Map (column, row, slice) of the stack sorted by InstanceNumber to LPS mm.

    Zero-based; a whole number is the centre of a pixel and of a slice. The files do not say whether it is the corner;
    the other convention would move all points alike by half a voxel. Slice numbers count the images there are, also
    where one is missing between them, and go on straight beyond both ends.

    Parameters
    ----------
    voxels : array [..., 3]
    headers : sequence of SliceHeader
        Of all images of the series, in any order.

    Raises
    ------
    WrongUse
        InstanceNumber is absent or not unique.
    NotEvaluable
        The slices make no volume.
    """
    grid = slice_grid(headers, settings)
    instances = [headers[i].instance_number for i in grid.order]
    if None in instances or len(set(instances)) < len(instances):
        raise WrongUse("InstanceNumber is absent or given twice; readers' slice numbers count by it")
    along = np.array(grid.index, float)[np.argsort(np.array(instances, float))]
    k = voxels[..., 2]
    before = np.clip(np.floor(k), 0, len(along) - 2).astype(int)
    slices = along[before] + (k - before) * (along[before + 1] - along[before])
    return apply_affine(grid.patient_from_voxel, np.concatenate([voxels[..., :2], slices[..., None]], axis=-1))


def consensus(marks: Sequence[Marks], image: str) -> Truth:
    """Mean of the readers' points vertebra by vertebra, from the top down; the level that most of them name."""
    if not any(len(one.points) for one in marks):
        return Truth(image, CONSENSUS, np.zeros((0, 6, 3)), np.zeros(0, bool), ())
    points, levels = np.concatenate([one.points for one in marks]), [name for one in marks for name in one.levels]
    vertebra = same_vertebra([one.points for one in marks])[1]
    groups = [np.flatnonzero(vertebra == number) for number in range(int(vertebra.max()) + 1)]
    groups.sort(key=lambda group: -float(points[group, :, 2].mean()))
    mean = np.array([points[group].mean(0) for group in groups])
    names = tuple(_most_named([levels[i] for i in group]) for group in groups)
    return Truth(image, CONSENSUS, mean, np.ones(len(mean), bool), names)


def _most_named(names: Sequence[str | None]) -> str | None:
    given = Counter(name for name in names if name is not None)
    return given.most_common(1)[0][0] if given else None


def experts(name: str, readers: Mapping[str, Marks]) -> list[Comparison]:
    """Each reader of a CT beside the consensus of the others: the paper's rows "Experts"."""
    found = []
    for reader, own in readers.items():
        others = consensus([marks for who, marks in readers.items() if who != reader], name)
        if not len(others.points) or not len(own.points):
            continue
        order = np.argsort(-own.points[..., 2].mean(1), kind="stable")
        points = own.points[order]
        heights = np.linalg.norm(points[:, 0::2] - points[:, 1::2], axis=-1)
        levels = tuple(own.levels[i] for i in order)
        read = Found(points, np.ones(len(points), bool), heights, genant_index(heights), levels)
        found.append(compare(f"{name} {reader}", f"{name} {reader}", others, read))
    return found


def folds_of(patients: Sequence[str], n_folds: int, seed: int) -> list[list[int]]:
    """Indices of the studies of each fold; studies of one patient share a fold.

    Raises
    ------
    WrongUse
        Fewer patients than folds, or fewer than two folds.

    Examples
    --------
    >>> sorted(map(sorted, folds_of(["a", "b", "a", "c"], 3, seed=0)))
    [[0, 2], [1], [3]]
    """
    names = sorted(set(patients))
    if not 2 <= n_folds <= len(names):
        raise WrongUse(f"{n_folds} folds of {len(names)} patients: at least 2 folds and a patient in each are needed")
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[i]: fold for fold, part in enumerate(np.array_split(shuffled, n_folds)) for i in part}
    return [[i for i, name in enumerate(patients) if fold_of[name] == fold] for fold in range(n_folds)]


def over_folds(summaries: Sequence[Summary]) -> dict[str, tuple[float, float | None]]:
    """Mean and SD (n - 1) over folds of every number of a summary, of the folds where it is defined."""
    values: dict[str, list[float]] = {}
    for summary in summaries:
        for path, value in numbers(summary):
            values.setdefault(path, []).append(value)
    spreads = {path: spread(np.array(own)) for path, own in values.items()}
    return {path: (one.mean, one.sd) for path, one in spreads.items() if one.mean is not None}
