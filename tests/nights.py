"""`vertebra serve` as its users run it, for tests of scheduled nights: a process of its own, asked through its API."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pyarrow.parquet as pq
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
LONG_SECONDS = 900.0
"""Longest wait for anything; the machine may be busy with other tests."""
PROFILE = "[run]\nworkers = 1\nshard_size = 2\nsettle_minutes = 0.0\n"

Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found | None], seconds: float = LONG_SECONDS) -> Found:
    """What the look finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nights:
    """One folder with an archive, a ``prefect.yaml``, and what `vertebra serve` makes of it."""

    def __init__(self, place: Path, cron: str | None, **parameters: Any) -> None:
        self.place, self.port = place, free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.process: subprocess.Popen | None = None
        (place / "quick.toml").write_text(PROFILE)
        document = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        for deployment in document["deployments"]:
            del deployment["schedules" if "schedules" in deployment else "description"]
            if "archives" in deployment["parameters"]:
                deployment["parameters"] = {
                    "archives": ["archive"],
                    "profile": "quick.toml",
                    "method": "engine_methods:marked",
                    **parameters,
                }
            deployment["parameters"]["cohort"] = "cohort"
        if cron:
            document["deployments"][0]["schedules"] = [{"cron": cron, "timezone": "Europe/London", "active": True}]
        (place / "prefect.yaml").write_text(yaml.safe_dump(document))

    def start(self, *words: str, name: str = "serve", before: tuple[str, ...] = ()) -> subprocess.Popen:
        """Start `vertebra serve`; its lines go to a file."""
        path = os.pathsep.join([str(ROOT), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PYTHONPATH": path,
            "VERTEBRA_STATE_DIR": str(self.place / name),
            "VERTEBRA_PSEUDONYM_SECRET": "a secret of this test",
        }
        command = [*before, sys.executable, "-m", "flows.cli", "serve", "--port", str(self.port), *words]
        with open(self.place / f"{name}.out", "ab") as sink:
            started = subprocess.Popen(command, cwd=self.place, env=variables, stdout=sink, stderr=sink)
        if name == "serve":
            self.process = started
        return started

    def said(self, name: str = "serve") -> str:
        return (self.place / f"{name}.out").read_text()

    def wait_until_ready(self, name: str = "serve", times: int = 1) -> None:
        """Until everything is up, for the so manyeth time."""
        process = self.process

        def look() -> bool:
            assert process is None or process.poll() is None, self.said(name) + self.logs()
            return self.said(name).count("Ctrl-C stops everything") == times

        wait_for("vertebra serve", look)

    def home(self, name: str = "serve") -> Path:
        return self.place / name / "vertebra" / "prefect" / "serve"

    def logs(self) -> str:
        return "".join(path.read_text()[-3000:] for path in self.home().glob("*.log"))

    def stop(self, seconds: float = 300.0) -> list[str]:
        """SIGTERM; the command lines of whatever outlived it."""
        assert self.process is not None
        tree = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(seconds)
        return [" ".join(left.cmdline()) for left in psutil.wait_procs(tree, timeout=30)[1]]

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        async def ask() -> Any:
            async with get_client() as client:
                return await question(client)

        with temporary_settings({PREFECT_API_URL: self.url}):
            return asyncio.run(ask())

    def runs(self, *states: str) -> list[FlowRun]:
        """Runs of the deployments in one of these states, in order of when they were due."""
        found = self._ask(lambda client: client.read_flow_runs(limit=200, sort=FlowRunSort.EXPECTED_START_TIME_ASC))
        return [run for run in found if run.deployment_id and run.state and run.state.name in states]

    def run_now(self, name: str, **parameters: Any) -> FlowRun:
        """Ask for a run of a deployment."""

        async def create(client: Any) -> FlowRun:
            deployment = await client.read_deployment_by_name(name)
            return await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)

        return self._ask(create)

    def ended(self, run: FlowRun) -> FlowRun:
        """The run, once it has come to its end."""

        def look() -> FlowRun | None:
            now = self._ask(lambda client: client.read_flow_run(run.id))
            return now if now.state.is_final() else None

        return wait_for(f"the end of run {run.name}", look)

    def artifacts(self, run: FlowRun) -> dict[str, Artifact]:
        """Artifacts of a run by their keys."""
        found = self._ask(lambda client: client.read_artifacts(limit=200))
        return {one.key: one for one in found if one.flow_run_id == run.id and one.key}


def owner_pid(run: FlowRun) -> int:
    """The process that signed a run."""
    return json.loads(str(run.labels["vertebra.owner"]))["pid"]


def kill_tree(pid: int) -> None:
    """A process and all that it has started, at once, by signal 9."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in tree:
        process.suspend()  # so that none of them sees another one die
    for process in tree:
        process.kill()
    psutil.wait_procs(tree, timeout=30)


def data_of(cohort: Path) -> dict[str, list[str]]:
    """Every data column of every row of every table; only timings and the device are left out."""
    snapshot = latest_snapshot(Layout(cohort))
    return {
        table: sorted(
            json.dumps(row, default=str)
            for row in pq.read_table(snapshot / f"{table}.parquet").select(data_columns(table)).to_pylist()
        )
        for table in ("studies", "vertebrae", "patients", "levels_in_view")
    }
