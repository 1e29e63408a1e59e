"""The answer of ``vertebra compare`` as tables for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.printing import ABSENT, number, percent, print_table

if TYPE_CHECKING:
    from vertebra_core.epidemiology.analysis import Analysis
    from vertebra_core.epidemiology.compare_cohorts import CohortComparison
    from vertebra_core.statistics.bland_altman import Limits

MOST_LISTED = 10
"""Rows of changed outcomes and studies that are printed; all are in the JSON document."""


def print_comparison(
    found: "CohortComparison",
    analysis: "Analysis",
    about: Sequence[dict],
    pictures: Sequence[Sequence[str | None]],
    reasons: Sequence[str],
) -> None:
    """Print what is compared, what differs, and where to look.

    Parameters
    ----------
    found : CohortComparison
    analysis : Analysis
    about : sequence of dict
        Snapshot, networks and settings of both.
    pictures : sequence
        Of each of the largest changes, in both cohorts.
    reasons : sequence of str
        Why they differ; empty where they do not.
    """
    for which, one in zip(("First", "Second"), about, strict=True):
        print(f"{which}: {one['snapshot']}, networks {one['model_digest']}, settings {one['settings_digest']}")
    if about[0]["model_digest"] != about[1]["model_digest"]:
        print("They were measured with different networks.")
    print()
    _print_studies(found)
    _print_differences(found)
    _print_grades(found)
    _print_prevalence(found, analysis)
    if found.groups:
        _print_groups(found, analysis)
    _print_largest(found, pictures)
    print("The same within the tolerance." if not reasons else f"They differ: {'; '.join(reasons)}.")


def _print_studies(found: "CohortComparison") -> None:
    studies, bones = found.studies, found.vertebrae
    rows = [
        ["studies in both", str(studies.both), f"of {studies.first} and {studies.second}"],
        ["only in the first", str(len(studies.only_first)), _some(studies.only_first)],
        ["only in the second", str(len(studies.only_second)), _some(studies.only_second)],
        ["other files", str(studies.other_input), "of the studies in both"],
        ["another series measured", str(studies.other_series), ""],
        ["ended otherwise", str(len(studies.changed)), ""],
        *([f"  {end}", str(n), ""] for end, n in list(studies.ends.items())[:MOST_LISTED]),
        ["vertebrae matched", str(bones.matched), f"of {bones.first} and {bones.second}, studies measured in both"],
        ["measured in both", str(bones.measured), f"{bones.measured_in_one} in one only"],
        ["only in the first", str(bones.only_first), ""],
        ["only in the second", str(bones.only_second), ""],
        ["named otherwise", str(bones.other_level), f"{bones.one_level} named in one only, {bones.same_level} equally"],
    ]
    print_table("What is in both", ["", "n", "remark"], rows, text=("", "remark"))


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:3])
    return f"{shown}, ..." if len(keys) > 3 else shown


def _print_differences(found: "CohortComparison") -> None:
    rows = [
        [name.removesuffix("_mm"), *limits_cells(one, 3 if name == "g" else 2)]
        for name, one in found.differences.items()
    ]
    title = "Second minus first: heights in mm, and G; 95 % intervals with patients as clusters"
    print_table(title, ["", *LIMITS_COLUMNS], rows)


LIMITS_COLUMNS = ("n", "bias", "SD", "lower limit", "upper limit", "largest")


def limits_cells(one: "Limits", digits: int) -> list[str]:
    """Cells of one row of limits of agreement, each with its interval."""
    return [
        str(one.n),
        _with_interval(one.bias, None if one.bias_low is None else (one.bias_low, one.bias_high), digits),
        number(one.sd, digits),
        _with_interval(one.low, one.low_interval, digits),
        _with_interval(one.high, one.high_interval, digits),
        number(one.largest, digits),
    ]


def _with_interval(value: float | None, interval: tuple | None, digits: int) -> str:
    if value is None:
        return ABSENT
    shown = f"{value:+.{digits}f}"
    return shown if interval is None else f"{shown} ({interval[0]:+.{digits}f} to {interval[1]:+.{digits}f})"


def _print_grades(found: "CohortComparison") -> None:
    from vertebra_core.tables.columns import GRADES

    rows = [[name, *map(str, row)] for name, row in zip(GRADES, found.grades.table, strict=True)]
    print_table("Vertebrae by grade: first down, second across", ["", *GRADES], rows)
    kappas = []
    for name, one in found.grades.kappa.items():
        interval = "" if one.low is None or one.high is None else f" ({one.low:.3f} to {one.high:.3f})"
        kappas.append(f"{name} {number(one.value, 3)}{interval}")
    print(f"Equal grades: {percent(found.grades.equal)} %. Kappa: {', '.join(kappas)}.\n")


def _print_prevalence(found: "CohortComparison", analysis: "Analysis") -> None:
    rows = []
    for bound, one in found.patients.shares.items():
        at = f"G <= {getattr(analysis.grading, bound):.2f}"
        first, second = one.both + one.only_first, one.both + one.only_second
        counts = [str(one.n), str(first), str(second), str(one.only_first), str(one.only_second)]
        rows.append(["patients", at, *counts, _points(one.difference, one.low, one.high), number(one.p, 3)])
    for bound, one in found.vertebra_shares.items():
        at = f"G <= {getattr(analysis.grading, bound):.2f}"
        counts = [str(one.n), str(one.first), str(one.second), "", ""]
        rows.append(["vertebrae", at, *counts, _points(one.difference, one.low, one.high), ""])
    columns = ["of both", "", "N", "first", "second", "only first", "only second", "difference, points", "McNemar p"]
    print_table("Fractured, in the same patients and vertebrae", columns, rows, text=("",))
    people = found.patients
    print(
        f"Patients with at least {analysis.min_vertebrae} measured vertebrae in the first only: {people.only_first}, "
        f"in the second only: {people.only_second}; with another index study: {people.other_index_study}.\n"
    )


def _points(difference: float | None, low: float | None, high: float | None) -> str:
    if difference is None:
        return ABSENT
    shown = f"{100 * difference:+.2f}"
    return shown if low is None or high is None else f"{shown} ({100 * low:+.2f} to {100 * high:+.2f})"


def _print_groups(found: "CohortComparison", analysis: "Analysis") -> None:
    rows = [
        [
            group.name,
            *limits_cells(group.g, 3),
            number(group.heights_mm.bias),
            number(group.heights_mm.sd),
            str(group.grade_changed),
        ]
        for group in found.groups
    ]
    columns = [" x ".join(analysis.by), *LIMITS_COLUMNS, "heights bias mm", "SD", "other grade"]
    print_table("Second minus first, G", columns, rows)


def _print_largest(found: "CohortComparison", pictures: Sequence[Sequence[str | None]]) -> None:
    if not found.largest:
        print("No G has changed.")
        return
    rows = []
    for one, (first, second) in zip(found.largest, pictures, strict=True):
        rows.append(
            [
                one.study_key,
                f"{one.level or '-'} / {one.second_level or '-'}",
                f"{one.g:.3f} {one.grade}",
                f"{one.second_g:.3f} {one.second_grade}",
                f"{one.largest_height_change_mm:.2f}",
                " ".join(path for path in (first, second) if path) or ABSENT,
            ]
        )
    columns = ["study", "level", "G first", "G second", "height mm", "pictures"]
    print_table("Largest changes of G", columns, rows, text=("level", "G first", "G second", "pictures"))
