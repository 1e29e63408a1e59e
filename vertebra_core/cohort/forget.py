"""Taking a patient out of a cohort: rows, pictures, sentinels, log lines, links (GDPR article 17, right to erasure).

Results are otherwise never changed once they are committed. Here every shard that holds a row of the patient is
committed again without it, in one step; the links go last, so that a call that was interrupted can be repeated.
Snapshots are removed whole: each holds the patient, and counts made with them. The next run publishes a new one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.cohort.commit import parquet_bytes, remove_folder, replace
from vertebra_core.cohort.layout import MARK_TABLE, Layout
from vertebra_core.cohort.ledger import Mark, commit_again, marks, read_companion, read_mark, token_of
from vertebra_core.cohort.links import read_links
from vertebra_core.cohort.sentinels import forget_sentinels
from vertebra_core.errors import WrongUse
from vertebra_core.storage import Place, matching
from vertebra_core.tables.parquet import read_table

PRIVATE_DEPTHS = ("*", "*/*", "*/*/*")
"""Where private files lie; all but the secret and the links are made anew when they are needed."""


@dataclass(frozen=True)
class Known:
    """What a cohort holds of a patient.

    Parameters
    ----------
    studies, series : frozenset of str
        Keys.
    archives : tuple of str
        Where the scans were found; while they are there, the next run brings the patient back.
    """

    studies: frozenset[str]
    series: frozenset[str]
    archives: tuple[str, ...]


def known_of(layout: Layout, patient_key: str) -> Known:
    """What a cohort holds of a patient.

    Raises
    ------
    WrongUse
        Nobody has this key.
    """
    links = read_links(layout)
    theirs = links.filter(pc.field("patient_key") == patient_key)
    if not theirs.num_rows:
        raise WrongUse(f"{layout.root}: no patient {patient_key} (keys: column patient_key of private/links.parquet)")
    columns = {name: theirs[name].to_pylist() for name in ("study_key", "series_key", "archive")}
    archives = tuple(sorted(set(columns["archive"])))
    return Known(frozenset(columns["study_key"]), frozenset(columns["series_key"]), archives)


def forget(layout: Layout, patient_key: str) -> Known:
    """Take a patient out of everything but the archive; the cohort's lock must be held.

    Raises
    ------
    WrongUse
        Nobody has this key.
    """
    known = known_of(layout, patient_key)
    if layout.latest.exists():
        layout.latest.unlink()  # first: nobody is led to what is being removed
    remove_folder(layout.snapshots)
    remove_folder(layout.damaged)  # nobody can tell whose rows are in it
    for mark in marks(layout):
        _take_out_of_shard(layout, mark, known)
    for path in _left_over(layout):
        path.unlink()
    for path in layout.inventories():
        _take_out_of_table(path, known)
    for key in known.studies | known.series:
        if layout.picture(key).exists():
            layout.picture(key).unlink()
    forget_sentinels(layout, known.studies)
    for path in matching(layout.root / "logs", "*/*"):
        _take_out_of_log(path, known)
    for path in matching(layout.retries, "*.json"):
        record = json.loads(path.read_text())
        kept = [key for key in record["keys"] if key not in known.studies | known.series]
        if kept != record["keys"]:
            replace(path, json.dumps({**record, "keys": kept}, indent=1).encode())
    for path in (path for depth in PRIVATE_DEPTHS for path in matching(layout.private, depth)):
        if path.is_file() and path not in (layout.secret, layout.links):
            path.unlink()
    links = read_links(layout)
    replace(layout.links, parquet_bytes(links.filter(pc.field("patient_key") != patient_key)), mode=0o600)
    return known


def _take_out_of_shard(layout: Layout, mark: Mark, known: Known) -> None:
    names = [name for path in _companions(layout, mark) if (name := path.name.split(".")[-2])]
    tables = {MARK_TABLE: read_mark(mark), **{name: read_companion(layout, mark, name) for name in names}}
    kept = {name: _without(table, known) for name, table in tables.items()}
    if any(kept[name].num_rows < table.num_rows for name, table in tables.items()):
        commit_again(layout, mark, kept)


def _companions(layout: Layout, mark: Mark) -> list[Place]:
    return matching(layout.results / mark.run, f"{mark.shard}.{token_of(mark)}.*.parquet")


def _left_over(layout: Layout) -> Iterator[Place]:
    """Files of results that no mark names: of runs that were killed, and of shards that were just committed again."""
    named = {mark.path for mark in marks(layout)}
    for mark in marks(layout):
        named.update(_companions(layout, mark))
    yield from (path for path in matching(layout.results, "*/*") if path not in named)


def _take_out_of_table(path: Place, known: Known) -> None:
    table = read_table(path)
    kept = _without(table, known)
    if kept.num_rows < table.num_rows:
        replace(path, parquet_bytes(kept))


def _without(table: pa.Table, known: Known) -> pa.Table:
    return table.filter(~pc.field("study_key").isin(pa.array(sorted(known.studies), pa.string())))


def _take_out_of_log(path: Place, known: Known) -> None:
    """Lines about a study; of the record of a run, its failures."""
    text = path.read_text()
    keys = known.studies | known.series
    if not any(key in text for key in keys):
        return
    if path.suffix == ".jsonl":
        lines = [line for line in text.splitlines(keepends=True) if not any(key in line for key in keys)]
        replace(path, "".join(lines).encode())
        return
    record = json.loads(text)
    record["failures"] = [failure for failure in record.get("failures", []) if failure[0] not in keys]
    replace(path, json.dumps(record, indent=1).encode())
