"""``vertebra prevalence``: how many patients and vertebrae are fractured, with intervals."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.printing import percent, print_json, print_table

if TYPE_CHECKING:
    from vertebra_core.storage import Place

NOT_CORRECTED = "not corrected"


def prevalence(
    cohort: str,
    *,
    by: Literal["sex", "age_band", "level", "site", "grade"] | None = None,
    min_vertebrae: int | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Prevalence of vertebral fractures by patient and by vertebra, with Wilson's 95 % interval.

    The headline is at least moderate (G <= 0.74). At least mild (G <= 0.80) is not corrected: measurement
    noise alone carries many normal vertebrae across that bound. Of each patient one index study counts.

    Example: vertebra prevalence spines --by sex

    Parameters
    ----------
    cohort
        The cohort, already screened: a folder or an s3:// URL.
    by
        Group by sex, age band, level, site or grade.
    min_vertebrae
        Measured vertebrae that a patient needs to be counted (7).
    as_json
        Print one JSON document.
    """
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.epidemiology.prevalence import MIN_VERTEBRAE, by_grade
    from vertebra_core.epidemiology.prevalence import prevalence as count
    from vertebra_core.tables.parquet import read_table

    snapshot = latest_snapshot(open_layout(cohort))
    grading = _grading_of(snapshot)
    people = read_table(snapshot / "patients.parquet")
    bones = read_table(snapshot / "vertebrae.parquet", columns=["study_key", "level", "g"])
    answer = count(people, bones, grading, by, MIN_VERTEBRAE if min_vertebrae is None else min_vertebrae)
    studies = _ends(snapshot / "studies.parquet")
    if as_json:
        grades = {unit: by_grade(getattr(answer, unit)[-1]) for unit in ("patients", "vertebrae") if by == "grade"}
        print_json(
            {
                "snapshot": snapshot.name,
                "grading": grading,
                "studies": studies,
                "prevalence": answer,
                "mild_is": NOT_CORRECTED,
                **grades,
            }
        )
        return
    _print_flow(answer, studies)
    for unit, groups in (("patients", answer.patients), ("vertebrae", answer.vertebrae)):
        if groups and by == "grade":
            _print_grades(unit, by_grade(groups[-1]))
        elif groups:
            _print_groups(unit, by, groups, grading)
    print(f"At least mild is {NOT_CORRECTED} for measurement noise: do not report it as a prevalence.")
    print("Intervals of vertebrae take them as independent; those of one patient are not, so these are too narrow.")


def _grading_of(snapshot: "Place"):
    """The bounds that the snapshot was graded with, so that this and its tables agree."""
    from vertebra_core.settings import GradingSettings

    return GradingSettings(**json.loads((snapshot / "provenance.json").read_text())["grading"])


def _ends(path: "Place") -> dict[str, int]:
    """Number of studies by status."""
    from vertebra_core.tables.parquet import read_table

    counts = read_table(path, columns=["status"])["status"].value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in sorted(counts, key=lambda entry: entry["values"])}


def _print_flow(answer, studies: dict[str, int]) -> None:
    from vertebra_core.tables.patients import INDEX_RULE

    flow = answer.flow
    ends = ", ".join(f"{status} {n}" for status, n in studies.items())
    rows = [
        ["studies", str(sum(studies.values())), ends],
        ["patients", str(flow.patients), ""],
        ["with a measured vertebra", str(flow.with_measurement), f"{flow.patients - flow.with_measurement} left out"],
        [
            f"with at least {answer.min_vertebrae} in the index study",
            str(flow.analysed),
            f"{flow.with_measurement - flow.analysed} left out",
        ],
        ["of these without age", str(flow.without_age), "kept, as not known"],
        ["of these without sex", str(flow.without_sex), "kept, as not known"],
        ["measured vertebrae of index studies", str(flow.vertebrae), "of all patients with one"],
    ]
    print_table("Who is counted", ["", "n", "remark"], rows, text=("", "remark"))
    print(INDEX_RULE)


def _share(estimate) -> str:
    if estimate.share is None:
        return "n/a"
    return f"{percent(estimate.share)} ({percent(estimate.low)}-{percent(estimate.high)})"


def _counted(estimate) -> tuple[str, str]:
    return str(estimate.count), _share(estimate)


def _print_groups(unit: str, by: str | None, groups, grading) -> None:
    rows = [
        [group.name, str(group.moderate.n), *(part for one in (group.moderate, group.mild) for part in _counted(one))]
        for group in groups
    ]
    moderate, mild = f"G <= {grading.moderate:.2f}", f"G <= {grading.mild:.2f}"
    columns = [by or unit, "N", "n", f"{moderate}, % (95 % CI)", "n", f"{mild}, % ({NOT_CORRECTED})"]
    print_table(f"Fractured {unit}", columns, rows, last_is_total=len(rows) > 1)


def _print_grades(unit: str, grades: dict) -> None:
    """The distribution over grades; the bound between mild and normal is the one that noise blurs."""
    notes = {"normal": NOT_CORRECTED, "mild": NOT_CORRECTED}
    rows = [[name, str(one.n), str(one.count), _share(one), notes.get(name, "")] for name, one in grades.items()]
    title = "Patients by worst grade" if unit == "patients" else "Vertebrae by grade"
    print_table(title, ["grade", "N", "n", "% (95 % CI)", ""], rows, text=("grade", ""))
