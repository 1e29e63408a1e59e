"""Readers' keypoints of many series: the files of a folder in millimetres, and which readings are of one vertebra.

Both public formats are read (`vertebra_core.phantom.reader_file`). Lengths are in millimetres of the stack: column,
row and slice number times their distances. That is a mirrored patient frame; lengths and angles are the same in it.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from vertebra_core.errors import WrongUse
from vertebra_core.measure import genant_index
from vertebra_core.phantom.reader_file import Reading, read_reader_file

SAME_VERTEBRA_MM = 10.0
"""Two readings are of one vertebra if their centres are closer: neighbouring centres are 15 mm apart and more
(docs/numbers.md)."""
SPACING_FILE = "spacing_recovered.csv"
"""Table of voxel sizes beside the annotations (columns file, sy_mm, sz_mm): the files themselves hold none."""


@dataclass(frozen=True)
class ReadSeries:
    """The readings of one series.

    Parameters
    ----------
    name : str
        Of the file, without its suffix.
    series_uid : str
    readings : mapping of str to Reading
        By reader, those without a vertebra left out; (column, row, slice) voxels.
    """

    name: str
    series_uid: str
    readings: Mapping[str, Reading]


def reader_files(folder: Path) -> list[Path]:
    """The readers' files of a folder or of its subfolder `annotation`.

    Raises
    ------
    WrongUse
        There are none.
    """
    for place in (Path(folder), Path(folder) / "annotation"):
        files = sorted(place.glob("*.json"))
        if files:
            return files
    raise WrongUse(f"{folder}: no readers' files (*.json) here or in annotation/")


def read_series(folder: Path) -> list[ReadSeries]:
    """All series of a folder, by name.

    Raises
    ------
    WrongUse
        No files, or one that is not a readers' file.
    """
    files = [(path.stem, read_reader_file(path)) for path in reader_files(folder)]
    return [
        ReadSeries(name, file.series_uid, {who: one for who, one in file.readings.items() if len(one.voxels)})
        for name, file in files
    ]


def find_spacing(folder: Path) -> Path:
    """The table of voxel sizes in a folder or one or two above it.

    Raises
    ------
    WrongUse
        There is none.
    """
    folder = Path(folder).resolve()
    for place in (folder, *folder.parents[:2]):
        if (place / SPACING_FILE).is_file():
            return place / SPACING_FILE
    raise WrongUse(f"{folder}: no {SPACING_FILE} here or above; name a table of file, sy_mm, sz_mm with --spacing")


def read_spacings(path: Path) -> dict[str, tuple[float, float]]:
    """(in-plane, slice) distance of voxels in mm by name of the readers' file without its suffix.

    Raises
    ------
    WrongUse
        No such table, or a distance that is not a positive number.
    """
    try:
        with Path(path).open(newline="") as stream:
            table = {
                Path(row["file"]).stem: (float(row["sy_mm"]), float(row["sz_mm"])) for row in csv.DictReader(stream)
            }
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise WrongUse(f"{path}: no table of file, sy_mm, sz_mm ({type(error).__name__}: {error})") from error
    if not all(0 < mm < np.inf for pair in table.values() for mm in pair):
        raise WrongUse(f"{path}: distances of voxels must be positive")
    return table


@dataclass(frozen=True)
class Readings:
    """All vertebra readings of all series, n in all.

    Parameters
    ----------
    points : array [n, 6, 3]
        (column, row, slice) in mm.
    series : array [n]
        Number of the series.
    reader : array [n]
        Number of the reader among `readers`.
    vertebra : array [n]
        Readings of one vertebra share it.
    levels : tuple of (str or None)
    readers : tuple of (int, str)
        Series and name of each reader of a series.
    pairs : array [m, 2]
        Readings of two readers that are matched.
    reader_pairs : array [p, 2]
        Pairs of readers of one series.
    """

    points: Float[np.ndarray, "n 6 3"]
    series: Int[np.ndarray, "n"]
    reader: Int[np.ndarray, "n"]
    vertebra: Int[np.ndarray, "n"]
    levels: tuple[str | None, ...]
    readers: tuple[tuple[int, str], ...]
    pairs: Int[np.ndarray, "m 2"]
    reader_pairs: Int[np.ndarray, "p 2"]

    @cached_property
    def heights(self) -> Float[np.ndarray, "n 3"]:
        """Anterior, middle and posterior height, mm."""
        return np.linalg.norm(self.points[:, 0::2] - self.points[:, 1::2], axis=-1)

    @cached_property
    def g(self) -> Float[np.ndarray, "n"]:
        """Genant index of every reading."""
        return genant_index(self.heights)

    @cached_property
    def centres(self) -> Float[np.ndarray, "n 3"]:
        """Mean of the six points in 3D."""
        return self.points.mean(1)

    @cached_property
    def n_of_vertebra(self) -> Int[np.ndarray, "v"]:
        """How many readings each vertebra has."""
        return np.bincount(self.vertebra)

    def mean(self, values: Float[np.ndarray, "n *k"]) -> Float[np.ndarray, "v *k"]:
        """Mean over the readings of each vertebra."""
        total = np.zeros((len(self.n_of_vertebra), *values.shape[1:]))
        np.add.at(total, self.vertebra, values)
        return total / _down(self.n_of_vertebra, values)

    def of_others(self, values: Float[np.ndarray, "n *k"]) -> Float[np.ndarray, "n *k"]:
        """Mean over the other readings of the same vertebra; NaN where there are none."""
        n = _down(self.n_of_vertebra[self.vertebra], values)
        total = self.mean(values)[self.vertebra] * n
        return np.where(n > 1, (total - values) / np.maximum(n - 1, 1), np.nan)


def _down(n: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Counts along the first axis of `values`."""
    return n.reshape(-1, *[1] * (values.ndim - 1))


def match_readings(a: Float[np.ndarray, "n 6 3"], b: Float[np.ndarray, "m 6 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Which vertebrae of two readings are the same: the assignment of centres with the most and nearest matches, mm."""
    apart = cdist(a.mean(1), b.mean(1))
    i, j = linear_sum_assignment(np.minimum(apart, SAME_VERTEBRA_MM))
    near = apart[i, j] < SAME_VERTEBRA_MM
    return i[near], j[near]


def same_vertebra(
    points: Sequence[Float[np.ndarray, "_ 6 3"]],
) -> tuple[Int[np.ndarray, "m 2"], Int[np.ndarray, "n"]]:
    """Group the readings of several readers of one series, which lie one after the other.

    Returns
    -------
    pairs : array [m, 2]
        Matched readings of two readers each.
    vertebra : array [n]
        Number of the vertebra of every reading: the unions of all matches.
    """
    starts = np.cumsum([0, *map(len, points)])
    matches = [
        np.stack(match_readings(points[a], points[b]), 1) + starts[[a, b]]
        for a, b in combinations(range(len(points)), 2)
    ]
    pairs = np.concatenate([*matches, np.zeros((0, 2), int)])
    near = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(starts[-1], starts[-1]))
    return pairs, connected_components(near, directed=False)[1]


def join(series: Sequence[ReadSeries], spacings: Mapping[str, tuple[float, float]]) -> Readings:
    """Lay the readings of all series side by side and match every pair of readers of a series.

    Raises
    ------
    WrongUse
        A series without a voxel size, or nothing read at all.
    """
    points: list[np.ndarray] = []
    readers: list[tuple[int, str]] = []
    levels: list[str | None] = []
    pairs, vertebra = [np.zeros((0, 2), int)], [np.zeros(0, int)]
    for number, one in enumerate(series):
        if one.name not in spacings:
            raise WrongUse(f"no voxel size for {one.name}")
        in_plane, slices = spacings[one.name]
        own = [reading.voxels * [in_plane, in_plane, slices] for reading in one.readings.values()]
        if not own:
            continue
        own_pairs, own_vertebra = same_vertebra(own)
        pairs.append(own_pairs + sum(map(len, points)))
        vertebra.append(own_vertebra + max((v.max() + 1 for v in vertebra if len(v)), default=0))
        points += own
        readers += [(number, name) for name in one.readings]
        levels += [level for reading in one.readings.values() for level in reading.levels]
    if not points:
        raise WrongUse("no reader marked a vertebra")
    counts = [len(own) for own in points]
    reader_pairs = [(a, b) for a, b in combinations(range(len(readers)), 2) if readers[a][0] == readers[b][0]]
    return Readings(
        points=np.concatenate(points),
        series=np.repeat([number for number, _ in readers], counts),
        reader=np.repeat(np.arange(len(readers)), counts),
        vertebra=np.concatenate(vertebra),
        levels=tuple(levels),
        readers=tuple(readers),
        pairs=np.concatenate(pairs),
        reader_pairs=np.array(reader_pairs, int).reshape(-1, 2),
    )
