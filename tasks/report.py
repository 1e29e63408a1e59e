"""Where a cohort stands: results, runs, lock, sentinels; read from a few small files, without any service.

How many studies there are changes what is read by one column of one table: the newest snapshot's. Shards and logs are
not opened; how far a run is stands in its progress file.
"""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.clock import now, seconds_since_epoch
from tasks.history import RUNNING, SCREEN, UNSEEN, RunState, run_states, seconds_between
from tasks.progress import Progress, read_progress
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.lock import Held, held_lock
from vertebra_core.cohort.retries import GIVEN_UP
from vertebra_core.cohort.snapshot import latest_provenance
from vertebra_core.storage import matching
from vertebra_core.tables.outcome import Status
from vertebra_core.tables.parquet import read_table

QUARANTINED = {reason.code for reason in GIVEN_UP}
RUNS_READ = 30
"""Records that are read to find the newest run that ended well: a month of nights."""


@dataclass(frozen=True)
class CohortState:
    """A cohort at one moment.

    Parameters
    ----------
    place, time : str
        Which cohort, and when it was looked at (ISO 8601).
    snapshot : str or None
    published : dict
        ``provenance.json`` of the newest snapshot.
    snapshot_age_s : float or None
        Since it was published.
    outcomes : dict
        Studies of that snapshot by status, and in it by reason code ("ok" for none).
    lifted : int
        Studies that were given up and are tried again by the next run, because somebody said so (`vertebra retry`).
    due : int or None
        Studies that were still to be done when the newest screening had planned or ended; None before the first.
    running : RunState or None
        A run that is under way.
    progress : Progress or None
        How far it is.
    holder : Held or None
        Who holds the cohort's lock.
    sentinels : dict
        What the newest run that compared the sentinel studies says of them.
    last_success : str or None
        When the newest screening came to its end with its sentinels reproduced and no shard missing.
    free_bytes : int or None
        Of the disk of the cohort; None in a bucket.
    runs : tuple of RunState
        Newest first.
    """

    place: str
    time: str
    snapshot: str | None
    published: dict[str, Any]
    snapshot_age_s: float | None
    outcomes: dict[str, dict[str, int]]
    lifted: int
    due: int | None
    running: RunState | None
    progress: Progress | None
    holder: Held | None
    sentinels: dict[str, Any]
    last_success: str | None
    free_bytes: int | None
    runs: tuple[RunState, ...]

    @property
    def failed(self) -> dict[str, int]:
        """Studies that failed, by reason."""
        return self.outcomes.get(Status.FAILED.value, {})

    @property
    def refused(self) -> dict[str, int]:
        """Studies that cannot be measured, by reason."""
        return self.outcomes.get(Status.NOT_EVALUABLE.value, {})

    @property
    def done(self) -> int:
        """Studies that were measured, wholly or in part."""
        return sum(sum(self.outcomes.get(status.value, {}).values()) for status in (Status.OK, Status.PARTIAL))

    @property
    def quarantined(self) -> int:
        """Studies that were given up and are not tried again before somebody says so."""
        counts = (reasons.get(code, 0) for reasons in self.outcomes.values() for code in QUARANTINED)
        return sum(counts) - self.lifted


def cohort_state(layout: Layout) -> CohortState:
    """Read the state of a cohort."""
    runs = run_states(layout, RUNS_READ)
    screenings = [one for one in runs if one.kind in ("", SCREEN)]
    running = next((one for one in runs if one.state in (RUNNING, UNSEEN)), None)
    published = latest_provenance(layout)
    when = published[1].get("published") if published else None
    time, place = now(), layout.root
    return CohortState(
        place=str(place.resolve() if isinstance(place, Path) else place),
        time=time,
        snapshot=published[0] if published else None,
        published=published[1] if published else {},
        snapshot_age_s=seconds_between(when, time) if when else None,
        outcomes=outcomes_of(layout, published[0]) if published else {},
        lifted=lifted_since(layout, published[0]) if published else 0,
        due=next((due for one in screenings if (due := due_after(one)) is not None), None),
        running=running,
        progress=read_progress(layout, running.run) if running else None,
        holder=held_lock(layout, seconds_since_epoch()),
        sentinels=next((found for one in runs if (found := one.record.get("sentinels"))), {}),
        last_success=next((one.ended for one in screenings if went_well(one)), None),
        free_bytes=shutil.disk_usage(place).free if isinstance(place, Path) else None,
        runs=tuple(runs),
    )


def outcomes_of(layout: Layout, snapshot: str) -> dict[str, dict[str, int]]:
    """Studies of a snapshot by status and reason code."""
    table = read_table(layout.snapshot(snapshot) / "studies.parquet", columns=["status", "reason"])
    counts = table.group_by(["status", "reason"]).aggregate([([], "count_all")]).to_pylist()
    outcomes: dict[str, Counter[str]] = {status.value: Counter() for status in Status}
    for row in counts:
        outcomes[row["status"]][row["reason"] or "ok"] += row["count_all"]
    return {status: dict(found.most_common()) for status, found in outcomes.items() if found}


def lifted_since(layout: Layout, snapshot: str) -> int:
    """Studies that were given up in a snapshot, and lifted after the run that published it: not tried since.

    Snapshots and records of lifting have names that sort by time.
    """
    since = [path for path in matching(layout.retries, "*.json") if path.stem > snapshot]
    if not since:
        return 0
    keys = {key for path in since for key in json.loads(path.read_text())["keys"]}
    table = read_table(layout.snapshot(snapshot) / "studies.parquet", columns=["study_key", "reason"])
    given_up = table.filter(pc.field("reason").isin(pa.array(sorted(QUARANTINED))))["study_key"].to_pylist()
    return len(keys.intersection(given_up))


def due_after(one: RunState) -> int | None:
    """Studies that are due after a run; while it is under way, those it planned to do; None if it planned nothing."""
    return one.record.get("left", one.record.get("planned", {}).get("due"))


def went_well(one: RunState) -> bool:
    """Whether a screening came to its end and its sentinels have not drifted."""
    return one.ended is not None and one.record.get("sentinels", {}).get("verdict") != "drifted"


def shortened(state: CohortState, runs: int) -> CohortState:
    """The same with the newest runs only."""
    return replace(state, runs=state.runs[:runs])
