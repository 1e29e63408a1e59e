"""kill -9 at any instant between two changes of a cohort, and at any time at all."""

import random
import re
import signal
import time
from pathlib import Path

from reliability.forks import Forks
from reliability.ground import DONE, DONE_WITH_FAILURES, MIXED, MOST_RUNS, Ground
from reliability.scenario import Scenario, Seen, all_of

SEED = 20
KILLS, RENEWALS, AT_ANY_TIME = 50, 6, 15
"""Of so many kills, in the middle of a renewal of the lock, and after so many seconds by chance; the rest is between
two changes."""
FLAGS = {"run.shard_size": 4}


def kind(change: str) -> str:
    """What is changed, without the names that differ between runs and shards.

    Examples
    --------
    >>> kind("os.link results/20260301T020000-aa07/00001.f55979c74df0.vertebrae.parquet")
    'os.link results/RUN/*.vertebrae.parquet'
    """
    change = re.sub(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{4}", "RUN", change)
    change = re.sub(r"(st|ar|se)[0-9a-f]{20}", "*", re.sub(r"tmp-[0-9a-f]{12}", "tmp-*", change))
    return re.sub(r"(shard-)?[0-9]{5}(\.[0-9a-f]{12})?", "*", change)


def chosen_instants(changes: list[str], number: int, rng: random.Random) -> list[int]:
    """Numbers of changes, each kind once and the rest by chance; if there are more kinds, kinds by chance."""
    by_kind: dict[str, list[int]] = {}
    for at, change in enumerate(changes, 1):
        by_kind.setdefault(kind(change), []).append(at)
    first = [rng.choice(numbers) for numbers in by_kind.values()]
    left = sorted(set(range(1, len(changes) + 1)) - set(first))
    rng.shuffle(first)
    return (first + rng.sample(left, min(len(left), max(0, number - len(first)))))[:number]


def kill_at_instants(
    folder: Path, kills: int = KILLS, renewals: int = RENEWALS, at_any_time: int = AT_ANY_TIME
) -> Seen:
    """Each kill in a cohort of its own; every third one is killed again when it goes on."""
    rng = random.Random(SEED)
    ground = Ground(folder, MIXED, FLAGS)
    forks = Forks(ground)
    before = time.monotonic()
    changes = forks.changes("watched")
    seconds = time.monotonic() - before
    instants = chosen_instants(changes, kills - renewals - at_any_time, rng)
    instants += [-rng.randrange(1, 40) for _ in range(renewals)] + [0] * at_any_time
    faults, killed, runs = {}, 0, 0
    for number, at in enumerate(instants):
        cohort = f"killed-{number}"
        killed += _killed(forks, cohort, at, rng.uniform(0, seconds))
        if number % 3 == 0:
            killed += _killed(forks, cohort, rng.randrange(1, len(changes)), 0.0)
        runs += _finish(forks, cohort)
        name = kind(changes[at - 1]) if at > 0 else ("renewal" if at else "at any time")
        faults[f"{number} {name}"] = ground.faults_of(cohort)
    kinds = len({kind(changes[at - 1]) for at in instants if at > 0})
    what = (
        f"{len(changes)} changes of {len(set(map(kind, changes)))} kinds, killed before {kinds} of them; {runs} reruns"
    )
    return Seen(killed, what, all_of(faults))


def _killed(forks: Forks, cohort: str, at: int, after_s: float) -> bool:
    process = forks.start(cohort, at)
    if at == 0:
        process.join(after_s)
        process.kill()
    ended = forks.ended(process, cohort)
    assert ended.code in (-signal.SIGKILL, DONE, DONE_WITH_FAILURES), ended
    return ended.code == -signal.SIGKILL


def _finish(forks: Forks, cohort: str) -> int:
    for runs in range(1, MOST_RUNS):
        ended = forks.run(cohort)
        if ended.code in (DONE, DONE_WITH_FAILURES):
            return runs
    raise AssertionError(f"{cohort} does not end: {ended}")


SCENARIOS = [
    Scenario(
        "kill-anywhere",
        "kill -9 of a run right before a change of the cohort (kinds of change by chance, among them: temporary files, "
        "companions, mark, pictures, plans, links, index, inventory, snapshot, latest.json, records), in a renewal "
        "of the lock, and after a random time; every third is killed again when it goes on",
        kill_at_instants,
    )
]
