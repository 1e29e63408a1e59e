"""A Prefect API for the time of a run: the configured one, or a private server of our own.

Prefect's ephemeral server is never used: every Dask worker process would start one of its own (and they time out).
The private server listens on the loopback interface only, keeps an SQLite file per cohort, sends nothing anywhere,
and ends with this process however that ends (`flows.server_process`).
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vertebra_core.errors import CouldNotRun
from vertebra_core.storage import Place

START_SECONDS = 600.0
"""Longest wait for the server. The first start takes 9 s on two idle cores and took over 120 s on two very busy ones;
a server that ended is noticed at once, so this only bounds one that hangs."""
LARGEST_DATABASE = 200 * 1024**2
"""Bytes. A task run leaves about 20 kB and the committed files are the truth: beyond this the history is dropped."""
STATE_VARIABLE = "VERTEBRA_STATE_DIR"

ALWAYS = {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}
DISCREET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
}
"""No telemetry, no look for newer versions, no logs in the database; task runs recorded in batches (half the CPU)."""
QUIET = {
    **DISCREET,
    "PREFECT_SERVER_UI_ENABLED": "false",
    **{
        f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false"
        for name in ("SCHEDULER", "LATE_RUNS", "FOREMAN", "TRIGGERS", "PAUSE_EXPIRATIONS", "CANCELLATION_CLEANUP")
    },
}
"""No services for schedules and work pools either, which a server of one run has none of (a third of its idle CPU)."""


def hush() -> None:
    """Keep Prefect's log lines, which hold tracebacks, off the terminal; call before Prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")


@contextmanager
def prefect_api(cohort: Place) -> Iterator[str]:
    """Make sure that an API answers while the block runs, here and in child processes; yields its address.

    Raises
    ------
    CouldNotRun
        It answers no more. What is committed stays: the ledger knows it, not the server.
    """
    import httpx

    try:
        with _prefect_api(cohort) as url:
            yield url
    except httpx.HTTPError as error:
        raise CouldNotRun(
            f"the Prefect server does not answer any more ({type(error).__name__}); what is committed stays, and the "
            "same command goes on where this run stopped"
        ) from error


@contextmanager
def _prefect_api(cohort: Place) -> Iterator[str]:
    with environment(ALWAYS):
        configured = configured_api()
        if configured:
            yield configured
            return
        with (
            _state_folder(cohort) as home,
            _private_server(home) as url,
            environment({**QUIET, "PREFECT_HOME": str(home), "PREFECT_API_URL": url}),
        ):
            yield url


def configured_api() -> str | None:
    """The address from the environment or from the active Prefect profile."""
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for child processes, and the same Prefect settings in this one."""
    import prefect.settings

    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    updates = {getattr(prefect.settings, name): value for name, value in variables.items() if _is_setting(name)}
    try:
        with prefect.settings.temporary_settings(updates=updates):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _is_setting(name: str) -> bool:
    import prefect.settings

    return name.startswith("PREFECT_") and hasattr(prefect.settings, name)


def state_folder_base() -> Path:
    """Where private servers keep their databases."""
    base = os.environ.get(STATE_VARIABLE) or os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "vertebra" / "prefect"


@contextmanager
def _state_folder(cohort: Place) -> Iterator[Path]:
    """The server's folder: one per cohort in the user's state folder, or a passing one where that is not writable."""
    home = state_folder_base() / hashlib.sha256(str(cohort.resolve()).encode()).hexdigest()[:12]
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError:
        home = Path(tempfile.mkdtemp(prefix="vertebra-prefect-"))
        try:
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return
    database = home / "prefect.db"
    if database.exists() and database.stat().st_size > LARGEST_DATABASE:
        for file in home.glob("prefect.db*"):
            file.unlink()
    yield home


@contextmanager
def _private_server(home: Path) -> Iterator[str]:
    """Start the server, wait until it answers, and stop it afterwards."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    log = home / "server.log"
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server_process", str(port)],
            stdin=subprocess.PIPE,  # its end tells the server that we are gone
            stdout=sink,
            stderr=sink,
            env={**os.environ, **QUIET, "PREFECT_HOME": str(home), "PREFECT_API_URL": url},
            start_new_session=True,  # Ctrl-C is for us; the run still needs its server while it winds up
        )
    try:
        wait_until_healthy(process, url, log)
        yield url
    finally:
        stop(process, seconds=10)


def wait_until_healthy(process: subprocess.Popen, url: str, log: Path) -> None:
    """Wait until a server that was just started answers.

    Raises
    ------
    CouldNotRun
        It ended, or did not answer within `START_SECONDS`; the message names its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CouldNotRun(f"the Prefect server ended with code {process.returncode}; see {log}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise CouldNotRun(f"the Prefect server did not answer within {START_SECONDS:.0f} s; see {log}")


def stop(process: subprocess.Popen, seconds: float) -> None:
    """Ask a process to end, and end it if it has not within some seconds."""
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
