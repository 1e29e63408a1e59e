"""Strata: sex, age band, scanner, site, year and level, alone or crossed. What is not known is a group of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from vertebra_core.tables.columns import LEVELS

StratumName = Literal["sex", "age_band", "scanner", "site", "year", "level"]
STRATA: tuple[StratumName, ...] = get_args(StratumName)

NOT_KNOWN = "not known"
ALL = "all"
OLDEST_BAND, YOUNGEST_BAND, BAND_YEARS = 90, 50, 10
"""Bands of ten years from 50 to 89 for display, with one open band at either end."""

AGE_BANDS = (
    f"under {YOUNGEST_BAND}",
    *(f"{start}-{start + BAND_YEARS - 1}" for start in range(YOUNGEST_BAND, OLDEST_BAND, BAND_YEARS)),
    f"{OLDEST_BAND} and over",
    NOT_KNOWN,
)


@dataclass(frozen=True)
class Stratum:
    """One way to part people or vertebrae.

    Parameters
    ----------
    labels : tuple of str
        In the order of printing.
    codes : array [rows]
        Position in `labels`.
    """

    labels: tuple[str, ...]
    codes: Int[np.ndarray, "rows"]


@dataclass(frozen=True)
class Grouping:
    """Groups that occur, in the order of printing.

    Parameters
    ----------
    names : tuple of tuple of str
        The label of each stratum, by group.
    codes : array [rows]
        Position in `names`.
    """

    names: tuple[tuple[str, ...], ...]
    codes: Int[np.ndarray, "rows"]


def age_band_codes(age_years: Float[np.ndarray, "people"]) -> Int[np.ndarray, "people"]:
    """Position in `AGE_BANDS` of ages in years; NaN is not known.

    Examples
    --------
    >>> [AGE_BANDS[i] for i in age_band_codes(np.array([49.9, 50, 69.99, 93, np.nan]))]
    ['under 50', '50-59', '60-69', '90 and over', 'not known']
    """
    starts = np.arange(YOUNGEST_BAND, OLDEST_BAND + 1, BAND_YEARS)
    return np.where(np.isnan(age_years), len(AGE_BANDS) - 1, np.searchsorted(starts, age_years, side="right"))


def stratum_of(people: pa.Table, name: StratumName) -> Stratum:
    """A stratum of patients (not "level", which is one of vertebrae).

    Parameters
    ----------
    people : pa.Table
        Rows of `studies`.
    name : str
    """
    if name == "age_band":
        return Stratum(AGE_BANDS, age_band_codes(ages_of(people)))
    return encode(_years(people) if name == "year" else people[name])


def place_in(column: pa.ChunkedArray, values: pa.Array | pa.ChunkedArray) -> Int[np.ndarray, "rows"]:
    """Position of each value of a column in `values`; -1 where it is NULL or not among them.

    Tables have few distinct values, or runs of equal keys (the vertebrae of a study): each is looked up once. The
    column is text, or text as numbers into its distinct values.
    """
    parts = [_distinct(chunk) for chunk in column.chunks]
    if not parts:
        return _no_codes()
    distinct = pa.chunked_array([own for own, _ in parts])
    place = pc.call_function("index_in", [distinct], pc.SetLookupOptions(values)).fill_null(-1).to_numpy()
    ends = np.cumsum([len(own) for own, _ in parts])
    return np.concatenate([spread(place[end - len(own) : end]) for (own, spread), end in zip(parts, ends, strict=True)])


def _distinct(chunk: pa.Array) -> tuple[pa.Array, Callable[[np.ndarray], np.ndarray]]:
    """Distinct values of a chunk, and how what is known of them is spread over its rows."""
    if pa.types.is_dictionary(chunk.type):
        number = chunk.indices.fill_null(len(chunk.dictionary)).to_numpy()
        return chunk.dictionary, lambda place: np.append(place, place.dtype.type(-1))[number]
    runs = pc.call_function("run_end_encode", [chunk])
    lengths = np.diff(runs.run_ends.to_numpy(), prepend=0)
    return runs.values, lambda place: np.repeat(place, lengths)


def encode(column: pa.ChunkedArray) -> Stratum:
    """A column of strings as a stratum: labels by alphabet, "not known" last."""
    encoded = column.fill_null(NOT_KNOWN).combine_chunks().dictionary_encode()
    labels = encoded.dictionary.to_pylist()
    order = sorted(range(len(labels)), key=lambda i: (labels[i] == NOT_KNOWN, labels[i]))
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels))
    return Stratum(tuple(labels[i] for i in order), rank[encoded.indices.to_numpy()] if len(labels) else _no_codes())


def ages_of(people: pa.Table) -> Float[np.ndarray, "people"]:
    """Ages in years, NaN where not known."""
    return people["age_years"].to_numpy().astype(float)


def level_codes(column: pa.ChunkedArray) -> Int[np.ndarray, "rows"]:
    """Position in `LEVELS`, -1 where not known."""
    return place_in(column, pa.array(LEVELS)).astype(np.int8)


def level_stratum(codes: Int[np.ndarray, "rows"]) -> Stratum:
    """Levels from the top down, "not known" last."""
    return Stratum((*LEVELS, NOT_KNOWN), np.where(codes < 0, len(LEVELS), codes))


def cross(strata: Sequence[Stratum]) -> Grouping:
    """Groups of rows by all strata together; those that do not occur are left out."""
    combined, size = np.zeros(len(strata[0].codes), np.int64), 1
    for stratum in strata:
        combined = combined * len(stratum.labels) + stratum.codes
        size *= len(stratum.labels)
    present, codes = np.unique(combined, return_inverse=True) if size > MOST_DENSE else _dense(combined, size)
    names = []
    for number in present.tolist():
        labels = []
        for stratum in reversed(strata):
            number, place = divmod(number, len(stratum.labels))
            labels.append(stratum.labels[place])
        names.append(tuple(reversed(labels)))
    return Grouping(tuple(names), codes)


MOST_DENSE = 1_000_000
"""Up to this many possible groups they are counted in a table, which is quicker than sorting rows."""


def _dense(combined: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    present = np.flatnonzero(np.bincount(combined, minlength=size))
    place = np.zeros(max(size, 1), np.int64)
    place[present] = np.arange(len(present))
    return present, place[combined]


def _years(people: pa.Table) -> pa.ChunkedArray:
    """Year of the study as text, from whichever column tells it."""
    dated = people["study_date"].to_numpy().astype("datetime64[Y]")
    told = people["study_year"].fill_null(0).to_numpy()
    text = np.where(told > 0, told.astype(str), np.datetime_as_string(dated))
    return pa.chunked_array([pa.array(text, mask=text == "NaT", type=pa.string())])


def _no_codes() -> np.ndarray:
    return np.zeros(0, int)
