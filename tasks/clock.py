"""The clock: the core never asks the time, it is told."""

import time
from datetime import UTC, datetime


def now() -> str:
    """The time as ISO 8601, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def seconds_since_epoch() -> float:
    """The time as seconds since 1970, for comparing with times of files."""
    return time.time()


def seconds_since_boot() -> float:
    """A time that nobody can set and that goes on while the machine sleeps (CLOCK_BOOTTIME of Linux)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Stopwatch:
    """Listens to the stages of a study and adds up the wall time of each.

    Examples
    --------
    >>> watch = Stopwatch()
    >>> watch("read"); watch("curve"); sorted(watch.stop())
    ['curve', 'read']
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._stage, self._since = "", time.monotonic()

    def __call__(self, stage: str) -> None:
        self.stop()
        self._stage, self._since = stage, time.monotonic()

    def stop(self) -> dict[str, float]:
        """End the stage that runs, and return seconds by stage."""
        if self._stage:
            passed = time.monotonic() - self._since
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + passed
            self._stage = ""
        return self._seconds
