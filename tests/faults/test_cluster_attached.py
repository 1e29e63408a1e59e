"""A scheduler and workers that were started by command line: attached by address, checked, and one of them killed.

Several real processes, none of them a child of the run: what a run on somebody's cluster looks like.
"""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import dask
import distributed
import psutil
import pyarrow.parquet as pq
import pytest
from engine_archive import fresh_fork_server, write_study
from engine_methods import SLOW

from flows.cluster import check_workers, client_of, cluster_of, require_server, workers_of
from flows.screen import planned_run, screen_archives
from flows.settings import load_settings
from flows.worker_start import GPU
from tasks.look import look_around
from tasks.plan import Shard, write_shard
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.errors import WrongUse
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
STUDIES = 16
METHOD = "engine_methods:marked"
PROFILE = """
[run]
shard_size = 2
memory_gb = 1.0
pictures = false
[cluster]
kind = "address"
address = "{address}"
gpu_share = 0.25
start_minutes = 5.0
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, prefect_server) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("attached")
    for number in range(STUDIES):
        write_study(root / "archive" / f"s{number:02d}", f"P{number:02d}", SLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        fresh_fork_server()
        yield root


@pytest.fixture(scope="module")
def programs(place) -> Iterator[dict[str, subprocess.Popen]]:
    """A scheduler, a worker that offers a quarter of a GPU, and one that offers none."""
    started: dict[str, subprocess.Popen] = {}

    def start(name: str, *words: str) -> None:
        with open(place / f"{name}.out", "wb") as sink:
            command = [sys.executable, "-m", *words]
            started[name] = subprocess.Popen(command, cwd=place, stdout=sink, stderr=sink)

    start(
        "scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", str(place / "scheduler.json"),
    )  # fmt: skip
    try:
        wait_for(lambda: (place / "scheduler.json").is_file(), "scheduler")
        address = json.loads((place / "scheduler.json").read_text())["address"]
        profile = place / "mine.toml"
        profile.write_text(PROFILE.format(address=address))
        start("gpu", "flows.cli", "worker", address, "--profile", str(profile), "--workers", "1", "--gpu", "0")
        start("cpu", "flows.cli", "worker", address, "--profile", str(profile), "--workers", "1")
        with client_of(address) as client:
            wait_for(lambda: len(workers_of(client)) == 2, "two workers")
        yield started
    finally:
        for program in started.values():
            kill_tree(program)


def wait_for(condition, what: str, seconds: float = 500.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


def kill_tree(program: subprocess.Popen) -> None:
    """kill -9 a program and all below it: its host is gone."""
    if program.poll() is None:
        for process in [*psutil.Process(program.pid).children(recursive=True), program]:
            process.kill()
        program.wait()


def settings_of(place: Path, **flags):
    return load_settings(str(place / "mine.toml"), {name.replace("__", "."): value for name, value in flags.items()})


def test_a_resource_that_nobody_offers_is_refused_in_one_line(place, programs):
    settings = settings_of(place, run__device="cuda", cluster__gpu_share=0.5)
    with pytest.raises(WrongUse, match=r"^none of 2 workers offers what a shard asks \(GPU 0.5; .* GPU 0.25\)"):
        screen_archives([place / "archive"], place / "refused", settings, method=METHOD)


def test_shards_that_ask_for_a_gpu_go_to_the_worker_that_offers_it(place, programs):
    with cluster_of(settings_of(place, run__device="cuda"), 8) as cluster, client_of(cluster.address) as client:
        assert (cluster.slots, cluster.asks) == (1, {GPU: 0.25})
        offering = {worker for worker, said in workers_of(client).items() if said["resources"]}
        here = lambda number: (distributed.get_worker().address, os.environ["CUDA_VISIBLE_DEVICES"])  # noqa: E731
        with dask.annotate(resources=cluster.asks):
            ran = client.gather([client.submit(here, number) for number in range(6)])
    assert {worker for worker, _ in ran} == offering
    assert {seen for _, seen in ran} == {"0"}
    with cluster_of(settings_of(place), 8) as cluster, client_of(cluster.address) as client:
        assert (cluster.slots, cluster.asks) == (2, {})
        assert sorted(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == ["", "0"]
        assert set(client.run(lambda: os.environ["OMP_NUM_THREADS"]).values()) == {"1"}


@pytest.fixture(scope="module")
def planned(place):
    """A plan of which the first shard is written, as workers find it."""
    shards = []

    def hand_out(layout: Layout, shard: Shard) -> None:
        write_shard(layout, shard)
        shards.append(shard)

    with planned_run(
        [place / "archive"], place / "planned", settings_of(place), METHOD, str, None, hand_out
    ) as planned:
        yield planned, shards[0]


def test_workers_that_see_what_the_leader_sees_are_let_in(place, programs, planned):
    run, shard = planned
    settings = settings_of(place)
    with cluster_of(settings, 1) as cluster:
        check_workers(cluster, settings, run.layout, run.run, shard.name)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("cohort", "elsewhere", r"cannot read the plan in .*elsewhere"),
        ("version", "0.0.1", r"has vertebra \S+, the run is led by 0.0.1"),
        ("api", "http://elsewhere/api", r"has PREFECT_API_URL http://127.*, the run is led with http://elsewhere/api"),
    ],
)
def test_a_worker_says_what_keeps_it_from_working(place, programs, planned, argument, value, said):
    run, shard = planned
    arguments = {
        "cohort": str(run.layout.root),
        "run": run.run,
        "shard": shard.name,
        "version": metadata.version("vertebra"),
        "api": os.environ["PREFECT_API_URL"],
    }
    with client_of(settings_of(place).cluster.address) as client:
        assert set(client.run(look_around, **arguments).values()) == {""}
        answers = client.run(look_around, **{**arguments, argument: value})
    assert len(answers) == 2
    assert all(re.search(said, answer) for answer in answers.values())


def test_a_worker_without_the_archive_or_a_sandbox_says_so(planned, monkeypatch):
    run, shard = planned
    arguments = str(run.layout.root), run.run, shard.name, metadata.version("vertebra"), os.environ["PREFECT_API_URL"]
    monkeypatch.setattr("tasks.look.sees_archive", lambda shard: False)
    assert look_around(*arguments).startswith(f"cannot read the archive {shard.studies[0].series.archive}")
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert "DASK_DISTRIBUTED__WORKER__DAEMON=False" in look_around(*arguments)


def test_a_private_server_is_not_enough_for_workers_elsewhere(place, monkeypatch):
    monkeypatch.setattr("flows.cluster.configured_api", lambda: None)
    with pytest.raises(WrongUse, match=r"cluster\.kind = address needs a Prefect server that workers reach"):
        require_server(settings_of(place))


def test_a_host_lost_in_the_middle_costs_nothing(place, programs):
    """kill -9 of one worker, its nanny and its sandbox: nothing brings them back; the other worker does the rest."""
    layout, seen = Layout(place / "cohort"), []

    def lose_a_host() -> None:
        wait_for(lambda: len(layout.marks()) >= 2, "two shards")
        kill_tree(programs["cpu"])
        seen.append(len(layout.marks()))

    killer = threading.Thread(target=lose_a_host)
    killer.start()
    night = screen_archives([place / "archive"], place / "cohort", settings_of(place), method=METHOD)
    killer.join()
    assert seen[0] < STUDIES // 2, "killed too late to show anything"
    assert (night.settled.measured, night.settled.failed, night.settled.left) == (STUDIES, 0, 0)

    undisturbed = load_settings(flags={"run.shard_size": 2, "run.pictures": False})
    screen_archives([place / "archive"], place / "loop", undisturbed, "loop", METHOD)
    for table in ("studies", "vertebrae", "patients", "levels_in_view"):
        assert data(place / "cohort", table) == data(place / "loop", table), table


def data(cohort: Path, table: str) -> list[str]:
    rows = pq.read_table(latest_snapshot(Layout(cohort)) / f"{table}.parquet").select(data_columns(table)).to_pylist()
    assert rows
    return sorted(json.dumps(row, default=str) for row in rows)
