"""Objects of an archive that lies in a bucket, or at any other fsspec URL: listed by pages, read by ranges.

Only `vertebra_core.reading.files` uses this module. A filesystem object has threads and connections, so it must not
cross a fork: every process makes its own on first use.
"""

import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO

from vertebra_core.errors import CouldNotRun, VertebraError, WrongUse
from vertebra_core.storage import said_by_store, storage_options

FIRST_BYTES = 2**16
"""First range read of an object: the header of a classic CT takes 2 to 20 KiB, with private tags rarely more."""
MOST_BYTES = 2**23
"""Longest range read ahead; it doubles from `FIRST_BYTES` while more is asked for."""
PAGE_KEYS = 1000
"""Keys of one page of a listing, the most that S3 gives."""
CHUNK_BYTES = 2**22
"""Range in which whole objects are fetched; a classic slice of 1024 x 1024 pixels takes half of it."""
AT_ONCE = 16
"""Requests under way at the same time: a request waits 5 to 50 ms for the store and takes 1 ms of this process."""
S3 = ("s3", "s3a")
ABOUT_ONE_OBJECT = (FileNotFoundError, PermissionError)
"""Errors that say something about the object asked for, not about the store,"""
OUR_FAULTS = ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "NoSuchBucket")
"""but for these codes of S3, which are about the caller or the bucket though they come back for one object."""


def filesystem(url: str) -> Any:
    """The fsspec filesystem of a URL, one for each process.

    Raises
    ------
    CouldNotRun
        No such kind of store, or what reads it is not installed.
    """
    return _filesystem(url.partition("://")[0], os.getpid())


@functools.lru_cache(maxsize=8)
def _filesystem(protocol: str, pid: int) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(protocol, **storage_options(protocol))
    except (ImportError, ValueError) as error:
        raise CouldNotRun(f"{protocol}://: {error}") from error


def list_objects(url: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Key below the URL and details of every object, a page at a time; the URL may name one object, then key "".

    Raises
    ------
    WrongUse
        No such bucket.
    CouldNotRun
        The store does not answer, or does not let us in.
    """
    with telling(url):
        bare = filesystem(url)._strip_protocol(url)
        pages = _s3_pages if url.partition("://")[0] in S3 else _folder_pages
        for name, details in pages(filesystem(url), bare):
            if name == bare:
                yield "", details
            elif name.startswith(f"{bare}/"):
                yield name[len(bare) + 1 :], details


def _s3_pages(fs: Any, bare: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    bucket, _, prefix = bare.partition("/")
    more: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE_KEYS, **more)
        for entry in page.get("Contents", ()):
            yield f"{bucket}/{entry['Key']}", entry
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _folder_pages(fs: Any, bare: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if fs.isfile(bare):
        yield bare, fs.info(bare)
        return
    for folder, _, files in fs.walk(bare, detail=True, on_error="raise"):
        for name in sorted(files):
            yield f"{folder.rstrip('/')}/{name}", files[name]


def size_of(details: Mapping[str, Any]) -> int:
    """Bytes of an object from its listing."""
    return int(details.get("Size", details.get("size")) or 0)


def version_of(details: Mapping[str, Any]) -> str:
    """What changes whenever the content does: size, and ETag or the time of the last change."""
    mark = next((details[name] for name in ("ETag", "etag", "checksum") if details.get(name)), changed_of(details))
    return f"{size_of(details)}:{str(mark).strip(chr(34))}"


def changed_of(details: Mapping[str, Any]) -> float:
    """Time of the last change, seconds since the epoch; 0 where the store does not say."""
    for name in ("LastModified", "mtime", "created"):
        match details.get(name):
            case datetime() as moment:
                return moment.timestamp()
            case float() | int() as seconds:
                return float(seconds)
    return 0.0


def open_ranged(url: str, size: int | None = None) -> BinaryIO:
    """Open an object for reading what is asked for and little more.

    Parameters
    ----------
    url : str
    size : int, optional
        Bytes, where known: it spares a request.
    """
    if size is None:
        size = remote_size(url)
    return io.BufferedReader(_RangedFile(functools.partial(read_range, url), size))


def read_range(url: str, start: int, end: int) -> bytes:
    """Bytes [start, end) of an object.

    Raises
    ------
    FileNotFoundError, PermissionError
        About this object.
    CouldNotRun
        The store does not answer, after all tries.
    """
    with telling(url):
        return filesystem(url).cat_file(_bare(url), start=start, end=end)


def remote_size(url: str) -> int:
    """Bytes of an object.

    Raises
    ------
    FileNotFoundError, PermissionError
        About this object.
    """
    with telling(url):
        details = filesystem(url).info(_bare(url))
    if details["type"] != "file":  # what stands before other keys answers like a folder
        raise FileNotFoundError("no object of this name")
    return int(details["size"])


def _bare(url: str) -> str:
    """The name by which the filesystem knows an object."""
    if not {".", ".."}.isdisjoint(url.split("/")):  # no request can ask for such a key: clients shorten it
        raise FileNotFoundError("a key with a dot for a folder")
    return filesystem(url)._strip_protocol(url)


def is_object(url: str) -> bool:
    """Whether an object of this name exists."""
    try:
        remote_size(url)
    except OSError:
        return False
    return True


def fetch(urls: Iterable[str], sink: BinaryIO) -> dict[str, tuple[int, int]]:
    """Append whole objects to a file, `AT_ONCE` requests at a time; what is on its way takes at most 128 MiB.

    Returns
    -------
    dict
        Where each object begins in the file, and its bytes.

    Raises
    ------
    FileNotFoundError, PermissionError
        About one of the objects.
    """
    urls = list(urls)
    places: dict[str, tuple[int, int]] = {}
    starts = in_order(lambda url: read_range(url, 0, CHUNK_BYTES), urls)
    for url, start in zip(urls, starts, strict=True):
        begin = sink.tell()
        sink.write(start)
        if len(start) == CHUNK_BYTES:
            size = remote_size(url)
            ranges = [(url, at, min(at + CHUNK_BYTES, size)) for at in range(CHUNK_BYTES, size, CHUNK_BYTES)]
            for part in in_order(lambda one: read_range(*one), ranges):
                sink.write(part)
        places[url] = begin, sink.tell() - begin
    sink.flush()
    return places


def in_order(work: Callable[[Any], Any], tasks: Any, at_once: int = AT_ONCE) -> Iterator[Any]:
    """Results of slow calls in the order of their tasks, some of them under way at a time, by threads."""
    waiting: list[Any] = []
    tasks = iter(tasks)
    with ThreadPoolExecutor(at_once, thread_name_prefix="vertebra-reading") as pool:
        try:
            waiting = [pool.submit(work, task) for task in islice(tasks, 2 * at_once)]
            while waiting:
                done = waiting.pop(0).result()
                waiting += [pool.submit(work, task) for task in islice(tasks, 1)]
                yield done
        finally:
            for one in waiting:
                one.cancel()


@contextmanager
def telling(url: str) -> Iterator[None]:
    """Errors of a store inside the block become one line for a person; those about one object stay what they are."""
    try:
        yield
    except VertebraError:
        raise
    except Exception as error:
        said = said_by_store(error)
        if said is None or (isinstance(error, ABOUT_ONE_OBJECT) and not _is_about_us(error)):
            raise
        root = "/".join(url.split("/")[:3])  # never the key: it may be a name
        if "no such bucket" in said:
            raise WrongUse(f"no such archive: {root}: {said}") from error
        raise CouldNotRun(f"{root}: {said}") from error


def _is_about_us(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in OUR_FAULTS


class _RangedFile(io.RawIOBase):
    """One object as a file; holds one block of it, and reads longer ones while more is asked for."""

    name = ""  # pydicom asks for one

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0
        self._block, self._begin, self._ahead = b"", 0, FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        inside = self._at - self._begin
        if not 0 <= inside < len(self._block):
            end = min(self._size, self._at + max(wanted, self._ahead))
            self._block, self._begin, inside = self._read(self._at, end), self._at, 0
            self._ahead = min(2 * self._ahead, MOST_BYTES)
        part = self._block[inside : inside + wanted]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)
