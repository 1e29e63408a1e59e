"""What is committed: the one truth about what has been done, read from the result files themselves.

A shard's tables are written first, its ``studies`` file last; that file is the mark that all of them are there, and it
can be created only once. A worker that is run again, or two that run the same shard, leave one result.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vertebra_core.cohort.commit import create, parquet_bytes
from vertebra_core.cohort.layout import MARK_TABLE, Layout
from vertebra_core.errors import CouldNotRun
from vertebra_core.storage import Place, read_ahead

IDENTITY = ("study_key", "input_digest", "model_digest", "settings_digest", "schema_version")
"""Columns of ``studies`` that say which computation a row is the result of; equal ones are never computed twice."""
COMPANIONS = b"vertebra.companions"
"""Metadata of a mark: the token in the names of the shard's other files."""


@dataclass(frozen=True)
class MethodIdentity:
    """The part of a result's identity that all studies of a run share."""

    model_digest: str
    settings_digest: str
    schema_version: str


@dataclass(frozen=True)
class Mark:
    """One committed shard."""

    path: Place
    run: str
    shard: str


def commit_shard(layout: Layout, run: str, shard: str, tables: Mapping[str, pa.Table]) -> bool:
    """Commit the tables of one shard, whole or not at all.

    Returns
    -------
    bool
        False if the shard was committed before; then that result stands.
    """
    companions = {name: parquet_bytes(table) for name, table in sorted(tables.items()) if name != MARK_TABLE}
    token = hashlib.sha256(b"".join(companions.values())).hexdigest()[:12]
    for name, data in companions.items():
        create(layout.companion(run, shard, token, name), data)
    mark = parquet_bytes(tables[MARK_TABLE], {COMPANIONS.decode(): token})
    return create(layout.mark(run, shard), mark)


def is_committed(layout: Layout, run: str, shard: str) -> bool:
    """Whether the shard is done."""
    return layout.mark(run, shard).exists()


def marks(layout: Layout) -> list[Mark]:
    """All committed shards, oldest run first."""
    suffix = f".{MARK_TABLE}.parquet"
    return [Mark(path, path.parent.name, path.name.removesuffix(suffix)) for path in layout.marks()]


def read_mark(mark: Mark, columns: list[str] | None = None) -> pa.Table:
    """Rows of ``studies`` of one committed shard.

    Raises
    ------
    CouldNotRun
        The file was damaged after it was written.
    """
    return _read(mark.path, columns)


def read_companion(layout: Layout, mark: Mark, table: str) -> pa.Table:
    """Another table of the same shard."""
    source = _source(mark.path)
    try:
        token = pq.read_metadata(source).metadata[COMPANIONS].decode()
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise CouldNotRun(f"{mark.path}: damaged; move it away and its studies become due again") from error
    return _read(layout.companion(mark.run, mark.shard, token, table), None)


def committed(layout: Layout) -> pa.Table:
    """Identity, series key, end, ``run`` and number of the mark (``mark``) of every committed study, oldest first."""
    columns = [*IDENTITY, "series_key", "status", "reason"]
    parts = []
    found = marks(layout)
    read = read_ahead(layout.root, lambda mark: read_mark(mark, columns), found)
    for number, (mark, part) in enumerate(zip(found, read, strict=True)):
        part = part.append_column("run", pa.array([mark.run] * part.num_rows, pa.string()))
        parts.append(part.append_column("mark", pa.array([number] * part.num_rows, pa.int64())))
    if not parts:
        names = [*columns, "run", "mark"]
        return pa.table({name: pa.array([], pa.int64() if name == "mark" else pa.string()) for name in names})
    return pa.concat_tables([part.replace_schema_metadata() for part in parts], promote_options="default")


def done_inputs(ledger: pa.Table, identity: MethodIdentity) -> set[tuple[str, str]]:
    """The pairs (study key, input digest) that this method has already brought to an end, good or bad."""
    rows = ledger.select(IDENTITY).to_pydict()
    same = (identity.model_digest, identity.settings_digest, identity.schema_version)
    method = zip(rows["model_digest"], rows["settings_digest"], rows["schema_version"], strict=True)
    pairs = zip(rows["study_key"], rows["input_digest"], strict=True)
    return {pair for pair, of in zip(pairs, method, strict=True) if of == same}


def _source(path: Place) -> Path | pa.BufferReader:
    """A committed file as Arrow reads it; of a store, all of it at once: it is small, and every question costs time.

    Whether a store answers is asked here, so that what fails later is the file's own fault.
    """
    return path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())


def _read(path: Place, columns: list[str] | None) -> pa.Table:
    source = _source(path)
    try:
        return pq.ParquetFile(source).read(columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise CouldNotRun(f"{path}: damaged; move its shard away and the studies become due again") from error
