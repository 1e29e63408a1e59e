"""Files of a cohort that are cut, emptied, turned over, replaced, taken away or locked up between two runs."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from reliability.forks import Forks
from reliability.ground import COULD_NOT_RUN, DONE, DONE_WITH_FAILURES, MIXED, Ground
from reliability.scenario import Scenario, Seen, all_of
from vertebra_core.cohort.commit import parquet_bytes

SEED = 22
FLAGS = {"run.shard_size": 4}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def turn_bits(path: Path) -> None:
    data, rng = bytearray(path.read_bytes()), random.Random(SEED)
    data[rng.randrange(len(data) // 4, len(data) // 2)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.write_bytes(parquet_bytes(pa.table({"study_key": ["st1"], "status": [1]})))


def folder_of_that_name(path: Path) -> None:
    path.unlink()
    path.mkdir()


def remove(path: Path) -> None:
    path.unlink()


def other_ones(path: Path) -> None:
    """The same table of another shard."""
    other = next(
        p for p in sorted(path.parent.glob("*." + path.name.split(".", 1)[1].split(".")[-2] + ".parquet")) if p != path
    )
    path.write_bytes(other.read_bytes())


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00garbage\xff" * 50)


RESULT_DAMAGE = (cut, empty, turn_bits, foreign, folder_of_that_name, other_ones)
MENDED = {
    "results/*/*[0-9].studies.parquet": RESULT_DAMAGE,
    "results/*/*.*.vertebrae.parquet": (*RESULT_DAMAGE, remove),
    "results/*/*.*.levels_in_view.parquet": (cut, turn_bits, remove),
    "private/index/*.parquet": (cut, empty, turn_bits, garbage, remove),
    "inventory/*.parquet": (cut, empty, garbage, remove),
    "latest.json": (cut, empty, garbage, remove),
    "logs/*/run.json": (cut, empty, garbage, remove),
    "logs/*/*.jsonl": (cut, garbage, remove),
    "lock.json": (empty, garbage),
}
"""Files by pattern, and the damage after which the next run gives the same tables."""
TOLD = {
    "private/links.parquet": (cut, empty, turn_bits, garbage),
    "cohort.json": (cut, empty, garbage),
}
"""Files that a run cannot make anew: it ends with one line that names them, and nothing is changed."""


def damaged_files(folder: Path) -> Seen:
    """Each damage in a copy of a cohort that is done, then a run that has one more thing to do."""
    ground = Ground(folder, MIXED, FLAGS)
    forks, faults, told = Forks(ground), {}, 0
    forks.run("whole")
    cases = [(pattern, damage, True) for pattern, some in MENDED.items() for damage in some]
    cases += [(pattern, damage, False) for pattern, some in TOLD.items() for damage in some]
    for number, (pattern, damage, mended) in enumerate(cases):
        cohort = f"damaged-{number}"
        path = copy_of(ground, cohort, pattern)
        damage(path)
        spoilt = path.read_bytes() if path.is_file() else b""
        shutil.rmtree(Path(ground.cohort(cohort)) / "snapshots")  # so that everything is read again
        ended = forks.run(cohort)
        name = f"{pattern} {damage.__name__}"
        if mended:
            faults[name] = ground.faults_of(cohort) if ended.code in (DONE, DONE_WITH_FAILURES) else [ended.last_line]
        else:
            told += 1
            faults[name] = [] if _is_told(ended.code, ended.last_line, path, spoilt) else [ended.last_line]
    what = (
        f"{len(cases) - told} times the next run made it good (damaged shards to `damaged/`, measured again); "
        f"{told} times (private links, cohort.json) it ended with one line that names the file"
    )
    return Seen(len(cases), what, all_of(faults))


def copy_of(ground: Ground, cohort: str, pattern: str) -> Path:
    """A file, by its pattern, of a copy of the cohort "whole", which is done."""
    root = Path(ground.cohort(cohort))
    shutil.copytree(ground.cohort("whole"), root)
    if pattern == "lock.json":
        (root / pattern).touch()
    return sorted(root.glob(pattern))[0]


def _is_told(code: int, line: str, path: Path, spoilt: bytes) -> bool:
    return code in (2, COULD_NOT_RUN) and path.name in line and "unforeseen" not in line and path.read_bytes() == spoilt


def locked_up(folder: Path) -> Seen:
    """A mark that nobody may read, and a run without root's rights."""
    ground = Ground(folder, MIXED, FLAGS)
    forks = Forks(ground)
    forks.run("locked")
    root = Path(ground.cohort("locked"))
    mark = sorted(root.glob("results/*/*[0-9].studies.parquet"))[0]
    mark.chmod(0)
    ended = ground.run("locked", before=("setpriv", "--bounding-set=-dac_override,-dac_read_search"))
    assert ended.code == COULD_NOT_RUN, ended
    assert ended.last_line.endswith(f"{mark}: Permission denied"), ended
    mark.chmod(0o644)
    again = forks.run("locked")
    assert again.code in (DONE, DONE_WITH_FAILURES), again
    return Seen(
        1, "one line that names it, code 3; done when it could be read again", tuple(ground.faults_of("locked"))
    )


def no_root() -> str:
    """Why nobody can be locked out here."""
    return "" if os.geteuid() == 0 and shutil.which("setpriv") else "needs root and setpriv"


Damage = Callable[[Path], None]
SCENARIOS = [
    Scenario(
        "damaged-files",
        "between two runs a file of the cohort was cut, emptied, one bit of it turned over, replaced by garbage, by "
        "another table, by that of another shard or by a folder, or taken away",
        damaged_files,
    ),
    Scenario("locked-mark", "a done-mark with mode 000, and a run that is not root's", locked_up, no_root),
]
