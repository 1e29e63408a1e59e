"""Take stock of the archives: headers only, one row for every series that was met."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vertebra_core.cohort.commit import parquet_bytes, replace
from vertebra_core.cohort.identity import SeriesKeys
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.links import link_table, merge_links, read_links
from vertebra_core.cohort.people import People, refill_inventories
from vertebra_core.errors import CouldNotRun, Reason
from vertebra_core.reading.arrival import Settling, arriving_studies
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.metadata import Joined, Metadata, join_metadata
from vertebra_core.reading.scan import Notes
from vertebra_core.reading.select import choose_index_series
from vertebra_core.reading.series import Series
from vertebra_core.settings import PrivacySettings, ReadingSettings
from vertebra_core.tables.rows import inventory_rows, to_arrow

MEASURE = "measure"
"""What is said of series that are, or were, measured."""


@dataclass(frozen=True)
class Stock:
    """What the archives hold.

    Parameters
    ----------
    series : tuple of Series
        All series met; those without a `decision` against them are to be measured, at most one a study.
    left_alone : dict
        Number of files and folders that belong to no series, by reason.
    files_seen : int
    files_opened : int
        Of these, the ones that were new or had changed.
    joined : Joined or None
        What a table of metadata gave.
    settles_in_s : float
        Seconds until all studies that are still arriving have settled; 0 if none is.
    """

    series: tuple[Series, ...]
    left_alone: Mapping[Reason, int]
    files_seen: int
    files_opened: int = 0
    joined: Joined | None = None
    settles_in_s: float = 0.0

    @property
    def arrived(self) -> list[Series]:
        """The series of studies that have settled: what this run is about."""
        return [one for one in self.series if one.decision is not Reason.ARRIVING]

    @property
    def arriving(self) -> int:
        """Studies that are left alone until they have settled."""
        return arriving_studies(self.series)

    def tally(self) -> "Tally":
        """The numbers alone."""
        decisions = Counter(one.decision.code if one.decision else MEASURE for one in self.series)
        return Tally(
            files_seen=self.files_seen,
            files_opened=self.files_opened,
            series=dict(decisions.most_common()),
            archives=tuple(sorted({one.archive for one in self.series})),
            left_alone={reason.code: count for reason, count in self.left_alone.items()},
            arriving=self.arriving,
        )


@dataclass(frozen=True)
class Tally:
    """What is kept of a stock while a run measures: numbers, and no name of any file.

    Parameters
    ----------
    files_seen, files_opened : int
        As in `Stock`.
    series : dict
        Number of series by decision: `MEASURE`, or the code of a reason.
    archives : tuple of str
        In which there are series.
    left_alone : dict
        Number of files and folders that belong to no series, by code of the reason.
    arriving : int
        Studies that wait until they have settled.
    """

    files_seen: int
    files_opened: int
    series: dict[str, int]
    archives: tuple[str, ...]
    left_alone: dict[str, int]
    arriving: int

    @property
    def n_series(self) -> int:
        """All series met."""
        return sum(self.series.values())


def take_inventory(
    archives: Sequence[Path | str],
    settings: ReadingSettings,
    on_progress: Callable[[int], None] = lambda files: None,
    notes: Notes | None = None,
    processes: int = 1,
    settling: Settling | None = None,
    metadata: Metadata | None = None,
) -> Stock:
    """Find every series and choose the one of each study that is measured.

    Parameters
    ----------
    archives : sequence of path or URL
    settings : ReadingSettings
    on_progress : callable
        Hears how many files have been looked at.
    notes : Notes, optional
        What earlier runs learnt (`tasks.remember`); takes down what this one learns.
    processes : int
        Processes to read headers with.
    settling : Settling, optional
        When a study counts as settled.
    metadata : Metadata, optional
        What a table knows that headers do not say.

    Raises
    ------
    CouldNotRun
        An archive without a single file: more likely a disk that is not mounted than a hospital without patients.
    """
    notes = notes or Notes()
    found = find_series(archives, settings, on_progress, notes, processes, settling)
    if not found.files_seen:
        raise CouldNotRun(f"no files in {', '.join(str(archive) for archive in archives)}")
    joined = join_metadata(found.series, metadata) if metadata else None
    chosen = tuple(choose_index_series(joined.series if joined else found.series, settings))
    wait = settling.settles_in(chosen) if settling else 0.0
    return Stock(chosen, dict(found.left_alone), found.files_seen, notes.opened, joined, wait)


def record_inventory(
    layout: Layout, stock: Stock, keys: SeriesKeys, site: str | None, privacy: PrivacySettings
) -> None:
    """Write the private links, and the inventory of each archive in place of its last one."""
    merge_links(layout, link_table(stock.series, keys, site), keys)
    people = People(read_links(layout), privacy, keys.pseudonyms.shift_days)
    by_archive: dict[str, list[Series]] = defaultdict(list)
    for one in stock.series:
        by_archive[one.archive].append(one)
    written = []
    for archive, members in by_archive.items():
        rows = inventory_rows(members, keys.of)
        for row in rows:
            row["input_digest"] = keys.input_key(str(row["input_digest"]))
        table = people.fill(to_arrow("inventory", rows)).sort_by("series_key")
        written.append(layout.inventory(keys.pseudonyms.archive_key(archive)))
        replace(written[-1], parquet_bytes(table))
    refill_inventories(layout, written, people)
