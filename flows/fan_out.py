"""Fan out: the shards of a run as Prefect tasks on a Dask cluster (`flows.cluster`)."""

import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import dask
import distributed
from prefect import flow
from prefect.context import FlowRunContext
from prefect_dask import DaskTaskRunner

from flows.cluster import check_workers, cluster_of, require_server, slots_for, workers_of
from flows.server import prefect_api
from flows.settings import InForce
from tasks.log import run_log
from tasks.loss import attempts_at, give_up, part, put_back
from tasks.plan import FannedOut, read_shard
from tasks.screen import screen_shard
from tasks.settings import RunSettings
from tasks.until import GRACE_SECONDS, closing_time, stop_file
from vertebra_core.cohort.commit import replace as replace_file
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import is_committed
from vertebra_core.storage import place_of

WORKER_DIED = "KilledWorker"
"""How Dask says that a worker died over a shard."""
MOST_RETURNS = 3
"""A shard that came back so often with an error, of a store for instance, is not handed out again."""
MOST_UNBEGUN = 30
"""A shard that waited in the queue of a worker that died is innocent, and there are as many such deaths as there are
studies that kill; where no worker lives long enough to begin a shard, this ends it."""
MOST_CLUSTERS = 3
"""A cluster that lost all its workers is replaced by a new one, for what is not committed yet."""
NO_WORKER_SECONDS = 300.0
"""A cluster without a worker for so long will not get one back; starting takes 10 s, and minutes on a busy machine."""
LOOK_SECONDS, LOOK_AT_WORKERS_SECONDS = 0.2, 15.0


@dataclass(frozen=True)
class Queued:
    """A shard that is to be handed out.

    Parameters
    ----------
    name : str
    returns : int
        How often it came back without a result.
    attempts_seen : int
        Attempts that its log told of when it came back last.
    """

    name: str
    returns: int = 0
    attempts_seen: int = 0


def run_on_dask(layout: Layout, run: str, shards: Sequence[str], settings: InForce) -> FannedOut:
    """Screen the shards as tasks of a Prefect flow on the workers that the settings name."""
    require_server(settings)
    closing = closing_time(layout, run, settings.run)
    left = [Queued(name) for name in shards]
    if not closing.has_come():
        with prefect_api(layout.root):
            for _ in range(MOST_CLUSTERS):
                left = _fan_out(layout, run, left, settings)
                if not left or closing.has_come():
                    break
    return put_back([one.name for one in left], closing)


def _fan_out(layout: Layout, run: str, shards: Sequence[Queued], settings: InForce) -> list[Queued]:
    """Hand the shards to one cluster; what is left when all is done, the hour has come or all workers are lost."""
    with cluster_of(settings, len(shards)) as cluster:
        check_workers(cluster, settings, layout, run, shards[0].name)
        fan_out = screen_shards.with_options(task_runner=DaskTaskRunner(address=cluster.address))
        with dask.annotate(resources=cluster.asks):
            write_queue(layout, run, shards)
            left = fan_out(str(layout.root.resolve()), run, len(shards), cluster.asks, asdict(settings.run))
    return [Queued(**one) for one in left]


def write_queue(layout: Layout, run: str, shards: Sequence[Queued]) -> None:
    """Put down what the flow is to hand out: Prefect takes no more than 0.5 MiB of parameters, some 8,000 shards."""
    replace_file(layout.queue(run), json.dumps([asdict(one) for one in shards]).encode(), mode=0o600)


def read_queue(layout: Layout, run: str) -> list[Queued]:
    """What `write_queue` wrote."""
    return [Queued(**one) for one in json.loads(layout.queue(run).read_bytes())]


@flow(name="screen-shards", persist_result=False, validate_parameters=False)
def screen_shards(cohort: str, run: str, n_shards: int, asks: dict, settings: dict) -> list[dict]:
    """Fan out with a window of one shard per worker; what is committed is told by the ledger, not by this flow.

    A wider window would let a dying worker take innocent shards with it. Futures are dropped when they are read:
    a held result that is lost with its worker would be computed again. ``n_shards`` is for people; which they are
    stands in the private folder (`read_queue`).

    Returns
    -------
    list of dict
        Shards that are left (`Queued`), because the hour has come or because the cluster lost all its workers.
    """
    layout = Layout(place_of(cohort))
    window = Window(layout, run, asks, RunSettings(**settings))
    return [asdict(one) for one in window.run(read_queue(layout, run))]


class Window:
    """The shards that are under way."""

    def __init__(self, layout: Layout, run: str, asks: dict[str, float], settings: RunSettings) -> None:
        self._layout, self._run, self._workers = layout, run, Workers(asks)
        self._attempts, self._closing = settings.attempts, closing_time(layout, run, settings)
        self._log = run_log(layout, run)
        self._waiting: deque[Queued] = deque()
        self._running: dict[Queued, distributed.Future] = {}
        self._left: list[Queued] = []
        self._stopping = self._told = False

    def run(self, shards: Iterable[Queued]) -> list[Queued]:
        """Hand out shards until all are done or the hour has come; what is left."""
        self._waiting.extend(one for one in shards if not is_committed(self._layout, self._run, one.name))
        while self._waiting or self._running:
            self._look_at_the_clock()
            self._hand_out()
            for queued in [queued for queued, future in self._running.items() if future.done()]:
                self._take_back(queued, self._running.pop(queued))
            if self._workers.all_lost():
                self._log("workers_lost", running=self._names(), waiting=len(self._waiting))
                return [*self._left, *self._running, *self._waiting]
            time.sleep(LOOK_SECONDS)
        return self._left

    def _look_at_the_clock(self) -> None:
        """At the hour begin no further shard; after the grace tell those that run to commit what they have."""
        if self._closing.has_come() and not self._stopping:
            self._stopping = True
            self._log("run_stopping", running=self._names(), waiting=len(self._waiting))
            self._left += self._waiting
            self._waiting.clear()
        if self._closing.has_come(GRACE_SECONDS) and not self._told:
            self._told = True
            replace_file(stop_file(self._layout, self._run), b"")

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self._workers.slots():
            queued = self._waiting.popleft()
            cohort = str(self._layout.root.resolve())
            self._running[queued] = screen_shard.submit(cohort, self._run, queued.name).wrapped_future

    def _take_back(self, queued: Queued, future: distributed.Future) -> None:
        """Forget a shard that is committed; of another one see what is to be done."""
        if is_committed(self._layout, self._run, queued.name):
            if self._told:  # perhaps not all of it
                self._left.append(queued)
            return
        error = error_of(future)
        self._log("shard_lost", shard=queued.name, error=error, tries=queued.returns + 1)
        if self._stopping:
            self._left.append(queued)
        else:
            self._waiting += self._after_loss(queued, error)

    def _after_loss(self, queued: Queued, error: str) -> list[Queued]:
        """What is handed out instead of a shard that was lost: itself, its parts, or nothing (`tasks.loss`)."""
        attempts = attempts_at(self._layout, self._run, queued.name)
        new = attempts[queued.attempts_seen :]
        if error == WORKER_DIED and any(one.killed_a_worker for one in new):
            shard = read_shard(self._layout, self._run, queued.name)
            if len(shard.studies) > 1:
                parts = part(self._layout, self._run, queued.name, new[-1].at)
                self._log("shard_parted", shard=queued.name, parts=parts)
                return [Queued(name) for name in parts]
            deaths = sum(one.killed_a_worker for one in attempts)
            if deaths >= self._attempts:
                give_up(self._layout, self._run, shard, deaths)
                return []
        again = Queued(queued.name, queued.returns + 1, len(attempts))
        return [again] if again.returns <= (MOST_RETURNS if new else MOST_UNBEGUN) else []

    def _names(self) -> list[str]:
        return sorted(one.name for one in self._running)


class Workers:
    """What the cluster of the present flow has; looked up no more often than every `LOOK_AT_WORKERS_SECONDS`.

    Parameters
    ----------
    asks : mapping
        Resources that each shard asks of its worker.
    """

    def __init__(self, asks: Mapping[str, float]) -> None:
        context = FlowRunContext.get()
        assert context is not None
        self._client: distributed.Client = context.task_runner.client
        self._asks, self._slots = asks, 0
        self._last_seen, self._last_look = time.monotonic(), float("-inf")

    def slots(self) -> int:
        """Shards that can run at a time now: workers of a queue come late and leave early."""
        self._look()
        return self._slots

    def all_lost(self) -> bool:
        """Whether there has been no worker for `NO_WORKER_SECONDS`."""
        self._look()
        return self._last_look - self._last_seen > NO_WORKER_SECONDS

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._last_look > LOOK_AT_WORKERS_SECONDS:
            self._last_look = now
            workers = workers_of(self._client)
            self._slots = slots_for(workers, self._asks)
            if workers:
                self._last_seen = now


def error_of(future: distributed.Future) -> str:
    """Name of the error with which a shard ended: of Dask, where a worker died; else of the task, from its state."""
    if future.status == "finished":
        return type(future.result().result(raise_on_failure=False)).__name__
    return type(future.exception()).__name__ if future.status == "error" else future.status
