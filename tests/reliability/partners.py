"""Two runs at once, runs that are told to stop, and runs that stand still."""

import os
import random
import signal
import time
from pathlib import Path

from reliability.forks import Forks
from reliability.ground import COULD_NOT_RUN, DONE, DONE_WITH_FAILURES, MIXED, Ground, n_marks, wait_until
from reliability.scenario import Scenario, Seen, all_of
from vertebra_core.cohort.lock import LEASE_SECONDS

SEED = 21
FLAGS = {"run.shard_size": 2}
ENDS = (DONE, DONE_WITH_FAILURES)
ELSEWHERE = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere.invalid; exec "$@"', "sh")
"""In front of a command: it runs on a host of another name, whose processes nobody here can look at."""


def two_at_once(folder: Path, times: int = 10) -> Seen:
    """Two runs start on one cohort within seconds, either first; then one of them ends it alone."""
    rng, ground = random.Random(SEED), Ground(folder, MIXED, FLAGS)
    forks, faults, refused = Forks(ground), {}, 0
    for number in range(times):
        cohort = f"shared-{number}"
        first = forks.start(cohort)
        time.sleep(rng.uniform(0.0, 1.5))
        second = forks.start(cohort, output="second")
        ends = [forks.ended(first, cohort), forks.ended(second, "second")]
        lost = [end for end in ends if end.code == COULD_NOT_RUN]
        assert all(end.code in (*ENDS, COULD_NOT_RUN) for end in ends), ends
        assert all("is at work" in end.last_line or "other runs are taking it" in end.last_line for end in lost), lost
        refused += len(lost)
        faults[str(number)] = ground.faults_of(cohort)
    what = f"{refused} times one was refused with a line; else it came when the other had ended"
    return Seen(times, what, all_of(faults))


def told_to_stop(folder: Path, times: int = 10) -> Seen:
    """SIGTERM after a random time."""
    rng, ground = random.Random(SEED), Ground(folder, MIXED, FLAGS)
    forks, faults, stopped = Forks(ground), {}, 0
    seconds = time.monotonic()
    forks.changes("watched")
    seconds = time.monotonic() - seconds
    for number in range(times):
        cohort = f"stopped-{number}"
        process = forks.start(cohort)
        process.join(rng.uniform(0.05, seconds))
        process.terminate()
        ended = forks.ended(process, cohort)
        assert ended.code in (*ENDS, COULD_NOT_RUN, -signal.SIGTERM), ended
        stopped += ended.code == COULD_NOT_RUN
        if ended.code == COULD_NOT_RUN:
            assert "the same command goes on" in ended.last_line, ended
            lock = Path(ground.cohort(cohort)) / "lock.json"
            faults[f"{number} at once"] = ["the lock was left"] if lock.exists() else []
        last = forks.run(cohort)
        assert last.code in ENDS, last
        faults[str(number)] = ground.faults_of(cohort)
    return Seen(
        times, f"{stopped} stopped with one line and gave the cohort back; the others had ended", all_of(faults)
    )


def asleep(folder: Path, seconds: float = 20.0) -> Seen:
    """SIGSTOP, a second run, SIGCONT: a process that stands still is alive."""
    ground = Ground(folder, MIXED, FLAGS)
    process = ground.start("asleep")
    wait_until(lambda: n_marks(ground.cohort("asleep")) > 0, process, "a shard")
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    second = Forks(ground).run("asleep", output="second")
    os.kill(process.pid, signal.SIGCONT)
    ended = ground.ended(process, "asleep")
    assert second.code == COULD_NOT_RUN, second
    assert "is at work" in second.last_line, second
    assert ended.code in ENDS, ended
    return Seen(1, "a second run was refused; the first went on and ended", tuple(ground.faults_of("asleep")))


def asleep_beyond_the_lease(folder: Path) -> Seen:
    """The same for longer than the lease, and the second run on another host, which cannot see that the first lives."""
    ground = Ground(folder, MIXED, FLAGS)
    process = ground.start("lapsed")
    wait_until(lambda: n_marks(ground.cohort("lapsed")) > 0, process, "a shard")
    os.kill(process.pid, signal.SIGSTOP)
    early = ground.run("lapsed", before=ELSEWHERE, output="early")
    assert early.code == COULD_NOT_RUN, early
    assert "its lock ends in" in early.last_line, early
    time.sleep(LEASE_SECONDS)
    late = ground.run("lapsed", before=ELSEWHERE, output="late")
    assert late.code in ENDS, late
    assert "taking over from a run that died" in late.said, late
    os.kill(process.pid, signal.SIGCONT)
    woken = ground.ended(process, "lapsed")
    what = f"refused while the lease held, taken over after {LEASE_SECONDS:.0f} s; the first woke and ended with code "
    faults = ground.faults_of("lapsed")
    again = ground.run("lapsed")
    assert again.code in ENDS, again
    return Seen(1, f"{what}{woken.code} ({woken.last_line})", tuple(faults + ground.faults_of("lapsed")))


def root_only() -> str:
    """Why a host of another name cannot be had."""
    return "" if os.geteuid() == 0 else "needs root (unshare --uts)"


SCENARIOS = [
    Scenario("two-at-once", "two runs on one cohort, started within 1.5 s, either one first", two_at_once),
    Scenario("sigterm", "SIGTERM to a run after a random time", told_to_stop),
    Scenario("asleep", "SIGSTOP of a run for 20 s, another run meanwhile, SIGCONT", asleep),
    Scenario(
        "asleep-beyond-lease",
        f"SIGSTOP of a run for more than the lease of {LEASE_SECONDS:.0f} s, a run on another host (its own UTS "
        "namespace) before and after it ran out, SIGCONT",
        asleep_beyond_the_lease,
        root_only,
    ),
]
