"""The scheduled night of ``prefect.yaml``: what ``vertebra screen`` does, as a Prefect flow that says how it went.

It ends Completed when it could run, whatever became of single studies: these are rows with a reason, told in the
message and the artifacts. It ends Failed only when it could not run. There are no retries: the next night goes on from
what is committed.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.cli import one_line
from flows.progress import progress_line, watched
from flows.screen import Night, screen_archives
from flows.settings import InForce, load_settings
from flows.stale import bury_dead, of_deployment, sign
from tasks.artifacts import DRIFT, FAILURES, FLOW, LINKS, THROUGHPUT, links_artifact, progress_artifact, table_artifact
from tasks.cohort_report import REPORT_FILE
from tasks.method import SHIPPED
from tasks.night import (
    adds_up,
    drift_lines,
    drift_sentence,
    failure_lines,
    flow_lines,
    rows_of_run,
    throughput_lines,
)
from tasks.study import describe
from vertebra_core.cohort.drift import scanner_drift
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.lock import LEASE_SECONDS, CohortHeld
from vertebra_core.cohort.sentinels import Verdict
from vertebra_core.errors import VertebraError
from vertebra_core.storage import place_of

LEASE_LOOK_SECONDS = 10.0
"""Between two looks at the lock of an owner that may be dead."""


@flow(name="nightly", persist_result=False)
def nightly(
    archives: list[str],
    cohort: str,
    profile: str = "local",
    until: str | None = None,
    time_zone: str | None = None,
    method: str = SHIPPED,
) -> State:
    """Screen what is new and publish; the shards run as a flow within this one.

    Parameters
    ----------
    archives : list of str
        Folders or URLs.
    cohort : str
    profile : str
        Name of a profile, or path of a TOML file.
    until : str, optional
        Hour at which the night begins no more shards, "06:00" (setting ``run.until``).
    time_zone : str, optional
        Where a clock shows that hour, "Europe/London"; else that of the worker's machine.
    method : str
        Import path of what is done to a volume.
    """
    try:
        begin_run()
        settings = load_settings(profile, {"run.until": until, "run.time_zone": time_zone})
        night = screen_when_free(archives, cohort, settings, method)
        tell_night(cohort, night)
    except Exception as error:
        return Failed(message=without_names(error))
    return Completed(message=sentence(night))


def without_names(error: Exception) -> str:
    """One line for Prefect's database: our own errors name nobody, of others only type and place are told."""
    if isinstance(error, VertebraError):
        return one_line(str(error))
    told = describe(error)
    return f"unforeseen {told['error']} at {', '.join(told['frames'][-2:])} (digest {told['digest']})"


def begin_run() -> None:
    """Sign this run, and free what runs of the same deployment left that died; a night is not lost for that."""
    try:
        sign_and_bury()
    except Exception as error:
        say(f"the run could not be signed ({type(error).__name__}); should it die, its heartbeats tell")


def sign_and_bury() -> None:
    """What `begin_run` does."""
    if flow_run.id is None:  # called as a function, without a server
        return
    with get_client(sync_client=True) as client:
        sign(client, UUID(flow_run.id))
        deployment = client.read_flow_run(UUID(flow_run.id)).deployment_id

    async def bury(deployment: UUID) -> None:
        """Set what died to Crashed."""
        async with get_client() as client:
            for run in await bury_dead(client, **of_deployment(deployment)):
                say(f"run {run.name} had died: set to Crashed")

    if deployment:
        asyncio.run(bury(deployment))


def screen_when_free(archives: list[str], cohort: str, settings: InForce, method: str) -> Night:
    """Screen; where the cohort is held by an owner that cannot be looked at, wait until its lease has run out.

    Raises
    ------
    CohortHeld
        The owner is alive: it is seen, or it has renewed the lease meanwhile.
    """
    end = time.monotonic() + LEASE_SECONDS + LEASE_LOOK_SECONDS
    while True:
        try:
            return screen_archives(archives, cohort, settings, method=method, say=say, watch=watched_in_pages)
        except CohortHeld as held:
            if held.lease_left_s is None or time.monotonic() > end:
                raise
            say(str(held))
            time.sleep(min(LEASE_LOOK_SECONDS, max(held.lease_left_s, 0.0) + 1.0))


def say(line: str) -> None:
    """A line for the worker's log."""
    print(line, flush=True)


@contextmanager
def watched_in_pages(what: str, total: int | None, done: Callable[[], int]) -> Iterator[None]:
    """Show how far the night is in the log and, less often, in Prefect's pages."""
    start, one_at_a_time = time.monotonic(), threading.Lock()

    def counted() -> int:
        """What is done by now; asked from two threads."""
        with one_at_a_time:
            return done()

    def line(n: int) -> str:
        """How far it is with so many done."""
        return progress_line(what, n, total, time.monotonic() - start)

    with watched(what, total, counted), progress_artifact(total or 0, counted, line):
        yield


def tell_night(cohort: str, night: Night) -> None:
    """Everything an engineer wants to know in the morning, as artifacts of this run."""
    layout = Layout(place_of(cohort))
    rows, record = rows_of_run(layout, night.run), json.loads(layout.run_record(night.run).read_text())
    counts = flow_lines(night.settled, night.arriving, night.due, rows)
    whole = "the counts add up" if adds_up(night.settled, night.due, rows) else "THE COUNTS DO NOT ADD UP"
    table_artifact(FLOW, counts, f"What became of the studies of run {night.run}; {whole}.")
    failures = failure_lines(rows)
    table_artifact(FAILURES, failures, f"Failures of run {night.run}; `vertebra show STUDY` shows one of the studies.")
    speed = throughput_lines(rows, record["started"], record["ended"])
    table_artifact(THROUGHPUT, speed, f"Speed of run {night.run}: seconds by stage of a study.")
    drifts = scanner_drift(night.snapshot.folder, set(rows["study_key"].to_pylist())) if rows.num_rows else []
    table_artifact(DRIFT, drift_lines(drifts), drift_sentence(drifts))
    report = night.snapshot.folder / REPORT_FILE
    links = [
        f"Snapshot: `{night.snapshot.folder}` ({'published' if night.snapshot.is_new else 'unchanged'})",
        f"Report: `{report}`" if report.exists() else f"Report: none yet; `vertebra report {cohort}` writes it",
        f"Sentinel studies: {night.sentinels.verdict.value}",
        f"Log of the run: `{layout.logs(night.run)}`",
        f"Where the cohort stands: `vertebra status {cohort}`",
    ]
    links_artifact(LINKS, links)


def sentence(night: Night) -> str:
    """How a night went, in one line.

    It is the message of the run's state: what a list of runs shows.
    """
    settled = night.settled
    new = ", ".join(f"{count} {reason}" for reason, count in settled.new.items()) or "nothing was due"
    why = f" ({settled.left_why})" if settled.left_why else ""
    left = f"; {settled.left} left for the next run{why}" if settled.left else ""
    failed = f"; {len(settled.failures)} to look into" if settled.failures else ""
    drifted = "; sentinel studies drifted" if night.sentinels.verdict is Verdict.DRIFTED else ""
    return f"{settled.seen} studies, {night.due} due: {new}{left}{failed}{drifted}"
