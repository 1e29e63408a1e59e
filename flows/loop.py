"""The plain reference of the fan-out: shards one after the other, in this process."""

from collections.abc import Sequence
from functools import partial

from flows.settings import InForce
from tasks.loss import put_back
from tasks.plan import FannedOut
from tasks.sandbox import Sandbox
from tasks.shard import run_shard
from tasks.until import GRACE_SECONDS, closing_time
from vertebra_core.cohort.layout import Layout


def run_in_a_loop(layout: Layout, run: str, shards: Sequence[str], settings: InForce) -> FannedOut:
    """Screen the shards until the hour comes; their studies still run in a sandbox."""
    closing = closing_time(layout, run, settings.run)
    must_end = partial(closing.has_come, GRACE_SECONDS)
    left: list[str] = []
    with Sandbox(settings.run) as sandbox:
        for shard in shards:
            if not closing.has_come():
                run_shard(layout, run, shard, sandbox, must_end)
            if closing.has_come():  # the one that ran may be committed in part
                left.append(shard)
    return put_back(left, closing)
