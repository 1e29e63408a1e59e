"""What is committed: the one truth about what has been done, read from the result files themselves.

A shard's tables are written first, its ``studies`` file last; that file is the mark that all of them are there, and it
can be created only once. A worker that is run again, or two that run the same shard, leave one result.

Every file is sealed (`vertebra_core.cohort.seal`), and read only whole: one that was changed since is never counted.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vertebra_core.cohort.commit import create, move, parquet_bytes, replace
from vertebra_core.cohort.layout import MARK_TABLE, Layout
from vertebra_core.cohort.seal import SEAL, is_broken
from vertebra_core.errors import CouldNotRun
from vertebra_core.storage import Place, matching, read_ahead, read_whole
from vertebra_core.tables.outcome import Status
from vertebra_core.tables.schema import arrow_schema

IDENTITY = ("study_key", "input_digest", "model_digest", "settings_digest", "schema_version")
"""Columns of ``studies`` that say which computation a row is the result of; equal ones are never computed twice."""
LEDGER_COLUMNS = (*IDENTITY, "series_key", "status", "reason")
EMPTY_LEDGER = pa.schema(
    [*(pa.field(name, pa.string()) for name in (*LEDGER_COLUMNS, "run")), pa.field("mark", pa.int64())]
).empty_table()
MEASURED = (Status.OK.value, Status.PARTIAL.value)
NOTHING_LIFTED: Mapping[str, str] = {}
COMPANIONS = b"vertebra.companions"
"""Metadata of a mark: the token in the names of the shard's other files."""
PART = b"vertebra.part"
"""Metadata of every file: run, shard and table that it is of, so that no other one is taken for it."""


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


class DamagedShard(CouldNotRun):
    """A committed shard is not what was committed any more."""

    def __init__(self, path: Place) -> None:
        self.path = path
        super().__init__(f"{path}: damaged; `vertebra screen` sets its shard aside and its studies become due again")


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
    parts = {name: {PART.decode(): _part(run, shard, name)} for name in sorted(tables)}
    companions = {name: parquet_bytes(tables[name], parts[name]) for name in parts if name != MARK_TABLE}
    token = _token_for(companions.values())
    for name, data in companions.items():
        create(layout.companion(run, shard, token, name), data)
    return parquet_bytes(tables[MARK_TABLE], {COMPANIONS.decode(): token, **parts[MARK_TABLE]})


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
    DamagedShard
        The file was changed after it was written.
    """
    return _read(mark.path, _open(mark.path, _part_of(mark)), columns)


def open_mark(mark: Mark) -> tuple[pa.Table, str]:
    """Rows of ``studies`` of one committed shard, and the token in the names of its other tables."""
    file = _open(mark.path, _part_of(mark))
    return _read(mark.path, file), _token(mark, file)


def read_companion(layout: Layout, mark: Mark, table: str, token: str | None = None) -> pa.Table:
    """Another table of the same shard; the token is that of `open_mark`, and read again where it is not given."""
    path = layout.companion(mark.run, mark.shard, token or token_of(mark), table)
    return _read(path, _open(path, _part(mark.run, mark.shard, table)))


def token_of(mark: Mark) -> str:
    """The token in the names of a shard's other files."""
    return _token(mark, _open(mark.path, _part_of(mark)))


def set_damaged_aside(layout: Layout) -> list[Mark]:
    """Move every shard that is not what was committed out of the way; its studies are due again.

    Reads all that is committed. The cohort's lock must be held.
    """
    found = marks(layout)
    sound = read_ahead(layout.root, lambda mark: _is_sound(layout, mark), found)
    aside = [mark for mark, is_sound in zip(found, sound, strict=True) if not is_sound]
    for mark in aside:
        for path in (mark.path, *matching(layout.results / mark.run, f"{mark.shard}.*.*.parquet")):
            move(path, layout.damaged / mark.run / path.name)
    return aside


def _is_sound(layout: Layout, mark: Mark) -> bool:
    """Whether all files of a shard are there and as they were; the token is the digest of the other tables."""
    try:
        _, token = open_mark(mark)
        others = matching(layout.results / mark.run, f"{mark.shard}.{token}.*.parquet")
        return _token_for(_sound(path) for path in others) == token
    except DamagedShard:
        return False


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


def done_inputs(
    ledger: pa.Table, identity: MethodIdentity, key: str = "study_key", lifted: Mapping[str, str] = NOTHING_LIFTED
) -> set[tuple[str, str]]:
    """The pairs (key, input digest) that this method has already brought to an end, good or bad.

    Parameters
    ----------
    ledger : pa.Table
    identity : MethodIdentity
    key : str
    lifted : mapping
        Key -> newest run whose rows are no end, unless they are measurements (`vertebra_core.cohort.retries`).
    """
    rows = of_method(ledger, identity).select([key, "input_digest", "status", "run"])
    if lifted:
        stands = [
            status in MEASURED or run > lifted.get(one, "")
            for one, status, run in zip(*(rows[name].to_pylist() for name in (key, "status", "run")), strict=True)
        ]
        rows = rows.filter(pa.array(stands, pa.bool_()))
    return set(zip(rows[key].to_pylist(), rows["input_digest"].to_pylist(), strict=True))


def of_method(ledger: pa.Table, identity: MethodIdentity) -> pa.Table:
    """The rows of the ledger with results of one method."""
    return ledger.filter(
        (pc.field("model_digest") == identity.model_digest)
        & (pc.field("settings_digest") == identity.settings_digest)
        & (pc.field("schema_version") == identity.schema_version)
    )


def choose(ledger: pa.Table, identity: MethodIdentity, current: Mapping[str, str], key: str = "study_key") -> pa.Table:
    """The rows of the ledger that a snapshot shows: one per study (or whatever ``key`` names), in order of the key.

    The newest row counts, but no failure or refusal hides a measurement of the same input: a worker that was given up
    for dead may have ended its work.

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
    measured = [status in MEASURED for status in ledger["status"].to_pylist()]
    newest: dict[str, int] = {}
    for row, (one, digest) in enumerate(zip(keys, inputs, strict=True)):
        before = newest.get(one, row)
        hides = measured[before] and not measured[row] and inputs[before] == digest
        if current.get(one, digest) == digest and not hides:
            newest[one] = row
    return ledger.take(pa.array([newest[one] for one in sorted(newest)], pa.int64()))


def sources_of(layout: Layout, chosen: pa.Table, key: str = "study_key") -> list[tuple[Mark, pa.Array]]:
    """The shards in which chosen rows lie, oldest first, and the keys to be taken from each."""
    all_marks = marks(layout)
    wanted: dict[int, list[str]] = {}
    for number, one in zip(chosen["mark"].to_pylist(), chosen[key].to_pylist(), strict=True):
        wanted.setdefault(number, []).append(one)
    return [(all_marks[number], pa.array(keys, pa.string())) for number, keys in sorted(wanted.items())]


def _token_for(companions: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for data in companions:
        digest.update(data)
    return digest.hexdigest()[:12]


def _part(run: str, shard: str, table: str) -> str:
    return f"{run}/{shard}.{table}"


def _part_of(mark: Mark) -> str:
    return _part(mark.run, mark.shard, MARK_TABLE)


def _token(mark: Mark, file: pq.ParquetFile) -> str:
    try:
        return file.metadata.metadata[COMPANIONS].decode()
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise DamagedShard(mark.path) from error


def _sound(path: Place) -> bytes:
    """A committed file, all of it, for it is small; that it cannot be read at all is not for this module to mend."""
    try:
        data = read_whole(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DamagedShard(path) from error
    if is_broken(data):
        raise DamagedShard(path)
    return data


def _open(path: Place, part: str) -> pq.ParquetFile:
    """A committed file that is what its name says; files of before there were seals cannot tell."""
    data = _sound(path)
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DamagedShard(path) from error
    told = file.metadata.metadata or {}
    if SEAL.encode() in told and told.get(PART) != part.encode():
        raise DamagedShard(path)
    return file


def _read(path: Place, file: pq.ParquetFile, columns: list[str] | None = None) -> pa.Table:
    try:
        table = file.read(columns)
        table = table.select(columns) if columns else table
    except (OSError, pa.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise DamagedShard(path) from error
    if columns and table.schema.types != [arrow_schema(MARK_TABLE).field(name).type for name in columns]:
        raise DamagedShard(path)  # somebody else's file
    return table
