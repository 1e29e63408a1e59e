"""``vertebra evaluate``: a cohort beside readers' keypoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.printing import number, print_json, print_table


def evaluate(
    cohort: Path,
    *,
    truth: Path,
    strict: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Compare a cohort with readers' keypoints: the paper's Tables 1 and 2, errors of heights and of G.

    A find matches an annotated vertebra when their boxes in the straightened sagittal plane overlap by more than half
    (intersection over union). Vertebrae cut by the edge of the scan are neither missed nor false. A truth whose study
    is missing or was refused counts as missed altogether.

    Example: vertebra evaluate spines --truth annotations

    Parameters
    ----------
    cohort
        The cohort, already screened.
    truth
        Folder of truth files (vertebra-truth/1), one per image.
    strict
        Count finds outside the annotated range as false, matched vertebrae without heights as missed, and what was
        missed as called normal.
    as_json
        Print one JSON document.
    """
    import pyarrow.parquet as pq

    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.links import read_links
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.evaluation.linking import STUDY_COLUMNS, compare_snapshot, link, read_truths
    from vertebra_core.evaluation.metrics import classifications, detection, errors
    from vertebra_core.settings import GradingSettings

    layout = open_layout(cohort)
    snapshot = latest_snapshot(layout)
    linked = link(
        read_truths(truth), read_links(layout), pq.read_table(snapshot / "studies.parquet", columns=list(STUDY_COLUMNS))
    )
    comparisons = compare_snapshot(linked, snapshot, strict)
    grading = GradingSettings()
    table_1, table_2 = detection(comparisons, grading), classifications(comparisons, grading)
    by_study = [
        {"name": one.name, "state": one.state, "compared": one.study_key is not None, **_study(comparison)}
        for one, comparison in zip(linked, comparisons, strict=True)
    ]
    if as_json:
        document = {"strict": strict, "studies": by_study, "detection": table_1, "classification": table_2}
        print_json({**document, "errors": errors(comparisons)})
    else:
        _print_studies(by_study)
        _print_table_1(table_1)
        _print_table_2(table_2)
        _print_errors(errors(comparisons))
        _print_notes(table_1, strict)
    return 1 if any(one.study_key is None for one in linked) else 0


def _study(comparison) -> dict:
    """What one line of the list of studies says."""
    from vertebra_core.evaluation.metrics import detection, errors
    from vertebra_core.settings import GradingSettings

    one, matching = [comparison], comparison.matching
    own_errors = errors(one)
    return {
        "annotated": len(matching.pairs) + len(matching.missed),
        "found": len(matching.pairs),
        "missed": len(matching.missed),
        "false": len(matching.false),
        "outside": len(matching.outside),
        "localization_mm": detection(one, GradingSettings()).localization_mm.mean,
        "heights_mae_mm": own_errors["heights_mm"].mae,
        "g_bias": own_errors["g"].bias,
        "g_mae": own_errors["g"].mae,
    }


def _print_studies(by_study: Sequence[dict]) -> None:
    columns = ["study", "true", "found", "missed", "false", "out", "centre", "height", "G"]
    rows = [
        [
            study["name"],
            *(str(study[name]) for name in ("annotated", "found", "missed", "false", "outside")),
            number(study["localization_mm"]),
            number(study["heights_mae_mm"]),
            number(study["g_mae"], 3),
        ]
        for study in by_study
    ]
    print_table("Vertebrae by study; mean errors of centre and height in mm, and of G", columns, rows)
    for study in by_study:
        if not study["compared"]:
            print(f"Nothing to compare for {study['name']}: {study['state']}")


def _print_table_1(table) -> None:
    def row(name: str, localization, recall, precision: str) -> list[str]:
        share = f"{number(recall.value, 3)} ({recall.count}/{recall.n})"
        return [name, f"{number(localization.mean)} ({number(localization.sd)})", share, precision]

    precision = f"{number(table.precision.value, 3)} ({table.precision.count}/{table.precision.n})"
    rows = [
        row("all", table.localization_mm, table.recall, precision),
        row("G <= 0.74", table.localization_moderate_mm, table.recall_moderate, ""),
    ]
    title = "Table 1. Localisation, mean (SD), and detection"
    print_table(title, ["vertebrae", "localisation mm", "recall", "precision"], rows)


def _print_table_2(table) -> None:
    names = {0.8: "mild", 0.74: "moderate"}
    rows = [
        [
            f"{names.get(one.bound, '')} (G <= {one.bound:.2f})",
            one.unit,
            number(one.auc, 3),
            *(f"{number(share.value, 3)} ({share.count}/{share.n})" for share in (one.specificity, one.sensitivity)),
        ]
        for one in table
    ]
    title = "Table 2. At least this grade"
    print_table(title, ["grade", "by", "ROC AUC", "specificity", "sensitivity"], rows)


def _print_errors(by_name: dict) -> None:
    units = {"ha_mm": "ha mm", "hm_mm": "hm mm", "hp_mm": "hp mm", "heights_mm": "all heights mm", "g": "G"}
    rows = [
        [units[name], number(one.bias, 3), number(one.sd, 3), number(one.mae, 3), str(one.n)]
        for name, one in by_name.items()
    ]
    print_table("Errors (found minus annotated)", ["value", "bias", "SD", "MAE", "n"], rows)


def _print_notes(table, strict: bool) -> None:
    plane, points = table.in_plane_mm, table.keypoint_mm
    print(f"In the sagittal plane: centres {number(plane.mean)} ({number(plane.sd)}) mm", end=", ")
    print(f"keypoints {number(points.mean)} ({number(points.sd)}) mm.")
    print(f"Left out: {table.n_ignored} finds on vertebrae that the edge of the scan cuts.")
    if strict:
        print("Strict: finds outside the annotated range are false; what was not measured is missed and called normal.")
    else:
        print(f"Outside the annotated range: {table.n_outside} finds, neither right nor false.")
        print("Table 2 holds what was found and measured. --strict counts all of this against the program.")
