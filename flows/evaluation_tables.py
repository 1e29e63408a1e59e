"""The tables of an evaluation as `vertebra evaluate` and `vertebra crossval` print them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.printing import number, print_table

if TYPE_CHECKING:
    from vertebra_core.evaluation.evidence import Comparison
    from vertebra_core.evaluation.metrics import Classification, Detection, Measurement, Naming, Share, Spread
    from vertebra_core.evaluation.summary import Summary

Intervals = Mapping[str, tuple[float, float]]
GRADE_NAMES = {0.8: "mild", 0.74: "moderate"}


def print_studies(by_study: Sequence[dict]) -> None:
    """One line a study, and why some have nothing to compare."""
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


def study_row(comparison: "Comparison") -> dict:
    """What one line of the list of studies says of a study beside its truth."""
    from vertebra_core.evaluation.evidence import gather
    from vertebra_core.evaluation.summary import summarise

    own, matching = summarise(gather([comparison])), comparison.matching
    whole = own.groups["all"]["all"]
    return {
        "annotated": len(matching.pairs) + len(matching.missed),
        "found": len(matching.pairs),
        "missed": len(matching.missed),
        "false": len(matching.false),
        "outside": len(matching.outside),
        "localization_mm": own.detection.localization_mm.mean,
        "heights_mae_mm": whole.heights_mm.mae,
        "g_bias": whole.g.bias,
        "g_mae": whole.g.mae,
    }


def print_summary(summary: "Summary", ranges: Intervals, n_patients: int, strict: bool) -> None:
    """All tables of an evaluation and what to know about them."""
    print_table_1(summary.detection)
    print_table_2(summary.classification)
    print_measurements(summary.groups)
    print_coverage(summary.coverage)
    print_naming(summary.naming)
    print_intervals(summary, ranges, n_patients)
    _print_notes(summary.detection, strict)


def print_table_1(table: "Detection") -> None:
    """The paper's Table 1."""
    precision = counted(table.precision)
    rows = [
        ["all", spread(table.localization_mm), counted(table.recall), precision],
        ["G <= 0.74", spread(table.localization_moderate_mm), counted(table.recall_moderate), ""],
    ]
    title = "Table 1. Localisation, mean (SD), and detection"
    print_table(title, ["vertebrae", "localisation mm", "recall", "precision"], rows)


def print_table_2(table: Sequence["Classification"]) -> None:
    """The paper's Table 2."""
    rows = [
        [
            f"{GRADE_NAMES.get(one.bound, '')} (G <= {one.bound:.2f})",
            one.unit,
            number(one.auc, 3),
            counted(one.specificity),
            counted(one.sensitivity),
        ]
        for one in table
    ]
    title = "Table 2. At least this grade"
    print_table(title, ["grade", "by", "ROC AUC", "specificity", "sensitivity"], rows)


def print_measurements(groups: Mapping[str, Mapping[str, "Measurement"]]) -> None:
    """Errors of centre, heights and G of all vertebrae and of every group."""
    columns = ["vertebrae", "n", "3D mm", "plane mm", "ha bias", "hm bias", "hp bias", "height MAE", "SD"]
    title = "Errors (found minus annotated): centres, heights in mm (bias, mean absolute error, SD)"
    print_table(title, columns, [_height_row(name, one) for name, one in _named(groups)])
    columns = ["vertebrae", "n", "bias", "SD", "MAE", "limits of agreement", "most over"]
    rows = [
        [
            name,
            str(one.g.n),
            *(number(value, 3) for value in (one.g.bias, one.g.sd, one.g.mae)),
            "n/a" if one.g.low is None else f"{one.g.low:+.3f} to {one.g.high:+.3f}",
            number(one.g_most_over, 3),
        ]
        for name, one in _named(groups)
    ]
    print_table("Errors of G (found minus annotated)", columns, rows)
    whole = groups["all"]["all"]
    rows = [
        [name, *(number(value, 2) for value in (one.bias, one.sd, one.mae, one.low, one.high))]
        for name, one in (("ha", whole.ha_mm), ("hm", whole.hm_mm), ("hp", whole.hp_mm), ("all", whole.heights_mm))
    ]
    print_table("Heights, all vertebrae, mm", ["height", "bias", "SD", "MAE", "limits: low", "high"], rows)


def _named(groups: Mapping[str, Mapping[str, "Measurement"]]) -> list[tuple[str, "Measurement"]]:
    return [item for kind in groups.values() for item in kind.items()]


def _height_row(name: str, one: "Measurement") -> list[str]:
    biases = (one.ha_mm.bias, one.hm_mm.bias, one.hp_mm.bias)
    return [
        name,
        str(one.g.n),
        number(one.centre_mm.mean),
        number(one.in_plane_mm.mean),
        *(number(bias) for bias in biases),
        number(one.heights_mm.mae),
        number(one.heights_mm.sd),
    ]


def print_coverage(coverage: Mapping[str, "Share"]) -> None:
    """How often the interval of 1.96 standard errors holds the truth."""
    if not any(share.n for share in coverage.values()):
        print("No standard errors are published, so there is no coverage to report.")
        return
    rows = [[name, counted(share)] for name, share in coverage.items()]
    print_table("The truth lies within 1.96 standard errors", ["value", "share"], rows)


def print_naming(naming: "Naming") -> None:
    """How levels were named."""
    if not naming.named.n:
        print("No level is named in the truth.")
        return
    rows = [
        ["vertebrae given a name", counted(naming.named)],
        ["right names, of those given", counted(naming.right)],
        ["the same, a shift of a whole spine as one error", counted(naming.right_but_shifts)],
        ["patients with all names right", counted(naming.patients_right)],
        ["patients with the whole spine shifted", counted(naming.shifted)],
    ]
    print_table("Levels", ["", "share"], rows)


def print_intervals(summary: "Summary", ranges: Intervals, n_patients: int) -> None:
    """The main numbers with their bootstrap intervals."""
    from vertebra_core.evaluation.summary import numbers

    if not ranges:
        print("No intervals: they need at least two patients and --resamples above 0.")
        return
    said = dict(numbers(summary))
    rows = [
        [label, number(said[path], 3), f"{ranges[path][0]:.3f} to {ranges[path][1]:.3f}"]
        for label, path in MAIN_NUMBERS.items()
        if path in ranges
    ]
    title = f"95 % intervals, bootstrap over {n_patients} patients (the rest with --json)"
    print_table(title, ["number", "value", "interval"], rows)


MAIN_NUMBERS = {
    "localisation mm": "detection.localization_mm.mean",
    "localisation mm, G <= 0.74": "detection.localization_moderate_mm.mean",
    "recall": "detection.recall.value",
    "precision": "detection.precision.value",
    **{
        f"{what}, {unit}, G <= {bound}": f"classification.{unit}.{bound}.{name}"
        for bound in ("0.80", "0.74")
        for unit in ("vertebra", "patient")
        for what, name in (
            ("ROC AUC", "auc"),
            ("specificity", "specificity.value"),
            ("sensitivity", "sensitivity.value"),
        )
    },
    **{f"{h} bias mm": f"groups.all.all.{h}_mm.bias" for h in ("ha", "hm", "hp")},
    "height MAE mm": "groups.all.all.heights_mm.mae",
    "G bias": "groups.all.all.g.bias",
    "G SD": "groups.all.all.g.sd",
    "G MAE": "groups.all.all.g.mae",
}
"""What is printed with its interval, and its path in `vertebra_core.evaluation.summary.numbers`."""


def _print_notes(table: "Detection", strict: bool) -> None:
    plane, points = table.in_plane_mm, table.keypoint_mm
    print(f"In the sagittal plane: centres {spread(plane)} mm, keypoints {spread(points)} mm.")
    print(f"Left out: {table.n_ignored} finds on vertebrae that the edge of the scan cuts.")
    if strict:
        print("Strict: finds outside the annotated range are false; what was not measured is missed and called normal.")
    else:
        print(f"Outside the annotated range: {table.n_outside} finds, neither right nor false.")
        print("Table 2 holds what was found and measured. --strict counts all of this against the program.")


def counted(share: "Share") -> str:
    """A share with its counts, "0.976 (41/42)"."""
    return f"{number(share.value, 3)} ({share.count}/{share.n})"


def spread(values: "Spread") -> str:
    """Mean and SD, "0.97 (0.64)"."""
    return f"{number(values.mean)} ({number(values.sd)})"
