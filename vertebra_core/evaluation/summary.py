"""The whole evaluation: from truths and finds to every table, with patient-bootstrap intervals.

From a list of studies to a number::

    evidence = gather([compare(name, patient, truth, found, spacing_mm=1.0) ...])
    summarise(evidence).groups["spacing"]["slices <= 1.6 mm"].heights_mm.mae
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vertebra_core.evaluation.evidence import Evidence, take
from vertebra_core.evaluation.matching import Found
from vertebra_core.evaluation.metrics import (
    Classification,
    Detection,
    Measurement,
    Naming,
    Share,
    by_group,
    classifications,
    coverage,
    detection,
    naming,
)
from vertebra_core.settings import GradingSettings

if TYPE_CHECKING:  # its networks take a second to import
    from vertebra_core.study import StudyResult

RESAMPLES = 1000
"""Bootstrap resamples: percentiles of 2.5 % then rest on 25 values (Efron and Tibshirani 1993, section 13.3)."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Every number of an evaluation.

    Parameters
    ----------
    detection : Detection
        The paper's Table 1.
    classification : tuple of Classification
        The paper's Table 2.
    groups : mapping
        Measurement by kind of group ("all", "deformity", "grade", "level", "spacing") and name.
    coverage : mapping
        By value: how often the interval of 1.96 standard errors holds the truth.
    naming : Naming
    """

    detection: Detection
    classification: tuple[Classification, ...]
    groups: Mapping[str, Mapping[str, Measurement]]
    coverage: Mapping[str, Share]
    naming: Naming


def summarise(evidence: Evidence, grading: GradingSettings | None = None) -> Summary:
    """All tables of an evaluation."""
    grading = grading or GradingSettings()
    return Summary(
        detection(evidence, grading),
        tuple(classifications(evidence, grading)),
        by_group(evidence.vertebrae, grading),
        coverage(evidence.vertebrae),
        naming(evidence.vertebrae),
    )


def found_by(result: "StudyResult") -> Found:
    """What the program would publish of a result: heights of whole vertebrae only."""
    sizes, whole = result.sizes, result.complete
    heights = np.stack([sizes.ha_mm, sizes.hm_mm, sizes.hp_mm], axis=1)
    return Found(
        points=result.points,
        complete=whole,
        heights=np.where(whole[:, None], heights, np.nan),
        g=np.where(whole, sizes.g, np.nan),
        levels=result.levels,
        standard_errors=np.stack([sizes.ha_se_mm, sizes.hm_se_mm, sizes.hp_se_mm, sizes.g_se], axis=1),
        scores=result.scores,
        level_confidence=result.level_confidence,
    )


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number that is defined, by its dotted path ("detection.recall.value"); counts and sizes left out."""
    match value:
        case Share():
            yield from numbers(value.value, f"{path}.value")
        case Classification():
            for name in ("auc", "sensitivity", "specificity"):
                yield from numbers(getattr(value, name), f"{path}.{value.unit}.{value.bound:.2f}.{name}")
        case float():
            yield path, value
        case Mapping():
            for name, part in value.items():
                yield from numbers(part, f"{path}.{name}")
        case tuple():
            for part in value:
                yield from numbers(part, path)
        case _ if is_dataclass(value):
            for name, part in vars(value).items():
                yield from numbers(part, f"{path}.{name}".removeprefix("."))


def intervals(
    evidence: Evidence, grading: GradingSettings | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals (95 %) of every number of `summarise`, patients drawn with replacement.

    Vertebrae of one patient are alike, so patients are drawn and not vertebrae. A resample in which a number is not
    defined (no case among its patients) is left out of that number. Of one patient nothing is said.
    """
    if evidence.n_patients < 2 or resamples < 1:
        return {}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        again = take(evidence, rng.integers(evidence.n_patients, size=evidence.n_patients))
        for path, value in numbers(summarise(again, grading)):
            drawn.setdefault(path, []).append(value)
    tail = 50 * (1 - CONFIDENCE)
    own = dict(numbers(summarise(evidence, grading)))
    kept = {path: np.percentile(values, [tail, 100 - tail]) for path, values in drawn.items() if path in own}
    return {path: (float(low), float(high)) for path, (low, high) in kept.items()}
