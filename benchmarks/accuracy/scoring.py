"""How annotated scans are scored: record, line and presence; and the tables of `vertebra evaluate` over them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy.records import attempt, comparison, record_of
from flows.evaluation_tables import print_studies, print_summary, study_row
from vertebra_core.curve.find import read_slices
from vertebra_core.evaluation.evidence import Comparison, gather
from vertebra_core.evaluation.summary import intervals, summarise
from vertebra_core.geometry import CentreLine
from vertebra_core.models import Models
from vertebra_core.settings import Settings
from vertebra_core.training.curve_cases import NATURAL_END_MM
from vertebra_core.training.spines import true_line
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

SEED = 0
"""Of the bootstrap."""


def score(volume: Volume, truth: Truth, models: Models, settings: Settings) -> dict:
    """Measure a scan: its record, how far its line lay from the true one, and slices wrongly called spine."""
    result, reason = attempt(volume, models)
    away = [] if result is None else line_distances(result.curve, truth).tolist()
    wrong = false_slices(volume, truth, models, settings)
    return {**record_of(volume, truth, result, reason), "line_mm": away, "false_slices": wrong}


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
    """All records kept in `folder`, by name."""
    records = [(path.stem, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    return [(record, comparison(name, record)) for name, record in records]


def print_scores(scores: Sequence[tuple[dict, Comparison]]) -> None:
    """The tables of `vertebra evaluate` over kept records."""
    evidence = gather([one for _, one in scores])
    print_studies(
        [
            {"name": one.name, "state": record["reason"], "compared": record["reason"] is None, **study_row(one)}
            for record, one in scores
        ]
    )
    print_summary(summarise(evidence), intervals(evidence, seed=SEED), evidence.n_patients, strict=False)
