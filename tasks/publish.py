"""The end of a run: rows of refused studies, the count that must add up, and the snapshot."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

import pyarrow as pa
import pyarrow.compute as pc

from tasks.clock import now
from tasks.log import run_log
from tasks.plan import REFUSED_SHARD, FannedOut, Plan, Shard, write_shard
from tasks.shard import RESULT_TABLES
from tasks.study import ended, rows_of
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity, choose, commit_shard, committed, done_inputs
from vertebra_core.cohort.others import choose_others, committed_others
from vertebra_core.cohort.snapshot import Snapshot, publish
from vertebra_core.epidemiology.noise_model import known_noise
from vertebra_core.errors import CouldNotRun, Reason
from vertebra_core.settings import Settings
from vertebra_core.tables.outcome import Status
from vertebra_core.tables.patients import INDEX_RULE
from vertebra_core.tables.rows import Row, to_arrow

FETCH_AGAIN = {
    Reason.UNREADABLE,
    Reason.PIXELS_DAMAGED,
    Reason.MISSING_SLICES,
    Reason.DECODER_MISSING,
}
"""Refusals that somebody can mend: counted as failures of a run, unlike a head, an MR or a localizer."""

MOST_LISTED = 10
"""Names of missing shards in the one line of an error; all of them stand in the log of the run."""


@dataclass(frozen=True)
class Settled:
    """How the studies of the archives stand after a run; ``seen = measured + refused + failed + left``.

    Parameters
    ----------
    left : int
        Studies that are still due: their shards were put back.
    new : dict
        Studies by reason code ("ok" for none) that ended in this run.
    failures : tuple of (study or series key, reason code)
        Of this run: failed, or refused for something that can be mended.
    others : dict
        Further series with a result (`--all-series`), by reason code; counted nowhere else.
    others_left : int
        Further series that are still due.
    left_why : str
        For what reason shards were put back (`tasks.plan.FannedOut`).
    """

    seen: int
    measured: int
    refused: int
    failed: int
    left: int
    reasons: dict[str, int]
    new: dict[str, int]
    failures: tuple[tuple[str, str], ...]
    others: dict[str, int]
    others_left: int
    left_why: str = ""


def hand_out(layout: Layout, shard: Shard) -> None:
    """Write a shard down for its worker; one of studies that nobody can measure ends here, as rows."""
    if shard.name.startswith(REFUSED_SHARD):
        commit_refused(layout, shard)
    else:
        write_shard(layout, shard)


def commit_refused(layout: Layout, shard: Shard) -> None:
    """Commit the rows of studies of which no series can be measured; no worker is needed for that."""
    rows: dict[str, list[Row]] = {table: [] for table in RESULT_TABLES}
    for order in shard.studies:
        reason = order.series.decision or Reason.FAILED
        outcome = ended(order, shard, Status.NOT_EVALUABLE, reason, order.series.decision_detail)
        for table, more in rows_of(outcome, shard).items():
            rows[table] += more
    commit_shard(layout, shard.run, shard.name, {table: to_arrow(table, rows[table]) for table in RESULT_TABLES})


def settle(layout: Layout, plan: Plan, identity: MethodIdentity, fanned_out: FannedOut) -> Settled:
    """Count from the committed files, not from what tasks reported.

    Raises
    ------
    CouldNotRun
        Shards are missing, or the counts do not add up: then nothing may be published.
    """
    ledger = committed(layout)
    if missing := missing_shards(layout, plan, ledger, identity, fanned_out):
        run_log(layout, plan.run)("shards_missing", shards=missing)
        listed = ", ".join(missing[:MOST_LISTED]) + ", ..." * (len(missing) > MOST_LISTED)
        raise CouldNotRun(
            f"{len(missing)} of {len(plan.shards)} shards are missing ({listed}): nothing was published; why: "
            f"{layout.logs(plan.run)}/run.jsonl; the same command goes on where this run stopped"
        )
    shown = choose(ledger, identity, plan.current)
    keys = shown["study_key"].to_pylist()
    rows = [
        row
        for row, key in zip(shown.select(["study_key", "status", "reason", "run"]).to_pylist(), keys, strict=True)
        if key in plan.current
    ]
    status = Counter(row["status"] for row in rows)
    new = [row for row in rows if row["run"] == plan.run]
    further = choose_others(layout, identity, shown, plan.current, plan.others)
    others = [row for row in further.to_pylist() if row["series_key"] in plan.others]
    asked = {key for shard in plan.shards if shard.is_other for key in shard.keys}
    settled = Settled(
        seen=len(plan.current),
        measured=status[Status.OK.value] + status[Status.PARTIAL.value],
        refused=status[Status.NOT_EVALUABLE.value],
        failed=status[Status.FAILED.value],
        left=len(set(plan.current) - set(keys)),
        reasons=_by_reason(rows),
        new=_by_reason(new),
        failures=(*_failures(new, "study_key"), *_failures([r for r in others if r["run"] == plan.run], "series_key")),
        others=_by_reason(others),
        others_left=len(asked - {row["series_key"] for row in others}),
        left_why=fanned_out.why,
    )
    accounted = settled.measured + settled.refused + settled.failed + settled.left
    if accounted != settled.seen:
        raise CouldNotRun(f"{settled.seen} studies seen, {accounted} accounted for; nothing was published")
    return settled


def missing_shards(
    layout: Layout, plan: Plan, ledger: pa.Table, identity: MethodIdentity, fanned_out: FannedOut
) -> list[str]:
    """Shards that were handed out and neither put back nor committed, whole or (where they were cut smaller) in parts.

    A mark alone does not say that all of a shard is there: one that was parted has an empty one (`tasks.loss`).

    Parameters
    ----------
    layout : Layout
    plan : Plan
    ledger : pa.Table
        From `vertebra_core.cohort.ledger.committed`.
    identity : MethodIdentity
    fanned_out : FannedOut
    """
    put_back = set(fanned_out.left)
    in_question = [shard for shard in plan.shards if shard.name not in put_back]
    this_run = pc.field("run") == plan.run
    done = done_inputs(ledger.filter(this_run), identity)
    if any(shard.is_other for shard in in_question):
        done |= done_inputs(committed_others(layout).filter(this_run), identity, "series_key")
    return [s.name for s in in_question if any((key, plan.digest_of(s, key)) not in done for key in s.keys)]


def publish_snapshot(
    layout: Layout,
    plan: Plan,
    identity: MethodIdentity,
    settings: Settings,
    settled: Settled,
    shift_days: Callable[[str], int],
    sentinels: Mapping[str, object],
) -> Snapshot:
    """Publish, with what an analyst must know about how the numbers came about."""
    provenance = {
        "published": now(),
        "run": plan.run,
        "software_version": metadata.version("vertebra"),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy", "scipy", "pydicom", "SimpleITK")},
        **asdict(identity),
        "settings": {name: section for name, section in asdict(settings).items() if name not in ("grading", "privacy")},
        "patients_index_rule": INDEX_RULE,
        "noise": known_noise(identity.model_digest),
        "studies_still_due": settled.left,
        "sentinels": sentinels,
    }
    rules = settings.grading, settings.privacy
    return publish(layout, plan.run, identity, plan.current, provenance, *rules, shift_days, plan.others)


def _failures(new: Sequence[dict], key: str) -> list[tuple[str, str]]:
    mend = {reason.code for reason in FETCH_AGAIN}
    failures = [row for row in new if row["status"] == Status.FAILED.value or row["reason"] in mend]
    return sorted((row[key], row["reason"]) for row in failures)


def _by_reason(rows: Sequence[dict]) -> dict[str, int]:
    counts = Counter(row["reason"] or "ok" for row in rows)
    return {reason: counts[reason] for reason in sorted(counts)}
