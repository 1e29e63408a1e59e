"""Past runs of a cohort, from their records; one of them in detail, from its logs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.clock import seconds_since_epoch
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.lock import Held, Owner, held_lock
from vertebra_core.errors import WrongUse
from vertebra_core.storage import matching, read_ahead

ENDED, RUNNING, STOPPED, DEAD, UNSEEN = "ended", "running", "stopped", "dead", "on another host"
SCREEN = "screen"
"""Kind of a run that measures; the other is the inventory."""
SLOWEST = 10


@dataclass(frozen=True)
class RunState:
    """One run.

    Parameters
    ----------
    state : str
        "ended"; "running"; "stopped": by an error; "dead": its process is gone without an end; "on another host":
        cannot be looked at, but holds the cohort.
    kind : str
        "screen" or "inventory"; "" where it was not known before the run was over.
    seconds : float or None
        From its start to its end, or to the error that stopped it.
    new : dict
        Studies by reason code ("ok" for none) that ended in it.
    studies_per_hour : float or None
        Of these, over the whole run; None unless it ended.
    record : dict
        All that its record says.
    """

    run: str
    started: str
    ended: str | None
    state: str
    kind: str
    seconds: float | None
    new: dict[str, int]
    studies_per_hour: float | None
    record: dict[str, Any]


@dataclass(frozen=True)
class RunDetail:
    """One run, looked into.

    Parameters
    ----------
    took_over : str or None
        Run whose owner was dead when this one began.
    shards : list of dict
        Events ``shard_committed``, each with the worker that began the shard last.
    lost : list of dict
        Events ``shard_lost`` and ``workers_lost``.
    slowest : list of dict
        Events ``study_done`` of the studies that took longest.
    failures : list of (key, reason code)
    before : str or None
        The screening before it.
    settings_changed, versions_changed : dict
        Name -> [before, now], against that; empty where there was none.
    """

    state: RunState
    took_over: str | None
    shards: list[dict]
    lost: list[dict]
    slowest: list[dict]
    failures: list[tuple[str, str]]
    before: str | None
    settings_changed: dict[str, list]
    versions_changed: dict[str, list]


def run_states(layout: Layout, newest: int | None = None) -> list[RunState]:
    """Runs, the newest first; folders without a record are passed over."""
    names, holder = layout.run_names()[:newest], held_lock(layout, seconds_since_epoch())
    records = read_ahead(layout.root, lambda name: read_record(layout, name), names)
    return [run_state(record, holder) for record in records if record]


def read_record(layout: Layout, run: str) -> dict[str, Any] | None:
    """The record of a run; None if it was killed before it had one."""
    try:
        return json.loads(layout.run_record(run).read_text())
    except FileNotFoundError:
        return None


def run_state(record: dict[str, Any], holder: Held | None) -> RunState:
    """The state of a run from its record, and from who holds the cohort now."""
    ended, stopped = record.get("ended"), record.get("stopped")
    over, new = ended or stopped, record.get("new", {})
    state = (ENDED if ended else STOPPED) if over else _of_its_process(record, holder)
    seconds = seconds_between(record["started"], over) if over else None
    rate = sum(new.values()) * 3600.0 / seconds if ended and new and seconds else None
    return RunState(record["run"], record["started"], ended, state, record.get("kind", ""), seconds, new, rate, record)


def _of_its_process(record: Mapping[str, Any], holder: Held | None) -> str:
    """Whether a run that has not said its end is alive; on another host that is told by its lease."""
    alive = Owner(**record["owner"]).is_alive()
    if alive is None:
        return UNSEEN if holder and holder.run == record["run"] and not holder.is_over() else DEAD
    return RUNNING if alive else DEAD


def seconds_between(start: str, end: str) -> float:
    """Seconds from one ISO 8601 time to another.

    Examples
    --------
    >>> seconds_between("2026-11-28T21:00:00+00:00", "2026-11-28T22:30:00+00:00")
    5400.0
    """
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def run_detail(layout: Layout, run: str) -> RunDetail:
    """Look into one run.

    Raises
    ------
    WrongUse
        There is no such run.
    """
    record = read_record(layout, run)
    if record is None:
        raise WrongUse(f"{layout.root}: no run {run} (`vertebra runs {layout.root}` lists them)")
    earlier = [name for name in layout.run_names() if name < run]
    before = next((one for name in earlier if is_screening(one := read_record(layout, name))), None)
    logs = matching(layout.logs(run), "*.jsonl")
    events = [event for lines in read_ahead(layout.root, _events, logs) for event in lines]
    return RunDetail(
        state=run_state(record, held_lock(layout, seconds_since_epoch())),
        took_over=_run_of(layout, record.get("took_over"), earlier),
        shards=_shards(events),
        lost=[event for event in events if event["event"] in ("shard_lost", "workers_lost", "shards_missing")],
        slowest=sorted(
            (event for event in events if event["event"] == "study_done" and event["seconds"]),
            key=lambda event: -event["seconds"],
        )[:SLOWEST],
        failures=[(key, reason) for key, reason in record.get("failures", [])],
        before=before["run"] if before else None,
        settings_changed=changed(before, record, "settings"),
        versions_changed=changed(before, record, "versions"),
    )


def is_screening(record: Mapping[str, Any] | None) -> bool:
    """Whether a record is that of a run that planned to measure."""
    return record is not None and record.get("kind") == SCREEN


def changed(before: Mapping[str, Any] | None, record: Mapping[str, Any], part: str) -> dict[str, list]:
    """What differs between two records in a part of them: name -> [before, now].

    Examples
    --------
    >>> changed({"settings": {"a": 1, "b": 2}}, {"settings": {"a": 1, "b": 3}}, "settings")
    {'b': [2, 3]}
    """
    if before is None:
        return {}
    old, new = before.get(part, {}), record.get(part, {})
    names = [*old, *(name for name in new if name not in old)]
    return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


def _events(path: Any) -> list[dict]:
    """Whole lines of a log; the last one of a killed run may be half."""
    return [json.loads(line) for line in path.read_text().split("\n") if line.endswith("}")]


def _shards(events: Sequence[dict]) -> list[dict]:
    workers = {event["shard"]: event["worker"] for event in events if event["event"] == "shard_started"}
    committed = (event for event in events if event["event"] == "shard_committed" and event["is_first"])
    return sorted(
        ({**event, "worker": workers.get(event["shard"], "")} for event in committed), key=lambda event: event["shard"]
    )


def _run_of(layout: Layout, owner: dict | None, earlier: Sequence[str]) -> str | None:
    """The run of an owner: its record says who that was."""
    if owner is None:
        return None
    records = (read_record(layout, name) for name in earlier)
    return next((record["run"] for record in records if record and record["owner"] == owner), None)
