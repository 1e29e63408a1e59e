"""The one place that touches the archive: listing and opening files. Nothing here, or above, ever writes to it.

Everything else names a file by the archive it was found in and its path below it, so that another kind of
storage needs a change in this module only.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vertebra_core.errors import Reason, WrongUse


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file met in an archive.

    Parameters
    ----------
    archive : str
        Root under which it was found.
    path : str
        Path below the root, with forward slashes.
    size : int
        Bytes.
    version : str
        Changes whenever the content does: size and time of the last change.
    """

    archive: str
    path: str
    size: int
    version: str


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Something met in an archive that belongs to no series, and why."""

    file: ArchiveFile
    reason: Reason


def walk(archives: Sequence[Path | str]) -> Iterator[ArchiveFile | LeftAlone]:
    """List every file of the archives in a stable order (by name), each real folder once.

    Links are followed; one that leads to a folder met before (a loop, or two archives that overlap) is left alone.
    An archive may also be a single file.

    Raises
    ------
    WrongUse
        An archive that does not exist.
    """
    roots = [os.path.abspath(archive) for archive in archives]
    for root in roots:
        if not os.path.exists(root):
            raise WrongUse(f"no such archive: {root}")
    visited: set[tuple[int, int]] = set()
    for root in roots:
        if os.path.isdir(root):
            yield from _walk_folder(root, "", visited)
        else:
            yield _inspect(os.path.dirname(root), os.path.basename(root))


def _walk_folder(root: str, folder: str, visited: set[tuple[int, int]]) -> Iterator[ArchiveFile | LeftAlone]:
    pending = [folder]  # a stack of our own: an archive may be nested deeper than Python recurses
    while pending:
        folder = pending.pop()
        here = os.path.join(root, folder)
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in visited:
                yield LeftAlone(ArchiveFile(root, folder, 0, ""), Reason.ALREADY_SEEN)
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                names = sorted((entry.name, _is_folder(entry)) for entry in entries)
        except OSError:
            yield LeftAlone(ArchiveFile(root, folder, 0, ""), Reason.UNREADABLE)
            continue
        for name, is_folder in names:
            if not is_folder:
                yield _inspect(root, f"{folder}/{name}" if folder else name)
        pending += [f"{folder}/{name}" if folder else name for name, is_folder in reversed(names) if is_folder]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _inspect(root: str, path: str) -> ArchiveFile | LeftAlone:
    try:
        status = os.stat(os.path.join(root, path))
    except OSError:
        return LeftAlone(ArchiveFile(root, path, 0, ""), Reason.UNREADABLE)
    file = ArchiveFile(root, path, status.st_size, f"{status.st_size}:{status.st_mtime_ns}")
    if not stat.S_ISREG(status.st_mode):  # a pipe or a socket would block whoever opens it
        return LeftAlone(file, Reason.NOT_DICOM)
    if status.st_size == 0:
        return LeftAlone(file, Reason.EMPTY_FILE)
    return file


def open_file(archive: str, path: str) -> BinaryIO:
    """Open a file of the archive for reading. A file of another archive is named by its full path."""
    return open(local_path(archive, path), "rb")


def local_path(archive: str, path: str) -> str:
    """Path on this machine, for libraries that must open a file themselves."""
    return os.path.join(archive, path)


def file_size(archive: str, path: str) -> int:
    """Bytes of a file of the archive; 0 where it is gone."""
    try:
        return os.stat(local_path(archive, path)).st_size
    except OSError:
        return 0
