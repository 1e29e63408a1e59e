"""Artifacts of a night: what an engineer reads in Prefect's pages in the morning.

They are made by the flows of deployments only. The private server of ``vertebra screen`` has no pages and ends with
its run; there the same numbers are in the summary, ``vertebra status`` and the report.
"""

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from tasks.night import Line

PROGRESS, FLOW, FAILURES, THROUGHPUT, DRIFT, LINKS = (
    f"night-{name}" for name in ("progress", "flow", "failures", "throughput", "drift", "links")
)
REPORT = "weekly-report"
UPDATE_SECONDS = 30.0
"""Between two updates of the progress: one request each."""


@contextmanager
def progress_artifact(total: int, done: Callable[[], int], describe: Callable[[int], str]) -> Iterator[None]:
    """Show in Prefect's pages how far a night is, while the block runs.

    Parameters
    ----------
    total : int
    done : callable
        How many are done by now; asked from a thread of its own.
    describe : callable
        One line for so many done.
    """
    made = unless_away(create_progress_artifact, 0.0, key=PROGRESS, description=describe(0))
    ended = threading.Event()

    def update() -> None:
        """Until the block has ended, and once more then."""
        over = made is None
        while not over:
            over = ended.wait(UPDATE_SECONDS)
            so_far = done()
            share = 100.0 * min(so_far, total) / max(total, 1)
            unless_away(update_progress_artifact, made, share, describe(so_far))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(update,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def table_artifact(key: str, lines: list[Line], description: str) -> None:
    """One table; an empty one says so."""
    unless_away(create_table_artifact, lines or [{"": "nothing"}], key=key, description=description)


def links_artifact(key: str, lines: list[str]) -> None:
    """Where the results are."""
    unless_away(create_markdown_artifact, "\n".join(f"- {line}" for line in lines), key=key)


def unless_away(make: Callable[..., Any], *values: object, **named: object) -> Any:
    """Make an artifact; a server that does not answer must not cost a night its results."""
    try:
        return make(*values, **named)
    except Exception as error:
        logging.getLogger(__name__).warning("artifact not written: %s", type(error).__name__)
        return None
