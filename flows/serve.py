"""Everything that scheduled nights need on one machine: Prefect's server, the deployments of a file, and a worker.

The parts are ordinary Prefect; this module starts them with the settings that matter, keeps them running, tells the
server of runs that died, and stops them in order. Killed at any instant, it goes on with the same schedules when it is
started again: they lie in the server's database.
"""

import asyncio
import fcntl
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectAlreadyExists
from pydantic import TypeAdapter

from flows.server import ALWAYS, DISCREET, environment, wait_until_healthy
from flows.server_process import LOOPBACK
from flows.stale import (
    HEARTBEAT_SECONDS,
    ActiveRun,
    active_runs,
    ask_to_wind_up,
    bury_dead,
    of_deployments,
    watch_heartbeats,
)
from flows.supervise import Child
from vertebra_core.errors import CouldNotRun, WrongUse
from vertebra_core.storage import is_url

KEEP_RUNS_DAYS = 60
"""Age beyond which the server forgets runs; a night of 500 shards is about 10 MB of its database."""
LOOK_SECONDS, BURY_SECONDS = 0.5, 10.0
WORKER_STOP_SECONDS = 45.0
"""Prefect gives a run 30 s when its worker stops."""
SERVER_STOP_SECONDS = 15.0
DEPLOY_SECONDS = 600.0
"""Three deployments take 7 s, and minutes on a very busy machine."""


@dataclass(frozen=True)
class Serving:
    """What is to be served.

    Parameters
    ----------
    config : Path
        The ``prefect.yaml``; relative places in it are seen from its folder.
    home : Path
        Where the server's database and the logs lie.
    api : str or None
        Address of a server that runs elsewhere; None: one of our own.
    grace_s : float
        Seconds that nights get to finish what they have begun when everything is stopped.
    """

    config: Path
    home: Path
    host: str = LOOPBACK
    port: int = 4200
    api: str | None = None
    grace_s: float = 120.0

    @property
    def url(self) -> str:
        """Address of the API."""
        reached = LOOPBACK if self.host == "0.0.0.0" else self.host
        return self.api or f"http://{reached}:{self.port}/api"


@dataclass(frozen=True)
class Deployments:
    """What a file of deployments says of them all: the work pool, their names, and the archives they read."""

    pool: str
    names: tuple[str, ...]
    archives: tuple[str, ...] = ()

    def filters(self) -> dict[str, Any]:
        """Which runs are theirs."""
        return of_deployments(self.pool, self.names)


def serve(serving: Serving, say: Callable[[str], None]) -> None:
    """Serve until interrupted (KeyboardInterrupt: Ctrl-C, or SIGTERM by `flows.cli`); then stop everything in order.

    Raises
    ------
    WrongUse
        The file is no deployment file.
    CouldNotRun
        Served already; the port is taken; the server or the deployments did not come up.
    """
    deployments = read_config(serving.config)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script started us with `&`
    with only_one(serving.home), environment(settings_of(serving)):
        server = None if serving.api else start_server(serving)
        command = _module("flows.worker_process", deployments.pool, worker_name())
        worker = Child("worker", command, {}, log_of(serving, "worker"))
        try:
            asyncio.run(prepare(deployments.pool))
            deploy(serving)
            asyncio.run(tell_of_dead(deployments, datetime.now(UTC), say))
            worker.start()
            tell(serving, asyncio.run(due_dates(deployments.names)), say)
            tell_missing(serving, deployments, say)
            look_after([child for child in (server, worker) if child], deployments, say)
        except KeyboardInterrupt:
            say("stopping: nights finish what they have begun")
            wind_up(deployments, serving.grace_s, say)
        finally:
            worker.stop(WORKER_STOP_SECONDS)
            if server:
                server.stop(SERVER_STOP_SECONDS)


def worker_name() -> str:
    """Of this machine's worker."""
    return f"vertebra-{socket.gethostname()}"


def read_config(config: Path) -> Deployments:
    """What a ``prefect.yaml`` deploys.

    Raises
    ------
    WrongUse
        It is no such file, or names several work pools.
    """
    try:
        document = yaml.safe_load(config.read_text())
        found = document["deployments"]
        pools = {deployment["work_pool"]["name"] for deployment in found}
        names = tuple(deployment["name"] for deployment in found)
        parameters = [deployment.get("parameters") or {} for deployment in found]
        archives = tuple(dict.fromkeys(str(one) for some in parameters for one in some.get("archives", ())))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise WrongUse(f"{config}: not a file of deployments ({type(error).__name__}: {error})") from error
    if len(pools) != 1:
        raise WrongUse(f"{config}: all deployments must use one work pool, found {', '.join(sorted(pools))}")
    return Deployments(pools.pop(), names, archives)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """One of us per home; the system frees the lock with its process."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(home / "serve.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CouldNotRun(f"{home}: served already by another `vertebra serve`") from error
        yield


def settings_of(serving: Serving) -> dict[str, str]:
    """Prefect's settings for the server, the worker and the nights."""
    return {
        **ALWAYS,
        **DISCREET,
        "PREFECT_HOME": str(serving.home),
        "PREFECT_API_URL": serving.url,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(serving.home / "ui"),  # the installation may be read-only
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(KEEP_RUNS_DAYS * 24 * 3600),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "VERTEBRA_HOME": str(serving.config.resolve().parent),
    }


def start_server(serving: Serving) -> Child:
    """Start the server and wait until it answers."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serving.host, serving.port))
        except OSError as error:
            raise CouldNotRun(
                f"port {serving.port} of {serving.host}: {error.strerror}; --port takes another"
            ) from error
    command = _module("flows.server_process", str(serving.port), serving.host)
    server = Child("server", command, {}, log_of(serving, "server"))
    try:
        wait_until_healthy(server.start(), serving.url, server.log)
    except BaseException:
        server.stop(SERVER_STOP_SECONDS)
        raise
    return server


async def prepare(pool: str) -> None:
    """Make sure of the work pool and of the automation."""
    async with get_client() as client:
        with suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        await watch_heartbeats(client)


def deploy(serving: Serving) -> None:
    """Register the deployments of the file, with their schedules."""
    command = _module("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", serving.config.name)
    log = log_of(serving, "deploy")
    with open(log, "wb") as sink:
        folder = serving.config.resolve().parent
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=folder, timeout=DEPLOY_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise CouldNotRun(f"`prefect deploy --all` took more than {DEPLOY_SECONDS:.0f} s; see {log}") from error
    if done.returncode:
        raise CouldNotRun(f"`prefect deploy --all` failed for {serving.config}; see {log}")


@dataclass(frozen=True)
class Due:
    """A deployment and when it runs next; None: only when it is asked to."""

    name: str
    flow: str
    next: datetime | None
    paused: bool


async def due_dates(names: Sequence[str]) -> list[Due]:
    """When the deployments with these names are due, in their order."""
    async with get_client() as client:
        flows = {flow.id: flow.name for flow in await client.read_flows()}
        found = {deployment.name: deployment for deployment in await client.read_deployments()}
    due = []
    for one in (found[name] for name in names if name in found):
        active = [schedule.schedule for schedule in one.schedules if schedule.active]
        dates = [date for schedule in active for date in await _next_dates(schedule.model_dump())]
        due.append(Due(one.name, flows[one.flow_id], min(dates, default=None), one.paused))
    return due


async def _next_dates(schedule: dict) -> Sequence[datetime]:
    from prefect.server.schemas.schedules import SCHEDULE_TYPES

    return await TypeAdapter(SCHEDULE_TYPES).validate_python(schedule).get_dates(1, datetime.now(UTC))


def tell(serving: Serving, due: list[Due], say: Callable[[str], None]) -> None:
    """Say where everything is and what happens next."""
    where = "of its own elsewhere" if serving.api else f"logs and database in {serving.home}"
    say(f"server     {serving.url.removesuffix('/api')} ({where})")
    say(f"worker     runs what is due; its log and that of the nights: {log_of(serving, 'worker')}")
    for one in due:
        if one.paused:
            when = "is paused"
        elif one.next is None:
            when = f"on demand: prefect deployment run '{one.flow}/{one.name}'"
        else:
            when = f"next run {one.next.astimezone():%Y-%m-%d %H:%M %Z}"
        say(f"{one.name:<14} {when}")
    say(f"PREFECT_API_URL={serving.url}")
    say("Ctrl-C stops everything; started again, it goes on with the same schedules")


def tell_missing(serving: Serving, deployments: Deployments, say: Callable[[str], None]) -> None:
    """Say which archives are not there: not mounted yet, or the file is still as it came."""
    for archive in deployments.archives:
        if not is_url(archive) and not (serving.config.resolve().parent / archive).exists():
            say(f"no such archive now: {archive}; the place stands in {serving.config}")


def look_after(children: Sequence[Child], deployments: Deployments, say: Callable[[str], None]) -> NoReturn:
    """Keep the children running and tell the server of runs that died, until interrupted."""
    looked, since = time.monotonic(), datetime.now(UTC)
    while True:
        time.sleep(LOOK_SECONDS)
        again = [child.name for child in children if child.keep_running(say)]
        if "worker" in again:
            since = datetime.now(UTC)
        if time.monotonic() - looked > BURY_SECONDS:
            asyncio.run(tell_of_dead(deployments, since, say))
            looked = time.monotonic()


async def tell_of_dead(deployments: Deployments, worker_since: datetime, say: Callable[[str], None]) -> None:
    """Tell the server of dead runs; whatever keeps it from answering, they are told later and the rest goes on."""
    with suppress(Exception):
        async with get_client() as client:
            workers = await client.read_workers_for_work_pool(deployments.pool)
            others = [one for one in workers if one.name != worker_name() and one.status == WorkerStatus.ONLINE]
            for run in await bury_dead(client, None if others else worker_since, **deployments.filters()):
                say(f"run {run.name} had died: set to Crashed, the next one goes on where it stopped")


def wind_up(deployments: Deployments, seconds: float, say: Callable[[str], None]) -> None:
    """Let the nights of this machine finish what they have begun; a second interrupt hurries."""

    async def active() -> list[ActiveRun]:
        """Runs that the server takes for alive."""
        async with get_client() as client:
            return await active_runs(client, **deployments.filters())

    try:
        asked = ask_to_wind_up(asyncio.run(active()))
        if psutil.wait_procs(asked, timeout=seconds)[1]:
            say(f"a night is still at work after {seconds:.0f} s: it is ended, the next one repeats its open shards")
    except Exception:
        say("the server does not answer; nights are ended as they are")


def log_of(serving: Serving, name: str) -> Path:
    """Where a child writes what it says."""
    return serving.home / f"{name}.log"


def _module(name: str, *words: str) -> list[str]:
    return [sys.executable, "-m", name, *words]
