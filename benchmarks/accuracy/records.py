"""What a scan was found to be, beside its truth, as one small JSON file: a long study goes on where it was stopped."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vertebra_core.errors import NotEvaluable
from vertebra_core.evaluation.evidence import Comparison, compare
from vertebra_core.evaluation.matching import NOTHING_FOUND, Found
from vertebra_core.evaluation.summary import found_by
from vertebra_core.models import Models
from vertebra_core.settings import Settings
from vertebra_core.study import StudyResult, measure_study
from vertebra_core.truth import Truth, truth_document
from vertebra_core.volume import Volume


def attempt(volume: Volume, models: Models) -> tuple[StudyResult | None, str | None]:
    """The result of a study, or why there is none."""
    try:
        return measure_study(volume, models, Settings()), None
    except NotEvaluable as refusal:
        return None, str(refusal)


def record_of(volume: Volume, truth: Truth, result: StudyResult | None, reason: str | None) -> dict:
    """A result beside its truth as a JSON document."""
    found = NOTHING_FOUND if result is None else found_by(result)
    errors = found.standard_errors
    return {
        "truth": truth_document(truth),
        "spacing_mm": volume.head_foot_spacing,
        "reason": reason,
        "points": found.points.tolist(),
        "complete": found.complete.tolist(),
        "heights": found.heights.tolist(),
        "g": found.g.tolist(),
        "levels": list(found.levels),
        "standard_errors": None if errors is None else np.asarray(errors).tolist(),
    }


def measured(volume: Volume, truth: Truth, models: Models) -> dict:
    """Measure a study; the record of it."""
    return record_of(volume, truth, *attempt(volume, models))


def comparison(name: str, record: dict) -> Comparison:
    """A record beside its truth; a refused study has nothing found."""
    errors = record["standard_errors"]
    found = Found(
        np.array(record["points"], float).reshape(-1, 6, 3), np.array(record["complete"], bool),
        np.array(record["heights"], float).reshape(-1, 3), np.array(record["g"], float), tuple(record["levels"]),
        None if errors is None else np.array(errors, float).reshape(-1, 4),
    )  # fmt: skip
    return compare(name, name, truth_of(record), found, spacing_mm=record["spacing_mm"])


def truth_of(record: dict) -> Truth:
    """The truth in a record; whose it is does not matter to a comparison."""
    marked = record["truth"]["vertebrae"]
    points = np.array([v["keypoints"] for v in marked], float).reshape(-1, 6, 3)
    complete = np.array([v["complete"] for v in marked], bool)
    return Truth("", "", points, complete, tuple(v["level"] for v in marked))


def kept(path: Path, make: Callable[[], dict]) -> dict:
    """The record of a file, made and written if it is not there yet."""
    if path.exists():
        return json.loads(path.read_text())
    record = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_text(json.dumps(record))
    half.replace(path)
    return record
