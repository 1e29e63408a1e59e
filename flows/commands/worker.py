"""``vertebra worker``: worker processes for a Dask scheduler that runs already."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter


def worker(
    scheduler: Annotated[str, Parameter(help="Address of the Dask scheduler, tcp://HOST:PORT.")],
    /,
    *,
    profile: Annotated[str, Parameter(help="Settings: a name in deployments/profiles or a .toml file.")] = "scheduler",
    workers: Annotated[int | None, Parameter(help="Processes; by default as many as fit, or as share the GPU.")] = None,
    gpu: Annotated[str | None, Parameter(help="The one GPU they share, by its number; without it: none.")] = None,
) -> None:
    """Start workers for a scheduler, with the environment that screening needs; ends when it is stopped.

    They run shards of any `vertebra screen` whose profile names the scheduler. On a machine with several GPUs start
    one of these for each. PREFECT_API_URL must be what it is where the runs are led.

    Example: vertebra worker tcp://head:8786 --gpu 0

    Example: vertebra worker tcp://head:8786 --workers 8
    """
    from flows.settings import load_settings
    from flows.worker_start import NO_GPU, worker_environment, worker_flags

    settings = load_settings(profile, {"run.workers": workers})
    number = settings.run.workers_here()
    if gpu is not None:
        number = settings.run.workers or settings.cluster.workers_per_gpu
    environment = {**os.environ, **worker_environment(settings, gpu), **({} if gpu is not None else NO_GPU)}
    flags = worker_flags(settings, number, offers_gpu=gpu is not None)
    # In place of this process, so that a supervisor's signals reach Dask itself.
    os.execve(sys.executable, [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, *flags], environment)
