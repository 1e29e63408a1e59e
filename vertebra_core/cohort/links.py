"""The private links file: which key stands for whom, and what is known of them. Mode 0600; never part of a snapshot."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vertebra_core.cohort.commit import parquet_bytes, private_folder, replace
from vertebra_core.cohort.identity import Pseudonyms, SeriesKeys, keys_of, person_of
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.seal import is_broken
from vertebra_core.errors import CouldNotRun
from vertebra_core.reading.series import Series
from vertebra_core.storage import read_whole

KEYS = ("series_key", "study_key", "patient_key")
IDENTIFIERS = ("patient_id", "patient_id_issuer", "study_uid", "series_uid", "archive", "path")
KNOWN = ("sex", "study_date", "site", "manufacturer", "scanner", "age_years")
"""As in the header, untouched by any privacy rule (`vertebra_core.tables.covariates`)."""
COLUMNS = (*KEYS, *IDENTIFIERS, *KNOWN)
SCHEMA = pa.schema([pa.field(name, pa.float64() if name == "age_years" else pa.string()) for name in COLUMNS])


class Person(NamedTuple):
    """A row of the links as keys are made from it (`vertebra_core.cohort.identity.Identifiers`)."""

    patient_id: str
    patient_id_issuer: str
    study_uid: str
    archive: str
    sex: str | None
    age_years: float | None
    study_date: str | None


def link_table(series: Iterable[Series], keys: SeriesKeys, site: str | None = None) -> pa.Table:
    """One row per series: its keys, the identifiers they were made from, and what its header knows of the patient."""
    rows = [
        {
            **keys.of(one),
            **{name: getattr(one, name) for name in (*IDENTIFIERS, "sex", "study_date", "manufacturer", "age_years")},
            "scanner": one.scanner_model,
            "site": one.site or site,
        }
        for one in series
    ]
    written = [{name: printable(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows]
    return pa.Table.from_pylist(written, schema=SCHEMA)


def printable(text: str) -> str:
    """The text as valid UTF-8; bytes of file names that are none are written as escapes.

    Examples
    --------
    >>> printable("scan\\udcff")
    'scan\\\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def read_links(layout: Layout) -> pa.Table:
    """All links of the cohort; no rows if there are none yet. Columns that an older version did not write are NULL.

    Raises
    ------
    CouldNotRun
        The file was changed after it was written: it is the one thing in a cohort that cannot all be made anew.
    """
    if not layout.links.exists():
        return SCHEMA.empty_table()
    try:
        data = read_whole(layout.links)
        found = None if is_broken(data) else pq.read_table(pa.BufferReader(data))
    except pa.ArrowException:
        found = None
    if found is None:
        raise CouldNotRun(
            f"{layout.links}: damaged; restore it from a backup, or move it away: then `vertebra screen` makes it anew "
            "for the scans it is given, and nothing is known of the patients of others"
        )
    return pa.concat_tables([SCHEMA.empty_table(), found], promote_options="default").select(COLUMNS)


def rows_of(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.ChunkedArray:
    """The row of each key among others; NULL where there is none."""
    return pc.call_function("index_in", [keys], pc.SetLookupOptions(among.combine_chunks()))


def people(links: pa.Table) -> list[Person]:
    """The rows of the links as keys are made from them."""
    columns = [links[name].to_pylist() for name in Person._fields]
    return [Person(*values) for values in zip(*columns, strict=True)]


def known_keys(layout: Layout, series: Sequence[Series], pseudonyms: Pseudonyms) -> SeriesKeys:
    """Keys for the series of a run, with what all earlier runs have shown about identifiers."""
    links = read_links(layout)
    return keys_of(series, pseudonyms, people(links), links["study_key"].to_pylist())


def merge_links(layout: Layout, new: pa.Table, keys: SeriesKeys | None = None) -> None:
    """Add links to the file, a newer one of the same series in place of the older; other runs' links stay.

    Parameters
    ----------
    layout : Layout
    new : pa.Table
        From `link_table`. A site that is not given leaves the one that was.
    keys : SeriesKeys, optional
        Those of this run: patients of earlier runs whose identifier has turned out to be none get keys of their own.
    """
    old = read_links(layout)
    kept = old.filter(~pc.field("series_key").isin(new["series_key"].combine_chunks()))
    if keys is not None and kept.num_rows:
        patients = [
            keys.patient_key(person) if person_of(person) in keys.contradicted else patient
            for person, patient in zip(people(kept), kept["patient_key"].to_pylist(), strict=True)
        ]
        kept = kept.set_column(KEYS.index("patient_key"), SCHEMA.field("patient_key"), pa.array(patients, pa.string()))
    sites = old["site"].take(rows_of(new["series_key"], old["series_key"]))
    sites = pc.call_function("coalesce", [new["site"], sites])
    new = new.set_column(COLUMNS.index("site"), SCHEMA.field("site"), sites)
    merged = pa.concat_tables([kept, new]).sort_by("series_key")
    if not merged.equals(old):
        private_folder(layout.private)
        replace(layout.links, parquet_bytes(merged), mode=0o600)
