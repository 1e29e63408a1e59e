"""``vertebra evaluate``: a cohort beside readers' keypoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.agreement_tables import print_with_readers
from flows.evaluation_tables import print_studies, print_summary, study_row
from flows.printing import print_json

if TYPE_CHECKING:
    from vertebra_core.evaluation.evidence import Evidence
    from vertebra_core.evaluation.summary import Summary
    from vertebra_core.evaluation.with_readers import WithReaders


def evaluate(
    cohort: str,
    *,
    truth: Path,
    strict: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    figures: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Compare a cohort with readers' keypoints: the paper's Tables 1 and 2, errors of heights and of G, level names.

    Then limits of agreement, ICC, kappa, ROC areas and calibration, with intervals that take patients as units.

    A find matches an annotated vertebra when their boxes in the straightened sagittal plane overlap by more than half
    (intersection over union). Vertebrae cut by the edge of the scan are neither missed nor false. A truth whose study
    is missing or was refused counts as missed altogether.

    Example: vertebra evaluate spines --truth annotations

    Parameters
    ----------
    cohort
        The cohort, already screened: a folder or an s3:// URL.
    truth
        Folder of truth files (vertebra-truth/1), one per image.
    strict
        Count finds outside the annotated range as false, matched vertebrae without heights as missed, and what was
        missed as called normal.
    resamples
        Bootstrap resamples of patients behind every interval; 0 for none.
    seed
        Of the resamples.
    figures
        Also draw agreement, ROC and calibration into this folder, as PNG.
    as_json
        Print one JSON document.
    """
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.links import read_links
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.evaluation.evidence import gather
    from vertebra_core.evaluation.linking import STUDY_COLUMNS, compare_snapshot, link, read_truths
    from vertebra_core.evaluation.summary import intervals, summarise
    from vertebra_core.evaluation.with_readers import with_readers
    from vertebra_core.tables.parquet import read_table

    layout = open_layout(cohort)
    snapshot = latest_snapshot(layout)
    linked = link(
        read_truths(truth), read_links(layout), read_table(snapshot / "studies.parquet", columns=list(STUDY_COLUMNS))
    )
    comparisons = compare_snapshot(linked, snapshot, strict)
    evidence = gather(comparisons)
    summary, ranges = summarise(evidence), intervals(evidence, resamples=resamples, seed=seed)
    agreement = with_readers(evidence, resamples=resamples, seed=seed)
    drawn = [] if figures is None else draw(evidence, agreement, figures)
    by_study = [
        {"name": one.name, "state": one.state, "compared": one.study_key is not None, **study_row(comparison)}
        for one, comparison in zip(linked, comparisons, strict=True)
    ]
    if as_json:
        files = {} if figures is None else {"figures": list(map(str, drawn))}
        print_json({**_document(by_study, summary, ranges, strict), "agreement": agreement, **files})
    else:
        print_studies(by_study)
        print_summary(summary, ranges, evidence.n_patients, strict)
        print()
        print_with_readers(agreement)
        for path in drawn:
            print(f"Drawn: {path}")
    return 1 if any(one.study_key is None for one in linked) else 0


def draw(evidence: "Evidence", agreement: "WithReaders", folder: Path) -> list[Path]:
    """Draw agreement, ROC and calibration; returns the files."""
    import numpy as np

    from vertebra_core.evaluation.evidence import rows
    from vertebra_core.evaluation.with_readers import true_and_found
    from vertebra_core.report.agreement_figures import TITLES, bland_altman, calibration_curves, roc_curves, save
    from vertebra_core.settings import GradingSettings
    from vertebra_core.tables.grades import reaches

    measured, people = rows(evidence.vertebrae, np.isfinite(evidence.vertebrae.g)), evidence.patients
    both, grading = true_and_found(measured), GradingSettings()
    measures = [(TITLES[name], both[:, i], limits) for i, (name, limits) in enumerate(agreement.limits.items())]
    units = {"vertebra": (measured.true_g, measured.g), "patient": (people.true_g, people.g)}
    bounds = (grading.mild, grading.moderate, grading.severe)
    curves = {
        unit: [
            (
                f"G <= {bound:.2f}, AUC {_shown(agreement.roc[unit][f'G <= {bound:.2f}'].value)}",
                reaches(true, bound),
                -g,
            )
            for bound in bounds
        ]
        for unit, (true, g) in units.items()
    }
    errors = [(TITLES[name], one.bins) for name, one in agreement.standard_errors.items()]
    stated = [("a find is a vertebra", agreement.score.bins), ("a level is right", agreement.level_confidence.bins)]
    return save(
        [
            bland_altman("agreement", measures, "annotated", "found"),
            roc_curves("roc", curves),
            calibration_curves("probabilities", "Stated probabilities", stated, "stated", "came true"),
            calibration_curves("errors", "Stated standard errors", errors, "stated, RMS", "real error, RMS"),
        ],
        folder,
    )


def _shown(value: float | None) -> str:
    from flows.printing import number

    return number(value, 2)


def _document(by_study: list[dict], summary: "Summary", ranges: dict, strict: bool) -> dict:
    from vertebra_core.evaluation.metrics import HEIGHTS

    whole = summary.groups["all"]["all"]
    return {
        "strict": strict,
        "studies": by_study,
        "detection": summary.detection,
        "classification": summary.classification,
        "errors": {name: getattr(whole, name) for name in (*HEIGHTS, "heights_mm", "g")},
        "groups": summary.groups,
        "coverage": summary.coverage,
        "naming": summary.naming,
        "intervals": ranges,
    }
