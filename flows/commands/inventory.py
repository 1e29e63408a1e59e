"""``vertebra inventory``: what is there and what would be done."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.printing import print_json, print_table

if TYPE_CHECKING:
    from flows.inventory import Prospect


def inventory(
    archives: Annotated[list[str], Parameter(help="Folders with studies, or s3:// URLs; never written to.")],
    /,
    *,
    cohort: Annotated[str, Parameter(help="Folder of the cohort; made if it is new.")],
    profile: Annotated[str, Parameter(help="Settings: a name in deployments/profiles or a .toml file.")] = "local",
    site: Annotated[str | None, Parameter(help="Name of the archive for the tables' column `site`.")] = None,
    metadata: Annotated[
        Path | None, Parameter(help="CSV or Parquet with what headers do not say: ages, sex, dates, patients, sites.")
    ] = None,
    settle_minutes: Annotated[
        float | None, Parameter(help="A study that changed less than so long ago may still be arriving; 0: none is.")
    ] = None,
    set_: Annotated[list[str], Parameter(name="--set", help="Any setting: SECTION.KEY=VALUE.", negative="")] = [],  # noqa: B006
    json_: Annotated[bool, Parameter(name="--json", help="Print the summary as JSON.", negative="")] = False,
) -> int:
    """What is in archives and what `vertebra screen` would do with it, without measuring anything.

    Headers are read, the inventory of the cohort is written: one row for every series, with its geometry and the
    decision about it. A screening that follows opens only files that are new.

    Example: vertebra inventory /archive/ct --cohort spines
    """
    from flows.cli import DONE, DONE_WITH_FAILURES
    from flows.places import check_places
    from flows.server import hush
    from flows.settings import assignments, load_settings
    from vertebra_core.reading.metadata import read_metadata

    hush()
    flags = {"run.site": site, "run.settle_minutes": settle_minutes, **assignments(set_)}
    settings = load_settings(profile, flags)
    check_places(archives, cohort)
    known = read_metadata(metadata) if metadata else None
    from flows.inventory import inspect_archives

    tell = partial(print, file=sys.stderr)
    prospect = inspect_archives(archives, cohort, settings, tell, known)
    if json_:
        print_json(prospect)
    else:
        print_prospect(prospect, cohort)
    return DONE_WITH_FAILURES if prospect.left_alone.get("unreadable") else DONE


def print_prospect(prospect: "Prospect", cohort: str) -> None:
    """Print what was met and what would be done."""
    from tasks.inventory import MEASURE
    from vertebra_core.errors import Reason

    sentences = {reason.code: reason.sentence for reason in Reason} | {MEASURE: "One series of each study."}
    rows = [[code, str(count), sentences.get(code, "")] for code, count in prospect.series.items()]
    print_table(f"Series ({sum(prospect.series.values())})", ["decision", "series", "why"], rows, text=["why"])
    if prospect.left_alone:
        rows = [[code, str(count), sentences.get(code, "")] for code, count in prospect.left_alone.items()]
        print_table("Files that belong to no series", ["reason", "files", "why"], rows, text=["why"])
    rows = [
        ["done already", str(prospect.studies_done)],
        ["to measure", str(prospect.to_measure)],
        ["to refuse by their headers", str(prospect.to_refuse)],
        ["waiting: may still be arriving", str(prospect.arriving)],
    ]
    print_table("Studies", ["a run would find", "studies"], rows)
    print(f"every series: {cohort}/inventory/")
