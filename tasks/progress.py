"""How far a run is, told in a file that anybody may read: ``logs/RUN/progress.json``.

The process that leads a run counts from the logs of its workers anyhow. What it has counted is written down now and
then, so that whoever asks for the state of a cohort reads one small file and not thousands of logs.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.clock import now, seconds_since_boot
from tasks.log import StudiesDone
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.storage import said_by_store

TELL_SECONDS, TELL_STORE_SECONDS = 15.0, 60.0
"""No more often is it written, and no more often than it is asked for; every PUT is a request somebody pays for."""


@dataclass(frozen=True)
class Progress:
    """How far the shards of a run are.

    Parameters
    ----------
    time : str
        When it was counted, ISO 8601.
    seconds : float
        Since the first shard was handed out.
    done, total : int
        Studies and further series.
    by_reason : dict
        Of those that are done, by reason code; "ok" for none.
    """

    time: str
    seconds: float
    done: int
    total: int
    by_reason: dict[str, int]

    @property
    def studies_per_hour(self) -> float | None:
        """Mean rate; None before the first study is done."""
        return self.done * 3600.0 / self.seconds if self.done and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time left at this rate."""
        rate = self.studies_per_hour
        return (self.total - self.done) * 3600.0 / rate if rate else None


class Teller:
    """Counts the studies that are done, as `tasks.log.StudiesDone`, and tells it now and then.

    Parameters
    ----------
    layout : Layout
    run : str
    total : int
        Studies and further series that are to be measured.
    also : callable
        Called after each telling.
    """

    def __init__(self, layout: Layout, run: str, total: int, also: Callable[[], object]) -> None:
        self._path, self._total, self._also = layout.progress(run), total, also
        self._count = StudiesDone(layout.logs(run))
        self._every = TELL_SECONDS if isinstance(layout.root, Path) else TELL_STORE_SECONDS
        self._began = seconds_since_boot()
        self._told, self._told_done = float("-inf"), -1

    def __call__(self) -> int:
        """The number of studies that are done."""
        done, time = self._count(), seconds_since_boot()
        if time - self._told >= self._every or (done >= self._total and done != self._told_done):
            self._told, self._told_done = time, done
            self._tell(done, time - self._began)
        return done

    def _tell(self, done: int, seconds: float) -> None:
        """A full disk or a store that is away is told by the run itself; here nobody hears how far it is."""
        by_reason = self._count.by_reason()
        progress = Progress(now(), round(seconds, 1), min(done, self._total), self._total, by_reason)
        try:
            replace(self._path, json.dumps(asdict(progress), indent=1).encode())
            self._also()
        except Exception as error:
            if not isinstance(error, OSError) and said_by_store(error) is None:
                raise


def read_progress(layout: Layout, run: str) -> Progress | None:
    """What was told last of a run; None if it has not come so far."""
    try:
        return Progress(**json.loads(layout.progress(run).read_text()))
    except FileNotFoundError:
        return None
