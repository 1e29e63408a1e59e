"""``vertebra report``: one page about a cohort."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.printing import print_json


def report(
    cohort: str,
    *,
    out: Path | None = None,
    gallery: int = 6,
    pictures: bool = True,
    hide_small: Annotated[bool, Parameter(negative=())] = False,
    snapshot: str | None = None,
    min_vertebrae: int | None = None,
    noise: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Write one HTML page about a cohort: who was counted, prevalence, levels, quality, pictures, methods.

    The page needs no network and no script; open it in any browser or print it. It lies in the snapshot as report.html,
    unless --out says otherwise. The same snapshot gives the same bytes. What each section says: docs/report.md.

    Example: vertebra report spines --noise

    Parameters
    ----------
    cohort
        The cohort, already screened: a folder or an s3:// URL.
    out
        Write here instead, a .html file.
    gallery
        Studies with the lowest G to show, and as many drawn at random; 0 for none.
    pictures
        Show their pictures; else only their keys and numbers.
    hide_small
        Hide cells of fewer than 5 people, and leave out what cannot be hidden cell by cell: single studies, curves,
        definitions.
    snapshot
        Name of an older snapshot.
    min_vertebrae
        Measured vertebrae that a patient needs to be counted (7).
    noise
        Correct the shares for the noise of the heights, as `vertebra noise` measured it (half a minute).
    as_json
        Print where the page lies and all its numbers as one JSON document.
    """
    from tasks.cohort_report import write_report
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.epidemiology.analysis import MIN_VERTEBRAE
    from vertebra_core.errors import WrongUse
    from vertebra_core.report.contents import Choices
    from vertebra_core.storage import answering

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise WrongUse(f"{out}: expected a name that ends in .html")
    for name, value, least in (("--gallery", gallery, 0), ("--min-vertebrae", min_vertebrae, 1)):
        if value is not None and value < least:
            raise WrongUse(f"{name} {value}: at least {least}")
    if noise and hide_small:
        raise WrongUse("--noise fits curves to groups; small cells in them cannot be hidden")
    layout = open_layout(cohort)
    choices = Choices(gallery, pictures, hide_small, MIN_VERTEBRAE if min_vertebrae is None else min_vertebrae)
    with answering(cohort):
        written = write_report(layout, snapshot, choices, noise, out)
    if as_json:
        print_json({"file": str(written.place), "bytes": written.n_bytes, **vars(written.contents)})
    else:
        print(f"Written to {written.place} ({written.n_bytes / 1e3:.0f} kB).")
