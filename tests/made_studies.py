"""Studies with known numbers for tests of tables, prevalence and evaluation: values instead of scans."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vertebra_core.cohort.identity import keys_of, open_pseudonyms
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity, commit_shard
from vertebra_core.cohort.links import link_table, merge_links
from vertebra_core.cohort.snapshot import publish
from vertebra_core.errors import Reason
from vertebra_core.evaluation.matching import Found, truth_line
from vertebra_core.measure import measure_vertebrae
from vertebra_core.reading.series import Series
from vertebra_core.settings import GradingSettings
from vertebra_core.straighten import StraightSpine
from vertebra_core.study import StudyResult
from vertebra_core.tables.outcome import Provenance, Status, StudyOutcome
from vertebra_core.tables.rows import outcome_rows, to_arrow
from vertebra_core.tables.schema import SCHEMA_VERSION
from vertebra_core.truth import Truth

NORMAL = (24.0, 24.0, 24.0)
WEDGE = (18.0, 25.0, 25.0)
PITCH_MM, DEPTH_MM = 30.0, 30.0
GRADING = GradingSettings()
RUN = "20240101T000000-aa"
IDENTITY = MethodIdentity("model", "settings", SCHEMA_VERSION)


def column(heights: Sequence[Sequence[float]]) -> np.ndarray:
    """Keypoints [k, 6, 3] of a straight, vertical spine: bodies 30 mm deep, centres 30 mm apart, from z = 0 down."""
    points = np.zeros((len(heights), 6, 3))
    for i, three in enumerate(heights):
        for j, height in enumerate(three):
            y, z = DEPTH_MM * (j / 2 - 0.5), -PITCH_MM * i
            points[i, 2 * j], points[i, 2 * j + 1] = (0.0, y, z + height / 2), (0.0, y, z - height / 2)
    return points


def moved(points: np.ndarray, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """The same vertebrae elsewhere, mm."""
    return points + np.array([x, y, z])


def truth_of(points: np.ndarray, complete: Sequence[bool] | None = None, image: str = "scan") -> Truth:
    whole = np.ones(len(points), bool) if complete is None else np.array(complete, bool)
    return Truth(image, "made", points, whole, (None,) * len(points))


def found_of(points: np.ndarray, complete: Sequence[bool] | None = None) -> Found:
    """What the program would publish of these points: no heights where not complete."""
    whole = np.ones(len(points), bool) if complete is None else np.array(complete, bool)
    sizes = measure_vertebrae(points)
    heights = np.stack([sizes.ha_mm, sizes.hm_mm, sizes.hp_mm], 1)
    return Found(points, whole, np.where(whole[:, None], heights, np.nan), np.where(whole, sizes.g, np.nan))


def result_of(
    points: np.ndarray, complete: Sequence[bool] | None = None, levels: Sequence[str | None] | None = None
) -> StudyResult:
    """A study's result with these keypoints; the sampled planes play no part in rows."""
    k, curve = len(points), truth_line(points)
    spine = StraightSpine(np.zeros((1, 1, 1), np.float32), np.ones((1, 1), bool), curve, np.zeros(2), 0.5)
    whole = np.ones(k, bool) if complete is None else np.array(complete, bool)
    names = (None,) * k if levels is None else tuple(levels)
    confidence = np.array([np.nan if name is None else 0.9 for name in names])
    return StudyResult(curve, spine, points, np.full(k, 0.99), whole, measure_vertebrae(points), names, confidence)


SERIES = Series(
    patient_id="MR-0001",
    patient_id_issuer="",
    study_uid="1.2.3.1",
    series_uid="1.2.3.1.1",
    stack=0,
    archive="/scans",
    path="p1/ct",
    files=("p1/ct/1.dcm", "p1/ct/2.dcm"),
    file_format="dicom",
    modality="CT",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    manufacturer="Maker",
    scanner_model="Model",
    kernel="B30f",
    contrast=None,
    rows=512,
    columns=512,
    n_slices=200,
    slice_thickness_mm=1.0,
    slice_spacing_mm=1.0,
    pixel_spacing_mm=0.7,
    extent_mm=199.0,
    age_years=67.0,
    sex="F",
    study_date="2024-03-05",
    input_digest="input",
    decision=None,
)


def outcome_of(
    study_key: str = "st01",
    patient_key: str = "pt01",
    result: StudyResult | None = None,
    reason: Reason | None = None,
    series: Series = SERIES,
    seconds: dict[str, float] | None = None,
) -> StudyOutcome:
    """A measured study, or one without a result that was refused for `reason`."""
    status = Status.OK if result is not None else Status.NOT_EVALUABLE
    provenance = Provenance(
        series.input_digest, IDENTITY.model_digest, IDENTITY.settings_digest, SCHEMA_VERSION, "0.1.0"
    )
    series_key = f"se{study_key[2:]}"
    detail = "" if reason is None else "2 slices, at least 8 expected"
    return StudyOutcome(
        study_key, patient_key, series_key, series, status, reason, detail, result, provenance, seconds=seconds or {}
    )


def make_cohort(
    root: Path, studies: Sequence[tuple[Series, StudyResult | Reason]], grading: GradingSettings = GRADING
) -> Layout:
    """A published cohort in which each series ended with this result or reason."""
    layout = Layout(root)
    root.mkdir(parents=True, exist_ok=True)
    layout.description.write_text("{}")
    keys = keys_of([series for series, _ in studies], open_pseudonyms(layout))
    merge_links(layout, link_table([series for series, _ in studies], keys))
    tables: dict[str, list[dict]] = {"vertebrae": [], "studies": [], "levels_in_view": []}
    for series, end in studies:
        refused = isinstance(end, Reason)
        outcome = outcome_of(
            keys.study_key(series),
            keys.patient_key(series),
            None if refused else end,
            end if refused else None,
            series,
        )
        outcome = replace(outcome, series_key=keys.series_key(series))
        for name, rows in outcome_rows(outcome, GRADING).items():
            tables[name] += rows
    commit_shard(layout, RUN, "0000", {name: to_arrow(name, rows) for name, rows in tables.items()})
    publish(layout, f"snapshot-{RUN}", IDENTITY, {}, {}, grading)
    return layout


def patient_series(number: int, **changes) -> Series:
    """The series of one patient's only study, below its own folder."""
    uid = f"1.2.3.{number}"
    own = replace(
        SERIES, patient_id=f"MR-{number:04d}", study_uid=uid, series_uid=f"{uid}.1", path=f"p{number}/ct", files=()
    )
    return replace(own, **changes)
