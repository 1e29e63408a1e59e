"""The table of docs/reliability.md: one line a scenario, replaced when the scenario was played again."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from reliability.scenario import Scenario, Seen

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
COLUMNS = ("scenario", "what was done", "times", "what was seen", "tables equal", "seconds", "when, load")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def line_of(scenario: Scenario, seen: Seen, seconds: float, load: float) -> str:
    """A scenario as a line of the table."""
    equal = "yes" if not seen.faults else "**no**: " + "; ".join(seen.faults[:3])
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M}, {load:.1f}"
    cells = f"`{scenario.name}`", scenario.done, seen.times, seen.what, equal, f"{seconds:.0f}", when
    return "| " + " | ".join(re.sub(r"\s+", " ", str(cell)).replace("|", "\\|") for cell in cells) + " |"


def write_line(line: str, order: list[str]) -> None:
    """Put a line into the table, in place of the last one of its scenario."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    lines = {name_of(one): one for one in table.splitlines() if one.startswith("| `")} | {name_of(line): line}
    known = [lines[name] for name in order if name in lines]
    PAGE.write_text(f"{before}{BEGIN}\n{HEAD}\n" + "\n".join(known) + f"\n{END}{after}")


def name_of(line: str) -> str:
    """The scenario a line is about.

    Examples
    --------
    >>> name_of("| `worker` | kill -9 | 2 |")
    'worker'
    """
    return line.split("`")[1]


def load() -> float:
    """Processes that want a core, as a mean of five minutes."""
    return os.getloadavg()[1]
