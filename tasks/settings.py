"""How a run is carried out: nothing here changes a measured value, so nothing here is part of a result's identity."""

import os
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import psutil
from annotated_types import Ge, Gt, Le

GIBIBYTE = 1024**3
WORKER_MEMORY_GB = 4.0
"""Memory to expect of one worker and its sandbox on a chest CT of 600 slices; decides how many fit by default."""
SHARD_SECONDS = 180.0
"""What one shard should take: a task run costs 0.2 s of CPU (docs/engine.md), and what a dying machine takes with it
is bearable. Anything from 1 to 5 minutes would do."""
LONGEST_SHARD_SECONDS = 300.0
MOST_SHARDS = 500
"""Task runs of a night, where that needs no shard longer than `LONGEST_SHARD_SECONDS`: each leaves 20 kB in Prefect's
database, and three events."""
SHARDS_PER_WORKER = 4
"""Shards are made small enough for each worker to get this many: a slow last one then costs little time."""
SHORTEST_SHARD_SECONDS = 10.0
"""But not shorter than this: below, a task run costs more than the time that an idle worker would."""
MOST_STUDIES_PER_SHARD = 1000
"""However fast studies are: a worker holds the rows of its shard, 0.1 GiB for so many whole spines."""


@dataclass(frozen=True)
class RunSettings:
    """The engine: how many workers, how long and how much memory a study may take."""

    workers: Annotated[int, Ge(0)] = 0
    """Worker processes; 0: as many as there are cores and memory for."""
    threads: Annotated[int, Ge(1)] = 1
    """Threads of the networks in one worker; more workers beat more threads while memory lasts."""
    shard_size: Annotated[int, Ge(0)] = 0
    """Studies in one shard, that is in one Prefect task and one committed set of files; 0: so many as take 1 to 5
    minutes, by what earlier runs of the cohort measured."""
    deadline_s: Annotated[float, Ge(1)] = 900.0
    """Seconds a study may take before its process is ended: about ten times a large CT on one CPU thread."""
    memory_gb: Annotated[float, Ge(0.1)] = 8.0
    """Memory a study may take, GiB: four times a CT of 1000 slices in 32 bits."""
    attempts: Annotated[int, Ge(1)] = 2
    """Tries of a study whose process died, hung or ran out of memory, each but the first in a process that measured
    nothing before; a second failure is taken for the study's own fault."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; auto: CUDA if there is one."""
    read_ahead: Literal["auto", "on", "off"] = "auto"
    """Read the next study of a shard while this one is measured; a second volume is held meanwhile. auto: where the
    networks run on a GPU, or the archive lies in a store, so that something other than this CPU is waited for."""
    settle_minutes: Annotated[float, Ge(0)] = 5.0
    """A study of which a file changed less than so long ago may still be arriving, and waits for the next run; 0: none
    waits. Servers call a study complete 1 minute (Orthanc, StableAge) to 15 minutes (mercure) after its last image; 5
    bridges a stalled transfer, and is short enough to wait for. What comes later makes the study due again."""
    until: str | None = None
    """Hour at which no further shard is begun, "06:00"; what is left waits for the next run."""
    time_zone: str | None = None
    """Where a clock shows that hour, "Europe/Vienna"; by default this machine's own zone."""
    pictures: bool = True
    """Draw a picture of every measured study."""
    report: bool = False
    """Write the page of ``vertebra report`` into every new snapshot."""
    all_series: bool = False
    """Measure not only the index series of each study, but every other series that could be measured, too."""
    site: str | None = None
    """Where the archive comes from, for the tables' column `site`."""
    metrics_file: str | None = None
    """File that a run keeps up to date with its state as Prometheus text (docs/observability.md)."""

    def __post_init__(self) -> None:
        if self.until is not None:
            try:
                time.fromisoformat(self.until)
            except ValueError:
                raise ValueError(f'until is an hour of the day such as "06:00", not {self.until!r}') from None
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ValueError, OSError, KeyError):
                raise ValueError(f'no such time zone: {self.time_zone!r} (such as "Europe/Vienna")') from None

    def workers_here(self) -> int:
        """The number of workers on this machine."""
        fitting = int(psutil.virtual_memory().total / GIBIBYTE / WORKER_MEMORY_GB)
        return self.workers or max(1, min(len(os.sched_getaffinity(0)), fitting))

    def studies_per_shard(self, n_studies: int, seconds: float) -> int:
        """How many studies to put in one shard.

        Parameters
        ----------
        n_studies : int
        seconds : float
            What all of them together are expected to take one worker.
        """
        if self.shard_size or not n_studies:
            return self.shard_size or 1
        in_most = min(seconds / MOST_SHARDS, LONGEST_SHARD_SECONDS)
        fair = max(seconds / (self.workers_here() * SHARDS_PER_WORKER), SHORTEST_SHARD_SECONDS)
        wanted = min(max(SHARD_SECONDS, in_most), fair)
        size = int(wanted * n_studies / seconds) if seconds > 0 else n_studies
        return max(1, min(size, MOST_STUDIES_PER_SHARD))


@dataclass(frozen=True)
class ClusterSettings:
    """Where the workers of a run are; docs/clusters.md says which profile when, and which keys count for which kind."""

    kind: Literal["local", "address", "slurm", "kubernetes"] = "local"
    """local: worker processes of this machine, on its GPUs where it has some; address: a Dask scheduler that runs
    already, with whatever workers it has; slurm, kubernetes: workers that these start for the run."""
    address: str = ""
    """Of the scheduler that runs already, tcp://HOST:PORT."""
    worker_memory_gb: Annotated[float, Ge(0.5)] = 4.0
    """Memory of a worker process itself, GiB. It holds rows; studies are held by its sandbox (`RunSettings`)."""
    gpu_share: Annotated[float, Gt(0), Le(1)] = 0.25
    """Part of a GPU that one worker takes: at 0.25 four worker processes feed one GPU, so that it computes for one
    while others read and straighten. Each brings networks and a CUDA context of its own."""
    cpu_workers: Annotated[int, Ge(0)] = 0
    """Workers that see no GPU, beside those that do; with run.device = auto, on a machine with GPUs."""
    start_minutes: Annotated[float, Gt(0)] = 10.0
    """How long to wait for the first worker that offers what a shard asks; a queue may take its time."""

    queue: str = ""
    """Partition of SLURM; "": its default."""
    account: str = ""
    walltime: str = "12:00:00"
    """A job's end as SLURM writes it. Shards that it cuts off are done again elsewhere."""
    workers_per_job: Annotated[int, Ge(1)] = 1
    """Worker processes in one SLURM job or Kubernetes pod; with device cuda they share its one GPU."""
    directives: tuple[str, ...] = ()
    """Further #SBATCH lines, such as "--constraint=a100"; --gres=gpu:1 is added for device cuda unless one asks."""
    prologue: tuple[str, ...] = ()
    """Shell lines of a job before its workers start, such as "module load python". No secrets: scripts are readable."""

    namespace: str = "default"
    image: str = "vertebra:latest"
    """Container image of scheduler and workers (deployments/container)."""
    claims: tuple[str, ...] = ()
    """Volumes of the pods, as CLAIM:/PATH, read-only with :ro behind: archives and a cohort that are not in S3."""
    secrets: tuple[str, ...] = ()
    """Kubernetes secrets whose entries become variables of the workers: S3 keys, the key of a Prefect server."""

    def __post_init__(self) -> None:
        if self.kind == "address" and not self.address:
            raise ValueError("kind 'address' needs the address of a scheduler")

    @property
    def workers_per_gpu(self) -> int:
        """Workers that share one GPU.

        Examples
        --------
        >>> [ClusterSettings(gpu_share=share).workers_per_gpu for share in (1.0, 0.5, 0.3, 0.1)]
        [1, 2, 3, 10]
        """
        return int(1 / self.gpu_share + 1e-9)
