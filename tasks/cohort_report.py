"""Writing the page about a cohort into its snapshot."""

from collections.abc import Callable
from dataclasses import dataclass

from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import named_snapshot
from vertebra_core.epidemiology.noise_model import NOISE_FILE, read_noise
from vertebra_core.errors import VertebraError
from vertebra_core.report.contents import Choices, Contents, gather
from vertebra_core.report.gallery import pictures_of
from vertebra_core.storage import Place, said_by_store

REPORT_FILE = "report.html"
DEFAULT_CHOICES = Choices()


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written.

    Parameters
    ----------
    place : Place
    n_bytes : int
    contents : Contents
        Its numbers.
    """

    place: Place
    n_bytes: int
    contents: Contents


def write_report(
    layout: Layout,
    snapshot: str | None = None,
    choices: Choices = DEFAULT_CHOICES,
    with_noise: bool = False,
    out: Place | None = None,
) -> WrittenReport:
    """Make the page about a snapshot and write it, whole or not at all; equal snapshots and choices give equal bytes.

    Parameters
    ----------
    layout : Layout
    snapshot : str, optional
        Its name; default: the newest.
    choices : Choices
    with_noise : bool
        Correct for the noise that lies beside the cohort (``noise.json``).
    out : Place, optional
        Where to write; default: ``report.html`` of the snapshot, in place of an earlier one.

    Raises
    ------
    WrongUse
        No such snapshot; no noise, or that of other networks.
    CouldNotRun
        Counts of the snapshot do not add up.
    """
    from vertebra_core.report.page import render_report  # brings the templates' library

    folder = named_snapshot(layout, snapshot)
    noise = read_noise(layout.root / NOISE_FILE) if with_noise else None
    contents = gather(folder, choices, noise)
    shown = contents.gallery if choices.pictures else None
    page = render_report(contents, pictures_of(layout, shown) if shown else {}).encode()
    place = folder / REPORT_FILE if out is None else out
    replace(place, page)
    return WrittenReport(place, len(page), contents)


def add_report(layout: Layout, snapshot: str, say: Callable[[str], None]) -> None:
    """Write the page of a snapshot that has none yet; the snapshot stands without it, whatever happens.

    Parameters
    ----------
    say : callable
        Hears in a line where it lies, or why there is none.
    """
    try:
        if not (layout.snapshot(snapshot) / REPORT_FILE).exists():
            say(f"report    {write_report(layout, snapshot).place}")
    except Exception as error:  # the tables are published and good; a page can be made again at any time
        why = str(error) if isinstance(error, VertebraError) else said_by_store(error) or type(error).__name__
        say(f"report    not written ({why}); try again: vertebra report {layout.root}")
