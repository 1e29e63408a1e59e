"""The one place that touches the archive: listing and opening files. Nothing here, or above, ever writes to it.

An archive is a folder, or an fsspec URL such as ``s3://bucket/prefix``. Everything else names a file by the archive it
was found in and its path below it; a file in a zip or tar file has that file's path for a folder. How objects of a
bucket are read stands in `vertebra_core.reading.remote`, what zip and tar files hold in `vertebra_core.reading.packed`.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vertebra_core.errors import Reason, WrongUse
from vertebra_core.reading import remote
from vertebra_core.reading.packed import NotUnpacked, Packed, opened
from vertebra_core.reading.scratch import nameless_file, part_of
from vertebra_core.storage import LOCAL_PROTOCOLS, is_url


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file met in an archive.

    Parameters
    ----------
    archive : str
        Root under which it was found: an absolute path or a URL.
    path : str
        Path below the root, with forward slashes.
    size : int
        Bytes.
    version : str
        Changes whenever the content does: size and time of the last change, in a bucket size and ETag.
    changed_s : float
        When it came to be as it is, seconds since the epoch; 0 where that is not known. On a disk the time of the last
        change of its entry: a copy that keeps the times of its source is as new as any other.
    """

    archive: str
    path: str
    size: int
    version: str
    changed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Something met in an archive that belongs to no series, and why."""

    file: ArchiveFile
    reason: Reason


PRIVATE_OF_BYTE = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
"""From Python's stand-ins for bytes that are no UTF-8 (PEP 383), which cannot be written anywhere, to private ones."""
BYTE_OF_PRIVATE = {private: surrogate for surrogate, private in PRIVATE_OF_BYTE.items()}
PRIVATE = re.compile("[\uf780-\uf7ff]")

# -- listing ------------------------------------------------------------------------------------------------------


def walk(archives: Sequence[Path | str]) -> Iterator[ArchiveFile | LeftAlone]:
    """List every file of the archives in a stable order, each real folder once; what is listed is not kept.

    Links are followed; one that leads to a folder met before (a loop, or two archives that overlap) is left alone.
    An archive may also be a single file.

    Raises
    ------
    WrongUse
        An archive that does not exist.
    CouldNotRun
        A store that does not answer.
    """
    roots = [root_of(archive) for archive in archives]
    for root in roots:
        if not is_url(root) and not os.path.exists(on_disk(root)):
            raise WrongUse(f"no such archive: {root}")
    visited: set[tuple[int, int]] = set()
    for place, root in enumerate(roots):
        if is_url(root):
            yield from _walk_objects(root, [other for other in roots[:place] if is_url(other)])
        elif os.path.isdir(on_disk(root)):
            yield from _walk_folder(root, "", visited)
        else:
            yield _inspect(os.path.dirname(root), os.path.basename(root))


def root_of(archive: Path | str) -> str:
    """The name of an archive by which its files are found: an absolute path, or a URL without a slash at its end.

    Examples
    --------
    >>> root_of("s3://bucket/ct/"), root_of("file:///archive/ct"), root_of("/archive/./ct/")
    ('s3://bucket/ct', '/archive/ct', '/archive/ct')
    """
    protocol, separator, rest = str(archive).partition("://")
    if not separator or protocol in LOCAL_PROTOCOLS:
        return printable(os.path.abspath(rest if separator else str(archive)))
    return str(archive).rstrip("/")


def archive_exists(archive: Path | str) -> bool:
    """Whether there is anything of this name.

    Raises
    ------
    CouldNotRun
        A store that does not answer.
    """
    root = root_of(archive)
    if not is_url(root):
        return os.path.exists(on_disk(root))
    return next(remote.list_objects(root), None) is not None


def printable(name: str) -> str:
    """A file name as text that tables, JSON and terminals take: bytes that are no UTF-8 become private characters.

    Examples
    --------
    >>> ascii(printable(b"caf\\xe9".decode("utf-8", "surrogateescape"))), printable("café")
    ("'caf\\\\uf7e9'", 'café')
    """
    return name.translate(PRIVATE_OF_BYTE) if not name.isascii() else name


def on_disk(path: str) -> str:
    """The path by which the file system knows a file of this printable path."""
    if path.isascii() or not PRIVATE.search(path) or os.path.lexists(path):  # some names hold such characters
        return path
    return path.translate(BYTE_OF_PRIVATE)


def _walk_folder(root: str, folder: str, visited: set[tuple[int, int]]) -> Iterator[ArchiveFile | LeftAlone]:
    pending = [folder]  # a stack of our own: an archive may be nested deeper than Python recurses
    while pending:
        folder = pending.pop()
        here = on_disk(os.path.join(root, folder))
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in visited:
                yield LeftAlone(ArchiveFile(root, folder, 0, ""), Reason.ALREADY_SEEN)
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                names = sorted((printable(entry.name), _is_folder(entry)) for entry in entries)
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
        status = os.stat(on_disk(os.path.join(root, path)))
    except OSError:
        return LeftAlone(ArchiveFile(root, path, 0, ""), Reason.UNREADABLE)
    file = ArchiveFile(root, path, status.st_size, f"{status.st_size}:{status.st_mtime_ns}", status.st_ctime)
    if not stat.S_ISREG(status.st_mode):  # a pipe or a socket would block whoever opens it
        return LeftAlone(file, Reason.NOT_DICOM)
    if status.st_size == 0:
        return LeftAlone(file, Reason.EMPTY_FILE)
    return file


def _walk_objects(root: str, before: Sequence[str]) -> Iterator[ArchiveFile | LeftAlone]:
    """List a bucket; what an archive named before it holds too is left alone."""
    met = False
    for key, details in remote.list_objects(root):
        met = True
        folder, path = (root, key) if key else (root.rpartition("/")[0], root.rpartition("/")[2])
        size = remote.size_of(details)
        file = ArchiveFile(folder, path, size, remote.version_of(details), remote.changed_of(details))
        if path.endswith("/") and not size:  # what tools make to show an empty folder
            continue
        if any(full_name(folder, path).startswith(f"{other}/") or root == other for other in before):
            yield LeftAlone(file, Reason.ALREADY_SEEN)
        else:
            yield LeftAlone(file, Reason.EMPTY_FILE) if not size else file
    if not met:
        raise WrongUse(f"no such archive: nothing lies below {root}")


# -- opening ------------------------------------------------------------------------------------------------------

PACKED_OPEN = 2
"""Zip and tar files that a process keeps open: the files of a study mostly lie in one."""
_fetched: ContextVar[dict[str, tuple[BinaryIO, int, int]]] = ContextVar("fetched", default={})  # noqa: B039 - read only
_packed_open: dict[tuple[str, str], tuple[ExitStack, Packed]] = {}


def full_name(archive: str, path: str) -> str:
    """The file's own name: a path on this machine, or a URL. A file of another archive has its full name for a path.

    Examples
    --------
    >>> full_name("s3://bucket/ct", "p1/1.dcm"), full_name("/ct", "/other/1.dcm"), full_name("/ct", "s3://b/1.dcm")
    ('s3://bucket/ct/p1/1.dcm', '/other/1.dcm', 's3://b/1.dcm')
    """
    if is_url(path):
        return path
    return f"{archive}/{path}" if is_url(archive) else on_disk(os.path.join(archive, path))


def open_file(archive: str, path: str, size: int | None = None) -> BinaryIO:
    """Open a file of the archive for reading; of one in a bucket only what is read travels, and little more.

    Parameters
    ----------
    archive, path : str
    size : int, optional
        Bytes, where known: it spares a request to a store.

    Raises
    ------
    OSError
        Not there, or may not be read.
    CouldNotRun
        A store that does not answer.
    """
    name = full_name(archive, path)
    if name in _fetched.get():
        return part_of(*_fetched.get()[name])
    if outer := _open_already(name):
        return _kept_open(outer).open(name[len(outer) + 1 :])
    try:
        return remote.open_ranged(name, size) if is_url(name) else open(name, "rb", opener=_without_waiting)
    except (FileNotFoundError, NotADirectoryError):  # in a zip or tar file, or gone
        outer = _packed_above(name)
        if outer is None:
            raise
        return _kept_open(outer).open(name[len(outer) + 1 :])


def _without_waiting(name: str, flags: int) -> int:
    """Open what may have become a pipe since it was listed, which would block for ever."""
    return os.open(name, flags | os.O_NONBLOCK)


def _open_already(name: str) -> str | None:
    return next((outer for outer, _ in _packed_open if name.startswith(f"{outer}/")), None)


def _packed_above(name: str) -> str | None:
    """The zip or tar file in which a file of this name would lie: the file that stands where a folder should."""
    exists = remote.is_object if is_url(name) else os.path.isfile
    if exists(name):
        return None
    parts = name.split("/")
    beginnings = ("/".join(parts[:n]) for n in range(4 if is_url(name) else 2, len(parts)))
    return next((one for one in beginnings if exists(one)), None)


def _kept_open(name: str) -> Packed:
    key = name, "" if is_url(name) else str(os.stat(name).st_mtime_ns)
    if key not in _packed_open:
        while len(_packed_open) >= PACKED_OPEN:
            _packed_open.pop(next(iter(_packed_open)))[0].close()
        stack = ExitStack()
        try:
            _packed_open[key] = stack, stack.enter_context(open_packed(name))
        except NotUnpacked as error:
            raise OSError(str(error)) from error
    return _packed_open[key][1]


@contextmanager
def open_packed(name: str) -> Iterator[Packed]:
    """Open a zip or tar file by its full name; one in a bucket is fetched whole first.

    Raises
    ------
    NotUnpacked
        It is damaged, or a bomb.
    """
    with ExitStack() as stack:
        if is_url(name):
            file = stack.enter_context(nameless_file())
            ((_, size),) = remote.fetch([name], file).values()
            file.seek(0)
        else:
            file = stack.enter_context(open(name, "rb"))
            size = os.fstat(file.fileno()).st_size
        yield stack.enter_context(opened(file, size))


@contextmanager
def fetched(archive: str, paths: Iterable[str]) -> Iterator[None]:
    """Have whole files at hand while the block runs: those in a bucket are fetched, many at a time, to this machine.

    Raises
    ------
    OSError
        One of the files is gone.
    CouldNotRun
        A store that does not answer, or no room left.
    """
    names = [name for path in dict.fromkeys(paths) if is_url(name := full_name(archive, path))]
    outer = _packed_above(names[0]) if names else None  # fetched as a whole, when it is opened
    names = [name for name in names if outer is None or not name.startswith(f"{outer}/")]
    if not names:
        yield
        return
    with nameless_file() as file:
        places = remote.fetch(names, file)
        token = _fetched.set({name: (file, *place) for name, place in places.items()})
        try:
            yield
        finally:
            _fetched.reset(token)


def file_size(archive: str, path: str) -> int:
    """Bytes of a file of the archive; 0 where it is gone."""
    name = full_name(archive, path)
    if name in _fetched.get():
        return _fetched.get()[name][2]
    outer = _open_already(name)
    try:
        if outer is None:
            return remote.remote_size(name) if is_url(name) else os.stat(name).st_size
    except OSError:
        outer = _packed_above(name)
    return _kept_open(outer).size_of(name[len(outer) + 1 :]) if outer else 0
