"""A child process in which studies are measured, so that the worst of them ends as a row and not as a dead worker.

One child per worker (`tasks.child`), kept for as long as it lives. It is forked from a server that has the heavy
imports done, so a new one takes a tenth of a second.

A study is blamed for nothing that others may have done to its child. If its child dies, exceeds the deadline or runs
out of memory, it is tried again in a new child, until `RunSettings.attempts`; only then it ends as a row that says
``failed``. An exception in a new child is believed at once: the same code on the same input raises it again. In a child
that had measured others it is not: they may have used up its memory or its open files, so the study is tried again.
A child that keeps memory from study to study is ended before that can harm anybody (`LEAK_SHARE`).
"""

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from tasks.child import OUT_OF_MEMORY_EXIT, Child, ChildDied, ChildGone, DeadlineExceeded
from tasks.method import choose_device
from tasks.plan import Shard, StudyOrder
from tasks.settings import GIBIBYTE, RunSettings
from tasks.study import Screened, ended, prepare_child, rows_of, screen_study
from vertebra_core.errors import CouldNotRun, Reason
from vertebra_core.storage import is_url
from vertebra_core.tables.outcome import Status

PRELOAD = ["torch", "numpy", "tasks.study", "vertebra_core.reading.formats", "vertebra_core.report.picture"]
"""Imported once, in the fork server; no CUDA context and no network may be made there."""
LEAK_SHARE = 0.25
"""Share of the memory allowance that a child may keep of its studies, beyond what it held after the first: most of
the rest is left for the next study, which needs a quarter (`RunSettings.memory_gb`)."""
CHILD_RECYCLED = "child_recycled"
"""Event in the log of a shard."""
TRIED_ALONE = "tried_alone"
"""Event in the log of a shard."""
MOST_GONE = 3
"""A child may be killed while it waits for a study; where that happens again and again, no child can live here."""


@dataclass(frozen=True)
class Try:
    """One try of a study.

    Parameters
    ----------
    screened : Screened or None
        What came of it; None if the child was lost.
    failure : Reason or None
        Why it failed; None: it came to an end, measured or refused.
    detail : str
    """

    screened: Screened | None
    failure: Reason | None = None
    detail: str = ""


class Sandbox:
    """Runs studies one at a time in a child with a deadline and bounded memory; use as a context manager."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self._child = self._new_child()
        self._device: str | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def screen(self, order: StudyOrder, shard: Shard, following: StudyOrder | None = None) -> Screened:
        """Screen one study; always returns, whatever the study does to the child.

        Parameters
        ----------
        order : StudyOrder
        shard : Shard
        following : StudyOrder, optional
            The study that will be screened next; read in the same child meanwhile, where that pays.

        Raises
        ------
        CouldNotRun
            A store does not answer, or no child can live here: no fault of the study.
        """
        bare = Shard(shard.run, shard.name, (), shard.method, shard.identity, shard.settings, shard.run_settings)
        failed: list[Try] = []
        notes: list[dict] = []
        ahead = following if following is not None and self._reads_ahead(following) else None
        while True:
            child_was_new = self._child_is_new
            one = self._try(order, bare, ahead)
            if ahead is not None and one.failure not in (None, Reason.FAILED):
                notes.append({"event": TRIED_ALONE, "reason": one.failure.code})
                ahead = None  # either study may have done it: not counted, and this one is tried again alone
                self._renew()
                continue
            if one.screened is not None:
                notes += one.screened.notes
                if one.failure is None:
                    return replace(one.screened, notes=(*notes, *self._recycled_if_it_leaks(one.screened)))
            failed.append(one)
            notes.append(_note_of(one, len(failed), child_was_new))
            is_last = len(failed) >= self._settings.attempts
            if one.screened is not None and one.failure is Reason.FAILED and (child_was_new or is_last):
                return replace(one.screened, notes=tuple(notes))
            self._renew()
            if is_last:
                return replace(_given_up(order, bare, failed), notes=tuple(notes))

    def _reads_ahead(self, following: StudyOrder) -> bool:
        """Whether the next study is worth reading while this one is measured: on a GPU, or out of a store."""
        if self._settings.read_ahead != "auto":
            return self._settings.read_ahead == "on"
        if is_url(following.series.archive):
            return True
        if self._device is None:
            try:
                self._device = self._in_child(choose_device, [self._settings.device])
            except (DeadlineExceeded, ChildDied):
                self._renew()
        return self._device == "cuda"

    def _try(self, order: StudyOrder, bare: Shard, ahead: StudyOrder | None) -> Try:
        """One try, in the child there is."""
        try:
            screened: Screened = self._in_child(screen_study, [order, bare, ahead])
            self._child_is_new = False
        except DeadlineExceeded:
            return Try(None, Reason.DEADLINE, f"longer than {self._settings.deadline_s:g} s")
        except ChildDied as death:
            if death.exit_code == OUT_OF_MEMORY_EXIT:
                return Try(None, Reason.OUT_OF_MEMORY, self._too_much())
            return Try(None, Reason.WORKER_DIED, f"exit code {death.exit_code}")
        row = screened.rows["studies"][0]
        if row["status"] != Status.FAILED.value:
            return Try(screened)
        if row["reason"] == Reason.OUT_OF_MEMORY.code:
            return Try(screened, Reason.OUT_OF_MEMORY, self._too_much())
        return Try(screened, Reason.FAILED, row["reason_detail"])

    def _in_child(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """The child's answer; a child that was lost while it waited for a study takes nothing with it."""
        for _ in range(MOST_GONE):
            try:
                return self._child.ask(function, arguments, self._settings.deadline_s)
            except ChildGone:
                self._renew()
        raise CouldNotRun(f"{MOST_GONE} processes for measuring studies died before they were given one")

    def _recycled_if_it_leaks(self, screened: Screened) -> tuple[dict, ...]:
        """Give the next study a new child if this one keeps too much; what is to be logged."""
        allowance = self._settings.memory_gb * GIBIBYTE
        if screened.kept_bytes <= LEAK_SHARE * allowance:
            return ()
        self._renew()
        kept, allowed = screened.kept_bytes / GIBIBYTE, self._settings.memory_gb
        return ({"event": CHILD_RECYCLED, "kept_gb": round(kept, 3), "allowance_gb": allowed},)

    def _renew(self) -> None:
        self._child.close()
        self._child = self._new_child()

    def _new_child(self) -> Child:
        self._child_is_new = True
        return Child(self._context, prepare_child, [self._settings])

    def _too_much(self) -> str:
        return f"more than {self._settings.memory_gb:g} GiB"


def _note_of(failed: Try, number: int, child_was_new: bool) -> dict:
    """A line of the log about a try that failed."""
    assert failed.failure is not None
    note = {"event": "try_failed", "number": number, "reason": failed.failure.code, "detail": failed.detail}
    return {**note, "new_child": child_was_new}


def _given_up(order: StudyOrder, shard: Shard, failed: Sequence[Try]) -> Screened:
    """The row of a study after its last try, with the reason of that."""
    reason = failed[-1].failure
    assert reason is not None
    details = "; ".join(one.detail for one in failed)
    detail = f"{len(failed)} tries: {details}" if len(failed) > 1 else details
    return Screened(rows_of(ended(order, shard, Status.FAILED, reason, detail), shard))
