"""Which vertebra of one cohort is which of another: all studies at once, by place or by name."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from vertebra_core.epidemiology.cases import HEIGHTS
from vertebra_core.epidemiology.noise_pairs import PLACE_COLUMNS, SAME_MM, near, places
from vertebra_core.epidemiology.strata import level_codes, place_in
from vertebra_core.tables.columns import LEVELS

Match = Literal["place", "level"]
COLUMNS = ("study_key", "patient_key", "vertebra_index", "level", "g", *HEIGHTS)
"""Columns of `vertebrae` that a comparison reads, beside `PLACE_COLUMNS` to match by place."""
APART_MM = 10 * SAME_MM
"""Studies are laid this far apart along an axis of their own, so that one search matches all of them at once."""


@dataclass(frozen=True)
class Matched:
    """Rows of matched vertebrae in both tables.

    Parameters
    ----------
    first, second : array [pairs]
    apart_mm : array [pairs]
        Distance of the centres; NaN if matched by name.
    n_first, n_second : int
        Vertebrae of the studies that both have.
    """

    first: Int[np.ndarray, "pairs"]
    second: Int[np.ndarray, "pairs"]
    apart_mm: Float[np.ndarray, "pairs"]
    n_first: int
    n_second: int

    def values_of(
        self, first: pa.Table, second: pa.Table
    ) -> tuple[Float[np.ndarray, "pairs 4"], Float[np.ndarray, "pairs 4"]]:
        """Heights ha, hm, hp (mm) and G of each pair in both, NaN where not measured."""
        return _values(first, self.first), _values(second, self.second)


def columns(match: Match) -> list[str]:
    """Columns of `vertebrae` that are read."""
    return [*COLUMNS, *(PLACE_COLUMNS if match == "place" else ())]


def match_vertebrae(first: pa.Table, second: pa.Table, studies: pa.Array, match: Match = "place") -> Matched:
    """Match the vertebrae of the given studies.

    Parameters
    ----------
    first, second : pa.Table
        Tables `vertebrae` with `columns`.
    studies : pa.Array
        Study keys.
    match : str
        "place": centres of the six keypoints that are each other's nearest, nearer than `SAME_MM`. "level": names
        that occur once in the study in both.
    """
    of = [place_in(table["study_key"], studies) for table in (first, second)]
    rows = [np.flatnonzero(study >= 0) for study in of]
    study = [numbers[mine] for numbers, mine in zip(of, rows, strict=True)]
    tables = [table.take(pa.array(mine)) for table, mine in zip((first, second), rows, strict=True)]
    if match == "place":
        marks = [np.c_[places(table), APART_MM * number] for table, number in zip(tables, study, strict=True)]
        a, b = near(*marks)
        apart = np.linalg.norm(marks[0][a] - marks[1][b], axis=1)
    else:
        a, b = _same_names(*(_codes(table, number) for table, number in zip(tables, study, strict=True)))
        apart = np.full(len(a), np.nan)
    return Matched(rows[0][a], rows[1][b], apart, len(rows[0]), len(rows[1]))


def _codes(table: pa.Table, study: np.ndarray) -> np.ndarray:
    """A number for each study and level; one of its own for a vertebra without a name."""
    level = level_codes(table["level"]).astype(int)
    return np.where(level < 0, -1 - np.arange(len(level)), study * len(LEVELS) + level)


def _same_names(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the codes that occur once in both."""
    single = [np.unique(codes, return_index=True, return_counts=True) for codes in (one, other)]
    (a, first, times), (b, second, other_times) = single
    common, i, j = np.intersect1d(a[times == 1], b[other_times == 1], return_indices=True)
    i, j = i[common >= 0], j[common >= 0]
    return first[times == 1][i], second[other_times == 1][j]


def _values(table: pa.Table, rows: np.ndarray) -> np.ndarray:
    taken = table.select([*HEIGHTS, "g"]).take(pa.array(rows))
    return np.stack([taken[name].to_numpy().astype(float) for name in taken.column_names], 1).reshape(-1, 4)
