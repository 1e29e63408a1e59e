"""Taking stock of the archives, with progress, from what earlier runs learnt, and what a person is told of it."""

from collections.abc import Callable, Iterator, Sequence

from flows.progress import duration, watched
from flows.settings import InForce
from tasks.clock import seconds_since_epoch
from tasks.inventory import Stock, take_inventory
from tasks.remember import Saver, keep, recall
from vertebra_core.cohort.identity import Pseudonyms
from vertebra_core.cohort.layout import Layout
from vertebra_core.reading.arrival import Settling
from vertebra_core.reading.metadata import Metadata
from vertebra_core.storage import Place


def take_stock(
    layout: Layout,
    pseudonyms: Pseudonyms,
    archives: Sequence[Place],
    settings: InForce,
    say: Callable[[str], None],
    metadata: Metadata | None = None,
) -> Stock:
    """Read the headers of all files that are new, and say what was met."""
    seen = [0]
    notes = recall(layout, pseudonyms, settings.method.reading)
    saver = Saver(layout, pseudonyms, notes)

    def hear(files: int) -> None:
        seen[0] = files
        saver(files)

    settling = Settling(seconds_since_epoch(), settings.run.settle_minutes * 60.0)
    with watched("files", None, lambda: seen[0]):
        processes = settings.run.workers_here()
        stock = take_inventory(archives, settings.method.reading, hear, notes, processes, settling, metadata)
    keep(layout, pseudonyms, notes)
    for line in what_was_met(stock, settings.run.settle_minutes):
        say(line)
    return stock


def what_was_met(stock: Stock, settle_minutes: float) -> Iterator[str]:
    """What a person should know of the archives, a line each."""
    opened = f" ({stock.files_opened} new or changed)" if stock.files_opened < stock.files_seen else ""
    yield f"{stock.files_seen} files{opened}, {len(stock.series)} series" + listed("; left alone: ", stock.left_alone)
    if stock.joined:
        joined = stock.joined
        yield (
            f"metadata: {joined.rows_used} of {joined.rows} rows found their series"
            + listed("; filled in: ", joined.filled)
            + listed("; header kept where it says otherwise: ", joined.kept)
        )
    if stock.arriving:
        yield (
            f"{stock.arriving} studies may still be arriving: they changed less than {settle_minutes:g} minutes ago. "
            f"A run in {duration(stock.settles_in_s)} or later takes them; with --settle-minutes 0 this one would have"
        )


def listed(head: str, counts: dict) -> str:
    """Counts by reason as text; nothing if there are none.

    Examples
    --------
    >>> listed("; filled in: ", {"sex": 2, "age_years": 1})
    '; filled in: 2 sex, 1 age_years'
    """
    names = [f"{count} {getattr(reason, 'code', reason)}" for reason, count in counts.items()]
    return head + ", ".join(names) if names else ""
