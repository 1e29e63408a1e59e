"""How one study ended: what the engine hands over to become rows."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from vertebra_core.errors import Reason
from vertebra_core.reading.series import Series

if TYPE_CHECKING:  # the networks' library stays out of processes that only keep the books
    from vertebra_core.study import StudyResult


class Status(Enum):
    """Every study ends in one of these; there is no fifth."""

    OK = "ok"
    PARTIAL = "partial"
    """Measured, but something in view could not be (a vertebra with NULL heights that the scan does not cut)."""
    NOT_EVALUABLE = "not_evaluable"
    FAILED = "failed"


@dataclass(frozen=True)
class Provenance:
    """What a result depends on; equal provenance and study key are never computed twice."""

    input_digest: str
    model_digest: str
    settings_digest: str
    schema_version: str
    software_version: str


@dataclass(frozen=True)
class StudyOutcome:
    """The end of one study.

    Parameters
    ----------
    study_key, patient_key, series_key : str
        Pseudonyms (`vertebra_core.cohort.identity`).
    reason : Reason or None
        None exactly when `status` is ok; for partial it says what is missing.
    result : StudyResult or None
        Present exactly when `status` is ok or partial.
    seconds : dict
        Wall time by stage ("read", "curve", "straighten", "keypoints", "levels", "measure").
    """

    study_key: str
    patient_key: str
    series_key: str
    series: Series
    status: Status
    reason: Reason | None
    detail: str
    result: "StudyResult | None"
    provenance: Provenance
    repairs: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
