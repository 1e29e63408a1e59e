"""The night, from top to bottom: stock-taking, plan, shards, the count, the snapshot.

Everything a run does stands in `screen_archives`; the steps live in `tasks`, the science in `vertebra_core`. Nothing
is started for nothing: the Prefect server and the Dask cluster come up only when there are shards to run.
"""

import json
import os
import secrets
import threading
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from flows.loop import run_in_a_loop
from flows.metrics import telling_metrics
from flows.places import check_places
from flows.progress import watched
from flows.settings import InForce
from flows.stock import take_stock
from tasks.clock import now, seconds_since_boot, seconds_since_epoch
from tasks.cohort_report import add_report
from tasks.inventory import Tally, record_inventory
from tasks.log import run_log
from tasks.method import SHIPPED, choose_device, named_method
from tasks.pace import seconds_per_slice
from tasks.plan import FannedOut, Plan, Shard, order_other_series, order_studies, plan_shards
from tasks.progress import Teller
from tasks.publish import Settled, hand_out, publish_snapshot, settle
from tasks.record import add_to_record, begin_record, end_record, stop_record
from tasks.sentinel import judge_sentinels, sentinel_shards
from vertebra_core.cohort.commit import create, remove_folder, remove_half_written
from vertebra_core.cohort.identity import Pseudonyms, open_pseudonyms
from vertebra_core.cohort.layout import FORMAT, Layout, run_name
from vertebra_core.cohort.ledger import DamagedShard, MethodIdentity, committed, done_inputs, set_damaged_aside
from vertebra_core.cohort.links import known_keys
from vertebra_core.cohort.lock import LEASE_SECONDS, RENEW_SECONDS, release_lock, renew_lock, take_lock
from vertebra_core.cohort.others import committed_others
from vertebra_core.cohort.retries import read_lifted
from vertebra_core.cohort.sentinels import Judged, Verdict
from vertebra_core.cohort.snapshot import Snapshot
from vertebra_core.errors import CouldNotRun, Reason, WrongUse
from vertebra_core.reading.metadata import Metadata
from vertebra_core.storage import Place, answering, place_of, said_by_store
from vertebra_core.tables.schema import SCHEMA_VERSION

Runner = Callable[[Layout, str, Sequence[str], InForce], FannedOut]
"""Runs shards, given by name: the cohort, the run, the shards, how to run them."""
Watcher = Callable[[str, int | None, Callable[[], int]], AbstractContextManager[None]]
"""Shows how far something is: what is counted, how many there are, and how many are done (`flows.progress.watched`)."""
SECRET_VARIABLE = "VERTEBRA_PSEUDONYM_SECRET"


@dataclass(frozen=True)
class Night:
    """What a run did.

    Parameters
    ----------
    due : int
        Studies that had no result of this input, method and settings yet.
    measured_now : int
        Of these, sent to a worker.
    left_alone : dict
        Files and folders that belong to no series, by reason.
    arriving : int
        Studies that wait for the next run, because files of theirs changed a moment ago.
    sentinels : Judged
        What became of the sentinel studies.
    """

    run: str
    files_seen: int
    series_seen: int
    due: int
    measured_now: int
    settled: Settled
    left_alone: dict[str, int]
    snapshot: Snapshot
    arriving: int = 0
    sentinels: Judged = field(default_factory=Judged)

    @property
    def has_failures(self) -> bool:
        """Whether something this run tried failed: a study, a sentinel, or reading a file or folder."""
        unreadable = self.left_alone.get(Reason.UNREADABLE.code, 0)
        return bool(self.settled.failures or unreadable or self.sentinels.verdict is Verdict.DRIFTED)


def screen_archives(
    archives: Sequence[str | Path],
    cohort: str | Place,
    settings: InForce,
    runner: str = "dask",
    method: str = SHIPPED,
    say: Callable[[str], None] = print,
    metadata: Metadata | None = None,
    watch: Watcher = watched,
) -> Night:
    """Screen archives into a cohort; going on where an earlier run stopped.

    Parameters
    ----------
    runner : str
        "dask": a Prefect flow on local worker processes. "loop": one study after the other, nothing else started.
    method : str
        Import path of what is done to a volume (`tasks.method`).
    say : callable
        Hears what a person may want to know, a line at a time.
    metadata : Metadata, optional
        What a table knows that headers do not say.
    watch : callable
        Shows how far the studies are.
    """
    try:
        return screen_once(archives, cohort, settings, runner, method, say, metadata, watch)
    except DamagedShard as found:
        say(f"{found.path}: damaged; looking at all that is committed, and starting again")
        return screen_once(archives, cohort, settings, runner, method, say, metadata, watch, mend=True)


def screen_once(
    archives: Sequence[str | Path],
    cohort: str | Place,
    settings: InForce,
    runner: str,
    method: str,
    say: Callable[[str], None],
    metadata: Metadata | None,
    watch: Watcher,
    mend: bool = False,
) -> Night:
    """`screen_archives`; ends if something that was committed is damaged, unless it is to ``mend`` that first."""
    with (
        telling_metrics(archives, cohort, settings.run.metrics_file) as tell,
        planned_run(archives, cohort, settings, method, say, metadata, hand_out, mend) as planned,
    ):
        layout, run, met, plan = planned.layout, planned.run, planned.met, planned.plan
        identity, shift_days = planned.identity, planned.pseudonyms.shift_days
        further = f", and {plan.n_others} further series" if settings.run.all_series else ""
        say(f"{len(plan.current)} studies, {plan.n_due} due: {plan.n_to_measure} to measure{further}")
        record_plan(planned, settings, runner, method)
        tell()
        fanned_out = run_shards(layout, plan, runner, settings, tell, watch)
        settled = settle(layout, plan, identity, fanned_out)
        judged = judge_sentinels(layout, plan, identity)
        snapshot = publish_snapshot(layout, plan, identity, settings.method, settled, shift_days, judged.summary())
        if settings.run.report:
            add_report(layout, snapshot.identifier, say)

        counts = met.files_seen, met.n_series, plan.n_due, plan.n_to_measure
        night = Night(run, *counts, settled, met.left_alone, snapshot, met.arriving, judged)
        close_run(layout, night)
    return night


@dataclass(frozen=True)
class Planned:
    """A run that knows what is to be done: the cohort is held, inventory and shards are written.

    It holds no series: those of 100,000 studies have 30 million names of files, which nobody needs while workers work.
    """

    layout: Layout
    run: str
    pseudonyms: Pseudonyms
    identity: MethodIdentity
    met: Tally
    plan: Plan


def nobody(layout: Layout, shard: Shard) -> None:
    """Take a shard that is only counted."""


@contextmanager
def planned_run(
    archives: Sequence[str | Path],
    cohort: str | Place,
    settings: InForce,
    method: str,
    say: Callable[[str], None],
    metadata: Metadata | None,
    hand_out: Callable[[Layout, Shard], object] = nobody,
    mend: bool = False,
) -> Iterator[Planned]:
    """Take stock of the archives and plan, with the cohort held while the block runs.

    Parameters
    ----------
    archives, cohort, settings, method, say, metadata
        As in `screen_archives`.
    hand_out : callable, optional
        Takes each shard of the plan as soon as it is cut; without it the plan is only counted.
    mend : bool
        First look at every committed file and set those aside that were changed since.
    """
    with answering(cohort):
        layout = Layout(place_of(cohort))
        roots = check_places(archives, layout.root)
    with answering(cohort):
        run = run_name(now(), secrets.token_hex(2), layout.run_names())
    with answering(cohort), holding_cohort(layout, run, say):
        if mend:
            for mark in set_damaged_aside(layout):
                say(f"shard {mark.shard} of run {mark.run} was damaged: set aside in {layout.damaged / mark.run}")
                run_log(layout, run)("set_aside", shard=mark.shard, of_run=mark.run)
        pseudonyms = open_cohort(layout)
        identity = identify_method(method, settings)
        take = partial(hand_out, layout)
        met, plan = plan_run(layout, run, pseudonyms, roots, method, identity, settings, say, metadata, take)
        yield Planned(layout, run, pseudonyms, identity, met, plan)


def plan_run(
    layout: Layout,
    run: str,
    pseudonyms: Pseudonyms,
    roots: Sequence[Place],
    method: str,
    identity: MethodIdentity,
    settings: InForce,
    say: Callable[[str], None],
    metadata: Metadata | None,
    hand_out: Callable[[Shard], object],
) -> tuple[Tally, Plan]:
    """What the archives hold, and what is to be done with the studies that have settled; series end with this call."""
    stock = take_stock(layout, pseudonyms, roots, settings, say, metadata)
    keys = known_keys(layout, stock.series, pseudonyms)
    record_inventory(layout, stock, keys, settings.run.site, settings.method.privacy)
    lifted = read_lifted(layout)
    done = done_inputs(committed(layout), identity, lifted=lifted)
    done |= done_inputs(committed_others(layout), identity, "series_key", lifted)
    orders, others = order_studies(stock.arrived, keys), order_other_series(stock.arrived, keys)
    how = method, identity, settings.method, settings.run
    sentinels = tuple(sentinel_shards(layout, run, orders, done, *how, hand_out))
    plan = plan_shards(run, orders, done, *how, others, seconds_per_slice(layout, identity), hand_out)
    return stock.tally(), replace(plan, sentinels=sentinels)


@contextmanager
def holding_cohort(layout: Layout, run: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the cohort's lock while the block runs, renewing it, and leave a record of the run."""
    dead = take_lock(layout, run, seconds_since_epoch())
    if dead:
        say(f"taking over from a run that died (process {dead.pid} on {dead.host})")
    remove_folder(layout.private / "plans")  # of runs that were killed
    remove_half_written(layout.root)
    ended = threading.Event()

    def renew() -> None:
        renewed = seconds_since_boot()
        while not ended.wait(RENEW_SECONDS):
            try:
                renew_lock(layout, run, seconds_since_epoch())
                renewed = seconds_since_boot()
            except Exception as error:  # taken over after this machine stood still; or a store that is away for now
                away = said_by_store(error)
                if away is None or seconds_since_boot() - renewed > LEASE_SECONDS - RENEW_SECONDS:
                    say(f"{layout.root}: {away}" if away else str(error))
                    interrupt_main()
                    return

    thread = threading.Thread(target=renew, daemon=True)

    def wind_up() -> None:
        """Give everything back; the lock also where the plans cannot be removed."""
        ended.set()
        thread.join()
        try:
            remove_folder(layout.plans(run))
        finally:
            release_lock(layout, run)

    thread.start()
    try:
        begin_record(layout, run, dead)
        yield
    except BaseException as error:
        stop_record(layout, run, error)
        with suppress(Exception):  # the store that failed the run may fail here too: the first error is to be told
            wind_up()
        raise
    wind_up()


def open_cohort(layout: Layout) -> Pseudonyms:
    """The pseudonyms of a cohort, which is made if it is new.

    Raises
    ------
    WrongUse
        The cohort was made with another secret or by an incompatible version.
    CouldNotRun
        What says so is damaged.
    """
    pseudonyms = open_pseudonyms(layout, os.environ.get(SECRET_VARIABLE))
    description = {"format": FORMAT, "made": now(), "secret_fingerprint": pseudonyms.fingerprint()}
    create(layout.description, json.dumps(description, indent=1).encode())
    try:
        found = json.loads(layout.description.read_text())
        version, fingerprint = found["format"], found["secret_fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise CouldNotRun(f"{layout.description}: damaged; move it away, and it is made anew") from error
    if version != FORMAT:
        raise WrongUse(f"{layout.root}: format {version}, this version knows {FORMAT}")
    if fingerprint != pseudonyms.fingerprint():
        raise WrongUse(f"{layout.root} was made with another pseudonym secret ({SECRET_VARIABLE}): keys would differ")
    return pseudonyms


def identify_method(method: str, settings: InForce) -> MethodIdentity:
    """What the results of this run will depend on besides their input."""
    if settings.run.device == "cuda" and settings.cluster.kind == "local":  # told now, not by every study
        choose_device(settings.run.device)
    return MethodIdentity(named_method(method).digest, settings.method.digest(), SCHEMA_VERSION)


def run_shards(
    layout: Layout,
    plan: Plan,
    runner: str,
    settings: InForce,
    tell: Callable[[], object],
    watch: Watcher = watched,
) -> FannedOut:
    """Hand the shards to the runner and show how far it is; sentinels first, for nights that are cut short.

    Parameters
    ----------
    layout : Layout
    plan : Plan
    runner : str
    settings : InForce
    tell : callable
        Called now and then, for others who want to know how far it is.
    watch : Watcher
    """
    names = [shard.name for shard in (*plan.sentinels, *plan.shards)]
    if not names:
        return FannedOut()
    total = plan.n_to_measure + plan.n_others
    teller = Teller(layout, plan.run, total, tell)
    teller()  # that the plan is made, before the first worker is there
    with watch("studies", total, teller):
        return named_runner(runner)(layout, plan.run, names, settings)


def named_runner(name: str) -> Runner:
    """The two ways to run shards; the tables are the same. Prefect and Dask are imported only where they are used."""
    if name == "loop":
        return run_in_a_loop
    if name == "dask":
        from flows.fan_out import run_on_dask

        return run_on_dask
    raise WrongUse(f"no such runner: {name} (dask or loop)")


def record_plan(planned: Planned, settings: InForce, runner: str, method: str) -> None:
    """Say in the run's record what it is going to do, and by which settings."""
    plan = planned.plan
    add_to_record(
        planned.layout,
        planned.run,
        kind="screen",
        profile=settings.profile,
        runner=runner,
        workers=settings.run.workers_here() if runner == "dask" else 1,
        method=method,
        **asdict(planned.identity),
        settings=settings.flat(),
        files_seen=planned.met.files_seen,
        series_seen=planned.met.n_series,
        arriving=planned.met.arriving,
        planned={
            "seen": len(plan.current),
            "due": plan.n_due,
            "to_measure": plan.n_to_measure,
            "further": plan.n_others,
        },
    )


def close_run(layout: Layout, night: Night) -> None:
    """Say in the run's record and log how it ended."""
    snapshot = {"snapshot": night.snapshot.identifier, "published": night.snapshot.is_new}
    summary = {**asdict(night.settled), "due": night.due, **snapshot}
    end_record(layout, night.run, left_alone=night.left_alone, sentinels=night.sentinels.summary(), **summary)
    run_log(layout, night.run)("run_ended", sentinels=night.sentinels.verdict, **summary)
