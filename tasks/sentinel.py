"""The sentinel studies of a run: which are measured again, and what came of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from tasks.log import run_log
from tasks.plan import Shard, StudyOrder
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
from vertebra_core.settings import Settings

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
) -> Iterator[Shard]:
    """Shards in which the sentinel studies that are done are measured again; those that are due are measured anyhow."""
    keys = set(read_keys(layout))
    again = [
        order
        for order in orders
        if order.key in keys and order.series.decision is None and (order.key, order.input_digest) in done
    ]
    how = replace(run_settings, pictures=False)
    for number, start in enumerate(range(0, len(again), SENTINELS_PER_SHARD)):
        some = tuple(again[start : start + SENTINELS_PER_SHARD])
        yield Shard(run, f"{SENTINEL_SHARD}{number:05d}", some, method, identity, settings, how)


def judge_sentinels(
    layout: Layout, run: str, identity: MethodIdentity, current: Mapping[str, str], asked: Collection[str]
) -> Judged:
    """Compare what a run has measured again with the references, and keep the comparison.

    Parameters
    ----------
    layout : Layout
    run : str
    identity : MethodIdentity
        References of other weights, settings or schema versions are left as they are.
    current : mapping
        Study key -> input digest, as the archives are now.
    asked : collection of str
        Keys of the studies that were to be measured again.
    """
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
