"""One run at a time in a cohort, and nobody waits for the dead.

The lock is a file that names its owner: host, boot, process and its start. On the same host a dead owner is seen at
once, also after a reboot or when its process number was given to another. An owner on another host cannot be looked
at; it renews its lock, and is taken for dead when that is older than `LEASE_SECONDS`.

In a folder, a lock of the operating system keeps others out between looking at the file and writing it. A bucket has
none: there the file is written on condition that it still is what was looked at, so of several who saw the same dead
owner one takes over, and an owner that was taken over cannot renew. Its age is told by the store's clock, so that
clocks of machines need not agree; it is given back by writing that nobody holds it.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from vertebra_core.cohort.commit import create, replace
from vertebra_core.cohort.conditional import Version, check_conditions, read_version, replace_version
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import CouldNotRun

LEASE_SECONDS = 180.0
"""Age of the last renewal beyond which an owner on another host is taken for dead."""
RENEW_SECONDS = 30.0
"""How often an owner renews: five renewals may be lost before the lease ends."""
MOST_TRIES = 5
"""Times that another one was quicker in a bucket; after the first it is alive, so a second is rare."""


@dataclass(frozen=True)
class Owner:
    """A process, told apart from every other one.

    Parameters
    ----------
    boot : str
        Boot of the machine and process namespace: process numbers mean nothing outside them.
    started : float
        Start of the process, seconds since the boot: unlike a time of the day, no setting of the clock moves it.
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
            started, status = _started(self.pid), psutil.Process(self.pid).status()
            return abs(started - self.started) < 1.0 and status != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Held:
    """A lock that somebody holds.

    Parameters
    ----------
    age_s : float
        Seconds since it was last renewed.
    """

    run: str
    owner: Owner
    age_s: float

    def is_over(self) -> bool:
        """Whether its owner is dead, or taken for dead."""
        alive = self.owner.is_alive()
        return not (alive or (alive is None and self.age_s < LEASE_SECONDS))


class CohortHeld(CouldNotRun):
    """Another run holds the cohort.

    Parameters
    ----------
    message : str
        For a person.
    lease_left_s : float or None
        Seconds after which an owner that cannot be looked at is taken for dead unless it renews; None: it is alive.
    """

    def __init__(self, message: str, lease_left_s: float | None) -> None:
        super().__init__(message)
        self.lease_left_s = lease_left_s


def this_process() -> Owner:
    """The process that asks."""
    return Owner(socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()))


def _started(pid: int) -> float:
    """Start of a process, in seconds since the boot.

    From proc(5), /proc/PID/stat, field 22: `psutil.Process.create_time` adds the time of the boot to it, which is made
    from the clock of the day, and so another one after the clock was set; by it, a living owner looked dead.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux, or gone
        return psutil.Process(pid).create_time()
    return int(after_name[22 - 3]) / os.sysconf("SC_CLK_TCK")


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
    CohortHeld
        A living run holds it; the message says which and, where it cannot be looked at, for how long to wait.
    CouldNotRun
        Others are taking it at the same time.
    """
    for _ in range(MOST_TRIES):
        with _guard(layout):
            held, version = _look(layout, now)
            if _is_ours(held, run):  # the answer to our PUT was lost on its way, and the PUT sent again
                return None
            if held is not None and not held.is_over():
                owner, left = held.owner, None if held.owner.is_alive() else LEASE_SECONDS - held.age_s
                wait = "" if left is None else f"; if it is dead, its lock ends in {left:.0f} s"
                by = f"process {owner.pid} on {owner.host}"
                raise CohortHeld(f"{layout.root}: run {held.run} is at work ({by}){wait}", left)
            if _write(layout, _document(run, now), version):
                if not isinstance(layout.root, Path):
                    check_conditions(layout.lock)
                return None if held is None else held.owner
    raise CouldNotRun(f"{layout.root}: other runs are taking it at this moment; try again")


def renew_lock(layout: Layout, run: str, now: float) -> None:
    """Say that this process is alive.

    Raises
    ------
    CouldNotRun
        The lock was taken over by another process in the meantime.
    """
    with _guard(layout):
        held, version = _look(layout, now)
        if _is_ours(held, run) and _write(layout, _document(run, now), version):
            return
        # an answer that was lost on its way makes a PUT come second to itself
        held, version = _look(layout, now)
        if not (_is_ours(held, run) and version is not None and version.data == _document(run, now)):
            raise CouldNotRun(f"{layout.root}: the lock was taken over by another run")


def release_lock(layout: Layout, run: str) -> None:
    """Give the cohort back, if this process holds it."""
    with _guard(layout):
        held, version = _look(layout, 0.0)
        if not _is_ours(held, run):
            return
        if isinstance(layout.lock, Path):
            layout.lock.unlink()
        else:
            _write(layout, json.dumps({"run": run, "owner": None}).encode(), version)


def held_lock(layout: Layout, now: float) -> Held | None:
    """Who holds the cohort at this moment; nothing is written."""
    return _look(layout, now)[0]


def _is_ours(held: Held | None, run: str) -> bool:
    return held is not None and held.run == run and held.owner == this_process()


def _guard(layout: Layout) -> AbstractContextManager[None]:
    """Between looking at the lock and writing it, nobody else may; in a bucket, that is what the condition is for."""
    return _guarded(layout.root, layout.root / "lock.guard") if isinstance(layout.root, Path) else nullcontext()


@contextmanager
def _guarded(root: Path, guard: Path) -> Iterator[None]:
    """The system frees this lock with its process."""
    root.mkdir(parents=True, exist_ok=True)
    with open(guard, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _look(layout: Layout, now: float) -> tuple[Held | None, Version | None]:
    """Who holds the cohort, and in a bucket the version of the lock that says so."""
    if isinstance(layout.lock, Path):
        try:
            version, data = None, layout.lock.read_bytes()
        except FileNotFoundError:
            return None, None
    else:
        version = read_version(layout.lock)
        if version is None:
            return None, None
        data = version.data
    try:
        document = json.loads(data)
        if document["owner"] is None:
            return None, version
    except (ValueError, KeyError, TypeError):  # damaged: whoever wrote it learns at its next renewal that it lost it
        return None, version
    age = now - document["renewed"] if version is None else version.age_s
    return Held(document["run"], Owner(**document["owner"]), age), version


def _write(layout: Layout, document: bytes, before: Version | None) -> bool:
    """Write the lock; False if it is in a bucket and no longer what was looked at."""
    if isinstance(layout.lock, Path):
        replace(layout.lock, document)
        return True
    return replace_version(layout.lock, document, before) if before else create(layout.lock, document)


def _document(run: str, now: float) -> bytes:
    return json.dumps({"run": run, "owner": asdict(this_process()), "renewed": now}, indent=1).encode()
