"""What there is to say of a night in the morning, read from the committed files: counts, reasons, speed, drift.

Each function gives the rows of one table. Keys of studies, codes and numbers only: nothing here tells who a patient is.
"""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.publish import FETCH_AGAIN, Settled
from vertebra_core.cohort.drift import DRIFT, DRIFT_OF_G, FEW, FEWEST_STUDIES, ScannerDrift
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import LEDGER_COLUMNS, marks, read_mark
from vertebra_core.errors import Reason
from vertebra_core.tables.outcome import Status
from vertebra_core.tables.rows import STAGES
from vertebra_core.tables.schema import arrow_schema

Line = dict[str, Any]

EXAMPLES = 5
"""Studies named for each reason: enough to look into, few enough to read."""
SECONDS = [f"seconds_{stage}" for stage in STAGES]
STEPS = {
    Status.OK.value: "measured",
    Status.PARTIAL.value: "measured in part",
    Status.NOT_EVALUABLE.value: "refused",
    Status.FAILED.value: "failed",
}


def rows_of_run(layout: Layout, run: str) -> pa.Table:
    """Keys, ends and seconds of the studies that a run brought to an end."""
    columns = [*LEDGER_COLUMNS, *SECONDS, "seconds_total"]
    empty = pa.schema([arrow_schema("studies").field(name) for name in columns]).empty_table()
    parts = [read_mark(mark, columns) for mark in marks(layout) if mark.run == run]
    return pa.concat_tables([empty, *parts], promote_options="permissive").replace_schema_metadata()


def flow_lines(settled: Settled, arriving: int, due: int, rows: pa.Table) -> list[Line]:
    """What became of the studies, step by step, as STROBE item 13 asks; the steps add up.

    ``found = arriving + in the archives``; ``in the archives = measured + refused + failed + left``;
    ``due = ended in this run + left``.
    """
    ended = Counter(zip(rows["status"].to_pylist(), rows["reason"].to_pylist(), strict=True))
    lines = [
        _line("found in the archives", settled.seen + arriving),
        _line("may still be arriving: wait for the next run", arriving),
        _line("done by earlier runs", settled.seen - due),
        _line("due in this run", due),
    ]
    for status, step in STEPS.items():
        of_step = {reason: count for (one, reason), count in sorted(ended.items(), key=str) if one == status}
        lines.append(_line(f"{step} in this run", sum(of_step.values())))
        lines += [_line(f"{step} in this run", count, reason) for reason, count in of_step.items() if reason]
    lines.append(_line("left for the next run", settled.left))
    for step, count in (("measured", settled.measured), ("refused", settled.refused), ("failed", settled.failed)):
        lines.append(_line(f"{step} by now", count))
    return lines


def _line(step: str, studies: int, reason: str = "") -> Line:
    return {"step": step, "reason": reason, "studies": studies}


def adds_up(settled: Settled, due: int, rows: pa.Table) -> bool:
    """Whether every due study ended in this run or is left."""
    return due == rows.num_rows + settled.left


def failure_lines(rows: pa.Table) -> list[Line]:
    """Why studies of a run failed, or were refused for something that can be mended, with a few of their keys."""
    mend = {reason.code for reason in FETCH_AGAIN}
    sentences = {reason.code: reason.sentence for reason in Reason}
    studies: dict[tuple[str, str], list[str]] = {}
    for row in rows.select(["status", "reason", "study_key"]).to_pylist():
        if row["status"] == Status.FAILED.value or row["reason"] in mend:
            studies.setdefault((row["status"], row["reason"]), []).append(row["study_key"])
    return [
        {
            "reason": reason,
            "studies": len(keys),
            "end": STEPS[status],
            "what it means": sentences.get(reason, ""),
            "for example": ", ".join(sorted(keys)[:EXAMPLES]),
        }
        for (status, reason), keys in sorted(studies.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def throughput_lines(rows: pa.Table, started: str, ended: str) -> list[Line]:
    """Studies an hour, and what a study took in each stage: median, 95th percentile and share of the time."""
    hours = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds() / 3600
    total = _numbers(rows, "seconds_total")
    rate = f"{len(total) / hours:.0f} studies an hour" if hours > 0 else ""
    lines = [{"stage": "whole study", "studies": len(total), **_spread(total), "share": rate}]
    for name in SECONDS:
        values = _numbers(rows, name)
        if len(values):
            share = f"{100 * values.sum() / max(total.sum(), 1e-9):.0f} %"
            stage = name.removeprefix("seconds_")
            lines.append({"stage": stage, "studies": len(values), **_spread(values), "share": share})
    return lines


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    return rows[name].drop_null().to_numpy()


def _spread(values: np.ndarray) -> Line:
    median, p95 = np.percentile(values, [50, 95]) if len(values) else (math.nan, math.nan)
    return {"median s": _rounded(median, 2), "p95 s": _rounded(p95, 2)}


def drift_lines(drifts: Sequence[ScannerDrift]) -> list[Line]:
    """Median of G by scanner, this run beside all earlier results."""
    return [
        {
            "scanner": one.scanner,
            "studies before": one.before.studies,
            "median G before": _rounded(one.before.median),
            "studies now": one.now.studies,
            "median G now": _rounded(one.now.median),
            "shift": _rounded(one.shift),
            "verdict": one.verdict,
        }
        for one in drifts
    ]


def drift_sentence(drifts: Sequence[ScannerDrift]) -> str:
    """What the table says, in one sentence."""
    drifted = [one.scanner for one in drifts if one.verdict == DRIFT]
    if drifted:
        return f"Drift of more than {DRIFT_OF_G} beyond chance: {', '.join(drifted)}. See docs/nightly.md."
    if all(one.verdict == FEW for one in drifts):
        return f"No scanner has {FEWEST_STUDIES} studies both in this run and before it: nothing can be said of drift."
    return f"No scanner's median G moved by more than {DRIFT_OF_G} beyond chance."


def _rounded(value: float, digits: int = 4) -> float | None:
    return None if math.isnan(value) else round(float(value), digits)
