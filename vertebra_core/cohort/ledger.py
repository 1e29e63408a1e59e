"""What is committed: the one truth about what has been done, read from the result files themselves.

A shard's tables are written first, its ``studies`` file last; that file is the mark that all of them are there, and it
can be created only once. A worker that is run again, or two that run the same shard, leave one result.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vertebra_core.cohort.commit import create, parquet_bytes, replace
from vertebra_core.cohort.layout import MARK_TABLE, Layout
from vertebra_core.errors import CouldNotRun
from vertebra_core.storage import Place, read_ahead, read_whole

IDENTITY = ("study_key", "input_digest", "model_digest", "settings_digest", "schema_version")
"""Columns of ``studies`` that say which computation a row is the result of; equal ones are never computed twice."""
LEDGER_COLUMNS = (*IDENTITY, "series_key", "status", "reason")
EMPTY_LEDGER = pa.schema(
    [*(pa.field(name, pa.string()) for name in (*LEDGER_COLUMNS, "run")), pa.field("mark", pa.int64())]
).empty_table()
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
    return create(layout.mark(run, shard), _write_companions(layout, run, shard, tables))


def commit_again(layout: Layout, mark: Mark, tables: Mapping[str, pa.Table]) -> None:
    """Put other tables in the place of a shard's, whole or not at all; for taking rows out, and nothing else."""
    replace(mark.path, _write_companions(layout, mark.run, mark.shard, tables))


def _write_companions(layout: Layout, run: str, shard: str, tables: Mapping[str, pa.Table]) -> bytes:
    """Write all tables but the mark; what the mark will be."""
    companions = {name: parquet_bytes(table) for name, table in sorted(tables.items()) if name != MARK_TABLE}
    token = hashlib.sha256(b"".join(companions.values())).hexdigest()[:12]
    for name, data in companions.items():
        create(layout.companion(run, shard, token, name), data)
    return parquet_bytes(tables[MARK_TABLE], {COMPANIONS.decode(): token})


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


def open_mark(mark: Mark) -> tuple[pa.Table, str]:
    """Rows of ``studies`` of one committed shard, and the token in the names of its other tables."""
    source = _source(mark.path)
    return _read(mark.path, None, source), _token(mark, source)


def read_companion(layout: Layout, mark: Mark, table: str, token: str | None = None) -> pa.Table:
    """Another table of the same shard; the token is that of `open_mark`, and read again where it is not given."""
    token = token or _token(mark, _source(mark.path))
    return _read(layout.companion(mark.run, mark.shard, token, table), None)


def token_of(mark: Mark) -> str:
    """The token in the names of a shard's other files."""
    return _token(mark, _source(mark.path))


def _token(mark: Mark, source: Path | pa.BufferReader) -> str:
    try:
        return pq.read_metadata(source).metadata[COMPANIONS].decode()
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise CouldNotRun(f"{mark.path}: damaged; move it away and its studies become due again") from error


def committed(layout: Layout) -> pa.Table:
    """Identity, series key, end, ``run`` and number of the mark (``mark``) of every committed study, oldest first."""
    found = marks(layout)
    read = read_ahead(layout.root, lambda mark: read_mark(mark, list(LEDGER_COLUMNS)), found)
    return as_ledger((number, mark, part) for number, (mark, part) in enumerate(zip(found, read, strict=True)))


def as_ledger(shards: Iterable[tuple[int, Mark, pa.Table]]) -> pa.Table:
    """Rows of shards, each with the number of its mark, one below the other; all columns also where there are none."""
    parts = [EMPTY_LEDGER]
    for number, mark, part in shards:
        part = part.select(LEDGER_COLUMNS).append_column("run", pa.array([mark.run] * part.num_rows, pa.string()))
        parts.append(part.append_column("mark", pa.array([number] * part.num_rows, pa.int64())))
    return pa.concat_tables([part.replace_schema_metadata() for part in parts], promote_options="default")


def done_inputs(ledger: pa.Table, identity: MethodIdentity, key: str = "study_key") -> set[tuple[str, str]]:
    """The pairs (key, input digest) that this method has already brought to an end, good or bad."""
    rows = of_method(ledger, identity).select([key, "input_digest"]).to_pydict()
    return set(zip(rows[key], rows["input_digest"], strict=True))


def of_method(ledger: pa.Table, identity: MethodIdentity) -> pa.Table:
    """The rows of the ledger with results of one method."""
    return ledger.filter(
        (pc.field("model_digest") == identity.model_digest)
        & (pc.field("settings_digest") == identity.settings_digest)
        & (pc.field("schema_version") == identity.schema_version)
    )


def choose(ledger: pa.Table, identity: MethodIdentity, current: Mapping[str, str], key: str = "study_key") -> pa.Table:
    """The rows of the ledger that a snapshot shows: one per study (or whatever ``key`` names), in order of the key.

    Parameters
    ----------
    ledger : pa.Table
        From `committed`, or `vertebra_core.cohort.others.committed_others`.
    identity : MethodIdentity
    current : mapping
        Key -> input digest, as the archives are now: only a result of that input counts. Of other keys the newest does.
    key : str
    """
    ledger = of_method(ledger, identity)
    keys, inputs = ledger[key].to_pylist(), ledger["input_digest"].to_pylist()
    newest = {
        one: row
        for row, (one, digest) in enumerate(zip(keys, inputs, strict=True))
        if current.get(one, digest) == digest
    }
    return ledger.take(pa.array([newest[one] for one in sorted(newest)], pa.int64()))


def sources_of(layout: Layout, chosen: pa.Table, key: str = "study_key") -> list[tuple[Mark, pa.Array]]:
    """The shards in which chosen rows lie, oldest first, and the keys to be taken from each."""
    all_marks = marks(layout)
    wanted: dict[int, list[str]] = {}
    for number, one in zip(chosen["mark"].to_pylist(), chosen[key].to_pylist(), strict=True):
        wanted.setdefault(number, []).append(one)
    return [(all_marks[number], pa.array(keys, pa.string())) for number, keys in sorted(wanted.items())]


def _source(path: Place) -> Path | pa.BufferReader:
    """A committed file as Arrow reads it; of a store, all of it at once, for it is small.

    Whether a store answers is asked here, so that what fails later is the file's own fault.
    """
    return path if isinstance(path, Path) else pa.BufferReader(read_whole(path))


def _read(path: Place, columns: list[str] | None, source: Path | pa.BufferReader | None = None) -> pa.Table:
    source = _source(path) if source is None else source
    try:
        return pq.ParquetFile(source).read(columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise CouldNotRun(f"{path}: damaged; move its shard away and the studies become due again") from error
