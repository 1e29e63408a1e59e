"""Writing so that a reader never sees half a file, and two writers never both believe they were first.

Everything a cohort holds is written through these functions; they are what another kind of storage would replace.
"""

import os
import secrets
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TEMPORARY = ".tmp-"
"""Prefix of files being written: Parquet readers skip names that begin with a dot."""
COMPRESSION = "zstd"


def create(path: Path, data: bytes, mode: int = 0o644) -> bool:
    """Write a file that must not exist yet, whole or not at all, and durable.

    Returns
    -------
    bool
        False if the file existed already; then it is left as it was.
    """
    temporary = _write_temporary(path, data, mode)
    try:
        os.link(temporary, path)  # unlike a rename, a link never takes the place of another file
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(path.parent)
    return True


def replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file in place of the one that may be there, whole or not at all, and durable."""
    os.replace(_write_temporary(path, data, mode), path)
    _sync_folder(path.parent)


def parquet_bytes(table: pa.Table, file_metadata: dict[str, str] | None = None, row_group: int = 131_072) -> bytes:
    """A Parquet file in memory; ``file_metadata`` belongs to the file, not to the schema its readers compare."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression=COMPRESSION) as writer:
        writer.write_table(table, row_group_size=row_group)
        if file_metadata:
            writer.add_key_value_metadata(file_metadata)
    return sink.getvalue().to_pybytes()


def private_folder(path: Path) -> None:
    """Make a folder that only its owner can enter."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: fsync of a file does not reach its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
