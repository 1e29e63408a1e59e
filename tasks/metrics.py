"""The state of a cohort as Prometheus text, for a scrape or for the textfile collector of node_exporter.

Names follow Prometheus' rules: base units (seconds, bytes, metres), and ``_total`` only for counters, of which there
are none: a number of studies can fall when a patient is forgotten. Labels hold codes and the place of the cohort.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tasks.history import RunState
from tasks.report import CohortState, cohort_state
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.sentinels import Verdict

Samples = Mapping[tuple[str, ...], float | None]
"""Values of the labels -> value; None where there is nothing to say."""


@dataclass(frozen=True)
class Metric:
    """A gauge.

    Parameters
    ----------
    labels : tuple of str
        Besides ``cohort``.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()


STUDIES = Metric("vertebra_studies", "Studies in the newest snapshot, by how they ended.", ("status", "reason"))
QUARANTINED = Metric("vertebra_studies_quarantined", "Studies that failed and wait for vertebra retry.")
DUE = Metric("vertebra_studies_due", "Studies still to be done, as of the newest run.")
SNAPSHOT = Metric("vertebra_snapshot_timestamp_seconds", "When the newest snapshot was published.")
SUCCESS = Metric(
    "vertebra_last_success_timestamp_seconds", "When the newest screening ended that published and did not drift."
)
STARTED = Metric("vertebra_last_run_start_timestamp_seconds", "When the newest run began.")
ENDED = Metric("vertebra_last_run_end_timestamp_seconds", "When the newest run that ended did.")
DURATION = Metric("vertebra_last_run_duration_seconds", "How long the newest run that ended took.")
NEW = Metric("vertebra_last_run_studies", "Studies that came to an end in the newest run that ended.", ("reason",))
UNDER_WAY = Metric("vertebra_run_in_progress", "1 while a run is under way.")
PLANNED = Metric("vertebra_run_studies_planned", "Studies that the run under way hands to workers.")
DONE = Metric("vertebra_run_studies_done", "Of these, done.")
RATE = Metric("vertebra_run_studies_per_second", "Mean rate of the run under way.")
LEFT = Metric("vertebra_run_left_seconds", "Time left at that rate.")
SENTINEL = Metric(
    "vertebra_sentinel_verdict", "1 for the verdict of the newest comparison, 0 for others.", ("verdict",)
)
OFF = Metric("vertebra_sentinel_worst_meters", "Largest difference of a sentinel's height from its reference.")
HELD = Metric("vertebra_lock_held", "1 while somebody holds the cohort's lock.")
FREE = Metric("vertebra_disk_free_bytes", "Free on the disk of the cohort.")

METRICS = (
    STUDIES,
    QUARANTINED,
    DUE,
    SNAPSHOT,
    SUCCESS,
    STARTED,
    ENDED,
    DURATION,
    NEW,
    UNDER_WAY,
    PLANNED,
    DONE,
    RATE,
    LEFT,
    SENTINEL,
    OFF,
    HELD,
    FREE,
)
"""All of them; docs/observability.md shows this table."""
ALL: tuple[str, ...] = ()
"""No label but the cohort."""


def exposition(state: CohortState) -> str:
    """The state of a cohort in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collected(state))
    return generate_latest(registry).decode()


def write_metrics(layout: Layout, path: Path) -> None:
    """Put the state of a cohort where node_exporter finds it: whole or not at all, readable for others."""
    replace(path, exposition(cohort_state(layout)).encode())


def table() -> str:
    """All metrics as a Markdown table."""
    rows = [f"| `{one.name}` | {', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |" for one in METRICS]
    return "\n".join(["| gauge | labels | meaning |", "|---|---|---|", *rows])


def values(state: CohortState) -> dict[Metric, Samples]:
    """What each metric says of a cohort."""
    ended = next((one for one in state.runs if one.ended and one.new), None)
    newest = next((one for one in state.runs if one.ended), None)
    progress, rate = state.progress, state.progress.studies_per_hour if state.progress else None
    return {
        STUDIES: {
            (status, reason): count
            for status, by_reason in state.outcomes.items()
            for reason, count in by_reason.items()
        },
        QUARANTINED: {ALL: state.quarantined if state.snapshot else None},
        DUE: {ALL: state.due},
        SNAPSHOT: {ALL: timestamp(state.published.get("published"))},
        SUCCESS: {ALL: timestamp(state.last_success)},
        STARTED: {ALL: timestamp(state.runs[0].started) if state.runs else None},
        ENDED: {ALL: timestamp(newest.ended) if newest else None},
        DURATION: {ALL: newest.seconds if newest else None},
        NEW: _new(ended),
        UNDER_WAY: {ALL: float(state.running is not None)},
        PLANNED: {ALL: progress.total if progress else None},
        DONE: {ALL: progress.done if progress else None},
        RATE: {ALL: rate / 3600.0 if rate else None},
        LEFT: {ALL: progress.seconds_left if progress else None},
        SENTINEL: {(one.value,): float(state.sentinels.get("verdict", "none") == one.value) for one in Verdict},
        OFF: {ALL: metres(state.sentinels.get("worst_mm"))},
        HELD: {ALL: float(state.holder is not None)},
        FREE: {ALL: state.free_bytes},
    }


def timestamp(time: str | None) -> float | None:
    """Seconds since 1970 of an ISO 8601 time.

    Examples
    --------
    >>> timestamp("1970-01-02T00:00:00+00:00"), timestamp(None)
    (86400.0, None)
    """
    return None if time is None else datetime.fromisoformat(time).timestamp()


def metres(length_mm: float | None) -> float | None:
    """Millimetres in Prometheus' base unit.

    Examples
    --------
    >>> metres(0.25), metres(None)
    (0.00025, None)
    """
    return None if length_mm is None else length_mm / 1000.0


def _new(ended: RunState | None) -> Samples:
    return {} if ended is None else {(reason,): count for reason, count in ended.new.items()}


class _Collected(Collector):
    """The metrics of one state; those with nothing to say are left out."""

    def __init__(self, state: CohortState) -> None:
        self._state = state

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for metric, samples in values(self._state).items():
            family = GaugeMetricFamily(metric.name, metric.meaning, labels=["cohort", *metric.labels])
            for labels, value in samples.items():
                if value is not None and math.isfinite(value):
                    family.add_metric([self._state.place, *labels], float(value))
            if family.samples:
                yield family


if __name__ == "__main__":
    print(table())
