"""Where a cohort stands: its runs, its results, its snapshot; read from the files, without any service."""

import json
from dataclasses import dataclass
from typing import Any

from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.lock import Owner

ENDED, RUNNING, DEAD, UNSEEN = "ended", "running", "dead", "on another host"


@dataclass(frozen=True)
class RunState:
    """One run.

    Parameters
    ----------
    state : str
        "ended"; "running"; "dead": its process is gone without an end; "on another host": cannot be seen from here.
    new : dict
        Studies by reason code that ended in it; empty unless it ended.
    """

    run: str
    started: str
    ended: str | None
    state: str
    new: dict[str, int]


@dataclass(frozen=True)
class CohortState:
    """A cohort at one moment.

    Parameters
    ----------
    snapshot : str or None
    published : dict
        ``provenance.json`` of the newest snapshot.
    runs : tuple of RunState
        Newest first.
    """

    snapshot: str | None
    published: dict[str, Any]
    runs: tuple[RunState, ...]


def cohort_state(layout: Layout) -> CohortState:
    """Read the state of a cohort."""
    runs = tuple(run_state(json.loads(path.read_text())) for path in reversed(layout.run_records()))
    if not layout.latest.exists():
        return CohortState(None, {}, runs)
    latest = json.loads(layout.latest.read_text())["snapshot"]
    return CohortState(latest, json.loads((layout.snapshot(latest) / "provenance.json").read_text()), runs)


def run_state(record: dict[str, Any]) -> RunState:
    """The state of a run from its record."""
    ended = record.get("ended")
    alive = Owner(**record["owner"]).is_alive()
    state = ENDED if ended else {True: RUNNING, False: DEAD, None: UNSEEN}[alive]
    return RunState(record["run"], record["started"], ended, state, record.get("new", {}))
