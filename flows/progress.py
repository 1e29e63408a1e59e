"""Progress with rate and time left: a bar on a terminal, a plain line now and then in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

LINE_SECONDS = 30.0
"""A log gets a line this often; more would bury what else it says."""
LOOK_SECONDS = 0.5


@contextmanager
def watched(what: str, total: int | None, done: Callable[[], int], stream: TextIO | None = None) -> Iterator[None]:
    """Show how far something is while the block runs.

    Parameters
    ----------
    what : str
        What is counted: "studies".
    total : int or None
        None where it is not known; then only the count and the rate are shown.
    done : callable
        How many are done by now; asked from a thread of its own.
    stream : file, optional
        Default: standard error.
    """
    stream = stream or sys.stderr
    ended = threading.Event()
    show = _bar if stream.isatty() else _lines
    thread = threading.Thread(target=show, args=(what, total, done, stream, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def progress_line(what: str, done: int, total: int | None, seconds: float) -> str:
    """One line: done, rate and time left.

    Examples
    --------
    >>> progress_line("studies", 30, 120, 600.0), progress_line("files", 9000, None, 10.0)
    ('studies 30/120, 3.0 a minute, 30 min left', 'files 9000, 900 a second')
    """
    rate = done / max(seconds, 1e-6)
    if total is None:
        return f"{what} {done}, {rate:.0f} a second"
    if not done:
        return f"{what} 0/{total}"
    left = (total - done) / rate
    return f"{what} {done}/{total}, {rate * 60:.1f} a minute, {duration(left)} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Examples
    --------
    >>> duration(42), duration(1800), duration(9000)
    ('42 s', '30 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _lines(what: str, total: int | None, done: Callable[[], int], stream: TextIO, ended: threading.Event) -> None:
    start = time.monotonic()
    while not ended.wait(LINE_SECONDS):
        print(progress_line(what, done(), total, time.monotonic() - start), file=stream, flush=True)
    if total is not None:
        print(progress_line(what, done(), total, time.monotonic() - start), file=stream, flush=True)


def _bar(what: str, total: int | None, done: Callable[[], int], stream: TextIO, ended: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    start = time.monotonic()
    columns = TextColumn("{task.description}"), BarColumn()
    with Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task(what, total=total)
        while True:
            last = ended.wait(LOOK_SECONDS)
            now = done()
            bar.update(task, completed=now, description=progress_line(what, now, total, time.monotonic() - start))
            if last:
                return
