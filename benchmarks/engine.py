"""What the engine itself costs: thousands of studies that take 5 ms each, through Prefect, Dask and the sandbox.

``python -m benchmarks.engine FOLDER --studies 1000 10000`` writes archives of that many tiny volumes (NIfTI, voxels
16 x 16 x 16), screens each with a method that sleeps 5 ms and then has 17 vertebrae, and adds a line to
FOLDER/figures.jsonl; sizes that have one are not measured again. Server, workers, sandboxes, commits and snapshot are
real. ``--method shipped`` measures with the networks instead. A first run of 50 studies tells the cohort how long a
study takes, so that shards have the size that they would have on a second night; ``--no-pilot`` leaves it out.

Overhead is what a worker slot spent on a study beyond the seconds that stand in its row (reading and measuring):
``in shard`` from the log of shards, ``outside`` (starting up, Prefect, Dask, the wait for the last shard) what is left
of the wall time of the fan-out.
"""

import argparse
import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

STUB_SECONDS = 0.005
"""What the method of the benchmark takes for a study."""
PILOT = 50
"""Studies of the first run."""
PER_FOLDER = 1000
LOOK_SECONDS = 0.5
ROOT = Path(__file__).resolve().parent.parent


# -- the method ---------------------------------------------------------------------------------------------------


def stub():
    """A method that takes `STUB_SECONDS` and finds 17 vertebrae, always the same ones."""
    from tasks.method import Method

    return Method("digest-of-a-stub", lambda device: _sleep_and_answer)


def _sleep_and_answer(volume, settings, watch):
    watch("curve")
    began = time.monotonic()
    result = _answer(volume)
    time.sleep(max(0.0, STUB_SECONDS - (time.monotonic() - began)))
    return result


_answers: list = []


def _answer(volume):
    if not _answers:
        _answers.append(_seventeen_vertebrae(volume))
    return _answers[0]


def _seventeen_vertebrae(volume):
    import numpy as np

    from vertebra_core.geometry import CentreLine
    from vertebra_core.measure import measure_vertebrae
    from vertebra_core.settings import StraightenSettings
    from vertebra_core.straighten import straighten
    from vertebra_core.study import StudyResult

    names = (*(f"T{i}" for i in range(1, 13)), *(f"L{i}" for i in range(1, 6)))
    points = np.zeros((len(names), 6, 3))
    for j, depth in enumerate((-14.0, 0.0, 14.0)):
        points[:, 2 * j : 2 * j + 2, 1] = depth
        points[:, 2 * j, 2], points[:, 2 * j + 1, 2] = 11.0, -11.0
    points[..., 2] -= 30.0 * np.arange(len(names))[:, None]
    along = np.linspace(volume.corners[:, 2].max(), volume.corners[:, 2].min(), 8)
    curve = CentreLine(np.stack([np.zeros(8), np.zeros(8), along], 1))
    spine = straighten(volume, curve, StraightenSettings())
    sure = np.full(len(names), 0.9)
    whole = np.ones(len(names), bool)
    return StudyResult(curve, spine, points, sure, whole, measure_vertebrae(points), names, sure)


# -- the archive --------------------------------------------------------------------------------------------------


def write_archive(folder: Path, n_studies: int) -> Path:
    """Write an archive of so many volumes, unless it is there; every volume is a study."""
    import numpy as np
    import SimpleITK as sitk

    last = folder / volume_name(n_studies - 1)
    if last.exists():
        return folder
    hu = np.random.default_rng(0).normal(40.0, 15.0, (16, 16, 16)).round().astype(np.int16)
    hu[:, :3], hu[:, -3:] = -1000, -1000
    hu[:, 7:9, 7:9] += 500
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((4.0, 4.0, 2.5))
    folder.mkdir(parents=True, exist_ok=True)
    template = folder.with_suffix(".nii")
    sitk.WriteImage(image, str(template))
    data = template.read_bytes()
    template.unlink()
    for number in range(n_studies):
        path = folder / volume_name(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return folder


def volume_name(number: int) -> str:
    """Where the volume of a study lies below the archive."""
    return f"{number // PER_FOLDER:04d}/{number:07d}.nii"


# -- one run, in a process of its own -----------------------------------------------------------------------------


class Watcher:
    """Looks at the memory of this process, and at memory and CPU of all below it, twice a second."""

    def __init__(self) -> None:
        self.phase, self.seconds, self.cpu = "start", defaultdict(float), defaultdict(float)
        self.rss: dict[str, list[float]] = defaultdict(list)
        self.most: dict[str, float] = defaultdict(float)
        self.spent: dict[str, dict[int, float]] = defaultdict(dict)
        threading.Thread(target=self._look_on, daemon=True).start()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Book time and memory on a phase while the block runs."""
        before, self.phase = self.phase, phase
        wall, cpu = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            self.look()
            self.seconds[phase] += time.monotonic() - wall
            self.cpu[phase] += time.process_time() - cpu
            self.phase = before

    def booked(self, phase: str, function: Callable) -> Callable:
        """The function, with its time booked on a phase."""

        @functools.wraps(function)
        def wrapped(*arguments, **more):
            with self.during(phase):
                return function(*arguments, **more)

        return wrapped

    def look(self) -> None:
        """Take down memory and CPU as they are now."""
        import psutil

        me = psutil.Process()
        self.rss[self.phase].append(me.memory_info().rss / 1e6)
        for child in me.children(recursive=True):
            try:
                kind, used = kind_of(child.cmdline()), child.cpu_times()
                self.most[kind] = max(self.most[kind], child.memory_info().rss / 1e6)
                self.spent[kind][child.pid] = used.user + used.system
            except psutil.Error:
                continue

    def _look_on(self) -> None:
        while True:
            self.look()
            time.sleep(LOOK_SECONDS)


def kind_of(command: list[str]) -> str:
    """What a process below the flow is."""
    line = " ".join(command)
    if "server_process" in line or "prefect" in line:
        return "server"
    if "forkserver" in line:
        return "sandboxes"
    return "workers"


def run_once(archive: Path, cohort: Path, runner: str, method: str, workers: int, shard_size: int) -> dict:
    """Screen an archive and say what it took."""
    from flows.server import hush
    from flows.settings import load_settings

    hush()
    import flows.screen as screen

    watcher = Watcher()
    for phase, name in (("stock and plan", "plan_run"), ("settle", "settle"), ("publish", "publish_snapshot")):
        setattr(screen, name, watcher.booked(phase, getattr(screen, name)))
    named = screen.named_runner
    screen.named_runner = lambda name: watcher.booked("fan-out", named(name))
    flags = {"run.workers": workers, "run.shard_size": shard_size, "run.pictures": False, "run.settle_minutes": 0}
    began = time.monotonic()
    night = screen.screen_archives([archive], cohort, load_settings(flags=flags), runner, method, say=print)
    wall = time.monotonic() - began
    return {"wall_s": wall, **figures(watcher, cohort, night.run, workers), "settled": night.settled.new}


def figures(watcher: Watcher, cohort: Path, run: str, workers: int) -> dict:
    """What a run took, by phase and for each study, from its own logs, tables and database."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from vertebra_core.cohort.layout import Layout
    from vertebra_core.cohort.snapshot import latest_snapshot

    layout = Layout(cohort)
    logs = layout.logs(run).glob("shard-*.jsonl")
    events = [json.loads(line) for log in logs for line in log.read_bytes().splitlines()]
    shards = [event for event in events if event["event"] == "shard_committed"]
    n = sum(event["event"] == "study_done" for event in events)
    ideal = sum(event["seconds"] or 0.0 for event in events if event["event"] == "study_done")
    in_shards = sum(shard["seconds"] for shard in shards)
    slots = watcher.seconds["fan-out"] * workers
    flow = watcher.rss["fan-out"]
    tenths = [flow[min(len(flow) - 1, i * len(flow) // 10)] for i in range(11)] if flow else []
    studies = pq.ParquetFile(latest_snapshot(layout) / "studies.parquet").read(["seconds_total"])
    return {
        "studies": n,
        "studies_published": studies.num_rows,
        "median_study_ms": pc.approximate_median(studies["seconds_total"]).as_py() * 1e3,
        "shards": len(shards),
        "longest_shard_s": max((shard["seconds"] for shard in shards), default=0.0),
        "phase_s": {name: round(value, 2) for name, value in watcher.seconds.items()},
        "flow_cpu_s": {name: round(value, 2) for name, value in watcher.cpu.items()},
        "overhead_ms": round((slots - ideal) / n * 1e3, 2),
        "overhead_in_shard_ms": round((in_shards - ideal) / n * 1e3, 2),
        "overhead_outside_ms": round((slots - in_shards) / n * 1e3, 2),
        "cpu_ms_per_study": {kind: round(sum(all_.values()) / n * 1e3, 2) for kind, all_ in watcher.spent.items()},
        "flow_rss_mb": [round(value) for value in tenths],
        "flow_peak_mb": {name: round(max(values)) for name, values in watcher.rss.items()},
        "other_peak_mb": {kind: round(value) for kind, value in watcher.most.items()},
        **server_figures(),
    }


def server_figures() -> dict:
    """Task runs in the private server's database, and what its log complains of; nothing where none was started."""
    from flows.server import state_folder_base

    home = next(state_folder_base().glob("*"), None)
    if home is None:
        return {}
    with sqlite3.connect(f"file:{home / 'prefect.db'}?mode=ro", uri=True) as database:
        task_runs = database.execute("select count(*) from task_run").fetchone()[0]
    log = (home / "server.log").read_text(errors="replace")
    return {
        "task_runs": task_runs,
        "database_mb": round(sum(file.stat().st_size for file in home.glob("prefect.db*")) / 1e6, 1),
        "database_is_locked": log.count("database is locked"),
        "errors_in_server_log": log.count("ERROR"),
    }


def measure(folder: Path, n_studies: int, method: str, workers: int, shard_size: int, pilot: bool) -> dict:
    """One size: archive, first run, run; each run in a process of its own, cohort and server new."""
    archive, cohort = write_archive(folder / f"archive-{n_studies}", n_studies), folder / f"cohort-{n_studies}"
    state = folder / f"state-{n_studies}"
    for left in (cohort, state):
        shutil.rmtree(left, ignore_errors=True)
    environment = {**os.environ, "VERTEBRA_STATE_DIR": str(state), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(place: Path, runner: str) -> dict:
        result = folder / "result.json"
        result.unlink(missing_ok=True)
        words = [str(place), str(cohort), runner, method, str(workers), str(shard_size), str(result)]
        subprocess.run([sys.executable, "-m", "benchmarks.engine", "--run-once", *words], env=environment, check=True)
        return json.loads(result.read_text())

    if pilot:
        run(write_archive(folder / "archive-pilot", PILOT), "loop")
    before = os.getloadavg()
    found = run(archive, "dask")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": n_studies,
        "method": method,
        "workers": workers,
        "pilot": pilot,
        "load": [round(before[0], 1), round(os.getloadavg()[0], 1)],
        **found,
    }


def main() -> int:
    """Measure every size that has no figures yet."""
    if sys.argv[1:2] == ["--run-once"]:
        archive, cohort, runner, method, workers, shard_size, result = sys.argv[2:]
        found = run_once(Path(archive), Path(cohort), runner, method, int(workers), int(shard_size))
        Path(result).write_text(json.dumps(found))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard-size", type=int, default=0)
    parser.add_argument("--method", choices=["stub", "shipped"], default="stub")
    parser.add_argument("--no-pilot", action="store_true")
    parser.add_argument("--again", action="store_true", help="measure also what has been measured")
    wanted = parser.parse_args()
    from tasks.method import SHIPPED

    method = SHIPPED if wanted.method == "shipped" else "benchmarks.engine:stub"
    folder = wanted.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "figures.jsonl"
    known = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    for n_studies in wanted.studies:
        is_known = any((one["asked"], one["method"]) == (n_studies, method) for one in known)
        if is_known and not wanted.again:
            continue
        found = measure(folder, n_studies, method, wanted.workers, wanted.shard_size, not wanted.no_pilot)
        with open(record, "a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
