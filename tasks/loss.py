"""What becomes of a shard whose worker died: it is parted around the study it was at, down to the one that kills.

The parent is closed first, by committing it empty: a mark is created once, so a worker that was given up too early and
still runs cannot commit it any more, and if it was quicker there is nothing to part. The names of the parts are that of
the parent and a letter, the same whoever parts it. A study by itself whose worker has died `RunSettings.attempts` times
after it had begun ends as a row; a study that only waited in the queue of a worker is never blamed.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tasks.log import STUDY_DONE, shard_log
from tasks.plan import FannedOut, Shard, StudyOrder, read_shard, write_shard
from tasks.shard import RESULT_TABLES, committed_tables, how_it_ended, of_order
from tasks.study import ended, rows_of
from tasks.until import ClosingTime
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import commit_shard
from vertebra_core.errors import Reason
from vertebra_core.storage import matching
from vertebra_core.tables.outcome import Status

PARTS = "abc"
"""What is added to the name of a shard by the names of its parts: before, at and behind the study it was at."""


@dataclass(frozen=True)
class Attempt:
    """What the log of a shard says of one worker's work at it.

    Parameters
    ----------
    at : str or None
        Key of the study that was begun and not ended.
    begun : int
        Studies that were begun.
    given_back : bool
        Whether it came to an end by itself, good or bad.
    """

    at: str | None = None
    begun: int = 0
    given_back: bool = False

    @property
    def killed_a_worker(self) -> bool:
        """Whether a study had begun and nobody brought the shard to an end."""
        return self.begun > 0 and not self.given_back


def first_name(shard: str) -> str:
    """The name of the shard of the plan from which one was parted, or its own.

    Examples
    --------
    >>> first_name("00012ab"), first_name("other-00003")
    ('00012', 'other-00003')
    """
    return shard.rstrip(PARTS)


def attempts_at(layout: Layout, run: str, shard: str) -> list[Attempt]:
    """What the shard's log says of every attempt, in order."""
    attempts: list[Attempt] = []
    for event in _events(layout, run, shard):
        if event["event"] == "shard_started":
            attempts.append(Attempt())
        elif not attempts:
            continue
        elif event["event"] == "study_started":
            attempts[-1] = replace(attempts[-1], at=_key(event), begun=attempts[-1].begun + 1)
        elif event["event"] == STUDY_DONE and _key(event) == attempts[-1].at:
            attempts[-1] = replace(attempts[-1], at=None)
        elif event["event"] in ("shard_committed", "shard_given_back"):
            attempts[-1] = replace(attempts[-1], given_back=True)
    return attempts


def part(layout: Layout, run: str, name: str, at: str | None) -> list[str]:
    """Close a shard and write its parts: before, at and behind a study, or two halves where none is known.

    Parameters
    ----------
    layout : Layout
    run, name : str
    at : str or None
        Key of the study.

    Returns
    -------
    list of str
        Names of the parts; empty if the shard had been committed in the meantime.
    """
    shard = read_shard(layout, run, name)
    if not commit_shard(layout, run, name, committed_tables(name, {table: [] for table in RESULT_TABLES})):
        return []
    pieces = [piece for piece in cut_at(shard.studies, at) if piece]
    names = [name + letter for letter, _ in zip(PARTS, pieces, strict=False)]
    for part_name, piece in zip(names, pieces, strict=True):
        write_shard(layout, replace(shard, name=part_name, studies=tuple(piece)))
    return names


def cut_at(studies: Sequence[StudyOrder], at: str | None) -> list[Sequence[StudyOrder]]:
    """The studies before, at and behind a key; halves where it is not among them."""
    where = next((number for number, order in enumerate(studies) if order.key == at), None)
    if where is None:
        middle = (len(studies) + 1) // 2
        return [studies[:middle], studies[middle:]]
    return [studies[:where], studies[where : where + 1], studies[where + 1 :]]


def give_up(layout: Layout, run: str, shard: Shard, deaths: int) -> bool:
    """End the only study of a shard as a row that says why; False if it has got another row in the meantime."""
    order = shard.studies[0]
    detail = f"{deaths} tries: each time the worker died that had begun it"
    rows = rows_of(ended(order, shard, Status.FAILED, Reason.WORKER_DIED, detail), shard)
    if not commit_shard(layout, run, shard.name, committed_tables(shard.name, rows)):
        return False
    log = shard_log(layout, run, shard.name)
    log("given_up", **of_order(order), reason=Reason.WORKER_DIED.code, detail=detail)
    log(STUDY_DONE, **of_order(order), **how_it_ended(rows["studies"][0]))
    return True


def put_back(names: Iterable[str], closing: ClosingTime) -> FannedOut:
    """What a runner says of the shards it has left: put back if the hour has come, else lost."""
    if not closing.has_come():
        return FannedOut()
    left = tuple(sorted({first_name(name) for name in names}))
    return FannedOut(left, closing.why if left else "")


def _key(event: dict) -> str:
    return event.get("series_key", event["study_key"])


def _events(layout: Layout, run: str, shard: str) -> Iterator[dict]:
    """The lines of a shard's logs; in a store every attempt has one of its own, with a token after the name."""
    folder = layout.logs(run)
    for log in [*matching(folder, f"shard-{shard}.jsonl"), *matching(folder, f"shard-{shard}-*.jsonl")]:
        whole = log.read_bytes().rpartition(b"\n")[0]
        yield from map(json.loads, whole.splitlines())
