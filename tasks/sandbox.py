"""A child process in which studies are measured, so that the worst of them ends as a row and not as a dead worker.

One child per worker, kept for as long as it lives. It is forked from a server that has the heavy imports done, so a
new one takes a tenth of a second.
"""

import multiprocessing
from concurrent.futures import TimeoutError as DeadlineError
from multiprocessing.util import Finalize
from types import TracebackType

from pebble import ProcessExpired, ProcessPool

from tasks.plan import Shard, StudyOrder
from tasks.settings import RunSettings
from tasks.study import OUT_OF_MEMORY_EXIT, Screened, ended, prepare_child, rows_of, screen_study
from vertebra_core.errors import Reason
from vertebra_core.tables.outcome import Status

PRELOAD = ["torch", "numpy", "tasks.study", "vertebra_core.reading.formats", "vertebra_core.report.picture"]
"""Imported once, in the fork server; no CUDA context and no network may be made there."""


class Sandbox:
    """Runs studies one at a time in a child with a deadline and bounded memory; use as a context manager."""

    def __init__(self, settings: RunSettings) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._settings = settings
        self._pool = ProcessPool(max_workers=1, context=context, initializer=prepare_child, initargs=[settings])
        # At exit a process waits for its children; a worker that is told to end would hang on a child that is not.
        self.close = Finalize(self, _end, args=[self._pool], exitpriority=10)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def screen(self, order: StudyOrder, shard: Shard) -> Screened:
        """Screen one study; always returns, whatever the study does to the child."""
        bare = Shard(shard.run, shard.name, (), shard.method, shard.identity, shard.settings, shard.run_settings)
        deaths = []
        while len(deaths) < self._settings.attempts:
            future = self._pool.schedule(screen_study, args=[order, bare], timeout=self._settings.deadline_s)
            try:
                return future.result()
            except DeadlineError:
                return _given_up(order, bare, Reason.DEADLINE, f"longer than {self._settings.deadline_s:g} s")
            except ProcessExpired as death:
                if death.exitcode == OUT_OF_MEMORY_EXIT:
                    return _given_up(order, bare, Reason.OUT_OF_MEMORY, f"more than {self._settings.memory_gb:g} GiB")
                deaths.append(death.exitcode)
        codes = ", ".join(str(code) for code in deaths)
        return _given_up(order, bare, Reason.WORKER_DIED, f"{len(deaths)} tries, exit codes {codes}")


def _end(pool: ProcessPool) -> None:
    pool.stop()
    pool.join(timeout=10)


def _given_up(order: StudyOrder, shard: Shard, reason: Reason, detail: str) -> Screened:
    note = {"event": "given_up", "reason": reason.code, "detail": detail}
    return Screened(rows_of(ended(order, shard, Status.FAILED, reason, detail), shard), notes=(note,))
