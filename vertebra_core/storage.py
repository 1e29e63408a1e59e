"""Where archives and cohorts lie: in a folder, or at an fsspec URL such as ``s3://bucket/prefix``.

The one home of how a store is spoken to: how often and how long it is tried, that no listing is remembered, and how
its errors become one line for a person. Credentials, endpoint and region come from the environment
(``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``AWS_DEFAULT_REGION``), a profile or the
machine's role, as botocore finds them; they are no settings of ours and stand in no file of a cohort.

A filesystem object has threads and connections, so it must not cross a fork: a `UPath` is pickled as its URL and
options, and every process makes its own filesystem from them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar

from upath import UPath

from vertebra_core.errors import CouldNotRun, VertebraError, WrongUse

Place: TypeAlias = Path | UPath
"""A folder or file: `pathlib.Path` where it is local, `upath.UPath`, which has the same methods, where it is not."""

One, Other = TypeVar("One"), TypeVar("Other")

S3_ATTEMPTS = 8
"""Tries of one request. Waits double from at most 1 s to 20 s (botocore, "standard"): about half a minute in all."""
CONNECT_SECONDS = 10.0
"""Longest wait for a connection; a store that is there takes milliseconds."""
READ_SECONDS = 60.0
"""Longest silence of a store in the middle of an answer."""
S3_CONNECTIONS = 32
"""Connections that one process keeps open at most."""
READERS = 16
"""Objects of a store that are read at the same time: an answer takes 3 ms nearby and 50 ms far away, mostly waiting."""
LOCAL_PROTOCOLS = ("file", "local")
S3_PROTOCOLS = ("s3", "s3a")
CONDITION_FAILED = 412
"""HTTP status of a conditional write that came second (RFC 9110, section 15.5.13)."""


def is_url(place: str | Place) -> bool:
    """Whether a place is a URL and not a folder.

    Examples
    --------
    >>> is_url("s3://bucket/archive"), is_url("/archive/s3"), is_url(Path("archive"))
    (True, False, False)
    """
    return "://" in str(place)


def place_of(text: str | Place) -> Place:
    """The place that a person named.

    Raises
    ------
    CouldNotRun
        There is no such kind of store, or what reads it is not installed.
    WrongUse
        A URL that names no bucket.

    Examples
    --------
    >>> place_of("spines"), place_of("file:///archive/ct").as_posix(), str(place_of("memory://spines") / "latest.json")
    (PosixPath('spines'), '/archive/ct', 'memory://spines/latest.json')
    """
    if not isinstance(text, str):
        return text
    protocol, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if protocol in LOCAL_PROTOCOLS:
        return Path(rest)
    if not rest.strip("/"):
        raise WrongUse(f"{text}: which bucket? expected {protocol}://BUCKET/PREFIX")
    try:
        place = UPath(text.rstrip("/"), **storage_options(protocol))
        place.fs  # noqa: B018 - made here, so that all places derived from this one share it
    except (ImportError, ValueError) as error:
        raise CouldNotRun(f"{text}: {error}") from error
    return place


def storage_options(protocol: str) -> dict[str, Any]:
    """How a store is spoken to, as arguments of its fsspec filesystem.

    Listings are never remembered: what another process has written must be seen.
    """
    if protocol not in S3_PROTOCOLS:
        return {"use_listings_cache": False}
    return {
        "use_listings_cache": False,
        "config_kwargs": {
            "retries": {"mode": "standard", "total_max_attempts": S3_ATTEMPTS},
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "max_pool_connections": S3_CONNECTIONS,
        },
    }


def read_whole(place: Place) -> bytes:
    """All of a file or object, of which the size is not asked for first: every question costs time."""
    if isinstance(place, Path):
        return place.read_bytes()
    one_request = {"max_concurrency": 1} if place.protocol in S3_PROTOCOLS else {}
    data: Any = place.fs.cat_file(place.path, **one_request)
    return data


def matching(folder: Place, pattern: str) -> list[Place]:
    """Files below a folder whose path from there matches a pattern of `pathlib.PurePath.match`; sorted.

    Of a store, all objects below the folder are listed: there, a folder is only the beginning of a name.

    Examples
    --------
    >>> matching(Path("no/such/folder"), "*/*.parquet")
    []
    """
    if isinstance(folder, Path):
        return sorted(folder.glob(pattern))
    root = folder.path.rstrip("/") + "/"
    names = [path.removeprefix(root) for path in folder.fs.find(root)]
    depth = pattern.count("/")
    return sorted(folder / name for name in names if name.count("/") == depth and PurePosixPath(name).match(pattern))


def folders(folder: Place) -> list[str]:
    """Names of the folders in a folder; of a store, of what lies one name further down.

    Examples
    --------
    >>> folders(Path("no/such/folder"))
    []
    """
    try:
        if isinstance(folder, Path):
            return [entry.name for entry in folder.iterdir() if entry.is_dir()]
        found = folder.fs.ls(folder.path, detail=True)
    except FileNotFoundError:
        return []
    return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in found if entry["type"] == "directory"]


def read_ahead(place: Place, read: Callable[[One], Other], items: Iterable[One]) -> Iterator[Other]:
    """What `read` makes of each item, in order; where the place is a store, `READERS` at the same time.

    Examples
    --------
    >>> list(read_ahead(Path(), abs, [-2, 1]))
    [2, 1]
    """
    if isinstance(place, Path):
        yield from map(read, items)
        return
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) == READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def answering(place: object) -> Iterator[None]:
    """Errors of a store inside the block become `CouldNotRun`, one line that begins with the place."""
    try:
        yield
    except VertebraError:
        raise
    except Exception as error:
        line = said_by_store(error)
        if line is None:
            raise
        raise CouldNotRun(f"{place}: {line}") from error


def said_by_store(error: BaseException) -> str | None:
    """What went wrong at a store, in words a person can act on; None if the error is not a store's.

    Never the address that was asked for: the name of an object may be that of a patient.
    """
    response = _response_of(error)
    if response is not None:
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return _sentence(code, status)
    name, module = type(error).__name__, type(error).__module__
    if name in ("NoCredentialsError", "PartialCredentialsError"):
        return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    if module.startswith(("botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec")):
        return f"the store does not answer ({name})"
    return None


def came_second(error: BaseException) -> bool:
    """Whether a conditional write was refused because another one came first."""
    response = _response_of(error)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if response else None
    return isinstance(error, FileExistsError) or status == CONDITION_FAILED


def _response_of(error: BaseException | None) -> dict | None:
    """What botocore kept of the answer; s3fs puts its own exceptions in front of botocore's."""
    for one in (error, getattr(error, "__cause__", None)):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return response
    return None


def _sentence(code: str, status: int | None) -> str:
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return "there is no such bucket"
    if status in (401, 403):
        return f"access denied ({code or status}): check the credentials and the bucket's policy"
    if status == 404:
        return "not there (404): was it removed?"
    return f"the store answered {code or 'an error'} ({status})"
