"""Odd places and environments, and an archive or a cohort that changes under a run."""

import os
import shutil
from pathlib import Path

from engine_archive import write_study
from engine_methods import GOOD, RAISE, SLOW

from reliability.ground import (
    COULD_NOT_RUN,
    DONE,
    DONE_WITH_FAILURES,
    MIXED,
    Ground,
    contents,
    fingerprint,
    n_marks,
    pictures,
    wait_until,
)
from reliability.scenario import Scenario, Seen, all_of

ENDS = (DONE, DONE_WITH_FAILURES)
MARKS = (GOOD, SLOW, RAISE, SLOW, SLOW, SLOW)


def _in_shell(line: str) -> tuple[str, ...]:
    return ("sh", "-c", f'{line}; exec "$@"', "sh")


def _in_namespace(line: str) -> tuple[str, ...]:
    return ("unshare", "--mount", *_in_shell(line))


def odd_environments(folder: Path) -> Seen:
    """Every one once, on two Dask workers where that may matter."""
    ground, faults = Ground(folder, MIXED, {"run.shard_size": 4}), {}
    full = folder / "full"
    full.mkdir()
    environments: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "HOME unset": (("env", "-u", "HOME"), {}),
        "HOME that is not there": ((), {"HOME": "/nonexistent", "XDG_STATE_HOME": "/proc/nonexistent"}),
        "locale C without UTF-8": ((), {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        "TMPDIR that is not there": ((), {"TMPDIR": "/nonexistent"}),
        "umask 077": (_in_shell("umask 077"), {}),
        "64 open files": (_in_shell("ulimit -n 64"), {}),
        "standard input and output closed": (_in_shell("exec <&- >&- 2>&-"), {}),
        "Kathmandu": ((), {"TZ": "Asia/Kathmandu"}),
    }
    if not no_root():
        environments |= {
            "TMPDIR full": (
                _in_namespace(f"mount -t tmpfs -o size=4k tmpfs {full}; echo . > {full}/x"),
                {"TMPDIR": str(full)},
            ),
            "no shared memory": (_in_namespace("mount -t tmpfs -o size=4k tmpfs /dev/shm; echo . > /dev/shm/x"), {}),
            "read-only archive": (_in_namespace(f"mount --bind -o ro {ground.archive} {ground.archive}"), {}),
        }
    for number, (name, (before, more)) in enumerate(environments.items()):
        for runner in ("loop", "dask"):
            cohort = f"odd-{number}-{runner}"
            ended = ground.run(cohort, f"runner={runner}", before=before, **more)
            faults[f"{name}, {runner}"] = ground.faults_of(cohort) if ended.code in ENDS else [ended.last_line]
    return Seen(len(faults), ", ".join(environments), all_of(faults))


def odd_names(folder: Path) -> Seen:
    """Archive and cohort below folders of all kinds of names."""
    faults = {}
    names = ("a b  c", "Wirbelsäule ✓", "line\nbreak", "-rf", "site=3", "%20*?[x]", "'\"$(echo x)`y`")
    for name in names:
        ground = Ground(folder / name, (GOOD, RAISE, GOOD))
        faults[repr(name)] = ground.faults_of("undisturbed")
    many = folder / "many"
    ground = Ground(many, (GOOD, RAISE, GOOD))
    for number in range(5000):
        (ground.archive / f"empty{number:04d}").mkdir()
    assert ground.run("with-empty-folders").code in ENDS
    faults["5000 empty folders"] = ground.faults_of("with-empty-folders")
    return Seen(
        len(faults),
        "names with spaces, accents, a line break, quotes, patterns, `site=3`; 5,000 empty folders",
        all_of(faults),
    )


def archive_away(folder: Path) -> Seen:
    """The archive is moved away when the first shard is done, and back before the next run."""
    ground = Ground(folder, MARKS, {"run.shard_size": 1})
    run = ground.start("away")
    wait_until(lambda: n_marks(ground.cohort("away")) > 0, run, "a shard")
    ground.archive.rename(folder / "elsewhere")
    ended = ground.ended(run, "away")
    nothing = ground.run("away", output="nothing")
    assert nothing.code in (2, COULD_NOT_RUN), nothing
    (folder / "elsewhere").rename(ground.archive)
    runs = ground.finish("away")
    what = f"the run ended with code {ended.code} ({ended.last_line}); without it: {nothing.last_line}; {runs} more"
    return Seen(1, what.replace(str(folder), "..."), tuple(ground.faults_of("away")))


def cohort_away(folder: Path) -> Seen:
    """The cohort is removed, or moved away, when the first shard is done."""
    ground, faults, said = Ground(folder, MARKS, {"run.shard_size": 1}), {}, []
    for name, act in (("removed", shutil.rmtree), ("moved", lambda path: path.rename(f"{path}-elsewhere"))):
        run = ground.start(name)
        wait_until(lambda: n_marks(ground.cohort(name)) > 0, run, "a shard")  # noqa: B023 - at once
        try:
            act(Path(ground.cohort(name)))
        except OSError:  # the run wrote into what was being removed
            shutil.rmtree(ground.cohort(name), ignore_errors=True)
        ended = ground.ended(run, name)
        said.append(f"{name}: code {ended.code}")
        assert "Traceback" not in ended.said, ended
        assert "unforeseen" not in ended.last_line, ended
        ground.finish(name)
        faults[name] = ground.faults_of(name)
    return Seen(2, "; ".join(said) + "; the next run did all", all_of(faults))


def replaced_while_planned(folder: Path) -> Seen:
    """Files of the last studies are replaced when the first shard is done: measured once as they are, then anew."""
    ground = Ground(folder, MARKS, {"run.shard_size": 1})
    run = ground.start("replaced")
    wait_until(lambda: n_marks(ground.cohort("replaced")) > 0, run, "a shard")
    for number, mark in enumerate(MARKS):
        write_study(ground.archive / f"s{number:02d}", f"Q77{number:02d}X", mark, number=7000 + number, n_slices=20)
    ended = ground.ended(run, "replaced")
    assert ended.code in ENDS, ended
    ground.before = fingerprint(ground.archive)
    ground.finish("replaced")
    ground.finish("fresh")
    ground.reference, ground.pictures = contents(ground.cohort("fresh")), pictures(ground.cohort("fresh"))
    return Seen(1, "the next run measured what had changed", tuple(ground.faults_of("replaced")))


def no_root() -> str:
    """Why places cannot be mounted here."""
    return "" if os.geteuid() == 0 else "needs root (unshare --mount)"


SCENARIOS = [
    Scenario("odd-environments", "runs in odd environments, by the loop and on Dask", odd_environments),
    Scenario("odd-names", "archive and cohort in folders of odd names", odd_names),
    Scenario("archive-away", "the archive is gone in the middle of a run, and back before the next", archive_away),
    Scenario("cohort-away", "the cohort is removed or moved away in the middle of a run", cohort_away),
    Scenario(
        "replaced", "all studies are replaced by others between the plan and their measuring", replaced_while_planned
    ),
]
