"""Screen one shard: its studies one after the other in a sandbox, then one commit."""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from tasks.log import STUDY_DONE, shard_log
from tasks.plan import StudyOrder, read_shard
from tasks.sandbox import Sandbox
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import commit_shard, is_committed
from vertebra_core.cohort.others import OTHER_SHARD, OTHER_TABLES
from vertebra_core.tables.rows import Row, to_arrow

RESULT_TABLES = ("vertebrae", "levels_in_view", "studies")


def run_shard(layout: Layout, run: str, name: str, sandbox: Sandbox) -> dict[str, int]:
    """Screen and commit; a shard that is committed already is left as it is.

    Returns
    -------
    dict
        Number of studies by status; empty if there was nothing to do.
    """
    if is_committed(layout, run, name):
        return {}
    shard = read_shard(layout, run, name)
    log = shard_log(layout, run, name)
    rows: dict[str, list[Row]] = {table: [] for table in RESULT_TABLES}
    for order in shard.studies:
        screened = sandbox.screen(order, shard)
        for table in RESULT_TABLES:
            rows[table] += screened.rows[table]
        if screened.picture is not None:
            replace(layout.picture(order.key), screened.picture)
        for note in screened.notes:
            log(**{**note, **of_order(order)})
        row = screened.rows["studies"][0]
        seconds = row["seconds_total"]
        log(STUDY_DONE, **of_order(order), status=row["status"], reason=row["reason"], seconds=seconds)
    commit_shard(layout, run, name, committed_tables(name, rows))
    return dict(Counter(str(row["status"]) for row in rows["studies"]))


def committed_tables(shard: str, rows: Mapping[str, list[Row]]) -> dict[str, pa.Table]:
    """The tables of a shard; of further series they are tables of their own, and the mark is empty."""
    if shard.startswith(OTHER_SHARD):
        rows = {"studies": [], **{OTHER_TABLES[name]: some for name, some in rows.items() if name in OTHER_TABLES}}
    return {table: to_arrow(table, some) for table, some in rows.items()}


def of_order(order: StudyOrder) -> dict[str, str]:
    """The keys by which a line of the log names what it is about."""
    keys = {"study_key": order.study_key}
    return keys if order.is_index else {**keys, "series_key": order.series_key}
