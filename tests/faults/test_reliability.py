"""The quickest of `make faults` (tests/reliability, docs/reliability.md), on one small archive."""

import random
import shutil
import signal
from pathlib import Path

import pytest
from reliability import damage
from reliability.forks import Forks
from reliability.ground import COULD_NOT_RUN, DONE, DONE_WITH_FAILURES, MIXED, Ground
from reliability.instants import kind
from reliability.table import COLUMNS, PAGE, name_of

from vertebra_core.cohort.layout import Layout

ENDS = (DONE, DONE_WITH_FAILURES)
KILLED_BEFORE = (
    r"os.link results/RUN/\*.studies.parquet",
    r"open results/RUN/.tmp-\*-\*.vertebrae.parquet",
    r"os.rename private/links.parquet",
    r"open snapshots/.tmp-RUN/studies.parquet",
    r"os.rename latest.json",
)
"""Of the changes of a run, those after which most could be wrong."""
DAMAGED = [
    ("results/*/*[0-9].studies.parquet", damage.turn_bits),
    ("results/*/*[0-9].studies.parquet", damage.folder_of_that_name),
    ("results/*/*.*.vertebrae.parquet", damage.foreign),
    ("latest.json", damage.garbage),
    ("lock.json", damage.empty),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Ground:
    return Ground(tmp_path_factory.mktemp("reliability"), MIXED, {"run.shard_size": 4, "run.pictures": False})


@pytest.fixture(scope="module")
def forks(ground) -> Forks:
    return Forks(ground)


@pytest.fixture(scope="module")
def changes(forks) -> list[str]:
    return [kind(change).replace("*", r"\*") for change in forks.changes("whole")]


@pytest.mark.parametrize("before", KILLED_BEFORE)
def test_killed_right_before_a_change_and_run_again(ground, forks, changes, before):
    instants = [at for at, change in enumerate(changes, 1) if change == before]
    cohort = f"killed-{KILLED_BEFORE.index(before)}"
    assert forks.run(cohort, kill_at=random.Random(before).choice(instants)).code == -signal.SIGKILL
    assert forks.run(cohort).code in ENDS
    assert ground.faults_of(cohort) == []


def test_killed_while_the_lock_is_renewed(ground, forks):
    assert forks.run("renewing", kill_at=-7).code == -signal.SIGKILL
    assert forks.run("renewing").code in ENDS
    assert ground.faults_of("renewing") == []


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize(("pattern", "spoil"), DAMAGED)
def test_a_damaged_file_is_made_good_by_the_next_run(ground, forks, pattern, spoil):
    cohort = f"damaged-{DAMAGED.index((pattern, spoil))}"
    spoil(damage.copy_of(ground, cohort, pattern))
    shutil.rmtree(Path(ground.cohort(cohort)) / "snapshots")
    ended = forks.run(cohort)
    assert ended.code in ENDS, ended
    assert ground.faults_of(cohort) == []
    set_aside = list(Layout(Path(ground.cohort(cohort))).damaged.rglob("*.parquet"))
    assert len(set_aside) == (3 if pattern.startswith("results") else 0), ended.said


@pytest.mark.usefixtures("changes")
def test_damaged_links_are_one_line_and_stay_as_they_are(ground, forks):
    path = damage.copy_of(ground, "links", "private/links.parquet")
    damage.turn_bits(path)
    before = path.read_bytes()
    ended = forks.run("links")
    assert ended.code == COULD_NOT_RUN
    assert "links.parquet: damaged; restore it from a backup" in ended.last_line
    assert path.read_bytes() == before


def test_the_page_tells_of_scenarios_that_there_are_and_that_all_tables_were_equal():
    from reliability.__main__ import SCENARIOS

    lines = {name_of(line): line for line in PAGE.read_text().splitlines() if line.startswith("| `") and "|" in line}
    played = {name: line for name, line in lines.items() if line.count(" | ") == len(COLUMNS) - 1}
    assert set(played) <= {scenario.name for scenario in SCENARIOS}
    assert not [name for name, line in played.items() if "**no**" in line]
