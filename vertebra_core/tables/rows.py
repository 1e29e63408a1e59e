"""From the end of a study to rows, and from rows to Arrow tables that keep to the declared schema."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pydicom.uid import UID

from vertebra_core.measure import KEYPOINT_NAMES
from vertebra_core.reading.series import Series
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.angles import cobb_degrees, kyphosis_degrees
from vertebra_core.tables.columns import LEVELS
from vertebra_core.tables.grades import grade, grade_number, shape
from vertebra_core.tables.outcome import StudyOutcome
from vertebra_core.tables.schema import TABLES, arrow_schema, check_table

if TYPE_CHECKING:
    from vertebra_core.study import StudyResult

Row = dict[str, object]

STAGES = ("read", "curve", "straighten", "keypoints", "levels", "measure")


def outcome_rows(outcome: StudyOutcome, grading: GradingSettings, site: str | None = None) -> dict[str, list[Row]]:
    """Rows of the tables `vertebrae`, `studies` and `levels_in_view` for one study.

    Parameters
    ----------
    outcome : StudyOutcome
    grading : GradingSettings
        Bounds of the grades.
    site : str, optional
        Where the archive comes from.

    Returns
    -------
    dict
        Lists of rows by table name; `vertebrae` and `levels_in_view` are empty for a study without a result.
    """
    keys = {name: getattr(outcome, name) for name in ("study_key", "patient_key", "series_key")}
    vertebrae = [] if outcome.result is None else _vertebra_rows(keys, outcome.result, grading)
    return {
        "vertebrae": vertebrae,
        "studies": [_study_row(keys, outcome, vertebrae, site)],
        "levels_in_view": [_level_row(row) for row in vertebrae if row["level"] is not None],
    }


def _vertebra_rows(keys: Row, result: "StudyResult", grading: GradingSettings) -> list[Row]:
    centres = result.points.mean(axis=1)
    along = result.curve.straight_from_patient(centres)[:, 2]
    return [{**keys, **_vertebra_row(result, i, float(along[i]), grading)} for i in range(len(centres))]


def _vertebra_row(result: "StudyResult", i: int, along: float, grading: GradingSettings) -> Row:
    complete, sizes = bool(result.complete[i]), result.sizes
    ha, hm, hp = (_length(h[i]) if complete else None for h in (sizes.ha_mm, sizes.hm_mm, sizes.hp_mm))
    g = _number(sizes.g[i]) if complete else None
    errors = (sizes.ha_se_mm, sizes.hm_se_mm, sizes.hp_se_mm, sizes.g_se)
    ha_se, hm_se, hp_se, g_se = (_number(e[i]) if complete and g is not None else None for e in errors)
    name = grade(g, grading)
    coordinates = {
        f"{point}_{axis}_mm": float(value)
        for point, xyz in zip(KEYPOINT_NAMES, result.points[i], strict=True)
        for axis, value in zip("xyz", xyz, strict=True)
    }
    return {
        "vertebra_index": i,
        "level": result.levels[i],
        "level_confidence": _number(result.level_confidence[i]),
        "score": float(result.scores[i]),
        "complete": complete,
        **coordinates,
        "ha_mm": ha,
        "hm_mm": hm,
        "hp_mm": hp,
        "ha_se_mm": ha_se,
        "hm_se_mm": hm_se,
        "hp_se_mm": hp_se,
        "g": g,
        "g_se": g_se,
        "grade": name,
        "shape": None if None in (ha, hm, hp) else shape(ha, hm, hp, name),  # type: ignore[arg-type]
        "depth_mm": _length(sizes.depth_mm[i]) if complete else None,
        "curve_position_mm": along,
        "flags": "cut_by_edge" if not complete else "not_measurable" if g is None else None,
    }


def _study_row(keys: Row, outcome: StudyOutcome, vertebrae: list[Row], site: str | None) -> Row:
    return {
        **keys,
        "status": outcome.status.value,
        "reason": None if outcome.reason is None else outcome.reason.code,
        "reason_detail": outcome.detail or None,
        "repairs": ";".join(outcome.repairs) or None,
        **_summary(vertebrae),
        **_angles(outcome.result),
        **_series_columns(outcome.series),
        "site": site,
        "n_slices": outcome.series.n_slices,
        **{f"seconds_{stage}": outcome.seconds.get(stage) for stage in STAGES},
        "seconds_total": sum(outcome.seconds.values()) if outcome.seconds else None,
        "device": outcome.device,
        "input_digest": outcome.provenance.input_digest,
        "model_digest": outcome.provenance.model_digest,
        "settings_digest": outcome.provenance.settings_digest,
        "schema_version": outcome.provenance.schema_version,
        "software_version": outcome.provenance.software_version,
    }


def _summary(vertebrae: list[Row]) -> Row:
    measured = [row for row in vertebrae if row["g"] is not None]
    levels = [row["level"] for row in vertebrae if row["level"] is not None]
    worst = min(measured, key=lambda row: row["g"], default=None)  # type: ignore[arg-type, return-value]
    return {
        "n_vertebrae": len(measured),
        "n_incomplete": sum(not row["complete"] for row in vertebrae),
        "level_first": levels[0] if levels else None,
        "level_last": levels[-1] if levels else None,
        "min_g": worst and worst["g"],
        "min_g_vertebra_index": worst and worst["vertebra_index"],
        "min_g_level": worst and worst["level"],
        "worst_grade": worst and worst["grade"],
        "spinal_deformity_index": sum(grade_number(row["grade"]) for row in measured) if measured else None,  # type: ignore[arg-type]
    }


def _angles(result: "StudyResult | None") -> Row:
    if result is None:
        return {}
    return {
        "cobb_deg": cobb_degrees(result.curve, result.points.mean(axis=1)),
        "kyphosis_deg": kyphosis_degrees(result.points, result.complete, result.levels),
    }


def _level_row(row: Row) -> Row:
    copied = ("study_key", "patient_key", "level", "vertebra_index", "level_confidence", "complete", "g", "grade")
    return {**{name: row[name] for name in copied}, "level_number": LEVELS.index(str(row["level"])) + 1}


def _series_columns(series: Series) -> Row:
    """What the header says, shared by `studies` and `inventory`; a date that is none becomes NULL."""
    return {
        "age_years": _number(series.age_years),
        "sex": series.sex,
        "study_date": None if series.study_date is None else date.fromisoformat(series.study_date),
        "manufacturer": series.manufacturer,
        "scanner": series.scanner_model,
        "kernel": series.kernel,
        "contrast": series.contrast,
        "slice_thickness_mm": _number(series.slice_thickness_mm),
        "slice_spacing_mm": _number(series.slice_spacing_mm),
        "pixel_spacing_mm": _number(series.pixel_spacing_mm),
    }


def inventory_rows(
    series: Iterable[Series], keys: Callable[[Series], Mapping[str, str]], site: str | None = None
) -> list[Row]:
    """Rows of the table `inventory`.

    Parameters
    ----------
    series : iterable of Series
    keys : callable
        Gives `series_key`, `study_key` and `patient_key` of a series (`vertebra_core.cohort.identity`).
    site : str, optional
    """
    return [_inventory_row(one, keys(one), site) for one in series]


def _inventory_row(series: Series, keys: Mapping[str, str], site: str | None) -> Row:
    copied = (
        "stack",
        "file_format",
        "modality",
        "rows",
        "columns",
        "orientation",
        "n_slices",
        "input_digest",
    )
    return {
        **{name: keys[name] for name in ("series_key", "study_key", "patient_key")},
        "decision": "measure" if series.decision is None else "leave",
        "reason": None if series.decision is None else series.decision.code,
        "decision_detail": series.decision_detail or None,
        "n_files": series.n_files or len(series.files),
        "repairs": ";".join(series.repairs) or None,
        "image_type": "\\".join(series.image_type) or None,
        "extent_mm": _number(series.extent_mm),
        "sop_class_uid": _of_the_standard(series.sop_class_uid),
        "transfer_syntax_uid": _of_the_standard(series.transfer_syntax_uid),
        "site": site,
        **{name: getattr(series, name) for name in copied},
        **_series_columns(series),
    }


def _of_the_standard(uid: str | None) -> str | None:
    """A UID that PS3.6 Annex A lists, or None: in a broken header anything may stand in its place."""
    return uid if uid and UID(uid, validation_mode=0).name != uid else None


def to_arrow(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows as an Arrow table with the full schema, also with zero rows; absent columns and NaN become NULL.

    Raises
    ------
    ValueError
        A column that is not declared, or a table that `check_table` refuses.
    """
    declared = [column.name for column in TABLES[name].columns]
    strange = {column for row in rows for column in row} - set(declared)
    if strange:
        raise ValueError(f"{name}: undeclared column {sorted(strange)[0]!r}")
    schema = arrow_schema(name)
    arrays = [pa.array([_null(row.get(column)) for row in rows], schema.field(column).type) for column in declared]
    return check_table(name, pa.Table.from_arrays(arrays, schema=schema))


def _null(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _length(value: float) -> float | None:
    """A length in mm, or None where it is missing or not positive: a height of zero was not measured."""
    number = _number(value)
    return number if number is not None and number > 0 else None
