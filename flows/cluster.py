"""The Dask cluster of a run: started for it, or there already; whatever its kind, the flow knows it by its address.

The address, and not the cluster, goes to Prefect's task runner: the flow engine makes a copy of the runner, a cluster
does not survive that, and a new one would be started in silence.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

import dask
import distributed

from flows.cluster_kinds import STARTERS
from flows.server import configured_api
from flows.settings import InForce
from flows.worker_start import DASK_CONFIGURATION, GPU, asks_for
from tasks.look import API_VARIABLE, look_around, sees_archive
from tasks.plan import read_shard
from tasks.settings import ClusterSettings
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import CouldNotRun, WrongUse

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 30
"""A scheduler that has not answered by then is taken for absent."""


@dataclass(frozen=True)
class Cluster:
    """What a flow needs to know of its cluster.

    Parameters
    ----------
    address : str
        Of the scheduler.
    slots : int
        Shards that can run at a time, as things stand when the run begins.
    asks : dict
        Resources, in Dask's sense, that each shard asks of its worker.
    """

    address: str
    slots: int
    asks: dict[str, float]


@contextmanager
def cluster_of(settings: InForce, n_shards: int) -> Iterator[Cluster]:
    """A cluster for so many shards, that ends with the block if it was started for it.

    Raises
    ------
    WrongUse
        No worker of an existing scheduler offers what a shard asks: it would wait for ever.
    CouldNotRun
        The scheduler does not answer, or no worker came.
    """
    with dask.config.set(DASK_CONFIGURATION):
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # Dask sets INFO when it is imported
        asks = asks_for(settings)
        with STARTERS[settings.cluster.kind](settings, n_shards) as address:
            with client_of(address) as client:
                slots = slots_for(wait_for_workers(client, asks, settings.cluster), asks)
            yield Cluster(address, slots, asks)


@contextmanager
def client_of(address: str) -> Iterator[distributed.Client]:
    """A client that is nobody's default.

    Raises
    ------
    CouldNotRun
    """
    try:
        client = distributed.Client(address, set_as_default=False, timeout=f"{ANSWER_SECONDS}s")
    except (OSError, ValueError) as error:
        raise CouldNotRun(f"no Dask scheduler answers at {address}") from error
    with client:
        yield client


def wait_for_workers(client: distributed.Client, asks: Mapping[str, float], cluster: ClusterSettings) -> dict:
    """The workers of the scheduler once one of them offers what is asked.

    Raises
    ------
    WrongUse
        There are workers of an existing scheduler, and none offers it.
    CouldNotRun
        None came in time.
    """
    deadline = time.monotonic() + cluster.start_minutes * 60
    while True:
        workers = workers_of(client)
        if slots_for(workers, asks):
            return workers
        if workers and cluster.kind == "address":
            raise WrongUse(f"{_what_is_missing(workers, asks)}; see docs/clusters.md")
        if time.monotonic() > deadline:
            missing = _what_is_missing(workers, asks)
            raise CouldNotRun(f"{missing} after {cluster.start_minutes:g} minutes (cluster.start_minutes)")
        time.sleep(LOOK_SECONDS)


def require_server(settings: InForce) -> None:
    """Refuse a run whose workers would not find its Prefect server.

    Raises
    ------
    WrongUse
        The workers are not this process's own, and no server is configured: a private one they would not know.
    """
    if settings.cluster.kind != "local" and configured_api() is None:
        raise WrongUse(
            f"cluster.kind = {settings.cluster.kind} needs a Prefect server that workers reach: {API_VARIABLE}"
        )


def check_workers(cluster: Cluster, settings: InForce, layout: Layout, run: str, shard: str) -> None:
    """Refuse workers that could not do their work, before they get any; those that join later are not asked.

    Raises
    ------
    WrongUse
        With what a worker says that keeps it from working.
    """
    if settings.cluster.kind == "local" or not sees_archive(read_shard(layout, run, shard)):
        return  # they see what is seen here; and of a file that has gone since, its study is to say so
    where, api = str(layout.root.resolve()), configured_api()
    with client_of(cluster.address) as client:
        said = client.run(look_around, where, run, shard, metadata.version("vertebra"), api, on_error="return")
    for address, answer in said.items():
        if isinstance(answer, Exception):
            raise WrongUse(f"worker {address} cannot run vertebra: {type(answer).__name__}: {answer}")
        if answer:
            raise WrongUse(f"worker {address} {answer}")


def workers_of(client: distributed.Client) -> dict:
    """What the scheduler says of its workers, by address."""
    return client.scheduler_info(n_workers=-1)["workers"]


def slots_for(workers: Mapping[str, Mapping], asks: Mapping[str, float]) -> int:
    """Shards that workers can run at a time.

    Parameters
    ----------
    workers : mapping
        As `workers_of` gives them.
    asks : mapping
        Amount by resource that every shard asks.

    Examples
    --------
    >>> two = {"a": {"nthreads": 1, "resources": {"GPU": 0.25}}, "b": {"nthreads": 1, "resources": {}}}
    >>> slots_for(two, {}), slots_for(two, {"GPU": 0.25}), slots_for(two, {"GPU": 1.0})
    (2, 1, 0)
    """
    return sum(_slots_of(worker, asks) for worker in workers.values())


def _slots_of(worker: Mapping, asks: Mapping[str, float]) -> int:
    offered = worker.get("resources") or {}
    return min([worker["nthreads"], *(int(offered.get(name, 0) / amount + 1e-9) for name, amount in asks.items())])


def _what_is_missing(workers: Mapping[str, Mapping], asks: Mapping[str, float]) -> str:
    if not workers:
        return "the Dask scheduler has no worker"
    wanted = ", ".join(f"{name} {amount:g}" for name, amount in asks.items())
    most = max(worker.get("resources", {}).get(GPU, 0) for worker in workers.values())
    return f"none of {len(workers)} workers offers what a shard asks ({wanted}; the most offered is {GPU} {most:g})"
