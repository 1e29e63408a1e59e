"""A disk that is full in one part of a cohort, and then has space again."""

import os
import subprocess
from pathlib import Path

from reliability.forks import Forks
from reliability.ground import COULD_NOT_RUN, DONE, DONE_WITH_FAILURES, MIXED, Ground
from reliability.scenario import Scenario, Seen, all_of

PARTS = {"results": 60, "pictures": 8, "snapshots": 24, "private": 8, "logs": 8, "inventory": 8}
"""Parts of a cohort, and KiB that are not enough for each."""
ENOUGH = "64m"


def full_disks(folder: Path) -> Seen:
    """Every part in turn on a file system of its own."""
    ground = Ground(folder, MIXED, {"run.shard_size": 2})
    forks, faults = Forks(ground), {}
    for part, size_kib in PARTS.items():
        cohort = f"full-{part}"
        mount = Path(ground.cohort(cohort)) / part
        mount.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=700", "tmpfs", mount], check=True)
        try:
            full = forks.run(cohort)
            assert full.code == COULD_NOT_RUN, (part, full)
            assert full.last_line.endswith("No space left on device"), (part, full)
            subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", mount], check=True)
            again = forks.run(cohort)
            assert again.code in (DONE, DONE_WITH_FAILURES), (part, again)
            faults[part] = ground.faults_of(cohort)
        finally:
            subprocess.run(["umount", mount], check=True)
    what = f"in {', '.join(PARTS)}: one line that says so, code 3; done by the next run"
    return Seen(len(PARTS), what, all_of(faults))


def no_mount() -> str:
    """Why no file system of our own can be had."""
    if os.geteuid() != 0:
        return "needs root (mount)"
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return "" if tried.returncode == 0 else "no right to mount here"


SCENARIOS = [
    Scenario(
        "disk-full",
        "a small tmpfs as one part of the cohort, each part in turn; then space again",
        full_disks,
        no_mount,
    )
]
