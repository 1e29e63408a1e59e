"""Standard populations for direct age standardisation, with their sources, and those that a user brings.

Weights are the published numbers in their own unit; whoever uses them renormalises. WHO's per cents add to 100.035.
All are the same for both sexes.
"""

import csv
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vertebra_core.errors import WrongUse

POOLED_FROM = 90
"""Bands from here on are one: ages of 90 and more are published as 90 (`tables.covariates`)."""


@dataclass(frozen=True)
class StandardPopulation:
    """Age bands of a population and how many live in each.

    Parameters
    ----------
    name, source : str
    starts : tuple of int
        First age of each band in completed years, rising; a band ends where the next begins, the last one is open.
    weights : tuple of float
        One per band, in any unit; ages in a band of weight 0 lie outside the standard.
    """

    name: str
    source: str
    starts: tuple[int, ...]
    weights: tuple[float, ...]

    def band_of(self, age_years: float) -> int | None:
        """Number of the band that holds an age; None below the first one."""
        number = bisect_right(self.starts, age_years) - 1
        return None if number < 0 else number

    def band_names(self) -> tuple[str, ...]:
        """Names as "50-54"; the last band is open.

        Examples
        --------
        >>> STANDARDS["esp2013"].band_names()[-2:]
        ('85-89', '90+')
        """
        return (*(f"{start}-{after - 1}" for start, after in pairwise(self.starts)), f"{self.starts[-1]}+")


def _five_year_bands(name: str, source: str, weights: tuple[float, ...]) -> StandardPopulation:
    """Bands 0-4, 5-9 ... 85-89, 90+."""
    return StandardPopulation(name, source, tuple(range(0, POOLED_FROM + 1, 5)), weights)


_ESP2013 = (
    1000 + 4000, 5500, 5500, 5500, 6000, 6000, 6500, 7000, 7000, 7000, 7000, 6500, 6000, 5500, 5000, 4000, 2500, 1500,
    800 + 200,
)  # fmt: skip
_WHO = (
    8.86, 8.69, 8.60, 8.47, 8.22, 7.93, 7.61, 7.15, 6.59, 6.04, 5.37, 4.55, 3.72, 2.96, 2.21, 1.52, 0.91, 0.44,
    0.15 + 0.04 + 0.005,
)  # fmt: skip
_US2000 = (
    3794901 + 15191619, 19919840, 20056779, 19819518, 18257225, 17722067, 19511370, 22179956, 22479229, 19805793,
    17224359, 13307234, 10654272, 9409940, 8725574, 7414559, 4900234, 2678567, 1580606,
)  # fmt: skip

STANDARDS = {
    "esp2013": _five_year_bands(
        "European Standard Population 2013",
        "Eurostat 2013, Revision of the European Standard Population, KS-RA-13-028, doi 10.2785/11470; of 100 000 "
        "(0 and 1-4, 90-94 and 95+ added up)",
        _ESP2013,
    ),
    "who": _five_year_bands(
        "WHO World Standard Population 2000-2025",
        "Ahmad et al. 2001, Age standardization of rates: a new WHO standard, GPE Discussion Paper 31; per cent "
        "(90-94, 95-99 and 100+ added up)",
        _WHO,
    ),
    "us2000": _five_year_bands(
        "2000 US standard population",
        "US Census P25-1130; Klein and Schoenborn 2001, Healthy People 2010 Statistical Notes 20; persons (0 and 1-4 "
        "added up)",
        _US2000,
    ),
}

_BAND = re.compile(r"(\d{1,3})(?:\s*[-–]\s*(\d{1,3})|\s*(\+))?")


def standard_population(name_or_file: str) -> StandardPopulation:
    """A standard population by its name, or read from a CSV file.

    Raises
    ------
    WrongUse
        Neither a known name nor a readable file of bands.

    Examples
    --------
    >>> standard_population("esp2013").weights[-1]
    1000
    """
    if name_or_file in STANDARDS:
        return STANDARDS[name_or_file]
    path = Path(name_or_file)
    if not path.is_file():
        raise WrongUse(f"standard {name_or_file!r} is none of {', '.join(STANDARDS)} and no file")
    return read_standard(path)


def read_standard(path: Path) -> StandardPopulation:
    """Read a CSV file with one band a line: ``50-54,7000`` and, last, ``90+,1000``; a first line of names may stand.

    Bands follow each other without a gap. Those from 90 years on are added up, as ages of 90 and more are pooled.

    Raises
    ------
    WrongUse
        A line that is no band and weight, bands with a gap or an overlap, or a band that straddles 90.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    if lines and not _BAND.fullmatch(lines[0][0].strip()):
        lines = lines[1:]
    bands = [_read_band(path, line) for line in lines]
    if not bands:
        raise WrongUse(f"{path}: no age band")
    for (_, end, _), (start, _, _) in pairwise(bands):
        if end is None or start != end + 1:
            raise WrongUse(f"{path}: the band from {start} does not begin where the one before it ends")
    return StandardPopulation(path.stem, f"file {path.name}", *_pooled(path, bands))


def _read_band(path: Path, line: list[str]) -> tuple[int, int | None, float]:
    """First age, last age (None: open) and weight."""
    found = _BAND.fullmatch(line[0].strip()) if len(line) == 2 else None
    try:
        weight = float(line[1]) if found else -1.0
    except ValueError:
        weight = -1.0
    if found is None or not 0 <= weight < float("inf"):
        raise WrongUse(f"{path}: expected a line as '50-54,7000', found {','.join(line)!r}")
    start = int(found[1])
    end = None if found[3] else int(found[2] or start)
    if end is not None and end < start:
        raise WrongUse(f"{path}: the band {line[0].strip()!r} ends before it begins")
    return start, end, weight


def _pooled(path: Path, bands: list[tuple[int, int | None, float]]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """First ages and weights with all from `POOLED_FROM` on as one; an end before it is closed by a weight of 0."""
    kept = {start: weight for start, _, weight in bands if start < POOLED_FROM}
    end = next((end for start, end, _ in reversed(bands) if start < POOLED_FROM), POOLED_FROM - 1)
    if end is not None:
        if end >= POOLED_FROM:
            raise WrongUse(f"{path}: the band up to {end} straddles {POOLED_FROM}, from where ages are pooled")
        kept[end + 1] = sum(weight for start, _, weight in bands if start >= POOLED_FROM)
    if not sum(kept.values()):
        raise WrongUse(f"{path}: all weights are zero")
    return tuple(kept), tuple(kept.values())
