"""``python -m reliability [SCENARIO ...]``: disturb runs, compare, and write the table of docs/reliability.md."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from flows.cli import interrupt
from reliability import clocks, damage, disks, instants, odds, partners, stores, workers
from reliability.scenario import Scenario, Seen
from reliability.table import line_of, load, write_line

SCENARIOS = [
    *workers.SCENARIOS,
    *instants.SCENARIOS,
    *partners.SCENARIOS,
    *disks.SCENARIOS,
    *stores.SCENARIOS,
    *clocks.SCENARIOS,
    *damage.SCENARIOS,
    *odds.SCENARIOS,
]


def main() -> int:
    """Play scenarios; 1 if one of them left something that is not as it was."""
    parser = argparse.ArgumentParser(prog="reliability", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(names)}; all if none is named")
    parser.add_argument("--folder", type=Path, help="where to work; kept, while one of its own is removed")
    parser.add_argument("--dry", action="store_true", help="leave docs/reliability.md as it is")
    wanted = parser.parse_args()
    if unknown := set(wanted.scenario) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, interrupt)  # so that what was mounted and started is taken back
    folder = wanted.folder or Path(tempfile.mkdtemp(prefix="vertebra-faults-"))
    good = True
    for scenario in SCENARIOS:
        if not wanted.scenario or scenario.name in wanted.scenario:
            seen, line = play(scenario, folder / scenario.name)
            good &= not seen.faults
            print(line, flush=True)
            if not wanted.dry:
                write_line(line, names)
    if wanted.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if good else 1


def play(scenario: Scenario, folder: Path) -> tuple[Seen, str]:
    """Play one scenario; an error of it is a fault."""
    started = time.monotonic()
    if why := scenario.missing():
        seen = Seen(0, f"not tried: {why}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            seen = scenario.play(folder)
        except Exception as error:
            traceback.print_exc()
            seen = Seen(1, "see what is wrong", (f"{type(error).__name__}: {str(error)[:300]}",))
    return seen, line_of(scenario, seen, time.monotonic() - started, load()).replace(f"{folder}/", "")


if __name__ == "__main__":
    sys.exit(main())
