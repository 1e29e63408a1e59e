"""Further series of a study, measured beside its index series when that is asked for.

A study counts once, by its index series: `studies`, `vertebrae`, `levels_in_view` and `patients` never hold anything
else. What other series of the same study gave stands in two tables of its own, `other_series` and `other_vertebrae`,
with the columns of `studies` and `vertebrae`: whoever wants to compare kernels or slice thickness puts them together,
and nobody counts twice by accident.

Their shards are committed like all others, with an empty ``studies`` file as the mark.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import (
    Mark,
    MethodIdentity,
    as_ledger,
    choose,
    marks,
    read_companion,
    sources_of,
)
from vertebra_core.cohort.people import People, with_patients
from vertebra_core.settings import GradingSettings
from vertebra_core.storage import read_ahead
from vertebra_core.tables.regrade import deformity_sums, regrade_studies, regrade_vertebrae
from vertebra_core.tables.schema import arrow_schema

OTHER_SHARD = "other-"
"""How the names of shards with further series begin."""
OTHER_TABLES = {"studies": "other_series", "vertebrae": "other_vertebrae"}
"""Where the rows of a further series go, by the table where those of an index series go."""
GONE = ""
"""No input has this digest: nothing of such a series is shown."""


def committed_others(layout: Layout) -> pa.Table:
    """The ledger of further series, as `vertebra_core.cohort.ledger.committed` of studies."""
    found = [(number, mark) for number, mark in enumerate(marks(layout)) if mark.shard.startswith(OTHER_SHARD)]
    read = read_ahead(layout.root, lambda one: read_companion(layout, one[1], "other_series"), found)
    return as_ledger((number, mark, part) for (number, mark), part in zip(found, read, strict=True))


def choose_others(
    layout: Layout, identity: MethodIdentity, chosen: pa.Table, current: Mapping[str, str], others: Mapping[str, str]
) -> pa.Table:
    """The further series that a snapshot shows, in order of the series key.

    Parameters
    ----------
    layout : Layout
    identity : MethodIdentity
    chosen : pa.Table
        The studies that are shown: a series that stands for its study is not shown a second time, and none of a study
        that is not shown.
    current : mapping
        Study key -> input digest of the studies in the archives now.
    others : mapping
        Series key -> input digest of their further series now: of one that is gone or changed nothing is shown.
    """
    ledger = committed_others(layout)
    index_series = set(chosen["series_key"].to_pylist())
    shown = set(chosen["study_key"].to_pylist())
    now: dict[str, str] = {}
    for series, study in zip(ledger["series_key"].to_pylist(), ledger["study_key"].to_pylist(), strict=True):
        if series in index_series or study not in shown:
            now[series] = GONE
        elif study in current:
            now[series] = others.get(series, GONE)
    return choose(ledger, identity, now, "series_key")


def other_tables(
    layout: Layout, chosen: pa.Table, grading: GradingSettings, people: People
) -> dict[str, Iterator[pa.Table]]:
    """The parts of both tables, graded and filled; ``other_vertebrae`` must be read to its end first."""
    sources = sources_of(layout, chosen, "series_key")

    def parts(table: str) -> Iterator[pa.Table]:
        """The chosen rows of every shard."""

        def read(source: tuple[Mark, pa.Array]) -> pa.Table:
            """Those of one."""
            mark, keys = source
            return read_companion(layout, mark, table).filter(pc.field("series_key").isin(keys))

        return read_ahead(layout.root, read, sources)

    series = people.fill(pa.concat_tables([arrow_schema("other_series").empty_table(), *parts("other_series")]))
    sums: Counter[str] = Counter()

    def vertebrae() -> Iterator[pa.Table]:
        """Graded rows, adding up their grades on the way."""
        for part in parts("other_vertebrae"):
            graded = regrade_vertebrae(with_patients(part, series), grading)
            sums.update(deformity_sums(graded, "series_key"))
            yield graded

    def rows() -> Iterator[pa.Table]:
        """All rows at once, when the grades have been added up."""
        yield regrade_studies(series, sums, grading, "series_key").sort_by("series_key")

    return {"other_vertebrae": vertebrae(), "other_series": rows()}
