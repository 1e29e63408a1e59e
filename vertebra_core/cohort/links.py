"""The private links file: which key stands for whom. Mode 0600; never part of a snapshot."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vertebra_core.cohort.commit import parquet_bytes, private_folder, replace
from vertebra_core.cohort.identity import SeriesKeys
from vertebra_core.cohort.layout import Layout
from vertebra_core.reading.series import Series

COLUMNS = (
    "series_key",
    "study_key",
    "patient_key",
    "patient_id",
    "patient_id_issuer",
    "study_uid",
    "series_uid",
    "archive",
    "path",
)
SCHEMA = pa.schema([pa.field(name, pa.string()) for name in COLUMNS])


def link_table(series: Iterable[Series], keys: SeriesKeys) -> pa.Table:
    """One row per series: its keys and the identifiers they were made from."""
    rows = [{**keys.of(one), **{name: getattr(one, name) for name in COLUMNS[3:]}} for one in series]
    return pa.table({name: [printable(row[name]) for row in rows] for name in COLUMNS}, schema=SCHEMA)


def printable(text: str) -> str:
    """The text as valid UTF-8; bytes of file names that are none are written as escapes.

    Examples
    --------
    >>> printable("scan\\udcff")
    'scan\\\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def read_links(layout: Layout) -> pa.Table:
    """All links of the cohort; no rows if there are none yet."""
    return pq.ParquetFile(layout.links).read() if layout.links.exists() else SCHEMA.empty_table()


def merge_links(layout: Layout, new: pa.Table) -> None:
    """Add links to the file, a newer one of the same series in place of the older; other runs' links stay."""
    old = read_links(layout)
    kept = old.filter(~pc.field("series_key").isin(new["series_key"].combine_chunks()))
    merged = pa.concat_tables([kept, new]).sort_by("series_key")
    if not merged.equals(old):
        private_folder(layout.private)
        replace(layout.links, parquet_bytes(merged), mode=0o600)
