"""What is in the archives and what a run would do: stock-taking and plan, without measuring anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.screen import planned_run
from flows.settings import InForce
from tasks.method import SHIPPED
from tasks.record import end_record
from vertebra_core.reading.metadata import Metadata
from vertebra_core.storage import Place


@dataclass(frozen=True)
class Prospect:
    """What the archives hold, and what `vertebra screen` would do with it.

    Parameters
    ----------
    files_seen, files_opened : int
        Files listed, and the ones of these that were new or had changed.
    series : dict
        Series by decision: "measure", or the code of a reason.
    left_alone : dict
        Files and folders that belong to no series, by reason.
    studies, studies_done : int
        Studies that have settled, and the ones of these with a result.
    to_measure, to_refuse : int
        Due studies: sent to workers, or refused by their headers.
    arriving : int
        Studies that wait until they have settled.
    tables : tuple of str
        Names of the inventory tables that were written, one for each archive.
    """

    files_seen: int
    files_opened: int
    series: dict[str, int]
    left_alone: dict[str, int]
    studies: int
    studies_done: int
    to_measure: int
    to_refuse: int
    arriving: int
    tables: tuple[str, ...]


def inspect_archives(
    archives: Sequence[str | Place],
    cohort: str | Place,
    settings: InForce,
    say: Callable[[str], None] = print,
    metadata: Metadata | None = None,
) -> Prospect:
    """Take stock of the archives and write the inventory, as a run does before it measures."""
    with planned_run(archives, cohort, settings, SHIPPED, say, metadata) as planned:
        layout, met, plan = planned.layout, planned.met, planned.plan
        end_record(layout, planned.run, kind="inventory")
        tables = {layout.inventory(planned.pseudonyms.archive_key(archive)).name for archive in met.archives}
    return Prospect(
        files_seen=met.files_seen,
        files_opened=met.files_opened,
        series=met.series,
        left_alone=met.left_alone,
        studies=len(plan.current),
        studies_done=len(plan.current) - plan.n_due,
        to_measure=plan.n_to_measure,
        to_refuse=plan.n_refused,
        arriving=met.arriving,
        tables=tuple(sorted(tables)),
    )
