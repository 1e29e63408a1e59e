"""Studies that were given up, and the word of a person that they be tried again.

A study that failed, or was refused, is remembered by its row: the next nights leave it alone. `vertebra retry` lifts
that by a record of its own, created once and never changed: it names studies and the newest run whose rows no longer
count as an end. What fails again in a later run has a newer row, and is given up again. Until there is a newer row the
old one is shown.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from vertebra_core.cohort.commit import create
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import committed
from vertebra_core.cohort.others import committed_others
from vertebra_core.errors import Reason, WrongUse
from vertebra_core.storage import matching, read_ahead
from vertebra_core.tables.outcome import Status

GIVEN_UP = (Reason.WORKER_DIED, Reason.DEADLINE, Reason.OUT_OF_MEMORY, Reason.FAILED)
"""What is quarantined: the engine gave the study up. Refusals are lifted only when they are asked for."""


@dataclass(frozen=True)
class Ended:
    """A study, or a further series, that came to an end without a measurement.

    Parameters
    ----------
    key : str
    reason : str
        Code.
    run : str
        The run that said so.
    is_lifted : bool
        Whether the next run tries it again.
    """

    key: str
    reason: str
    run: str
    is_lifted: bool


def unmeasured(layout: Layout) -> list[Ended]:
    """All studies and further series whose newest row is not a measurement, in order of their keys."""
    lifted = read_lifted(layout)
    ends = [*_newest(committed(layout), "study_key"), *_newest(committed_others(layout), "series_key")]
    return [
        Ended(row[key], row["reason"], row["run"], row["run"] <= lifted.get(row[key], ""))
        for key, row in ends
        if row["status"] in (Status.FAILED.value, Status.NOT_EVALUABLE.value)
    ]


def quarantined(layout: Layout) -> dict[str, list[str]]:
    """Keys of the studies that were given up and wait for `vertebra retry`, by reason code."""
    found: dict[str, list[str]] = {}
    for one in to_lift(unmeasured(layout)):
        found.setdefault(one.reason, []).append(one.key)
    return found


def to_lift(ends: Iterable[Ended], reasons: Sequence[str] = (), keys: Sequence[str] = ()) -> list[Ended]:
    """Those that a person means: of these reasons and these keys; by default, whatever was given up.

    Raises
    ------
    WrongUse
        There is no such reason, or no such study that ended without a measurement.
    """
    ends = list(ends)
    known = {reason.code for reason in Reason}
    if unknown := sorted(set(reasons) - known):
        raise WrongUse(f"no such reason: {', '.join(unknown)} (`vertebra status` lists those of a cohort)")
    if unknown := sorted(set(keys) - {one.key for one in ends}):
        raise WrongUse(f"neither failed nor refused: {', '.join(unknown)}")
    meant = set(reasons) or (known if keys else {reason.code for reason in GIVEN_UP})
    return [one for one in ends if not one.is_lifted and one.reason in meant and (not keys or one.key in keys)]


def lift(layout: Layout, ends: Sequence[Ended], name: str, made: str) -> None:
    """Let the next run try these again.

    Parameters
    ----------
    layout : Layout
    ends : sequence of Ended
    name : str
        Of the record; sorts by time.
    made : str
        When, ISO 8601.
    """
    record = {"made": made, "through": max(one.run for one in ends), "keys": sorted(one.key for one in ends)}
    create(layout.retry(name), json.dumps(record, indent=1).encode())


def read_lifted(layout: Layout) -> dict[str, str]:
    """Key -> newest run whose failures are lifted."""
    lifted: dict[str, str] = {}
    for text in read_ahead(layout.root, lambda path: path.read_text(), matching(layout.retries, "*.json")):
        record = json.loads(text)
        for key in record["keys"]:
            lifted[key] = max(record["through"], lifted.get(key, ""))
    return lifted


def _newest(ledger: pa.Table, key: str) -> list[tuple[str, Mapping[str, str]]]:
    rows = {row[key]: row for row in ledger.select([key, "status", "reason", "run"]).to_pylist()}
    return [(key, rows[one]) for one in sorted(rows)]
