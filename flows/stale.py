"""Runs that Prefect takes for running although their process is dead.

Such a run holds the slot of its deployment, and every later night is cancelled for it. Prefect notices a death only
while the worker that started the process lives; so each run signs with its process (`sign`), and whoever can look at
that machine tells the server of the dead (`bury_dead`): `vertebra serve` all the time, and each night at its start.
Where nobody can look, an automation waits for the heartbeats to stop (`watch_heartbeats`).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import Crashed

from vertebra_core.cohort.lock import LEASE_SECONDS, Owner, this_process

SIGNATURE = "vertebra.owner"
"""Label of a flow run: the process that carries it out."""
ACTIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
AUTOMATION = "vertebra: crash a run whose heartbeats stopped"
SILENT_SECONDS = LEASE_SECONDS
"""Without a heartbeat for so long a run is taken for dead: the lease of a cohort, six heartbeats of
`HEARTBEAT_SECONDS`. A busy machine was seen to lose two in a row."""
NO_HEARTBEAT = "no heartbeat; the next run goes on where this one stopped"
HEARTBEAT_SECONDS = 30
"""The least that Prefect allows."""
ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut")
START_SLACK_SECONDS = 60.0
"""By which clocks of a process and of the server may disagree on when a run was handed to its process."""


@dataclass(frozen=True)
class ActiveRun:
    """A run that the server takes for waiting to begin or running.

    Parameters
    ----------
    owner : Owner or None
        The process that signed it; None before its flow began.
    pid : int or None
        As told by the worker that started it, on whatever machine.
    since : datetime
        When it came into its present state.
    """

    identifier: UUID
    name: str
    owner: Owner | None
    pid: int | None
    since: datetime


def sign(client: SyncPrefectClient, flow_run: UUID) -> None:
    """Say which process carries a run out."""
    client.update_flow_run_labels(flow_run, {SIGNATURE: json.dumps(asdict(this_process()))})


async def active_runs(client: PrefectClient, **whose: Any) -> list[ActiveRun]:
    """The runs that the server takes for alive; ``whose`` are filters of `PrefectClient.read_flow_runs`."""
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(ACTIVE)))
    found = await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=states), **whose)
    return [_active(run) for run in found]


def of_deployments(pool: str, names: Sequence[str]) -> dict[str, Any]:
    """The filters for all runs of deployments of a work pool."""
    return {
        "work_pool_filter": WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        "deployment_filter": DeploymentFilter(name=DeploymentFilterName(any_=list(names))),
    }


def of_deployment(identifier: UUID) -> dict[str, Any]:
    """The filters for all runs of one deployment."""
    return {"deployment_filter": DeploymentFilter(id=DeploymentFilterId(any_=[identifier]))}


def _active(run: FlowRun) -> ActiveRun:
    signature, pid = run.labels.get(SIGNATURE), run.infrastructure_pid or ""
    owner = Owner(**json.loads(str(signature))) if signature else None
    assert run.state is not None
    return ActiveRun(run.id, run.name, owner, int(pid) if pid.isdecimal() else None, run.state.timestamp)


def is_dead(run: ActiveRun, worker_since: datetime | None = None) -> bool:
    """Whether a run's process is dead; False where that cannot be seen from here.

    Parameters
    ----------
    worker_since : datetime, optional
        Start of the only worker that takes runs, on this machine. Without it a run that nobody signed is left alone:
        its process may be anywhere.
    """
    if run.owner is not None:
        return run.owner.is_alive() is False
    if worker_since is None:
        return False
    if run.pid is None:
        return run.since < worker_since - timedelta(seconds=START_SLACK_SECONDS)
    try:
        process = psutil.Process(run.pid)
        reused = process.create_time() > run.since.timestamp() + START_SLACK_SECONDS
        return reused or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def bury_dead(client: PrefectClient, worker_since: datetime | None = None, **whose: Any) -> list[ActiveRun]:
    """Set the runs whose process is dead to Crashed, with the flows they had started; returns them.

    Parameters
    ----------
    client : PrefectClient
    worker_since : datetime, optional
        As for `is_dead`.
    **whose
        As for `active_runs`.
    """
    dead = [run for run in await active_runs(client, **whose) if is_dead(run, worker_since)]
    for run in dead:
        parts = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.identifier]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(ACTIVE))),
            )
        )
        where = f"process {run.owner.pid} on {run.owner.host}" if run.owner else "process"
        for identifier in (*(part.id for part in parts), run.identifier):
            state = Crashed(message=f"its {where} is dead; the next run goes on where it stopped")
            await client.set_flow_run_state(identifier, state, force=True)
    return dead


async def watch_heartbeats(client: PrefectClient, silent_seconds: float = SILENT_SECONDS) -> None:
    """Let the server itself set a run to Crashed when its heartbeats stop: for machines nobody looks at."""
    heartbeat = "prefect.flow-run.heartbeat"
    wanted = AutomationCore(
        name=AUTOMATION,
        description="Made by `vertebra serve`: a dead run must not keep the next ones from starting.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{end}" for end in ENDS)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silent_seconds),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name=None, message=NO_HEARTBEAT)],
    )
    same = await client.read_automations_by_name(AUTOMATION)
    if not same:
        await client.create_automation(wanted)
    elif AutomationCore(**same[0].model_dump(include=set(AutomationCore.model_fields))) != wanted:
        await client.update_automation(same[0].id, wanted)


def ask_to_wind_up(runs: Iterable[ActiveRun]) -> list[psutil.Process]:
    """Send SIGTERM to the processes of runs on this machine; returns those that live."""
    here = this_process()
    found = []
    for run in runs:
        if run.owner and run.owner.host == here.host and run.owner.boot == here.boot and run.owner.is_alive():
            found.append(psutil.Process(run.owner.pid))
    for process in found:
        process.terminate()
    return found
