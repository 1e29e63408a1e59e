"""Fan out: the shards of a run as Prefect tasks on a local Dask cluster."""

import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import dask
import distributed
from prefect import flow
from prefect.context import FlowRunContext
from prefect_dask import DaskTaskRunner

from flows.server import prefect_api
from tasks.log import log_event
from tasks.screen import screen_shard
from tasks.settings import RunSettings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import is_committed

DASK_CONFIGURATION = {
    "distributed.worker.daemon": False,  # a daemon may not have the sandbox as its child
    "distributed.deploy.lost-worker-timeout": "300s",  # the 15 s default closes all workers of a busy machine
    "distributed.admin.large-graph-warning-threshold": "100MB",
}
WORKER_MEMORY = "4GiB"
"""Of the Dask worker itself, which holds rows; studies are held by its sandbox, which has a limit of its own."""
MOST_REQUEUES = 3
"""A shard lost with its worker is queued again; Dask itself has tried four times before it says so."""


def run_on_dask(layout: Layout, run: str, shards: Sequence[str], settings: RunSettings) -> None:
    """Screen the shards as tasks of a Prefect flow on worker processes of this machine."""
    workers = min(settings.workers_here(), len(shards))
    logging.getLogger("distributed").setLevel(logging.ERROR)  # Dask sets INFO when it is imported
    with prefect_api(layout.root), dask.config.set(DASK_CONFIGURATION):
        cluster = {
            "n_workers": workers,
            "threads_per_worker": 1,
            "processes": True,
            "memory_limit": WORKER_MEMORY,
            "dashboard_address": "127.0.0.1:0",
            "silence_logs": 50,
        }
        screen_shards.with_options(task_runner=DaskTaskRunner(cluster_kwargs=cluster))(
            str(layout.root.resolve()), run, list(shards), workers
        )


@flow(name="screen-shards", persist_result=False, validate_parameters=False)
def screen_shards(cohort: str, run: str, shards: list[str], workers: int) -> None:
    """Fan out with a window of one shard per worker; what is committed is told by the ledger, not by this flow.

    A wider window would let a dying worker take innocent shards with it. Futures are dropped when they are read:
    a held result that is lost with its worker would be computed again.
    """
    layout = Layout(Path(cohort))
    context = FlowRunContext.get()
    assert context is not None
    loop = context.task_runner.client.loop  # type: ignore[attr-defined]
    waiting = deque((shard, 0) for shard in shards)
    finished = distributed.as_completed(loop=loop)
    running = {}

    def submit_next() -> None:
        shard, tries = waiting.popleft()
        future = screen_shard.submit(cohort, run, shard)
        running[future.wrapped_future.key] = future, shard, tries
        finished.add(future.wrapped_future)

    for _ in range(min(workers, len(waiting))):
        submit_next()
    for done in finished:
        future, shard, tries = running.pop(done.key)
        if not is_committed(layout, run, shard):
            log_event(layout.logs(run) / "run.jsonl", "shard_lost", shard=shard, error=error_of(done))
            if tries < MOST_REQUEUES:
                waiting.append((shard, tries + 1))
        del future, done
        if waiting:
            submit_next()


def error_of(done: distributed.Future) -> str:
    """Name of the error with which a shard ended: of Dask, where a worker died; else of the task, from its state."""
    if done.status != "finished":
        return type(done.exception()).__name__
    return type(done.result().result(raise_on_failure=False)).__name__
