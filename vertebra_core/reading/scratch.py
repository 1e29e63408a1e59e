"""Room on this machine for what must lie in a file for a while: bounded, and gone with the process however it ends.

Content lies in files without a name, which the system frees with their process, even after kill -9. Some libraries
want a name: they get a link to such a file, in a folder of this process; folders of dead processes are swept away.
"""

import errno
import fcntl
import functools
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from vertebra_core.errors import CouldNotRun

PREFIX = "vertebra-scratch-"
GUARD = "owner"
"""File in such a folder, locked for as long as its process lives."""


@contextmanager
def nameless_file() -> Iterator[BinaryIO]:
    """A file for writing and reading that no listing shows and that is gone when it is closed.

    Raises
    ------
    CouldNotRun
        The disk of the temporary folder (TMPDIR) is full.
    """
    with tempfile.TemporaryFile() as file, room_left():
        yield file  # type: ignore[misc]


@contextmanager
def room_left() -> Iterator[None]:
    """Turn a full disk inside the block into one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CouldNotRun(f"no room left in {tempfile.gettempdir()} (TMPDIR) for files that are being read") from error


@contextmanager
def link_to(target: str, suffix: str) -> Iterator[str]:
    """A name with this suffix that leads to a file, for libraries that judge by names."""
    with guarded_folder() as folder:
        name = os.path.join(folder, "volume" + suffix)
        os.symlink(target, name)
        yield name


def path_of_open(file: BinaryIO) -> str:
    """A path by which this process, and only it, can open a nameless file again."""
    return f"/proc/self/fd/{file.fileno()}"


@contextmanager
def guarded_folder() -> Iterator[str]:
    """A folder that is removed at the end of the block, or by another process if this one dies before."""
    _sweep_once(os.getpid())
    folder = tempfile.mkdtemp(prefix=f".{PREFIX}")
    with open(os.path.join(folder, GUARD), "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        named = os.path.join(os.path.dirname(folder), os.path.basename(folder)[1:])
        os.rename(folder, named)  # only now, guarded, may others take it for what a dead process left
        try:
            yield named
        finally:
            shutil.rmtree(named, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def _sweep_once(pid: int) -> None:
    sweep()


def sweep() -> None:
    """Remove the folders that dead processes left: nobody holds their locks any more."""
    for entry in os.scandir(tempfile.gettempdir()):
        if not entry.name.startswith(PREFIX):
            continue
        with suppress(OSError), open(os.path.join(entry.path, GUARD), "r+") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its process lives
            shutil.rmtree(entry.path, ignore_errors=True)


class Part(io.RawIOBase):
    """A stretch of a file as a file of its own; several may be read at the same time."""

    def __init__(self, whole: Any, begin: int, size: int) -> None:
        self._whole, self._begin, self._size, self._at = whole, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        data = os.pread(self._whole.fileno(), wanted, self._begin + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def part_of(whole: Any, begin: int, size: int) -> BinaryIO:
    """Open a stretch of a file."""
    return io.BufferedReader(Part(whole, begin, size))
