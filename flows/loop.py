"""The plain reference of the fan-out: shards one after the other, in this process."""

from collections.abc import Sequence

from flows.settings import InForce
from tasks.plan import FannedOut
from tasks.sandbox import Sandbox
from tasks.shard import run_shard
from vertebra_core.cohort.layout import Layout


def run_in_a_loop(layout: Layout, run: str, shards: Sequence[str], settings: InForce) -> FannedOut:
    """Screen the shards; their studies still run in a sandbox."""
    with Sandbox(settings.run) as sandbox:
        for shard in shards:
            run_shard(layout, run, shard, sandbox)
    return FannedOut()
