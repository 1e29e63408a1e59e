"""The kinds of clusters: each a context manager that gives the address of a scheduler and ends what it started."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import distributed

from flows.cluster_jobs import kubernetes, slurm
from flows.settings import InForce
from flows.worker_start import GPU, NO_GPU, VISIBLE_GPUS
from tasks.device import thread_variables

Starter = Callable[[InForce, int], AbstractContextManager[str]]
"""Gives the address of a scheduler with workers for so many shards."""
LOOPBACK = "127.0.0.1"


@contextmanager
def existing_scheduler(settings: InForce, n_shards: int) -> Iterator[str]:
    """A scheduler that others started and end."""
    yield settings.cluster.address


@contextmanager
def this_machine(settings: InForce, n_shards: int) -> Iterator[str]:
    """Worker processes of this machine, restarted when they die."""
    places = worker_places(settings, visible_gpus(settings.run.device))[:n_shards]
    scheduler = {"host": LOOPBACK, "port": 0, "dashboard": True, "dashboard_address": f"{LOOPBACK}:0"}
    with distributed.SpecCluster(
        scheduler={"cls": distributed.Scheduler, "options": scheduler},
        workers={number: local_worker(settings, gpu) for number, gpu in enumerate(places)},
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster.scheduler_address


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs of this machine as CUDA names them; asked without making a CUDA context."""
    if device == "cpu":
        return ()
    if VISIBLE_GPUS in os.environ:
        return tuple(name.strip() for name in os.environ[VISIBLE_GPUS].split(",") if name.strip())
    import torch

    return tuple(str(number) for number in range(torch.cuda.device_count()))


def worker_places(settings: InForce, gpus: tuple[str, ...]) -> list[str | None]:
    """The GPU of each worker of this machine, None for one without; workers go round the GPUs.

    Examples
    --------
    >>> from flows.settings import load_settings
    >>> two = load_settings(flags={"run.workers": 3, "cluster.gpu_share": 0.5, "cluster.cpu_workers": 1})
    >>> worker_places(two, ("0", "1"))
    ['0', '1', '0', None]
    >>> worker_places(two, ())
    [None, None, None]
    """
    number = settings.run.workers_here()
    if not gpus:
        return [None] * number
    fed = min(number, len(gpus) * settings.cluster.workers_per_gpu)
    beside = settings.cluster.cpu_workers if settings.run.device == "auto" else 0
    return [*(gpus[i % len(gpus)] for i in range(fed)), *[None] * beside]


def local_worker(settings: InForce, gpu: str | None) -> dict[str, Any]:
    """What `distributed.SpecCluster` must know to start a worker that sees this GPU and no other."""
    sees = NO_GPU if gpu is None else {VISIBLE_GPUS: gpu}
    options = {
        "nthreads": 1,
        "memory_limit": f"{settings.cluster.worker_memory_gb}GiB",
        "host": LOOPBACK,
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "env": {**thread_variables(settings.run.threads), **sees},
        "resources": {} if gpu is None else {GPU: settings.cluster.gpu_share},
    }
    return {"cls": distributed.Nanny, "options": options}


STARTERS: dict[str, Starter] = {
    "local": this_machine,
    "address": existing_scheduler,
    "slurm": slurm,
    "kubernetes": kubernetes,
}
