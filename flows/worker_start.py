"""How a Dask worker of ours is started, wherever that is: its environment, its flags, and what its shards ask of it."""

from typing import Any

from flows.settings import InForce
from tasks.device import thread_variables

DASK_CONFIGURATION: dict[str, Any] = {
    "distributed.worker.daemon": False,  # a daemon may not have the sandbox as its child
    "distributed.deploy.lost-worker-timeout": "300s",  # the 15 s default closes all workers of a busy machine
    "distributed.comm.timeouts.connect": "300s",  # and so do these, of 30 s
    "distributed.comm.timeouts.tcp": "300s",
    "distributed.scheduler.worker-ttl": "30 minutes",
    # One death is told at once: the flow parts the shard, where Dask would let it kill three further workers first.
    "distributed.scheduler.allowed-failures": 0,
    # A worker that is full is ended and begun anew at 95 %; by default it is paused at 80 %, and then waits for ever.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
GPU = "GPU"
"""Name of the resource that workers offer and shards ask, in parts of one GPU."""
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
NO_GPU = {VISIBLE_GPUS: ""}
"""Environment of a worker that must not see a GPU: not even a CUDA context is made on it then."""
PREFECT_VARIABLES = ("PREFECT_API_URL", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "PREFECT_LOGGING_TO_API_ENABLED")
"""What a worker must know of Prefect's server. A key for it (PREFECT_API_KEY) is a secret and travels otherwise."""


def asks_for(settings: InForce) -> dict[str, float]:
    """What each shard asks of its worker.

    A part of a GPU if the networks must run on one; nothing if they must not, or if each worker decides for itself.
    """
    return {GPU: settings.cluster.gpu_share} if settings.run.device == "cuda" else {}


def worker_environment(settings: InForce, gpu: str | None = None) -> dict[str, str]:
    """Variables of a worker that is started as a program, and of the sandbox below it.

    Parameters
    ----------
    gpu : str, optional
        The one GPU it sees, as CUDA names it; without one it sees those that its job was given, and with run.device =
        cpu none.
    """
    dask = {
        f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": str(v) for name, v in DASK_CONFIGURATION.items()
    }
    seen = {VISIBLE_GPUS: gpu} if gpu is not None else {}
    hidden = NO_GPU if settings.run.device == "cpu" else {}
    return {**dask, **thread_variables(settings.run.threads), **seen, **hidden}


def worker_flags(settings: InForce, workers: int, offers_gpu: bool) -> list[str]:
    """Flags of ``dask worker`` for so many worker processes."""
    memory = f"{settings.cluster.worker_memory_gb:g}GiB"
    flags = ["--nworkers", str(workers), "--nthreads", "1", "--memory-limit", memory, "--no-dashboard"]
    return [*flags, "--resources", f"{GPU}={settings.cluster.gpu_share:g}"] if offers_gpu else flags
