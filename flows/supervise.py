"""Child processes that are kept running: one that ends is started again, with longer pauses while it keeps ending."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.server import stop

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Before a child that ended is started again; doubled every time it ends soon after its start."""
SOUND_SECONDS = 120.0
"""A child that ran for so long was sound: its next end is the first one again. A worker that cannot reach its server
gives up well before that."""
LARGEST_LOG = 20 * 1024**2
"""Bytes. A larger log is put aside when the child is started; one older log is kept."""


@dataclass
class Child:
    """One child process and how to start it.

    Parameters
    ----------
    name : str
        For messages: "server".
    command : sequence of str
    environment : mapping
        Besides that of this process.
    log : Path
        Where its output is appended.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen | None = None
    _started: float = field(default=0.0, init=False)
    _due: float = field(default=0.0, init=False)
    _pause: float = field(default=FIRST_PAUSE_SECONDS, init=False)

    def start(self) -> subprocess.Popen:
        """Start it now; Ctrl-C at the terminal is for this process, which stops its children in order."""
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".old.log"))
        with open(self.log, "ab") as sink:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,  # its end tells the child that we are gone (`flows.owned`)
                stdout=sink,
                stderr=sink,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self._started, self._due = time.monotonic(), 0.0
        return self.process

    def keep_running(self, say: Callable[[str], None]) -> bool:
        """Look after it; whether it was started again just now."""
        if self.process is None or self.process.poll() is None:
            return False
        now = time.monotonic()
        if not self._due:
            if now - self._started > SOUND_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS
            self._due = now + self._pause
            say(f"{self.name} ended ({how(self.process.returncode)}); again in {self._pause:.0f} s; see {self.log}")
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if now < self._due:
            return False
        self._close()
        self.start()
        return True

    def stop(self, seconds: float) -> None:
        """Ask it to end and, after some seconds, end it; nothing that it started is left."""
        if self.process is None:
            return
        started = descendants(self.process.pid)
        stop(self.process, seconds)
        for left in psutil.wait_procs(started, timeout=0)[1]:
            left.kill()
        self.process = None

    def _close(self) -> None:
        if self.process and self.process.stdin:
            self.process.stdin.close()


def descendants(pid: int) -> list[psutil.Process]:
    """All processes that a process has started, and theirs."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def how(code: int) -> str:
    """How a process ended.

    Examples
    --------
    >>> how(1), how(-9)
    ('code 1', 'signal 9')
    """
    return f"code {code}" if code >= 0 else f"signal {-code}"
