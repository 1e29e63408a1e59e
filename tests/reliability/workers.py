"""Runs on Dask workers by a Prefect server of which a part is killed, stopped or cut off."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import psutil
from engine_methods import GOOD, RAISE, SLOW

from reliability.ground import WAIT_SECONDS, Ground, children, n_marks, wait_until
from reliability.scenario import Scenario, Seen

MARKS = (SLOW, SLOW, SLOW, RAISE, SLOW, GOOD, SLOW, SLOW, SLOW, SLOW)
"""Ten studies, most of half a second: a worker that is killed is at work."""
FLAGS = {"run.workers": 2, "run.shard_size": 1}
AWAY_SECONDS = 60.0


def workers(run: Popen) -> list[psutil.Process]:
    """The Dask workers of a run."""
    return children(run, ["spawn_main"])


def fork_servers(run: Popen) -> list[psutil.Process]:
    """The process from which a worker's sandbox is forked."""
    pids = {worker.pid for worker in workers(run)}
    return [one for one in children(run, ["multiprocessing.forkserver"]) if one.ppid() in pids]


def sandboxes(run: Popen) -> list[psutil.Process]:
    """The processes in which studies are measured."""
    pids = {server.pid for server in fork_servers(run)}
    return [one for one in children(run, ["multiprocessing.forkserver"]) if one.ppid() in pids]


def servers(run: Popen) -> list[psutil.Process]:
    """The private Prefect server of a run."""
    return children(run, ["flows.server_process"])


def kill_each(find: Callable[[Popen], list[psutil.Process]], times: int) -> Callable[[Popen, str], str]:
    """Kill -9 of one such process, again when there is another one."""

    def disturb(run: Popen, cohort: str) -> str:
        killed: set[int] = set()
        for _ in range(times):
            wait_until(lambda: [one for one in find(run) if one.pid not in killed] or run.poll() is not None)
            if run.poll() is not None:
                break
            victim = next(one for one in find(run) if one.pid not in killed)
            victim.kill()
            killed.add(victim.pid)
            shards = n_marks(cohort)
            wait_until(lambda: n_marks(cohort) > shards or run.poll() is not None)  # noqa: B023 - at once
        return f"{len(killed)} killed"

    return disturb


def stop_for(find: Callable[[Popen], list[psutil.Process]], seconds: float) -> Callable[[Popen, str], str]:
    """SIGSTOP, and SIGCONT some time later."""

    def disturb(run: Popen, cohort: str) -> str:
        stopped = find(run)[:1]
        for one in stopped:
            one.suspend()
        time.sleep(seconds)
        for one in stopped:
            one.resume()
        return f"stopped for {seconds:.0f} s"

    return disturb


def end_the_head(number: int) -> Callable[[Popen, str], str]:
    """A signal to the process that leads the run; all below it must end too."""

    def disturb(run: Popen, cohort: str) -> str:
        below = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(number)
        run.wait(WAIT_SECONDS)
        left = psutil.wait_procs(below, timeout=60)[1]
        assert not left, [one.cmdline() for one in left]
        return f"the {len(below)} processes below it ended too; exit code {run.returncode}"

    return disturb


def disturbed(disturb: Callable[[Popen, str], str], private_server: bool = False) -> Callable[[Path], Seen]:
    """A run on two workers, disturbed when the first shard is committed, then run again until nothing is left."""

    def play(folder: Path) -> Seen:
        from flows.server import prefect_api

        os.environ["VERTEBRA_STATE_DIR"] = str(folder.parent / "state")
        ground = Ground(folder, MARKS, FLAGS)
        cohort = ground.cohort("disturbed")
        if private_server:
            return _play(ground, cohort, disturb)
        with prefect_api(folder.parent):
            return _play(ground, cohort, disturb)

    return play


def _play(ground: Ground, cohort: str, disturb: Callable[[Popen, str], str]) -> Seen:
    before = time.monotonic()
    run = ground.start("disturbed", "runner=dask")
    wait_until(lambda: n_marks(cohort) > 0, run, "a shard")
    what = disturb(run, cohort)
    ended = ground.ended(run, "disturbed")
    what += f"; the run ended with code {ended.code} after {time.monotonic() - before:.0f} s"
    assert "Traceback" not in ended.said, ended.said
    runs = ground.finish("disturbed") if ended.code not in (0, 1) else 0
    return Seen(1, f"{what}; {runs} reruns", tuple(ground.faults_of("disturbed")))


SCENARIOS = [
    Scenario("worker", "kill -9 of a Dask worker at work, twice", disturbed(kill_each(workers, 2))),
    Scenario("sandbox", "kill -9 of the process that measures, three times", disturbed(kill_each(sandboxes, 3))),
    Scenario(
        "fork-server", "kill -9 of the fork server behind a sandbox, twice", disturbed(kill_each(fork_servers, 2))
    ),
    Scenario("flow", "kill -9 of the head of the flow", disturbed(end_the_head(signal.SIGKILL))),
    Scenario("sigterm-flow", "SIGTERM to the head of the flow", disturbed(end_the_head(signal.SIGTERM))),
    Scenario("prefect-server", "kill -9 of the private Prefect server", disturbed(kill_each(servers, 1), True)),
    Scenario(
        "prefect-away",
        "the private Prefect server stands still for a minute",
        disturbed(stop_for(servers, AWAY_SECONDS), True),
    ),
    Scenario("worker-asleep", "SIGSTOP of a worker for a minute, SIGCONT", disturbed(stop_for(workers, AWAY_SECONDS))),
]
