"""How well the screening went: how studies ended, by scanner, over the years, and how long a study took."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from vertebra_core.epidemiology.strata import NOT_KNOWN, encode, place_in, stratum_of
from vertebra_core.errors import Reason
from vertebra_core.report.distributions import quantiles_of

STAGES = ("total", "read", "curve", "straighten", "keypoints", "levels", "measure")
SECONDS_COLUMNS = tuple(f"seconds_{stage}" for stage in STAGES)
MOST_SCANNERS = 12
"""Scanners with a row of their own, those with most studies; the others are told together."""
OTHERS = "other scanners"

DRIFT_G = 0.01
"""A year's median G that lies further than this from the scanner's own is pointed out: reading noise that grows from
nothing to 0.7 mm moves G by as much (-0.011, in the simulation of docs/noise.md), and nearly trebles mild."""
FEWEST_STUDIES_A_YEAR = 30
"""Studies of a scanner in a year that are needed to judge it: with an SD of G between patients of about 0.03 the
standard error of their median is then at most 1.25 x 0.03 / sqrt(30) = 0.007."""


@dataclass(frozen=True)
class Ending:
    """Studies that ended in the same way; `reason` is None for those without any."""

    status: str
    reason: str | None
    sentence: str
    n: int | None


@dataclass(frozen=True)
class Scanner:
    """Studies of one scanner.

    Parameters
    ----------
    studies, measured : int or None
        Of these, with a measured vertebra; None where a small cell is hidden.
    median_g : float or None
        Of all its measured vertebrae.
    """

    name: str
    studies: int | None
    measured: int | None
    median_g: float | None


@dataclass(frozen=True)
class Year:
    """One scanner in one year.

    Parameters
    ----------
    studies : int or None
        With a measured vertebra.
    median_g : float or None
        Of its vertebrae; None with fewer than `FEWEST_STUDIES_A_YEAR` studies.
    moved : bool
        Further than `DRIFT_G` from the scanner's median over all years.
    """

    scanner: str
    year: str
    studies: int | None
    median_g: float | None
    moved: bool


@dataclass(frozen=True)
class Seconds:
    """Wall time of a stage over the measured studies: median and 95th percentile."""

    stage: str
    median: float
    high: float


@dataclass(frozen=True)
class Quality:
    """All of it.

    Parameters
    ----------
    has_years : bool
        Whether the snapshot tells years at all (`privacy.dates`).
    """

    endings: tuple[Ending, ...]
    scanners: tuple[Scanner, ...]
    years: tuple[Year, ...]
    has_years: bool
    seconds: tuple[Seconds, ...]
    devices: dict[str, int]


def quality(studies: pa.Table, vertebrae: pa.Table) -> Quality:
    """Quality of a snapshot.

    Parameters
    ----------
    studies : pa.Table
    vertebrae : pa.Table
        Columns study_key and g, of all studies.
    """
    measured = vertebrae["g"].is_valid().to_numpy()
    row = place_in(vertebrae["study_key"], studies["study_key"].combine_chunks())[measured]
    g = vertebrae["g"].to_numpy()[measured]
    names, scanner = _scanners(studies)
    there = studies["n_vertebrae"].to_numpy() > 0
    year = stratum_of(studies, "year")
    known = np.array([label != NOT_KNOWN for label in year.labels], bool)[year.codes] & there
    return Quality(
        _endings(studies),
        _by_scanner(names, scanner, there, g, row),
        _by_year(names, scanner, np.array(year.labels, object)[year.codes], known, g, row),
        bool(known.any()),
        _seconds(studies.filter(pa.array(there))),
        _counts(studies["device"].filter(pa.array(there))),
    )


def _endings(studies: pa.Table) -> tuple[Ending, ...]:
    """How studies ended, the commonest first within a status."""
    pairs = studies.group_by(["status", "reason"]).aggregate([([], "count_all")]).to_pylist()
    sentences = {reason.code: reason.sentence for reason in Reason}
    order = ("ok", "partial", "not_evaluable", "failed")
    endings = [
        Ending(pair["status"], pair["reason"], sentences.get(pair["reason"], "Everything in view was measured."), n)
        for pair in pairs
        if (n := pair["count_all"])
    ]
    return tuple(sorted(endings, key=lambda one: (order.index(one.status), -(one.n or 0), one.reason or "")))


def _scanners(studies: pa.Table) -> tuple[list[str], Int[np.ndarray, "studies"]]:
    """Names of the scanners with most studies, and the number of each study's own."""
    stratum = encode(studies["scanner"])
    counts = np.bincount(stratum.codes, minlength=len(stratum.labels))
    order = sorted(range(len(stratum.labels)), key=lambda i: (stratum.labels[i] == NOT_KNOWN, -counts[i], i))
    named = [i for i in order if stratum.labels[i] != NOT_KNOWN][:MOST_SCANNERS]
    rest = [i for i in order if i not in named and stratum.labels[i] != NOT_KNOWN]
    names = [*(stratum.labels[i] for i in named), *([OTHERS] if rest else []), NOT_KNOWN]
    number = np.full(len(stratum.labels), len(names) - 1)
    number[named] = np.arange(len(named))
    number[rest] = len(named)
    return names, number[stratum.codes]


def _by_scanner(
    names: Sequence[str],
    scanner: Int[np.ndarray, "studies"],
    there: np.ndarray,
    g: Float[np.ndarray, "rows"],
    row: Int[np.ndarray, "rows"],
) -> tuple[Scanner, ...]:
    medians = quantiles_of(g, scanner[row], len(names), (0.5,))
    studies, measured = (np.bincount(scanner[of], minlength=len(names)).tolist() for of in (slice(None), there))
    return tuple(
        Scanner(name, studies[i], measured[i], _first(medians[i])) for i, name in enumerate(names) if studies[i]
    )


def _by_year(
    names: Sequence[str],
    scanner: Int[np.ndarray, "studies"],
    year: np.ndarray,
    known: np.ndarray,
    g: Float[np.ndarray, "rows"],
    row: Int[np.ndarray, "rows"],
) -> tuple[Year, ...]:
    """Each scanner by year; the mixture of other scanners, and of unknown ones, is not judged."""
    single = np.array([name not in (OTHERS, NOT_KNOWN) for name in names], bool)[scanner] & known
    if not single.any():
        return ()
    labels = sorted(set(year[single].tolist()))
    place = {label: i for i, label in enumerate(labels)}
    cell = np.full(len(scanner), -1)
    cell[single] = scanner[single] * len(labels) + np.array([place[label] for label in year[single]])
    n_cells = len(names) * len(labels)
    studies = np.bincount(cell[single], minlength=n_cells).tolist()
    of_row = cell[row]
    medians = quantiles_of(g[of_row >= 0], of_row[of_row >= 0], n_cells, (0.5,))
    whole = quantiles_of(g[of_row >= 0], scanner[row][of_row >= 0], len(names), (0.5,))
    years = []
    for number, n in enumerate(studies):
        if not n:
            continue
        own, label = divmod(number, len(labels))
        median, usual = _first(medians[number]), _first(whole[own])
        judged = median if n >= FEWEST_STUDIES_A_YEAR else None
        moved = judged is not None and usual is not None and abs(judged - usual) > DRIFT_G
        years.append(Year(names[own], labels[label], n, judged, moved))
    return tuple(years)


def _seconds(studies: pa.Table) -> tuple[Seconds, ...]:
    """Stages that were timed."""
    timed = ((stage, studies[f"seconds_{stage}"].drop_null().to_numpy()) for stage in STAGES)
    return tuple(Seconds(stage, *np.quantile(values, (0.5, 0.95)).tolist()) for stage, values in timed if len(values))


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = {one["values"]: one["counts"] for one in column.value_counts().to_pylist()}
    return {name: counts[name] for name in sorted(counts)}


def _first(values: list[float] | None) -> float | None:
    return None if values is None else values[0]
