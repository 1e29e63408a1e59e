"""Writing so that a reader never sees half a file, and two writers never both believe they were first.

Everything a cohort holds is written through these functions. In a folder, a file is written under another name,
made durable and then linked or renamed into place. In a bucket, one PUT is all that: an object is there whole or not
at all and durable when the store says so, and a PUT on condition (``If-None-Match: *``) succeeds once.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vertebra_core.cohort.seal import BLANK, SEAL, seal
from vertebra_core.storage import Place, came_second, read_ahead

TEMPORARY = ".tmp-"
"""Prefix of files being written: Parquet readers skip names that begin with a dot."""
COMPRESSION = "zstd"


def create(path: Place, data: bytes, mode: int = 0o644) -> bool:
    """Write a file that must not exist yet, whole or not at all, and durable.

    Parameters
    ----------
    mode : int
        Permissions of a local file; an object has none, who may read it is said by the bucket's policy.

    Returns
    -------
    bool
        False if the file existed already; then it is left as it was.
    """
    if not isinstance(path, Path):
        return _put_new(path, data)
    temporary = _write_temporary(path, data, mode)
    try:
        os.link(temporary, path)  # unlike a rename, a link never takes the place of another file
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(path.parent)
    return True


def replace(path: Place, data: bytes, mode: int = 0o644) -> None:
    """Write a file in place of the one that may be there, whole or not at all, and durable."""
    if not isinstance(path, Path):
        path.fs.pipe_file(path.path, data)
        return
    os.replace(_write_temporary(path, data, mode), path)
    _sync_folder(path.parent)


def parquet_bytes(table: pa.Table, file_metadata: dict[str, str] | None = None, row_group: int = 131_072) -> bytes:
    """A sealed Parquet file; ``file_metadata`` belongs to the file, not to the schema its readers compare."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression=COMPRESSION, write_page_checksum=True) as writer:
        writer.write_table(table, row_group_size=row_group)
        writer.add_key_value_metadata({**(file_metadata or {}), SEAL: BLANK})
    return seal(sink.getvalue().to_pybytes())


@contextmanager
def streamed(path: Place) -> Iterator[Any]:
    """A file to be written piece by piece; after an error in the block no object and no open upload is left behind."""
    if isinstance(path, Path):
        with open(path, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        return
    file: Any = path.fs.open(path.path, "wb")
    try:
        yield file
    except BaseException:
        file.closed = True  # closing an s3fs file would commit what there is of it
        with suppress(Exception):  # a store that is gone; what is left there is removed by `abandon_uploads`
            file.discard()
        raise
    file.close()


def abandon_uploads(folder: Place) -> None:
    """End uploads in parts below a folder of a bucket whose writers were killed; they are invisible, but paid for.

    Nobody may be writing there. A policy that forbids to list uploads leaves this to the bucket's own lifecycle rule.
    """
    if isinstance(folder, Path) or not hasattr(folder.fs, "abort_mpu"):
        return
    store: Any = folder.fs
    bucket, prefix, _ = store.split_path(folder.path)
    with suppress(PermissionError):
        answer = store.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
        for upload in answer.get("Uploads", ()):
            store.abort_mpu(bucket, upload["Key"], upload["UploadId"])


def remove_folder(folder: Place) -> None:
    """Remove a folder with all that is in it, if it is there."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    store = folder.fs  # its `rm` takes names for patterns, and its removal of many at once hides what was refused
    for _ in read_ahead(folder, store.rm_file, store.find(f"{folder.path}/")):
        pass


def move(path: Place, to: Place) -> None:
    """Move a file or folder; an object of a store is copied first, so that a move cut short can be repeated."""
    if isinstance(path, Path):
        assert isinstance(to, Path)
        to.parent.mkdir(parents=True, exist_ok=True)
        path.rename(to)
        return
    assert not isinstance(to, Path)
    path.fs.cp_file(path.path, to.path)
    path.fs.rm_file(path.path)


def remove_half_written(root: Place) -> None:
    """Remove files that killed writers left under a passing name; nobody may be writing. A store has none."""
    if isinstance(root, Path):
        for folder, _, names in os.walk(root):
            for name in names:
                if name.startswith(TEMPORARY):
                    Path(folder, name).unlink(missing_ok=True)


def private_folder(path: Place) -> None:
    """Make a folder that only its owner can enter. A bucket has no folders; its policy says who may read."""
    if not isinstance(path, Path):
        return
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def _put_new(path: Place, data: bytes) -> bool:
    assert not isinstance(path, Path)
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except OSError as error:
        if came_second(error):
            return False
        raise
    return True


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
