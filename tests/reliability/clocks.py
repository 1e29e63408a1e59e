"""A clock that is put forward and back, between runs and while one is at work."""

import copy
import os
import signal
from pathlib import Path

from engine_archive import N_SLICES, write_study
from engine_methods import GOOD, RAISE

from reliability.ground import COULD_NOT_RUN, DONE, DONE_WITH_FAILURES, Ground, n_marks, wait_until
from reliability.scenario import Scenario, Seen, all_of
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.tables.parquet import read_table

MARKS = (GOOD, GOOD, RAISE, *[GOOD] * 9)
"""None that sleeps: below libfaketime, `time.sleep` ends with an OSError."""
FLAGS = {"run.shard_size": 1}
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
ENDS = (DONE, DONE_WITH_FAILURES)


def clock(offset: str) -> dict[str, str]:
    """Environment in which the clock of the day is off; clocks that nobody can set go on as they are."""
    return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def between_runs(folder: Path) -> Seen:
    """A day ahead and killed, then an hour behind, then right."""
    ground = Ground(folder, MARKS, FLAGS)
    first = ground.start("between", **clock("+1d"))
    wait_until(lambda: n_marks(ground.cohort("between")) > 1, first, "two shards")
    first.kill()
    first.wait()
    for offset in ("-1h", "+0"):
        ended = ground.run("between", **clock(offset))
        assert ended.code in ENDS, ended
    faults = {"tables": ground.faults_of("between"), "newest": _newest_wins(ground)}
    names = [path.parent.name[:15] for path in Layout(Path(ground.cohort("between"))).run_records()]
    return Seen(2, f"runs named {', '.join(names)}: in the order in which they were made", all_of(faults))


def _newest_wins(ground: Ground) -> list[str]:
    """A study that grew after the clock was put back: the later result is shown, also when its archive is not there."""
    few = N_SLICES - 4
    for name, slices in (("growing", few), ("elsewhere", N_SLICES)):
        write_study(ground.folder / name / "s", f"Q88{name}1", GOOD, number=8800 + slices, n_slices=slices)
    growing, elsewhere = copy.copy(ground), copy.copy(ground)
    growing.archive_name, elsewhere.archive_name = "growing", "elsewhere"
    ended = [growing.run("newest", **clock("+1d"))]
    write_study(growing.archive / "s", "Q88growing1", GOOD, number=8800 + few, n_slices=N_SLICES)
    ended += [growing.run("newest", **clock("+0")), elsewhere.run("newest", **clock("-1h"))]
    assert all(end.code in ENDS for end in ended), ended
    published = read_table(latest_snapshot(Layout(Path(ground.cohort("newest")))) / "studies.parquet", ["n_slices"])
    found = sorted(published["n_slices"].to_pylist())
    return [] if found == [N_SLICES] * 2 else [f"slices of the results that are shown: {found}"]


def during_a_run(folder: Path) -> Seen:
    """Put forward by a day, then back by an hour before the right time, while studies are measured."""
    ground, faults = Ground(folder, MARKS, FLAGS), {}
    for number, offsets in enumerate((["+1d", "-1h"], ["-1h", "+1d"])):
        cohort, file = f"during-{number}", folder / f"clock-{number}"
        file.write_text("+0")
        environment = {**clock(""), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
        del environment["FAKETIME"]
        run = ground.start(cohort, **environment)
        for shards, offset in enumerate(offsets, 1):
            wait_until(lambda: n_marks(ground.cohort(cohort)) >= shards or run.poll() is not None)  # noqa: B023
            file.write_text(offset)
        ended = ground.ended(run, cohort)
        assert ended.code in ENDS, ended
        faults[" then ".join(offsets)] = ground.faults_of(cohort)
    return Seen(4, "the runs went on; no study was taken for one that hangs", all_of(faults))


def owner_after_the_clock_was_set(folder: Path) -> Seen:
    """What the kernel says of its boot (btime) moves with the clock: the run that is at work must still be seen."""
    ground = Ground(folder, MARKS, FLAGS)
    run = ground.start("owner")
    wait_until(lambda: n_marks(ground.cohort("owner")) > 0, run, "a shard")
    os.kill(run.pid, signal.SIGSTOP)
    told = Path("/proc/stat").read_text()
    booted = next(line for line in told.splitlines() if line.startswith("btime"))
    moved = folder / "stat"
    moved.write_text(told.replace(booted, f"btime {int(booted.split()[1]) + 3600}"))
    before = ("unshare", "--mount", "sh", "-c", f'mount --bind {moved} /proc/stat; exec "$@"', "sh")
    second = ground.run("owner", before=before, output="second")
    os.kill(run.pid, signal.SIGCONT)
    ended = ground.ended(run, "owner")
    assert second.code == COULD_NOT_RUN, second
    assert "is at work" in second.last_line, second
    assert ended.code in ENDS, ended
    return Seen(1, "the second run was refused", tuple(ground.faults_of("owner")))


def no_faketime() -> str:
    """Why no clock can be set here."""
    return "" if LIBRARIES else "needs libfaketime (apt-get install libfaketime)"


def no_namespace() -> str:
    """Why /proc/stat cannot be another one here."""
    return "" if os.geteuid() == 0 else "needs root (unshare --mount)"


SCENARIOS = [
    Scenario(
        "clock-between",
        "clock a day ahead, killed; then an hour behind; then right; and a study that grows after it was put back",
        between_runs,
        no_faketime,
    ),
    Scenario(
        "clock-during",
        "clock put forward by a day and back to an hour behind while a run is at work, and the other way round",
        during_a_run,
        no_faketime,
    ),
    Scenario(
        "clock-owner",
        "clock set while a run is at work, then a second run (another btime in its /proc/stat)",
        owner_after_the_clock_was_set,
        no_namespace,
    ),
]
