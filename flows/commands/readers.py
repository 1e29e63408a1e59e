"""``vertebra readers``: agreement among readers, from their keypoints alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.agreement_tables import interval
from flows.printing import number, percent, print_json, print_table

if TYPE_CHECKING:
    from vertebra_core.evaluation.agreement import Agreement, Difference, Distances, ReaderAsClassifier


def readers(
    folder: Path,
    *,
    spacing: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Agreement among readers who marked the same CTs: distances, heights, G, grades, and a reader as a classifier.

    Two vertebrae of two readers are the same if their centres are less than 10 mm apart, one to one. Needs no images;
    docs/evaluation.md defines every number.

    Example: vertebra readers severity2020 --spacing spacing_recovered.csv

    Parameters
    ----------
    folder
        Folder with readers' files (JSON, of either public format), or with a subfolder annotation.
    spacing
        CSV with columns file, sy_mm, sz_mm: the files hold no size of voxels. By default spacing_recovered.csv in the
        folder or above it.
    as_json
        Print one JSON document.
    """
    from vertebra_core.errors import WrongUse
    from vertebra_core.evaluation.agreement import agreement, readers_as_classifiers
    from vertebra_core.evaluation.reader_intervals import reader_intervals
    from vertebra_core.evaluation.readings import find_spacing, join, read_series, read_spacings

    series = read_series(folder)
    readings = join(series, read_spacings(spacing or find_spacing(folder)))
    if not len(readings.pairs):
        raise WrongUse(f"{folder}: no vertebra was marked by two readers")
    table, classifiers = agreement(readings), readers_as_classifiers(readings)
    ranges = reader_intervals(readings)
    if as_json:
        print_json({"agreement": table, "reader_as_classifier": classifiers, "intervals": ranges})
        return
    _print_counts(table)
    print_table("Agreement between readers (mm)", ["", "value"], _rows(table), text=["value"])
    rows = [[name, number(value, 3)] for name, value in table.g_rms_by_severity.items()]
    print_table("Difference of G by mean G of the pair", ["mean G", "rms"], rows)
    _print_confusion(table)
    _print_classifiers(classifiers)
    rows = [[name, interval(one.value, one.low, one.high)] for name, one in ranges.items()]
    print_table(f"95 % intervals, the {table.series} CTs as units", ["", "value"], rows, text=["value"])


def _print_counts(table: "Agreement") -> None:
    print(f"{table.series} series, {table.readings} readings of {table.vertebrae} vertebrae.")
    rows = [
        [name, *map(str, counts.values())]
        for name, counts in (("vertebrae", table.grades), ("series, worst", table.worst_grades))
    ]
    print_table("By grade of the readers' mean G", ["", *table.grades], rows)


def _rows(one: "Agreement") -> list[list[str]]:
    ha, hm, hp = (one.heights_mm[name] for name in ("ha", "hm", "hp"))
    shares = f"{percent(one.g_over['0.1'])} % / {percent(one.g_over['0.2'])} %"
    by_point = zip(("front", "middle", "back"), one.point_mm[0::2], one.point_mm[1::2], strict=True)
    return [
        ["reader pairs / vertebra pairs", f"{one.reader_pairs} / {one.pairs}"],
        ["centre distance 3D, mean (SD), p50, p95", _distances(one.centre_mm, percentiles=True)],
        ["the same, mean G <= 0.74", f"{_distances(one.centre_moderate_mm)}, n = {one.centre_moderate_mm.n}"],
        ["centre distance in the sagittal plane", _distances(one.in_plane_mm)],
        ["SD of centre difference y / x / z", _joined(one.centre_sd_mm)],
        ["reader against mean of the others, 3D; G <= 0.74", _two(one.others_mm, one.others_moderate_mm)],
        ["the same in plane; G <= 0.74", _two(one.others_in_plane_mm, one.others_in_plane_moderate_mm)],
        *([f"point distance in plane, {name}: top / bottom", f"{top:.2f} / {low:.2f}"] for name, top, low in by_point),
        ["p95 of point distances", _range(one.point_p95_mm, 1)],
        ["one reader's point SD, y / z", f"{_range(one.point_sd_y_mm)} / {_range(one.point_sd_z_mm)}"],
        *([f"{name} difference rms (LoA), MAE", _height(d)] for name, d in (("ha", ha), ("hm", hm), ("hp", hp))),
        ["G difference rms (LoA), MAE, p50, p95", _g(one.g)],
        ["G differs by > 0.1 / > 0.2", shares],
        ["one reader's own G noise (rms / root 2; within SD)", f"{one.g_noise:.3f} / {one.g_within_sd:.3f}"],
        ["G: reader against mean of the others, rms / MAE", f"{one.g_others_rms:.3f} / {one.g_others_mae:.3f}"],
        ["ICC(1,1) of G", number(one.icc, 3)],
        ["four grades: equal", f"{percent(one.grades_equal)} %"],
        ["kappa plain / linear / quadratic", _joined(one.kappa.values(), 3)],
        ["kappa G <= 0.8 / <= 0.74 / <= 0.6", _joined(one.kappa_at.values(), 3)],
        ["detection F1 over all vertebrae", number(one.f1, 3)],
        ["detection inside the extent both readers cover", _covered(one)],
        ["level names equal on matched pairs", _levels(one.levels_equal)],
    ]


def _distances(one: "Distances", percentiles: bool = False) -> str:
    tail = f", {number(one.p50)}, {number(one.p95)}" if percentiles else ""
    return f"{number(one.mean)} ({number(one.sd)}){tail}"


def _two(all_of_them: "Distances", moderate: "Distances") -> str:
    return f"{_distances(all_of_them)}; {_distances(moderate)}"


def _joined(values, digits: int = 2) -> str:
    return " / ".join(number(value, digits) for value in values)


def _range(values: Sequence[float], digits: int = 2) -> str:
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}"


def _height(one: "Difference") -> str:
    return f"{one.rms:.2f} ({one.limits:.2f}), {one.mae:.2f}"


def _g(one: "Difference") -> str:
    return f"{one.rms:.3f} (+-{one.limits:.3f}), {one.mae:.3f}, {one.p50:.3f}, {one.p95:.3f}"


def _covered(one: "Agreement") -> str:
    share = one.covered_found / one.covered if one.covered else None
    return f"{one.covered_found} of {one.covered} ({number(share, 4)})"


def _levels(share: float | None) -> str:
    return "no names" if share is None else f"{100 * share:.4g} %"


def _print_confusion(table: "Agreement") -> None:
    grades = list(table.grades)
    rows = [[name, *(f"{n:g}" for n in line)] for name, line in zip(grades, table.confusion, strict=True)]
    print_table("Grades of a pair (both directions, each counted half)", ["", *grades], rows)


def _print_classifiers(classifiers: Sequence["ReaderAsClassifier"]) -> None:
    columns: Mapping[str, str] = {
        "ROC AUC": "auc",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "precision": "precision",
        "kappa": "kappa",
    }
    rows = [
        [f"{one.truth}, {one.unit}", f"<= {one.bound:.2f}", *(number(getattr(one, c), 3) for c in columns.values())]
        for one in classifiers
    ]
    print_table("One reader as a classifier", ["truth", "G", *columns], rows)
