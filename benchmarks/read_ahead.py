"""What reading ahead saves: the studies of archives, with networks that only wait or only compute, with and without it.

    python -m benchmarks.read_ahead ARCHIVE ...

Networks on a GPU leave this CPU alone meanwhile: here they sleep. Networks on this CPU compute: here they do for as
long. No GPU takes part; this says what can be gained where one is waited for, not how fast one is.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tasks.method import Measure, Method, named_method
from tasks.plan import Shard, StudyOrder
from tasks.sandbox import Sandbox
from tasks.settings import RunSettings
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import Settings

NETWORK_SECONDS = 1.0
"""Of the networks of a study, near to what reading real CT takes: then most can be gained, half of the time."""


def waiting() -> Method:
    """Networks that are elsewhere: they are waited for."""
    return Method("waiting", lambda device: _after(time.sleep))


def computing() -> Method:
    """Networks on this CPU."""
    return Method("computing", lambda device: _after(_compute))


def _after(spend: Callable[[float], None]) -> Measure:
    def measure(volume, settings, watch):
        spend(NETWORK_SECONDS)
        raise NotEvaluable(Reason.NO_SPINE)

    return measure


def _compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        np.ones((200, 200)) @ np.ones((200, 200))


def seconds_per_study(orders: Sequence[StudyOrder], method: str, read_ahead: str) -> float:
    """Wall time of a study in one sandbox, the first one left out: it waits for imports."""
    run = RunSettings(pictures=False, device="cpu", read_ahead=read_ahead)
    identity = MethodIdentity(named_method(method).digest, "settings", "schema")
    shard = Shard("run", "00000", (), method, identity, Settings(), run)
    with Sandbox(run) as sandbox:
        sandbox.screen(orders[0], shard)
        start = time.monotonic()
        for order, following in zip(orders, (*orders[1:], None), strict=True):
            sandbox.screen(order, shard, following)
        return (time.monotonic() - start) / len(orders)


def main() -> None:
    """Print a table."""
    found = find_series(sys.argv[1:], Settings().reading).series
    orders = [
        StudyOrder(f"st{i}", "pt", f"se{i}", one.input_digest, replace(one, decision=None))
        for i, one in enumerate(one for one in found if one.decision is None)
    ]
    print(f"{len(orders)} studies, networks {NETWORK_SECONDS:g} s\n")
    print("| networks | off, s a study | on, s a study |\n|---|---|---|")
    for name in ("waiting", "computing"):
        off, on = (seconds_per_study(orders, f"benchmarks.read_ahead:{name}", way) for way in ("off", "on"))
        print(f"| {name} | {off:.2f} | {on:.2f} |")


if __name__ == "__main__":
    main()
