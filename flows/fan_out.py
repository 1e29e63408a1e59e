"""Fan out: the shards of a run as Prefect tasks on a Dask cluster (`flows.cluster`)."""

import time
from collections import deque
from collections.abc import Sequence

import dask
import distributed
from prefect import flow
from prefect.context import FlowRunContext
from prefect_dask import DaskTaskRunner

from flows.cluster import check_workers, cluster_of, require_server
from flows.server import prefect_api
from flows.settings import InForce
from tasks.log import run_log
from tasks.plan import FannedOut
from tasks.screen import screen_shard
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import is_committed
from vertebra_core.storage import place_of

MOST_REQUEUES = 3
"""A shard lost with its worker is queued again; Dask itself has tried four times before it says so."""
MOST_CLUSTERS = 3
"""A cluster that lost all its workers is replaced by a new one, for what is not committed yet."""
NO_WORKER_SECONDS = 300.0
"""A cluster without a worker for so long will not get one back; starting takes 10 s, and minutes on a busy machine."""
LOOK_SECONDS, LOOK_AT_WORKERS_SECONDS = 0.2, 15.0


def run_on_dask(layout: Layout, run: str, shards: Sequence[str], settings: InForce) -> FannedOut:
    """Screen the shards as tasks of a Prefect flow on the workers that the settings name."""
    require_server(settings)
    with prefect_api(layout.root):
        for _ in range(MOST_CLUSTERS):
            left = [shard for shard in shards if not is_committed(layout, run, shard)]
            if not left:
                break
            with cluster_of(settings, len(left)) as cluster:
                check_workers(cluster, settings, layout, run, left[0])
                fan_out = screen_shards.with_options(task_runner=DaskTaskRunner(address=cluster.address))
                with dask.annotate(resources=cluster.asks):
                    if fan_out(str(layout.root.resolve()), run, left, cluster.slots):
                        break
    return FannedOut()


@flow(name="screen-shards", persist_result=False, validate_parameters=False)
def screen_shards(cohort: str, run: str, shards: list[str], workers: int) -> bool:
    """Fan out with a window of one shard per worker; what is committed is told by the ledger, not by this flow.

    A wider window would let a dying worker take innocent shards with it. Futures are dropped when they are read:
    a held result that is lost with its worker would be computed again.

    Returns
    -------
    bool
        False if the cluster lost all its workers.
    """
    layout = Layout(place_of(cohort))
    log = run_log(layout, run)
    waiting = deque((shard, 0) for shard in shards)
    running: dict[str, tuple[distributed.Future, int]] = {}
    workers_seen = Watchdog()
    while waiting or running:
        while waiting and len(running) < workers:
            shard, tries = waiting.popleft()
            running[shard] = screen_shard.submit(cohort, run, shard).wrapped_future, tries
        for shard in [shard for shard, (future, _) in running.items() if future.done()]:
            future, tries = running.pop(shard)
            if not is_committed(layout, run, shard):
                log("shard_lost", shard=shard, error=error_of(future), tries=tries + 1)
                if tries < MOST_REQUEUES:
                    waiting.append((shard, tries + 1))
        if workers_seen.all_lost():
            log("workers_lost", running=sorted(running), waiting=len(waiting))
            return False
        time.sleep(LOOK_SECONDS)
    return True


class Watchdog:
    """Says when the cluster of the present flow has been without any worker for `NO_WORKER_SECONDS`."""

    def __init__(self) -> None:
        context = FlowRunContext.get()
        assert context is not None
        self._client: distributed.Client = context.task_runner.client
        self._last_seen = self._last_look = time.monotonic()

    def all_lost(self) -> bool:
        """Whether no worker has been seen for that long; looks no more often than `LOOK_AT_WORKERS_SECONDS`."""
        now = time.monotonic()
        if now - self._last_look > LOOK_AT_WORKERS_SECONDS:
            self._last_look = now
            if self._client.scheduler_info(n_workers=-1)["workers"]:
                self._last_seen = now
        return now - self._last_seen > NO_WORKER_SECONDS


def error_of(future: distributed.Future) -> str:
    """Name of the error with which a shard ended: of Dask, where a worker died; else of the task, from its state."""
    if future.status == "finished":
        return type(future.result().result(raise_on_failure=False)).__name__
    return type(future.exception()).__name__ if future.status == "error" else future.status
