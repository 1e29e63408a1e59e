"""The sentinel studies of a run: which are measured again, and what came of it."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tasks.log import run_log
from tasks.plan import Plan, PlannedShard, Shard, StudyOrder
from tasks.settings import RunSettings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.cohort.sentinels import (
    SENTINEL_SHARD,
    Judged,
    first_results,
    judge,
    measured_again,
    read_keys,
    read_references,
    write_judged,
    write_references,
)
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.errors import WrongUse
from vertebra_core.settings import Settings
from vertebra_core.storage import matching
from vertebra_core.tables.parquet import read_table

SENTINELS_PER_SHARD = 4
"""Few, so that all workers share them at the beginning of a run."""


def sentinel_shards(
    layout: Layout,
    run: str,
    orders: Sequence[StudyOrder],
    done: Collection[tuple[str, str]],
    method: str,
    identity: MethodIdentity,
    settings: Settings,
    run_settings: RunSettings,
    hand_out: Callable[[Shard], object],
) -> Iterator[PlannedShard]:
    """Shards in which the sentinel studies that are done are measured again; those that are due are measured anyhow.

    Parameters
    ----------
    layout, run, orders, done, method, identity, settings, run_settings, hand_out
        As in `tasks.plan.plan_shards`.
    """
    keys = set(read_keys(layout))
    again = [
        order
        for order in orders
        if order.key in keys and order.series.decision is None and (order.key, order.input_digest) in done
    ]
    how = replace(run_settings, pictures=False)
    for number, start in enumerate(range(0, len(again), SENTINELS_PER_SHARD)):
        some = tuple(again[start : start + SENTINELS_PER_SHARD])
        shard = Shard(run, f"{SENTINEL_SHARD}{number:05d}", some, method, identity, settings, how)
        hand_out(shard)
        yield PlannedShard(shard.name, tuple(order.key for order in some))


def judge_sentinels(layout: Layout, plan: Plan, identity: MethodIdentity) -> Judged:
    """Compare what a run has measured again with the references of its method, and keep the comparison."""
    run, current = plan.run, plan.current
    asked = {key for shard in plan.sentinels for key in shard.keys}
    keys = read_keys(layout)
    if not keys:
        return Judged()
    kept = read_references(layout)
    known = {(one.study_key, one.input_digest): one for one in kept if one.identity == identity}
    lacking = [key for key in keys if key in current and (key, current[key]) not in known]
    if new := first_results(layout, identity, current, lacking) if lacking else []:
        write_references(layout, [*kept, *new])
        known |= {(one.study_key, one.input_digest): one for one in new}
    again = measured_again(layout, run)
    judged = Judged(
        tuple(
            judge(key, current, known.get((key, current.get(key, ""))), again.get(key), run, key in asked)
            for key in keys
        )
    )
    write_judged(layout, run, identity, judged)
    summary = judged.summary()
    run_log(layout, run)(
        "sentinels_compared", verdict=summary["verdict"], worst_mm=summary["worst_mm"], counts=summary["counts"]
    )
    return judged


def choose_sentinels(studies: pa.Table, number: int) -> list[str]:
    """Keys of measured studies for a new choice, of all scanners in turn; the order of keys says nothing of patients.

    Parameters
    ----------
    studies : pa.Table
        ``study_key``, ``status`` and ``scanner`` of the newest snapshot.
    number : int
    """
    by_scanner: dict[str, list[str]] = {}
    for row in sorted(studies.to_pylist(), key=lambda row: row["study_key"]):
        if row["status"] == "ok":
            by_scanner.setdefault(row["scanner"] or "", []).append(row["study_key"])
    rounds = max(map(len, by_scanner.values()), default=0)
    in_turn = [keys[i] for i in range(rounds) for _, keys in sorted(by_scanner.items()) if i < len(keys)]
    return in_turn[:number]


def chosen_sentinels(layout: Layout, number: int | None, keys: Collection[str] | None) -> list[str]:
    """A choice among the studies of the newest snapshot, by number or by key.

    Raises
    ------
    WrongUse
        Both or neither were given, fewer studies were measured, or a key is not that of a measured study.
    """
    if (number is None) == (keys is None):
        raise WrongUse("choose sentinel studies by number or by key, not both")
    if number == 0:
        return []
    studies = read_table(latest_snapshot(layout) / "studies.parquet", columns=["study_key", "status", "scanner"])
    measured = choose_sentinels(studies, studies.num_rows)
    if keys is not None:
        if unknown := sorted(set(keys) - set(measured)):
            raise WrongUse(f"{unknown[0]} is no study of the newest snapshot that was measured completely")
        return sorted(set(keys))
    if number is None or not 0 <= number <= len(measured):
        raise WrongUse(f"{number} sentinel studies: {len(measured)} of the newest snapshot were measured completely")
    return measured[:number]


def sentinels_now(layout: Layout) -> dict[str, Any]:
    """The sentinel studies, each as the newest comparison left it, and that comparison without its studies."""
    runs = sorted(path for path in matching(layout.sentinels, "*.json") if path != layout.sentinel_references)
    newest = json.loads(runs[-1].read_text()) if runs else {}
    compared = {one["study_key"]: one for one in newest.pop("studies", [])}
    blank = {"outcome": "not compared yet", "worst_mm": None, "reference": "", "why": ""}
    studies = [{"study_key": key, **blank, **compared.get(key, {})} for key in read_keys(layout)]
    return {"newest": newest, "studies": studies}
