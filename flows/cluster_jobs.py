"""Clusters whose workers others start for us: jobs of SLURM, pods of Kubernetes. Their packages are extras."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.settings import InForce
from flows.worker_start import PREFECT_VARIABLES, worker_environment, worker_flags
from vertebra_core.errors import WrongUse

NVIDIA_GPU = "nvidia.com/gpu"
"""Name of a GPU in the limits of a pod (device plugin of NVIDIA)."""
SCHEDULER_MEMORY, SCHEDULER_CPU = "2Gi", "1"
"""Of the scheduler's pod: a few thousand small tasks; it measures nothing."""


@contextmanager
def slurm(settings: InForce, n_shards: int) -> Iterator[str]:
    """Workers as jobs of SLURM, cancelled when the block ends; a job that ends early is submitted again."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise WrongUse('cluster.kind = slurm needs its extra: pip install "vertebra[slurm]"') from error
    with SLURMCluster(**slurm_job(settings), scheduler_options={"dashboard": False}) as cluster:
        cluster.scale(min(settings.run.workers_here(), n_shards))
        yield cluster.scheduler_address


def slurm_job(settings: InForce) -> dict[str, Any]:
    """What `dask_jobqueue.SLURMCluster` must know of a job.

    Memory is asked for the workers and for the studies in their sandboxes; Dask bounds the former by itself.
    """
    one, run = settings.cluster, settings.run
    on_gpu = run.device == "cuda"
    directives = list(one.directives)
    if on_gpu and not any("gres" in line or "gpu" in line for line in directives):
        directives.append("--gres=gpu:1")
    flags = worker_flags(settings, one.workers_per_job, offers_gpu=on_gpu)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in _variables(settings).items()]
    return {
        "queue": one.queue or None,
        "account": one.account or None,
        "walltime": one.walltime,
        "cores": one.workers_per_job,
        "processes": one.workers_per_job,
        "memory": f"{one.worker_memory_gb * one.workers_per_job:g}GiB",
        "job_cpu": one.workers_per_job * run.threads,
        "job_mem": f"{_job_gb(settings) * 1024:.0f}M",
        "job_extra_directives": directives,
        "job_script_prologue": [*exports, *one.prologue],
        "worker_extra_args": flags[flags.index("--no-dashboard") :],  # how many and how large is said above
    }


@contextmanager
def kubernetes(settings: InForce, n_shards: int) -> Iterator[str]:
    """Workers as pods of the Dask operator, deleted when the block ends."""
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise WrongUse('cluster.kind = kubernetes needs its extra: pip install "vertebra[kubernetes]"') from error
    manifest = kubernetes_manifest(settings, n_shards, f"vertebra-{os.getpid()}")
    with KubeCluster(custom_cluster_spec=manifest, namespace=settings.cluster.namespace, quiet=True) as cluster:
        yield cluster.scheduler_address


def kubernetes_manifest(settings: InForce, n_shards: int, name: str) -> dict[str, Any]:
    """The DaskCluster resource of a run."""
    from dask_kubernetes.operator import make_cluster_spec

    one = settings.cluster
    pods = -(-min(settings.run.workers_here(), n_shards) // one.workers_per_job)
    on_gpu = settings.run.device == "cuda"
    resources: dict[str, str] = {
        "memory": f"{_job_gb(settings) * 1024:.0f}Mi",
        "cpu": str(one.workers_per_job * settings.run.threads),
        **({NVIDIA_GPU: "1"} if on_gpu else {}),
    }
    manifest = make_cluster_spec(
        name,
        image=one.image,
        n_workers=pods,
        resources={"limits": resources, "requests": dict(resources)},
        env=_variables(settings),
        worker_command=["dask", "worker", *worker_flags(settings, one.workers_per_job, offers_gpu=on_gpu)],
    )
    worker, scheduler = manifest["spec"]["worker"]["spec"], manifest["spec"]["scheduler"]["spec"]
    # The operator's template starts `dask-scheduler`, which newer versions of Dask do not bring, and gives the
    # scheduler the workers' resources, GPU and all.
    scheduler["containers"][0]["args"][:1] = ["dask", "scheduler"]
    small = {"memory": SCHEDULER_MEMORY, "cpu": SCHEDULER_CPU}
    scheduler["containers"][0]["resources"] = {"limits": small, "requests": dict(small)}
    worker["containers"][0]["args"].remove("--no-dashboard")  # the template asks for one, for its probes
    worker["containers"][0]["envFrom"] = [{"secretRef": {"name": secret}} for secret in one.secrets]
    _mount(worker, one.claims)
    return manifest


def _mount(pod: dict[str, Any], claims: tuple[str, ...]) -> None:
    """Mount volume claims, given as CLAIM:/PATH or CLAIM:/PATH:ro, in a pod."""
    volumes, mounts = [], []
    for words in claims:
        claim, _, rest = words.partition(":")
        path, _, mode = rest.partition(":")
        if not path.startswith("/") or mode not in ("", "ro"):
            raise WrongUse(f"cluster.claims: {words!r}: expected CLAIM:/PATH or CLAIM:/PATH:ro")
        read_only = mode == "ro"
        volumes.append({"name": claim, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}})
        mounts.append({"name": claim, "mountPath": path, "readOnly": read_only})
    if claims:
        pod["volumes"] = volumes
        pod["containers"][0]["volumeMounts"] = mounts


def _job_gb(settings: InForce) -> float:
    """Memory of a job or pod, GiB."""
    return settings.cluster.workers_per_job * (settings.cluster.worker_memory_gb + settings.run.memory_gb)


def _variables(settings: InForce) -> dict[str, str]:
    """The environment of workers, with what they must know of Prefect's server and nothing that is secret."""
    known = {name: os.environ[name] for name in PREFECT_VARIABLES if name in os.environ}
    return {**worker_environment(settings), **known}
