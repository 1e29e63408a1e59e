"""What is in the archives and what a run would do: stock-taking and plan, without measuring anything."""

import json
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.places import check_places
from flows.screen import holding_cohort, identify_method, open_cohort, plan_run
from flows.settings import InForce
from flows.stock import take_stock
from tasks.clock import now
from tasks.inventory import record_inventory
from tasks.method import SHIPPED
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout, run_name
from vertebra_core.cohort.links import known_keys
from vertebra_core.reading.metadata import Metadata
from vertebra_core.storage import Place, answering, place_of

MEASURE = "measure"
"""What the table says of series that are, or were, measured."""


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
    with answering(cohort):
        layout = Layout(place_of(cohort))
        roots = check_places(archives, layout.root)
    run = run_name(now(), secrets.token_hex(2))
    with answering(cohort), holding_cohort(layout, run, say):
        pseudonyms = open_cohort(layout)
        identity = identify_method(SHIPPED, settings)
        stock = take_stock(layout, pseudonyms, roots, settings, say, metadata)
        keys = known_keys(layout, stock.series, pseudonyms)
        record_inventory(layout, stock, keys, settings.run.site, settings.method.privacy)
        plan = plan_run(layout, run, stock, keys, SHIPPED, identity, settings)
        record = json.loads(layout.run_record(run).read_text())
        replace(layout.run_record(run), json.dumps({**record, "ended": now()}, indent=1).encode())
        tables = {layout.inventory(pseudonyms.archive_key(one.archive)).name for one in stock.series}
    decisions = Counter(one.decision.code if one.decision else MEASURE for one in stock.series)
    return Prospect(
        files_seen=stock.files_seen,
        files_opened=stock.files_opened,
        series=dict(decisions.most_common()),
        left_alone={reason.code: count for reason, count in stock.left_alone.items()},
        studies=len(plan.current),
        studies_done=len(plan.current) - plan.n_due,
        to_measure=plan.n_to_measure,
        to_refuse=len(plan.refused),
        arriving=stock.arriving,
        tables=tuple(sorted(tables)),
    )
