"""One run at a time in a cohort, and nobody waits for the dead.

The lock is a file that names its owner: host, boot, process and its start. On the same host a dead owner is seen at
once, also after a reboot or when its process number was given to another. An owner on another host cannot be looked
at; it renews its lock, and is taken for dead when that is older than `LEASE_SECONDS`.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import CouldNotRun

LEASE_SECONDS = 180.0
"""Age of the last renewal beyond which an owner on another host is taken for dead."""
RENEW_SECONDS = 30.0
"""How often an owner renews: five renewals may be lost before the lease ends."""


@dataclass(frozen=True)
class Owner:
    """A process, told apart from every other one.

    Parameters
    ----------
    boot : str
        Boot of the machine and process namespace: process numbers mean nothing outside them.
    started : float
        Start of the process, seconds since the epoch.
    """

    host: str
    boot: str
    pid: int
    started: float

    def is_alive(self) -> bool | None:
        """Whether the process runs; None where that cannot be seen from here."""
        here = this_process()
        if self.host != here.host:
            return None
        if self.boot != here.boot:
            # Same name, other boot: rebooted since. Same boot, other namespace: a container, not to be looked into.
            return None if self.boot.split("/")[0] == here.boot.split("/")[0] else False
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def this_process() -> Owner:
    """The process that asks."""
    return Owner(socket.gethostname(), _boot(), os.getpid(), psutil.Process().create_time())


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: the time of the boot, to the minute
        return f"{psutil.boot_time() // 60:.0f}/"


def take_lock(layout: Layout, run: str, now: float) -> Owner | None:
    """Take the cohort for this process.

    Parameters
    ----------
    run : str
        Name of the run, for the message another one gets.
    now : float
        Seconds since the epoch.

    Returns
    -------
    Owner or None
        The dead owner from whom the lock was taken over.

    Raises
    ------
    CouldNotRun
        A living run holds it; the message says which and, where it cannot be looked at, for how long to wait.
    """
    with _guard(layout):
        document = _read(layout)
        if document is not None:
            owner = Owner(**document["owner"])
            left = document["renewed"] + LEASE_SECONDS - now
            if owner.is_alive() or (owner.is_alive() is None and left > 0):
                wait = "" if owner.is_alive() else f"; if it is dead, its lock ends in {left:.0f} s"
                raise CouldNotRun(
                    f"{layout.root}: run {document['run']} is at work (process {owner.pid} on {owner.host}){wait}"
                )
        _write(layout, this_process(), run, now)
        return None if document is None else owner


def renew_lock(layout: Layout, run: str, now: float) -> None:
    """Say that this process is alive.

    Raises
    ------
    CouldNotRun
        The lock was taken over by another process in the meantime.
    """
    with _guard(layout):
        if not _is_ours(layout):
            raise CouldNotRun(f"{layout.root}: the lock was taken over by another run")
        _write(layout, this_process(), run, now)


def release_lock(layout: Layout) -> None:
    """Give the cohort back, if this process holds it."""
    with _guard(layout):
        if _is_ours(layout):
            layout.lock.unlink()


def _is_ours(layout: Layout) -> bool:
    document = _read(layout)
    return document is not None and Owner(**document["owner"]) == this_process()


@contextmanager
def _guard(layout: Layout) -> Iterator[None]:
    """Between looking at the lock and writing it, nobody else may; the system frees this one with its process."""
    layout.root.mkdir(parents=True, exist_ok=True)
    with open(layout.lock.with_suffix(".guard"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(layout: Layout) -> dict | None:
    try:
        return json.loads(layout.lock.read_text())
    except FileNotFoundError:
        return None


def _write(layout: Layout, owner: Owner, run: str, now: float) -> None:
    document = {"run": run, "owner": asdict(owner), "renewed": now}
    replace(layout.lock, json.dumps(document, indent=1).encode())
