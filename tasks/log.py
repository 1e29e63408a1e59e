"""The log of a run: one JSON object a line, keys and codes only, never a name, an identifier or a path of a patient.

What a line may hold is declared in `tasks.events`.
"""

import json
import os
import secrets
from collections import Counter
from pathlib import Path

from tasks.clock import now, seconds_since_boot
from tasks.events import declared
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.storage import Place, matching, said_by_store

SHARD_LOGS = "shard-[!s]*.jsonl"
"""Logs of shards whose studies are due: not of sentinels, which are measured beside them."""
STUDY_DONE = "study_done"
"""Event in the log by which a study is counted as done while its shard still runs."""
LOOK_AT_STORE_SECONDS = 10.0
"""Progress is looked up in a store no more often than this: every look is a request that somebody pays for."""


class Log:
    """Appends events to a file.

    Nothing can be appended to an object of a store: there all lines are put again, with the new one at the end. A log
    has one writer and a line a study, so that is a small PUT every minute; and nothing waits on a disk for an end of
    the run that may not come.
    """

    def __init__(self, path: Place) -> None:
        self._path = path
        self._lines: bytes | None = None

    def __call__(self, event: str, **fields: object) -> None:
        said = {"time": now(), "event": event, **declared(event, fields)}
        line = (json.dumps(said, default=str) + "\n").encode()
        if isinstance(self._path, Path):
            _append(self._path, line)
            return
        if self._lines is None:
            self._lines = self._path.read_bytes() if self._path.exists() else b""
        self._lines += line
        replace(self._path, self._lines)


def run_log(layout: Layout, run: str) -> Log:
    """The log of a run as a whole, written by the process that leads it."""
    return Log(layout.logs(run) / "run.jsonl")


def shard_log(layout: Layout, run: str, shard: str) -> Log:
    """The log of one try at a shard; in a store, where two writers would overwrite each other, each has its own."""
    token = "" if isinstance(layout.root, Path) else f"-{secrets.token_hex(3)}"
    return Log(layout.logs(run) / f"shard-{shard}{token}.jsonl")


class StudiesDone:
    """Counts the studies that the workers have logged as done, reading only what is new; one done twice counts once."""

    def __init__(self, logs: Place) -> None:
        self._logs, self._read, self._ended = logs, {}, {}
        self._looked = float("-inf")

    def __call__(self) -> int:
        if isinstance(self._logs, Path):
            for log in self._logs.glob(SHARD_LOGS):
                if log.stat().st_size <= self._read.get(log, 0):
                    continue  # thousands of shards are over, and need not be opened
                with open(log, "rb") as file:
                    file.seek(self._read.get(log, 0))
                    self._hear(log, file.read())
        elif seconds_since_boot() - self._looked > LOOK_AT_STORE_SECONDS:
            self._looked = seconds_since_boot()
            self._look_at_store(self._logs)
        return len(self._ended)

    def by_reason(self) -> dict[str, int]:
        """Those that were counted, by reason code; "ok" for none."""
        counts = Counter(self._ended.values())
        return {reason: counts[reason] for reason in sorted(counts)}

    def _look_at_store(self, logs: Place) -> None:
        try:
            for log in matching(logs, SHARD_LOGS):
                if log.stat().st_size > self._read.get(log, 0):
                    self._hear(log, log.read_bytes()[self._read.get(log, 0) :])
        except Exception as error:
            if said_by_store(error) is None:
                raise  # a store that is gone is told by the run itself; here it is only progress that stands still

    def _hear(self, log: Place, text: bytes) -> None:
        whole_lines = text.rpartition(b"\n")[0].splitlines(keepends=True)
        self._read[log] = self._read.get(log, 0) + sum(map(len, whole_lines)) + bool(whole_lines)
        done = (event for event in map(json.loads, whole_lines) if event["event"] == STUDY_DONE)
        self._ended |= {event.get("series_key", event["study_key"]): event.get("reason") or "ok" for event in done}


def _append(path: Path, line: bytes) -> None:
    """One write, so that lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
