"""Agreement with readers as tables for people: limits, ICC, kappa, ROC, calibration."""

from typing import TYPE_CHECKING

from flows.compare_tables import LIMITS_COLUMNS, limits_cells
from flows.printing import ABSENT, number, percent, print_table

if TYPE_CHECKING:
    from vertebra_core.evaluation.with_readers import WithReaders
    from vertebra_core.statistics.calibration import Calibration


def print_with_readers(found: "WithReaders") -> None:
    """All tables of agreement."""
    rows = [
        [name.removesuffix("_mm"), *limits_cells(one, 3 if name == "g" else 2)] for name, one in found.limits.items()
    ]
    print_table("Limits of agreement (Bland-Altman), found minus annotated, mm; G", ["", *LIMITS_COLUMNS], rows)
    rows = [
        [name.removesuffix("_mm"), str(one.n), interval(one.value, one.low, one.high)]
        for name, one in found.icc.items()
    ]
    form = next(iter(found.icc.values())).form
    print_table(f"Intraclass correlation, {form}: absolute agreement of single values", ["", "n", form], rows)
    _print_grades(found)
    rows = [
        [unit, bound, str(one.cases), str(one.controls), interval(one.value, one.low, one.high)]
        for unit, by_bound in found.roc.items()
        for bound, one in by_bound.items()
    ]
    print_table("Area under the ROC curve of G (DeLong; vertebrae by patient)", ["by", "", "cases", "controls", "AUC"],
                rows, text=("",))  # fmt: skip
    _print_calibration(found)


def _print_grades(found: "WithReaders") -> None:
    from vertebra_core.tables.columns import GRADES

    rows = [[name, *map(str, row)] for name, row in zip(GRADES, found.grades.table, strict=True)]
    print_table("Vertebrae by grade: annotated down, found across", ["", *GRADES], rows)
    rows = [[name, interval(one.value, one.low, one.high)] for name, one in found.grades.kappa.items()]
    print_table(f"Kappa; equal grades: {percent(found.grades.equal)} %", ["weights, or bound", "kappa"], rows)


def _print_calibration(found: "WithReaders") -> None:
    probabilities = [("a find is a vertebra", found.score), ("a level is right", found.level_confidence)]
    rows = [_calibration_row(name, one) for name, one in probabilities]
    columns = ["that", "n", "mean stated, %", "came true, %", "Brier", "slope", "in the large"]
    print_table("Stated probabilities (slope 1 and in the large 0 are right)", columns, rows)
    rows = []
    for name, one in found.standard_errors.items():
        shares = [f"{percent(c.share)} ({percent(c.low)}-{percent(c.high)})" for c in one.coverage]
        if one.n:
            rows.append([name.removesuffix("_mm"), str(one.n), number(one.scale), *shares])
    if not rows:
        print("No standard errors are published, so there is nothing to hold them against.")
        return
    nominal = [f"{100 * c.nominal:.0f} %" for c in found.standard_errors["g"].coverage]
    title = "Stated standard errors: real over stated error, and how often intervals hold the truth, %"
    print_table(title, ["", "n", "real/stated", *nominal], rows)


def _calibration_row(name: str, one: "Calibration") -> list[str]:
    shown = [number(one.brier, 3), _with_se(one.slope, one.slope_se), _with_se(one.in_the_large, one.in_the_large_se)]
    return [name, str(one.n), percent(one.mean_stated), percent(one.mean_observed), *shown]


def _with_se(value: float | None, se: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f} (SE {number(se)})"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval, "0.731 (0.630 to 0.833)"."""
    if value is None:
        return ABSENT
    return number(value, 3) if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
