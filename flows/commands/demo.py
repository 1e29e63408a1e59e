"""``vertebra demo``: the whole job on synthetic patients."""

import sys
from pathlib import Path

STUDIES, SEED = 6, 7
"""Six patients, five with a spine: enough to show every part of the job within minutes on two cores."""


def demo(folder: Path = Path("demo"), *, workers: int | None = None) -> int:
    """The whole job on synthetic patients: DICOM in, tables, prevalence, accuracy, report and pictures out.

    Example: vertebra demo

    Parameters
    ----------
    folder
        Where everything goes; a second run goes on with what is there.
    workers
        Worker processes; default: as many as fit.
    """
    from flows.commands.evaluate import evaluate
    from flows.commands.phantom import write_archive
    from flows.commands.prevalence import prevalence
    from flows.commands.report import report
    from flows.commands.screen import screen
    from flows.commands.tables import tables

    archive, truth, cohort = folder / "archive", folder / "truth", folder / "cohort"
    _step(f"1. Synthetic patients as a DICOM archive: {archive}")
    if _is_complete(truth):
        print(f"{STUDIES} studies are there already")
    else:
        write_archive(archive, STUDIES, SEED, truth)
    _step(f"2. vertebra screen {archive} --cohort {cohort}")
    code = screen([str(archive)], cohort=str(cohort), workers=workers, settle_minutes=0)
    _step(f"3. vertebra tables {cohort}")
    tables(str(cohort))
    _step(f"4. vertebra prevalence {cohort} --min-vertebrae 1")
    prevalence(str(cohort), min_vertebrae=1)
    _step(f"5. vertebra evaluate {cohort} --truth {truth}")
    evaluate(str(cohort), truth=truth)
    _step(f"6. vertebra report {cohort} --min-vertebrae 1")
    report(str(cohort), min_vertebrae=1)
    _step("7. Pictures")
    for picture in sorted((cohort / "pictures").glob("*.png")):
        print(picture)
    return code


def _is_complete(truth: Path) -> bool:
    """The truth of a study is written after its files, so the last one marks the archive as whole."""
    return len(list(truth.glob("*.json"))) == STUDIES


def _step(text: str) -> None:
    print(f"\n== {text}", flush=True)
    sys.stderr.flush()
