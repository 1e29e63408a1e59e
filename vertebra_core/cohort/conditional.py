"""Writing on condition: an object of S3 is replaced only if it still is the one that was read.

An ETag names what an object holds. ``PUT`` with ``If-Match`` succeeds if the object has this ETag at that moment, so
of all who read the same version one can replace it. AWS S3 has it since November 2024, and so have MinIO, Ceph,
SeaweedFS and R2; a server that ignores the condition is found out by `check_conditions` and refused.
"""

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from vertebra_core.cohort.commit import create
from vertebra_core.errors import CouldNotRun
from vertebra_core.storage import Place, came_second

NO_ETAG = '"00000000000000000000000000000000"'
"""An ETag that no object has."""


@dataclass(frozen=True)
class Version:
    """An object as it was when it was read.

    Parameters
    ----------
    etag : str
        Changes with what the object holds.
    age_s : float
        Seconds since it was written, by the store's clock alone.
    """

    data: bytes
    etag: str
    age_s: float


def read_version(path: Place) -> Version | None:
    """What an object holds now; None if there is none."""
    store, bucket, key = _object_of(path)

    async def get() -> Version:
        """One GET: a second request could be answered with another version."""
        answer = await store._call_s3("get_object", Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            data = await body.read()
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        age = parsedate_to_datetime(headers["date"]) - answer["LastModified"]
        return Version(data, answer["ETag"], max(0.0, age.total_seconds()))

    try:
        return sync(store.loop, get)
    except FileNotFoundError:
        return None


def replace_version(path: Place, data: bytes, before: Version) -> bool:
    """Replace an object if it is still the one that was read; False if it is another one or gone."""
    store, bucket, key = _object_of(path)
    try:
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=data, IfMatch=before.etag)
    except FileNotFoundError:
        return False
    except OSError as error:
        if came_second(error):
            return False
        raise
    return True


def _object_of(path: Place) -> tuple[Any, str, str]:
    """The s3fs filesystem, the bucket and the key of an object."""
    assert not isinstance(path, Path)
    store: Any = path.fs
    bucket, key, _ = store.split_path(path.path)
    return store, bucket, key


def check_conditions(path: Place) -> None:
    """Make sure that the store keeps to conditions, on an object that is there.

    Raises
    ------
    CouldNotRun
        It does not: two runs could both believe that they hold the cohort.
    """
    there = read_version(path)
    assert there is not None
    if create(path, there.data) or replace_version(path, there.data, Version(b"", NO_ETAG, 0.0)):
        raise CouldNotRun(
            f"{path.parent}: the store ignores conditional writes (If-None-Match, If-Match), so no two runs could be "
            "kept apart; put the cohort in a folder or on another store"
        )
