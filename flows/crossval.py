"""The paper's cross-validation, fold by fold: train without a fold, measure it end to end, keep the result.

A run lives in a folder of its own, named after everything its result depends on. There a fold that is done is one
file (`fold-1.json`), written last; training goes on from its checkpoints.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vertebra_core.errors import NotEvaluable, WrongUse
from vertebra_core.evaluation.evidence import Comparison, compare
from vertebra_core.evaluation.matching import NOTHING_FOUND, Found
from vertebra_core.evaluation.protocol import Marks, consensus, experts, folds_of, patient_from_stack
from vertebra_core.evaluation.readings import ReadSeries, read_series
from vertebra_core.keypoints.find import KeypointModels, find_keypoints
from vertebra_core.measure import measure_vertebrae
from vertebra_core.models import weights_digest
from vertebra_core.reading.formats import read_volume, series_headers
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.series import Series
from vertebra_core.settings import ReadingSettings, Settings
from vertebra_core.truth import Truth, read_truth, truth_document, write_truth

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What a cross-validation trains.

    Parameters
    ----------
    folds : int
    curve_steps, detector_steps, refiner_steps : int
        Refiner: 0 for none, as in the paper; the points are then the detector's own.
    as_paper : bool
        Optimisers of the paper (5.1) for the first network and the detector; else those of `vertebra train`.
    seed : int
        Of the folds and of all training.
    weights : Path or None
        Train nothing and measure every fold with these.
    """

    folds: int
    curve_steps: int
    detector_steps: int
    refiner_steps: int
    as_paper: bool
    seed: int
    weights: Path | None = None


@dataclass(frozen=True)
class ReadCT:
    """A CT and what its readers marked, in the patient.

    Parameters
    ----------
    name : str
        Of the readers' file.
    marks : dict of str to Marks
        By reader, LPS mm.
    """

    name: str
    series: Series
    marks: dict[str, Marks]

    @property
    def patient(self) -> str:
        """The patient of the header, or the series where it names none."""
        return self.series.patient_id or self.series.series_uid

    @property
    def truth(self) -> Truth:
        """Consensus of the readers."""
        return consensus(list(self.marks.values()), self.series.series_uid)


@dataclass(frozen=True)
class FoldResult:
    """One fold: the program beside the consensus, and each reader beside the others."""

    program: list[Comparison]
    experts: list[Comparison]
    refused: dict[str, str]


def find_cts(images: Path, readers: Path, settings: ReadingSettings) -> tuple[list[ReadCT], list[str]]:
    """The CT of every readers' file, by SeriesInstanceUID, and why some have none.

    The UIDs of the public files end with a dot, which DICOM does not allow: it is left out of the comparison.

    Raises
    ------
    WrongUse
        No file has a usable CT.
    """
    usable = {one.series_uid.rstrip("."): one for one in find_series([images], settings).series if one.decision is None}
    found: list[ReadCT] = []
    without: list[str] = []
    for read in read_series(readers):
        series = usable.get(read.series_uid.rstrip("."))
        if series is None:
            without.append(f"{read.name}: no usable CT with its SeriesInstanceUID")
        elif not read.readings:
            without.append(f"{read.name}: no reader marked a vertebra")
        else:
            try:
                found.append(ReadCT(read.name, series, marks_of(read, series, settings)))
            except (WrongUse, NotEvaluable) as refusal:
                without.append(f"{read.name}: {refusal}")
    if not found:
        raise WrongUse(f"{images}: no usable CT of the {len(without)} readers' files in {readers}")
    return found, without


def marks_of(read: ReadSeries, series: Series, settings: ReadingSettings) -> dict[str, Marks]:
    """Readers' points in the patient."""
    headers = series_headers(series)
    return {
        name: Marks(patient_from_stack(reading.voxels, headers, settings), reading.levels)
        for name, reading in read.readings.items()
    }


def run_folds(
    cts: Sequence[ReadCT], images: Path, work: Path, recipe: Recipe, settings: Settings, device: str, say: Say
) -> list[FoldResult]:
    """Train and measure every fold that is not done yet, and compare all with the readers."""
    run = work / _run_name(cts, recipe, settings)
    truths = run / "truth"
    truths.mkdir(parents=True, exist_ok=True)
    for ct in cts:
        if not (truths / f"{ct.name}.json").exists():
            write_truth(ct.truth, truths / f"{ct.name}.json")
    results = []
    for number, members in enumerate(folds_of([ct.patient for ct in cts], recipe.folds, recipe.seed), 1):
        done, own = run / f"fold-{number}.json", [cts[i] for i in members]
        if not done.exists():
            weights = recipe.weights or run / f"weights-{number}"
            if recipe.weights is None:
                say(f"fold {number} of {recipe.folds}: training without {len(own)} CTs")
                train_fold(images, truths, run, weights, [ct.name for ct in own], recipe, device, say)
            measured = [_measured(ct, weights, recipe, settings, device, say) for ct in own]
            partly = done.with_suffix(".part")
            partly.write_text(json.dumps(measured, indent=1))
            partly.replace(done)  # a fold is done when its file is whole
        results.append(_compared(own, json.loads(done.read_text()), settings, truths))
    return results


def _run_name(cts: Sequence[ReadCT], recipe: Recipe, settings: Settings) -> str:
    """Changes with the CTs, the readings, the recipe and every setting that a measurement depends on."""
    content = [[ct.name, ct.series.input_digest, truth_document(ct.truth)] for ct in cts]
    how = {**asdict(recipe), "weights": recipe.weights and weights_digest(recipe.weights)}
    text = json.dumps([content, how, settings.digest()], sort_keys=True)
    return f"run-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def train_fold(
    images: Path,
    truths: Path,
    work: Path,
    weights: Path,
    leave_out: Sequence[str],
    recipe: Recipe,
    device: str,
    say: Say,
) -> None:
    """Train both networks without the CTs of a fold, on no phantoms."""
    from vertebra_core.training import curve, keypoints, paper

    common: dict[str, Any] = {"leave_out": leave_out, "phantoms": 0, "seed": recipe.seed, "device": device, "say": say}
    first = paper.CURVE if recipe.as_paper else curve.CurveTraining()
    curve.train(images, truths, work, weights, steps=recipe.curve_steps, settings=first, **common)
    keypoints.train(
        images,
        truths,
        work,
        weights,
        detector_steps=recipe.detector_steps,
        refiner_steps=recipe.refiner_steps,
        detector_settings=paper.DETECTOR if recipe.as_paper else None,
        **common,
    )


def _measured(ct: ReadCT, weights: Path, recipe: Recipe, settings: Settings, device: str, say: Say) -> dict:
    """What the networks of a fold find in one CT, end to end, as a document."""
    from vertebra_core.curve.find import find_curve
    from vertebra_core.curve.network import CurveNetwork
    from vertebra_core.keypoints.network import KeypointDetector, KeypointRefiner
    from vertebra_core.models import load_network
    from vertebra_core.straighten import straighten

    curve = load_network(CurveNetwork(), weights / "curve.safetensors", device)
    detector = load_network(KeypointDetector(), weights / "detector.safetensors", device)
    refiner = load_network(KeypointRefiner(), weights / "refiner.safetensors", device) if recipe.refiner_steps else None
    try:
        volume = read_volume(ct.series, settings.reading)
        spine = straighten(volume, find_curve(volume, curve, settings.curve), settings.straighten)
        found = find_keypoints(spine, KeypointModels(detector, refiner), settings.keypoints)
    except NotEvaluable as refusal:
        say(f"{ct.name}: {refusal}")
        return {"name": ct.name, "refused": refusal.reason.code, "points": [], "complete": []}
    points = spine.patient_from_straight(found.points)
    say(f"{ct.name}: {len(points)} vertebrae found, {len(ct.truth.points)} annotated")
    return {"name": ct.name, "refused": None, "points": points.tolist(), "complete": found.complete.tolist()}


def _compared(own: Sequence[ReadCT], measured: Sequence[dict], settings: Settings, truths: Path) -> FoldResult:
    by_name = {one["name"]: one for one in measured}
    return FoldResult(
        program=[
            compare(
                ct.name,
                ct.patient,
                read_truth(truths / f"{ct.name}.json"),
                _found(by_name[ct.name]),
                spacing_mm=ct.series.slice_spacing_mm or np.nan,
            )
            for ct in own
        ],
        experts=[comparison for ct in own for comparison in experts(ct.name, ct.marks)],
        refused={one["name"]: one["refused"] for one in measured if one["refused"]},
    )


def _found(document: dict) -> Found:
    if document["refused"]:
        return NOTHING_FOUND
    points, complete = np.array(document["points"]).reshape(-1, 6, 3), np.array(document["complete"], bool)
    sizes = measure_vertebrae(points)
    heights = np.stack([sizes.ha_mm, sizes.hm_mm, sizes.hp_mm], axis=1)
    return Found(points, complete, np.where(complete[:, None], heights, np.nan), np.where(complete, sizes.g, np.nan))
