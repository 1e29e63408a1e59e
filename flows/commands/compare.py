"""``vertebra compare``: what differs between two cohorts, snapshots or versions of the networks."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.printing import print_json

if TYPE_CHECKING:
    from vertebra_core.cohort.layout import Layout
    from vertebra_core.epidemiology.cases import Tables
    from vertebra_core.epidemiology.compare_answer import CohortComparison
    from vertebra_core.storage import Place

SAME_MM = 0.01
"""Heights that differ by less are the same: how far two devices are apart (docs/decisions.md), and a tenth of what
would move G by 0.001."""


def compare(
    first: str,
    second: str,
    *,
    by: str | None = None,
    match: Literal["place", "level"] = "place",
    tolerance_mm: float = SAME_MM,
    min_vertebrae: int | None = None,
    index_rule: Literal["earliest", "latest", "most-vertebrae", "thinnest"] = "earliest",
    largest: int = 10,
    figures: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Compare two screenings of the same studies: outcomes, heights, grades, prevalence, and the largest changes.

    Differences are second minus first. Exit code 0: the same within --tolerance-mm; 1: they differ. Studies are joined
    by their keys, so both cohorts need the same pseudonym secret (VERTEBRA_PSEUDONYM_SECRET).

    Example: vertebra compare spines spines-with-new-networks --by level

    Parameters
    ----------
    first, second
        Cohorts, of which the newest snapshot is taken, or snapshots: COHORT/snapshots/ID.
    by
        Differences also by sex, age_band, scanner, site, year or level of the first, or several: sex,age_band.
    match
        A vertebra is the same by place (same studies) or by level (its name).
    tolerance_mm
        Heights that differ by more are different.
    min_vertebrae
        Measured vertebrae that a patient needs to be counted (7).
    index_rule
        Which study of a patient counts.
    largest
        How many of the largest changes of G are listed.
    figures
        Also draw differences against means into this folder, as PNG.
    as_json
        Print one JSON document.
    """
    from flows import compare_tables
    from flows.commands.prevalence import grading_of, strata_of
    from vertebra_core.cohort.snapshot import open_snapshot
    from vertebra_core.epidemiology.analysis import MIN_VERTEBRAE, Analysis
    from vertebra_core.epidemiology.compare_cohorts import compare_cohorts, reasons_to_differ
    from vertebra_core.errors import WrongUse

    strata = strata_of(by)
    if "grade" in strata:
        raise WrongUse("--by grade: grades stand beside each other in a table anyway")
    if tolerance_mm < 0 or largest < 0:
        raise WrongUse("--tolerance-mm and --largest are 0 or more")
    sides = [open_snapshot(one) for one in (first, second)]
    _check_secrets([layout for layout, _ in sides])
    analysis = Analysis(
        grading=grading_of(sides[0][1]),
        by=strata,
        min_vertebrae=MIN_VERTEBRAE if min_vertebrae is None else min_vertebrae,
        index_rule=index_rule,
    )
    tables = [_tables(snapshot, match) for _, snapshot in sides]
    found = compare_cohorts(tables[0], tables[1], analysis, match, largest)
    reasons = reasons_to_differ(found, tolerance_mm)
    pictures = [[_picture(layout, change.study_key) for layout, _ in sides] for change in found.largest]
    about = [_about(snapshot) for _, snapshot in sides]
    drawn = [] if figures is None else _draw(found, figures)
    if as_json:
        print_json(
            {
                "same": not reasons,
                "reasons": reasons,
                "tolerance_mm": tolerance_mm,
                "first": about[0],
                "second": about[1],
                "analysis": analysis,
                "match": match,
                **{name: value for name, value in vars(found).items() if name != "values"},
                "pictures": pictures,
                **({} if figures is None else {"figures": list(map(str, drawn))}),
            }
        )
    else:
        compare_tables.print_comparison(found, analysis, about, pictures, reasons)
        for path in drawn:
            print(f"Drawn: {path}")
    return 1 if reasons else 0


def _check_secrets(layouts: "list[Layout]") -> None:
    """Refuse cohorts whose keys were made with different secrets: no study of one could be found in the other."""
    from vertebra_core.errors import WrongUse

    prints = []
    for layout in layouts:
        try:
            prints.append(json.loads(layout.description.read_text()).get("secret_fingerprint"))
        except (OSError, ValueError, AttributeError):
            prints.append(None)  # a snapshot that was copied out of its cohort: its keys will tell
    if None not in prints and prints[0] != prints[1]:
        raise WrongUse(
            "the cohorts have different pseudonym secrets, so that their keys cannot be joined: screen both with one "
            "VERTEBRA_PSEUDONYM_SECRET (docs/privacy.md)"
        )


def _tables(snapshot: "Place", match: Literal["place", "level"]) -> "Tables":
    """Only the columns that the comparison needs."""
    from vertebra_core.epidemiology.cases import Tables
    from vertebra_core.epidemiology.compare_cohorts import COMPARED_STUDIES
    from vertebra_core.epidemiology.compare_matching import columns
    from vertebra_core.tables.parquet import read_table

    return Tables(
        read_table(snapshot / "patients.parquet", columns=["patient_key", "index_study_key"]),
        read_table(snapshot / "studies.parquet", columns=list(COMPARED_STUDIES)),
        read_table(snapshot / "vertebrae.parquet", columns=columns(match)),
    )


def _draw(found: "CohortComparison", folder: Path) -> list[Path]:
    """Differences against means of heights and of G."""
    from vertebra_core.report.agreement_figures import TITLES, bland_altman, save

    measures = [
        (TITLES[name], found.values[:, i], limits) for i, (name, limits) in enumerate(found.differences.items())
    ]
    return save([bland_altman("differences", measures, "first", "second")], folder)


def _about(snapshot: "Place") -> dict:
    """Which snapshot, made with which networks and settings."""
    names = ("published", "software_version", "model_digest", "settings_digest")
    known = json.loads((snapshot / "provenance.json").read_text())
    return {"snapshot": str(snapshot), **{name: known.get(name) for name in names}}


def _picture(layout: "Layout", study_key: str) -> str | None:
    """Where the picture of a study lies, if there is one."""
    path = layout.picture(study_key)
    return str(path) if path.exists() else None
