"""Measured scans beside their truth, kept as one small JSON file each: a long study goes on where it was stopped."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from flows.evaluation_tables import print_studies, print_summary
from vertebra_core.curve.find import read_slices
from vertebra_core.errors import NotEvaluable
from vertebra_core.evaluation.evidence import Comparison, compare, gather
from vertebra_core.evaluation.matching import NOTHING_FOUND, Found
from vertebra_core.evaluation.summary import found_by, intervals, summarise
from vertebra_core.geometry import CentreLine
from vertebra_core.models import Models
from vertebra_core.settings import Settings
from vertebra_core.study import measure_study
from vertebra_core.training.curve_cases import NATURAL_END_MM
from vertebra_core.training.spines import true_line
from vertebra_core.truth import Truth, read_truth, write_truth
from vertebra_core.volume import Volume

SEED = 0
"""Of the bootstrap."""


def score(name: str, volume: Volume, truth: Truth, models: Models, settings: Settings, folder: Path) -> dict:
    """Measure a scan and keep what was found, and how far its line lay from the true one, in `folder`."""
    kept = folder / f"{name}.json"
    document: dict = {"name": name, "spacing_mm": volume.head_foot_spacing, "reason": None}
    try:
        result = measure_study(volume, models, settings)
        found = found_by(result)
        document["line_mm"] = line_distances(result.curve, truth).tolist()
    except NotEvaluable as reason:
        found, document["reason"] = NOTHING_FOUND, str(reason)
    document["false_slices"] = false_slices(volume, truth, models, settings)
    errors = np.zeros((len(found.g), 4)) if found.standard_errors is None else found.standard_errors
    document["found"] = {
        "points": found.points.tolist(),
        "complete": found.complete.tolist(),
        "heights": _nullable(found.heights),
        "g": _nullable(found.g),
        "levels": list(found.levels),
        "standard_errors": _nullable(errors),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_truth(truth, folder / f"{name}.truth.json")
    kept.write_text(json.dumps(document))
    return document


def false_slices(volume: Volume, truth: Truth, models: Models, settings: Settings) -> tuple[int, int]:
    """Slices called spine, of those known to show no body: above a whole C3 and below a whole L5."""
    slices = read_slices(volume, models.curve, settings.curve)
    ends = truth.points[[0, -1], 2:4].mean(1)[:, 2]
    top = truth.levels[0] == "C3" and bool(truth.complete[0])
    bottom = truth.levels[-1] == "L5" and bool(truth.complete[-1])
    none = (top & (slices.z > ends[0] + NATURAL_END_MM)) | (bottom & (slices.z < ends[1] - NATURAL_END_MM))
    return int((slices.presence[none] >= settings.curve.presence).sum()), int(none.sum())


def line_distances(curve: CentreLine, truth: Truth) -> np.ndarray:
    """Distance (mm) in the axial slice between the found and the true line, at every millimetre of z of the truth.

    NaN where the found line does not reach.
    """
    line = true_line(truth.points[truth.complete])
    ends = line.straight_from_patient(truth.points[truth.complete][[0, -1], 2:4].reshape(-1, 3))[[0, -1], 2]
    true = line.position(np.arange(*ends, 0.5))
    own = curve.position(np.arange(0.0, curve.length, 0.25))
    z = np.arange(true[:, 2].min(), true[:, 2].max(), 1.0)
    at = [np.stack([np.interp(z, p[::-1, 2], p[::-1, i], np.nan, np.nan) for i in (0, 1)], 1) for p in (true, own)]
    return np.linalg.norm(at[0] - at[1], axis=1)


def read_scores(folder: Path) -> list[tuple[dict, Comparison]]:
    """All scans kept in `folder`, by name."""
    return [
        (document, _comparison(document, read_truth(path.with_suffix(".truth.json"))))
        for path in sorted(folder.glob("*.json"))
        if not path.name.endswith(".truth.json")
        for document in [json.loads(path.read_text())]
    ]


def print_scores(scores: Iterable[tuple[dict, Comparison]]) -> None:
    """The tables of `vertebra evaluate` over kept scans."""
    scores = list(scores)
    comparisons = [comparison for _, comparison in scores]
    evidence = gather(comparisons)
    summary = summarise(evidence)
    print_studies([_study(document, one) for document, one in scores])
    print_summary(summary, intervals(evidence, seed=SEED), evidence.n_patients, strict=False)


def _study(document: dict, one: Comparison) -> dict:
    true, found = one.matching.pairs.T
    off = one.found.heights[found] - one.true_heights[true]
    return {
        "name": one.name,
        "annotated": int(one.truth.complete.sum()),
        "found": len(true),
        "missed": len(one.matching.missed),
        "false": len(one.matching.false),
        "outside": len(one.matching.outside),
        "localization_mm": _mean(
            np.linalg.norm(one.found.points[found].mean(1) - one.truth.points[true].mean(1), axis=1)
        ),
        "heights_mae_mm": _mean(np.abs(off)),
        "g_mae": _mean(np.abs(one.found.g[found] - one.true_g[true])),
        "compared": document["reason"] is None,
        "state": document["reason"],
    }


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else None


def _comparison(document: dict, truth: Truth) -> Comparison:
    kept = document["found"]
    n = len(kept["points"])
    found = Found(
        points=np.array(kept["points"], float).reshape(n, 6, 3),
        complete=np.array(kept["complete"], bool),
        heights=np.array(kept["heights"], float).reshape(n, 3),
        g=np.array(kept["g"], float),
        levels=tuple(kept["levels"]),
        standard_errors=np.array(kept["standard_errors"], float).reshape(n, 4),
    )
    return compare(document["name"], document["name"], truth, found, spacing_mm=document["spacing_mm"])


def _nullable(values: np.ndarray) -> list:
    return np.where(np.isfinite(values), values, None).tolist()
