"""One study from its files to rows and a picture: what runs in the sandbox. Every way it can end becomes rows here."""

import ctypes
import functools
import hashlib
import os
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from multiprocessing import parent_process
from typing import TYPE_CHECKING

import numpy as np
import psutil

from tasks.ahead import ReadAhead
from tasks.child import OUT_OF_MEMORY_EXIT
from tasks.clock import Stopwatch
from tasks.device import Networks, limit_threads
from tasks.method import Measure, choose_device, named_method
from tasks.plan import Shard, StudyOrder
from tasks.settings import GIBIBYTE, RunSettings
from vertebra_core.errors import CouldNotRun, Gone, NotEvaluable, Reason, is_out_of_memory
from vertebra_core.tables.covariates import COVARIATES
from vertebra_core.tables.outcome import Provenance, Status, StudyOutcome
from vertebra_core.tables.rows import Row, outcome_rows
from vertebra_core.volume import Volume

if TYPE_CHECKING:
    from vertebra_core.study import StudyResult

MEMORY_LOOK_SECONDS = 0.5
_reader = ReadAhead()
_taken_at_first: int | None = None
"""Bytes that this process held after its first study, with the networks and, on a GPU, the context of CUDA."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal a process gets when its parent dies."""


@dataclass(frozen=True)
class Screened:
    """The end of one study.

    Parameters
    ----------
    rows : dict
        Rows by table.
    picture : bytes or None
        PNG.
    notes : tuple of dict
        Events for the log.
    kept_bytes : int
        Memory that the child holds now beyond what it held after its first study.
    """

    rows: dict[str, list[Row]]
    picture: bytes | None = None
    notes: tuple[dict, ...] = ()
    kept_bytes: int = 0


def screen_study(order: StudyOrder, shard: Shard, following: StudyOrder | None = None) -> Screened:
    """Read, measure and draw one study; runs in the sandbox, with the networks loaded once in each child.

    Parameters
    ----------
    order : StudyOrder
    shard : Shard
    following : StudyOrder, optional
        The study that will be asked for next: read while this one is measured.
    """
    device = choose_device(shard.run_settings.device)
    networks = _networks(shard.method, device, shard.identity.model_digest)
    outcome, volume, notes = screen_series(order, shard, networks, device, following)
    outcome, notes = replace(outcome, device=networks.device), (*networks.told(), *notes)
    picture = None
    if outcome.result is not None and volume is not None and shard.run_settings.pictures:
        picture, more = _draw(outcome, volume, shard, order.key)
        notes += more
    rows = rows_of(outcome, shard)
    del outcome, volume
    return Screened(rows, picture, notes, kept_bytes())


def screen_series(
    order: StudyOrder, shard: Shard, measure: Measure, device: str, following: StudyOrder | None = None
) -> tuple[StudyOutcome, Volume | None, tuple[dict, ...]]:
    """Measure one series. The one place where an exception becomes the end of a study."""
    watch = Stopwatch()
    blank = replace(ended(order, shard, Status.FAILED, Reason.FAILED, ""), device=device)
    try:
        watch("read")
        volume = _reader.read(order, shard.settings.reading)
        if following is not None:
            _reader.begin(following, shard.settings.reading)
        result = measure(volume, shard.settings, watch)
    except (CouldNotRun, Gone):  # a store that does not answer, an archive that went: the study stays due
        raise
    except NotEvaluable as refusal:
        if refusal.reason is Reason.OUT_OF_MEMORY:  # met while pixels were decoded: says nothing about the study
            return replace(blank, reason=refusal.reason, detail=refusal.detail, seconds=watch.stop()), None, ()
        refused = replace(blank, status=Status.NOT_EVALUABLE, reason=refusal.reason, detail=refusal.detail)
        return replace(refused, seconds=watch.stop()), None, ()
    except Exception as error:
        reason = Reason.OUT_OF_MEMORY if is_out_of_memory(error) else Reason.FAILED
        note = describe(error)
        detail = f"{note['error']}, digest {note['digest']}"
        return replace(blank, reason=reason, detail=detail, seconds=watch.stop()), None, (note,)
    status, reason, detail = judge(result)
    repairs = tuple(volume.repairs)
    good = replace(blank, status=status, reason=reason, detail=detail, result=result, repairs=repairs)
    return replace(good, seconds=watch.stop()), volume, ()


def judge(result: "StudyResult") -> tuple[Status, Reason | None, str]:
    """Whether everything in view was measured."""
    whole = np.asarray(result.complete, bool)
    unmeasured = int((whole & ~np.isfinite(result.sizes.g)).sum())
    if not whole.any():
        return Status.PARTIAL, Reason.NO_VERTEBRA, f"{len(whole)} vertebrae in view, all cut by the edge of the scan"
    if unmeasured:
        detail = f"{unmeasured} of {int(whole.sum())} vertebrae that the scan does not cut"
        return Status.PARTIAL, Reason.SOME_NOT_MEASURED, detail
    return Status.OK, None, ""


def ended(order: StudyOrder, shard: Shard, status: Status, reason: Reason, detail: str) -> StudyOutcome:
    """The end of a study without a result."""
    one = shard.identity
    provenance = Provenance(
        order.input_digest, one.model_digest, one.settings_digest, one.schema_version, metadata.version("vertebra")
    )
    keys = order.study_key, order.patient_key, order.series_key
    device = shard.run_settings.device if shard.run_settings.device != "auto" else "cpu"
    return StudyOutcome(*keys, order.series, status, reason, detail, None, provenance, device=device)


def rows_of(outcome: StudyOutcome, shard: Shard) -> dict[str, list[Row]]:
    """The rows of a study, without what is told of the patient: that comes in when a snapshot is published."""
    rows = outcome_rows(outcome, shard.settings.grading)
    for row in rows["studies"]:
        row.update(dict.fromkeys(COVARIATES))
    return rows


def describe(error: Exception) -> dict:
    """An error for the log: its type and where it arose, never its message, which may quote a header."""
    frames = [f"{os.path.basename(f.filename)}:{f.name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    name = type(error).__name__
    digest = hashlib.sha256("\n".join([name, *frames]).encode()).hexdigest()[:12]
    return {"event": "unforeseen_error", "error": name, "digest": digest, "frames": frames}


def prepare_child(settings: RunSettings) -> None:
    """Bound a new child: threads, memory, and no life beyond its parent's. Runs once, after the imports."""
    silence()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    die_with_parent()
    limit_threads(settings.threads)
    allowance = int(settings.memory_gb * GIBIBYTE)
    if choose_device(settings.device) == "cpu":
        limit = psutil.Process().memory_info().vms + allowance
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    else:  # CUDA reserves more address space than any limit that would help
        _watch(lambda: psutil.Process().memory_info().rss > allowance, MEMORY_LOOK_SECONDS, OUT_OF_MEMORY_EXIT)


def kept_bytes() -> int:
    """Memory that this child holds beyond what it held after its first study; 0 where that cannot be told just now."""
    global _taken_at_first
    ahead = _reader.held_bytes()
    if ahead is None:  # the next study is being read: the last one of the shard tells
        return 0
    taken = _taken() - ahead
    if _taken_at_first is None:
        _taken_at_first = taken
    return max(0, taken - _taken_at_first)


def _taken() -> int:
    """Resident memory that is no file's: neither code read in on first use nor address space in reserve is a leak."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


def silence() -> None:
    """Send whatever this process prints to nowhere: a library that complains of a header or a file quotes it.

    What is to be known of a study is in its row and in the notes for the log. To see a library complain, measure the
    scan alone: ``vertebra show`` works in its own process.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def die_with_parent() -> None:
    """End this process when its parent ends, even by kill -9, and even while it computes.

    The signal is about the fork server that made this process; the sentinel is about the worker that asked for it.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _watch(condition: Callable[[], bool], every: float, exit_code: int) -> None:
    def look() -> None:
        while not condition():
            time.sleep(every)
        os._exit(exit_code)

    threading.Thread(target=look, daemon=True).start()


@functools.lru_cache(maxsize=1)
def _networks(path: str, device: str, digest: str) -> Networks:
    method = named_method(path)
    if method.digest != digest:
        raise CouldNotRun("the weights changed during the run; run again")
    return Networks(method, device)


def _draw(outcome: StudyOutcome, volume: Volume, shard: Shard, title: str) -> tuple[bytes | None, tuple[dict, ...]]:
    """Draw; a picture that fails is a line in the log, the measurement stands without it."""
    from vertebra_core.report.picture import draw_study

    try:
        return draw_study(outcome.result, volume, shard.settings.grading, title), ()
    except Exception as error:
        return None, ({**describe(error), "event": "picture_failed"},)
