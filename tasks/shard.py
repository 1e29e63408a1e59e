"""Screen one shard: its studies one after the other in a sandbox, then one commit."""

from collections import Counter

from tasks.log import STUDY_DONE, shard_log
from tasks.plan import read_shard
from tasks.sandbox import Sandbox
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import commit_shard, is_committed
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
            replace(layout.picture(order.study_key), screened.picture)
        for note in screened.notes:
            log(**{**note, "study_key": order.study_key})
        row = screened.rows["studies"][0]
        seconds = row["seconds_total"]
        log(STUDY_DONE, study_key=order.study_key, status=row["status"], reason=row["reason"], seconds=seconds)
    commit_shard(layout, run, name, {table: to_arrow(table, rows[table]) for table in RESULT_TABLES})
    return dict(Counter(str(row["status"]) for row in rows["studies"]))
