"""``vertebra evaluate``: a cohort beside readers' keypoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.evaluation_tables import print_studies, print_summary, study_row
from flows.printing import print_json

if TYPE_CHECKING:
    from vertebra_core.evaluation.summary import Summary


def evaluate(
    cohort: str,
    *,
    truth: Path,
    strict: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Compare a cohort with readers' keypoints: the paper's Tables 1 and 2, errors of heights and of G, level names.

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
    as_json
        Print one JSON document.
    """
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.links import read_links
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.evaluation.evidence import gather
    from vertebra_core.evaluation.linking import STUDY_COLUMNS, compare_snapshot, link, read_truths
    from vertebra_core.evaluation.summary import intervals, summarise
    from vertebra_core.tables.parquet import read_table

    layout = open_layout(cohort)
    snapshot = latest_snapshot(layout)
    linked = link(
        read_truths(truth), read_links(layout), read_table(snapshot / "studies.parquet", columns=list(STUDY_COLUMNS))
    )
    comparisons = compare_snapshot(linked, snapshot, strict)
    evidence = gather(comparisons)
    summary, ranges = summarise(evidence), intervals(evidence, resamples=resamples, seed=seed)
    by_study = [
        {"name": one.name, "state": one.state, "compared": one.study_key is not None, **study_row(comparison)}
        for one, comparison in zip(linked, comparisons, strict=True)
    ]
    if as_json:
        print_json(_document(by_study, summary, ranges, strict))
    else:
        print_studies(by_study)
        print_summary(summary, ranges, evidence.n_patients, strict)
    return 1 if any(one.study_key is None for one in linked) else 0


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
