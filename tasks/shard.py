"""Screen one shard: its studies one after the other in a sandbox, then one commit."""

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping

import pyarrow as pa

from tasks.clock import Stopwatch
from tasks.log import STUDY_DONE, Log, shard_log
from tasks.plan import Shard, StudyOrder, read_shard
from tasks.sandbox import Sandbox
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import commit_shard, is_committed
from vertebra_core.cohort.others import OTHER_SHARD, OTHER_TABLES
from vertebra_core.cohort.sentinels import SENTINEL_SHARD, SENTINEL_TABLES
from vertebra_core.errors import Gone
from vertebra_core.tables.rows import STAGES, Row, to_arrow

RESULT_TABLES = ("vertebrae", "levels_in_view", "studies")


def run_shard(
    layout: Layout, run: str, name: str, sandbox: Sandbox, must_end: Callable[[], bool] = lambda: False
) -> dict[str, int]:
    """Screen and commit; a shard that is committed already is left as it is.

    Parameters
    ----------
    layout : Layout
    run, name : str
    sandbox : Sandbox
    must_end : callable
        Asked before every study: if so, what is done is committed, and the other studies stay due. A mark holds the
        studies that were brought to an end; nothing says that these are all of the plan.

    Returns
    -------
    dict
        Number of studies by status; empty if there was nothing to do.
    """
    if is_committed(layout, run, name):
        return {}
    shard = read_shard(layout, run, name)
    log, watch = shard_log(layout, run, name), Stopwatch()
    watch("shard")
    log("shard_started", shard=name, studies=len(shard.studies), worker=f"{socket.gethostname()}:{os.getpid()}")
    try:
        rows = _screen_studies(layout, shard, sandbox, log, must_end)
        if not rows["studies"] and shard.studies and must_end():
            log("shard_given_back", shard=name, error=None)
            return {}
        is_first = commit_shard(layout, run, name, committed_tables(name, rows))
    except Exception as error:
        log("shard_given_back", shard=name, error=type(error).__name__)
        raise
    by_status = dict(Counter(str(row["status"]) for row in rows["studies"]))
    log("shard_committed", shard=name, by_status=by_status, seconds=round(watch.stop()["shard"], 3), is_first=is_first)
    return by_status


def _screen_studies(
    layout: Layout, shard: Shard, sandbox: Sandbox, log: Log, must_end: Callable[[], bool]
) -> dict[str, list[Row]]:
    """The rows of the studies, by table."""
    rows: dict[str, list[Row]] = {table: [] for table in RESULT_TABLES}
    for order, following in zip(shard.studies, (*shard.studies[1:], None), strict=True):
        if must_end():
            break
        log("study_started", **of_order(order))
        try:
            screened = sandbox.screen(order, shard, following)
        except Gone:  # a row would stand for ever, and the scan may only have been on a disk that is away
            log("study_gone", **of_order(order))
            continue
        for table in RESULT_TABLES:
            rows[table] += screened.rows[table]
        if screened.picture is not None:
            replace(layout.picture(order.key), screened.picture)
        for note in screened.notes:
            log(**{**note, **of_order(order)})
        log(STUDY_DONE, **of_order(order), **how_it_ended(screened.rows["studies"][0]))
    return rows


def how_it_ended(row: Row) -> dict[str, object]:
    """What the log says of the end of a study."""
    by_stage = {stage: row[f"seconds_{stage}"] for stage in STAGES if row[f"seconds_{stage}"] is not None}
    said = {"status": row["status"], "reason": row["reason"], "seconds": row["seconds_total"]}
    return {**said, "by_stage": by_stage, "device": row["device"]}


def committed_tables(shard: str, rows: Mapping[str, list[Row]]) -> dict[str, pa.Table]:
    """The tables of a shard; of further series and sentinels they are tables of their own, and the mark is empty."""
    if shard.startswith(SENTINEL_SHARD):
        again = {name: to_arrow(table, rows[table]) for table, name in SENTINEL_TABLES.items()}
        return {"studies": to_arrow("studies", []), **again}
    if shard.startswith(OTHER_SHARD):
        rows = {"studies": [], **{OTHER_TABLES[name]: some for name, some in rows.items() if name in OTHER_TABLES}}
    return {table: to_arrow(table, some) for table, some in rows.items()}


def of_order(order: StudyOrder) -> dict[str, str]:
    """The keys by which a line of the log names what it is about."""
    keys = {"study_key": order.study_key}
    return keys if order.is_index else {**keys, "series_key": order.series_key}
