"""What a scenario is, and what comes of one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """What came of a scenario.

    Parameters
    ----------
    times : int
        How often the fault was made.
    what : str
        What was seen, in a few words.
    faults : tuple of str
        What was not as if nothing had happened; empty if all was.
    """

    times: int
    what: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A fault and how it is made.

    Parameters
    ----------
    name : str
        What it is known by on the command line.
    done : str
        What was done, for a reader of the table.
    play : callable
        Makes the fault in an empty folder.
    missing : callable
        Why it cannot be made here; empty if it can.
    """

    name: str
    done: str
    play: Callable[[Path], Seen]
    missing: Callable[[], str] = lambda: ""


def all_of(faults: dict[str, list[str]]) -> tuple[str, ...]:
    """Faults of several tries, each with the try it was met in."""
    return tuple(f"{name}: {fault}" for name, some in faults.items() for fault in some)
