"""Take stock of the archives: headers only, one row for every series that was met."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vertebra_core.cohort.commit import parquet_bytes, replace
from vertebra_core.cohort.identity import SeriesKeys
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.links import link_table, merge_links, read_links
from vertebra_core.cohort.people import People, refill_inventories
from vertebra_core.errors import CouldNotRun, Reason
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.reading.series import Series
from vertebra_core.settings import PrivacySettings, ReadingSettings
from vertebra_core.tables.rows import inventory_rows, to_arrow


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
    """

    series: tuple[Series, ...]
    left_alone: Mapping[Reason, int]
    files_seen: int


def take_inventory(
    archives: Sequence[Path], settings: ReadingSettings, on_progress: Callable[[int], None] = lambda files: None
) -> Stock:
    """Find every series and choose the one of each study that is measured.

    Raises
    ------
    CouldNotRun
        An archive without a single file: more likely a disk that is not mounted than a hospital without patients.
    """
    found = find_series(archives, settings, on_progress)
    if not found.files_seen:
        raise CouldNotRun(f"no files in {', '.join(str(archive) for archive in archives)}")
    return Stock(tuple(choose_index_series(found.series, settings)), dict(found.left_alone), found.files_seen)


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
