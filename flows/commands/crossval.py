"""``vertebra crossval``: the paper's cross-validation from a folder of DICOM and readers' files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.evaluation_tables import counted, spread
from flows.printing import number, print_json, print_table

if TYPE_CHECKING:
    from vertebra_core.evaluation.evidence import Comparison
    from vertebra_core.evaluation.summary import Summary

WHOSE = ("Proposed", "Experts")
"""The paper's names of its rows: the program, and each reader against the mean of the others."""
Folded = dict[str, tuple[float, float | None]]


def crossval(
    *,
    images: Path,
    readers: Path,
    work: Path = Path("crossval"),
    folds: int = 5,
    curve_steps: int = 10_000,
    detector_steps: int = 4_000,
    refiner_steps: int = 2_600,
    optimiser: Literal["paper", "ours"] = "paper",
    weights: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Repeat the paper's five-fold cross-validation: train without a fold, measure it end to end, print its tables.

    The truth of a CT is the mean of its readers, vertebra by vertebra. A fold that is done is not done again; a
    training that was stopped goes on. docs/evaluation.md says what differs from the paper.

    Example: vertebra crossval --images CTLungCa-500 --readers severity2020

    Parameters
    ----------
    images
        Folder of DICOM; each CT is found by its SeriesInstanceUID.
    readers
        Folder of readers' files (JSON, of either public format), or with a subfolder annotation.
    work
        Where folds, weights and checkpoints are kept; the same folder goes on.
    folds
        Into how many parts the patients are divided.
    curve_steps
        Steps of the first network (paper: 10000 batches of 3).
    detector_steps
        Steps of the network that finds vertebrae (paper: 4000 batches of 30).
    refiner_steps
        Steps of our network that places keypoints again; 0: none, as in the paper.
    optimiser
        Learning rates and batches of the paper, or those of vertebra train, which need fewer steps.
    weights
        Train nothing: measure all CTs with the weights of this folder, which must not have seen them.
    seed
        Of the folds and of all training.
    device
        auto, cpu or cuda.
    as_json
        Print one JSON document.
    """
    from flows.crossval import Recipe, find_cts, run_folds
    from tasks.method import choose_device
    from vertebra_core.errors import WrongUse
    from vertebra_core.settings import Settings

    if min(curve_steps, detector_steps) < 1 or refiner_steps < 0:
        raise WrongUse("at least one step of each network is needed (refiner: 0 or more)")
    settings = Settings()
    cts, without = find_cts(images, readers, settings.reading)
    _say(f"{len(cts)} CTs with readings, {len(without)} readers' files without a CT")
    recipe = Recipe(folds, curve_steps, detector_steps, refiner_steps, optimiser == "paper", seed, weights)
    results = run_folds(cts, images, work, recipe, settings, choose_device(device), _say)
    by_fold = {
        "Proposed": [result.program for result in results],
        "Experts": [result.experts for result in results],
    }
    refused = {name: why for result in results for name, why in result.refused.items()}
    if as_json:
        print_json(_document(by_fold, without, refused))
    else:
        _print_all(by_fold, without, refused)
    return 1 if without or refused else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _summaries(by_fold: Sequence[Sequence["Comparison"]]) -> tuple["Summary", Folded]:
    """Summary of all folds together, and mean and SD over folds of every number."""
    from vertebra_core.evaluation.evidence import gather
    from vertebra_core.evaluation.protocol import over_folds
    from vertebra_core.evaluation.summary import summarise

    whole = summarise(gather([one for fold in by_fold for one in fold]))
    return whole, over_folds([summarise(gather(list(fold))) for fold in by_fold])


def _document(by_fold: dict, without: list[str], refused: dict[str, str]) -> dict:
    parts = {name: _summaries(folds) for name, folds in by_fold.items()}
    return {
        "without_ct": without,
        "refused": refused,
        **{name.lower(): {"all": whole, "over_folds": folded} for name, (whole, folded) in parts.items()},
    }


def _print_all(by_fold: dict, without: list[str], refused: dict[str, str]) -> None:
    from vertebra_core.evaluation.protocol import PAPER_TABLE_1, PAPER_TABLE_2

    parts = {name: _summaries(folds) for name, folds in by_fold.items()}
    rows = []
    for name in WHOSE:
        rows += [[name, *_table_1(*parts[name])], ["  paper", *PAPER_TABLE_1[name]]]
    columns = ["", "localisation mm", "G <= 0.74", "recall", "G <= 0.74", "precision"]
    print_table("Table 1. Localisation: mean (SD over finds); the rest: mean (SD over folds)", columns, rows)
    rows = []
    for grade, bound in (("mild", "0.80"), ("moderate", "0.74")):
        for name in WHOSE:
            rows += [[f"{grade}, {name}", *_table_2(parts[name][1], bound)]]
            rows += [["  paper", *PAPER_TABLE_2[grade, name]]]
    columns = ["", "AUC", "patient", "specificity", "patient", "sensitivity", "patient"]
    print_table("Table 2. By vertebra and by patient: mean (SD over folds)", columns, rows)
    for name in WHOSE:
        _print_errors(name, parts[name][0])
    for line in [*without, *(f"{name}: refused, {why}" for name, why in refused.items())]:
        print(line)


def _table_1(whole: "Summary", folded: Folded) -> list[str]:
    table = whole.detection
    shares = ("recall", "recall_moderate", "precision")
    return [
        spread(table.localization_mm),
        spread(table.localization_moderate_mm),
        *(_folded(folded, f"detection.{name}.value") for name in shares),
    ]


def _table_2(folded: Folded, bound: str) -> list[str]:
    return [
        _folded(folded, f"classification.{unit}.{bound}.{name}", 2)
        for name in ("auc", "specificity.value", "sensitivity.value")
        for unit in ("vertebra", "patient")
    ]


def _folded(folded: Folded, path: str, digits: int = 3) -> str:
    mean, sd = folded.get(path, (None, None))
    return f"{number(mean, digits)} ({number(sd, digits)})"


def _print_errors(name: str, whole: "Summary") -> None:
    one = whole.groups["all"]["all"]
    print(
        f"{name}: found {counted(one.recall)}; in the sagittal plane {spread(one.in_plane_mm)} mm; height MAE "
        f"{number(one.heights_mm.mae)} mm; G bias {number(one.g.bias, 3)}, SD {number(one.g.sd, 3)}, n {one.g.n}"
    )
