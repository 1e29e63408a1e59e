"""The Dask cluster of a run: started for it, or there already; whatever its kind, the flow knows it by its address.

The address, and not the cluster, goes to Prefect's task runner: the flow engine makes a copy of the runner, a cluster
does not survive that, and a new one would be started in silence.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dask
import distributed

from flows.settings import InForce

DASK_CONFIGURATION = {
    "distributed.worker.daemon": False,  # a daemon may not have the sandbox as its child
    "distributed.deploy.lost-worker-timeout": "300s",  # the 15 s default closes all workers of a busy machine
    "distributed.comm.timeouts.connect": "300s",  # and so do these, of 30 s
    "distributed.comm.timeouts.tcp": "300s",
    "distributed.scheduler.worker-ttl": "30 minutes",
}
WORKER_MEMORY = "4GiB"
"""Of the Dask worker itself, which holds rows; studies are held by its sandbox, which has a limit of its own."""


@dataclass(frozen=True)
class Cluster:
    """What a flow needs to know of its cluster.

    Parameters
    ----------
    address : str
        Of the scheduler.
    slots : int
        Shards that can run at a time.
    asks : dict
        Resources, in Dask's sense, that each shard asks of its worker.
    """

    address: str
    slots: int
    asks: dict[str, float]


@contextmanager
def cluster_of(settings: InForce, n_shards: int) -> Iterator[Cluster]:
    """A cluster for so many shards, that ends with the block if it was started for it."""
    with dask.config.set(DASK_CONFIGURATION):
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # Dask sets INFO when it is imported
        n_workers = min(settings.run.workers_here(), n_shards)
        with distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=WORKER_MEMORY,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster:
            yield Cluster(cluster.scheduler_address, n_workers, {})
