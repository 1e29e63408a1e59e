"""A made cohort with everything that a report tells: scanners, years, reasons, seconds, shapes, a drifting scanner."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_cohorts import MadeCohort, make_cohort_tables, write_snapshot

from vertebra_core.epidemiology.cases import HEIGHTS, Tables
from vertebra_core.settings import GradingSettings, PrivacySettings, Settings
from vertebra_core.tables.patients import patient_table
from vertebra_core.tables.schema import arrow_schema

SCANNERS = ("Aquila 64", "Boreas", "Corvus One", None)
DRIFTING, DRIFTED_YEAR, DRIFT = "Boreas", 2023, 0.03
REASONS = ("slices_too_thick", "no_spine", "missing_slices")
WITHOUT_AGE, WITHOUT_SEX = 0.03, 0.02
STAGES = {"read": 3.0, "curve": 2.5, "straighten": 1.0, "keypoints": 1.9, "levels": 0.4, "measure": 0.1}
MODEL, SNAPSHOT = "0123456789abcdef", "20260101T000000-made"


def make_report_tables(n_patients: int, seed: int = 1) -> MadeCohort:
    """Tables of `made_cohorts` with the columns filled that only a report reads."""
    rng = np.random.default_rng(seed)
    made = make_cohort_tables(n_patients, seed)
    studies, bones = made.tables.studies, made.tables.vertebrae
    n = studies.num_rows
    patient = np.unique(studies["patient_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    scanner, year = rng.integers(0, len(SCANNERS), n), rng.integers(2020, 2025, n)
    lost_age, lost_sex = rng.random(n_patients) < WITHOUT_AGE, rng.random(n_patients) < WITHOUT_SEX
    evaluable = studies["n_vertebrae"].to_numpy() > 0
    failed = ~evaluable & (rng.random(n) < 0.1)
    reason = np.where(failed, "deadline", rng.choice(REASONS, n))
    g = bones["g"].to_numpy(zero_copy_only=False)
    keys = (table["study_key"].to_numpy(zero_copy_only=False) for table in (studies, bones))
    study = np.searchsorted(*keys)
    drifts = (np.array(SCANNERS, object)[scanner] == DRIFTING) & (year == DRIFTED_YEAR)
    fractured = rng.uniform(0.45, 0.735, len(g))
    normal = np.clip(rng.normal(0.862, 0.03, len(g)) - np.where(drifts[study], DRIFT, 0.0), 0.745, 1.0)
    g = np.where(np.isnan(g), np.nan, np.where(g > 0.80, normal, fractured))
    kind = rng.choice(3, len(g), p=[0.6, 0.3, 0.1])
    heights = np.where(np.arange(3) == kind[:, None], g[:, None] * 25.0, 25.0)
    bound = GradingSettings()
    grade = np.sum([g <= limit for limit in (bound.mild, bound.moderate, bound.severe)], axis=0)
    measured = np.isfinite(g)
    bones = _set(
        bones,
        g=pa.array(g, from_pandas=True),
        **{HEIGHTS[i]: pa.array(np.where(measured, heights[:, i], np.nan), from_pandas=True) for i in range(3)},
        grade=pa.array(np.array(["normal", "mild", "moderate", "severe"])[grade], mask=~measured),
        shape=pa.array(np.array(["wedge", "biconcave", "crush"])[kind], mask=~measured | (grade == 0)),
    )  # fmt: skip
    worst = np.full(n, np.inf)
    np.minimum.at(worst, study[measured], g[measured])
    number = np.sum([worst <= limit for limit in (bound.mild, bound.moderate, bound.severe)], axis=0)
    seconds = {f"seconds_{stage}": mean * rng.lognormal(0, 0.3, n) for stage, mean in STAGES.items()}
    studies = _set(
        studies,
        scanner=pa.array([SCANNERS[i] for i in scanner]),
        study_date=pa.nulls(n, pa.date32()),
        study_year=year,
        status=np.where(evaluable, "ok", np.where(failed, "failed", "not_evaluable")),
        reason=pa.array(reason, mask=evaluable),
        min_g=pa.array(np.where(evaluable, worst, np.nan), from_pandas=True),
        min_g_level=pa.array(["T8"] * n, mask=~evaluable),
        worst_grade=pa.array(np.array(["normal", "mild", "moderate", "severe"])[number], mask=~evaluable),
        age_years=pa.array(studies["age_years"].to_numpy(), mask=lost_age[patient]),
        sex=pa.array(studies["sex"].to_numpy(zero_copy_only=False), mask=lost_sex[patient]),
        device=["cpu"] * n,
        **seconds,
        seconds_total=sum(seconds.values()),
    )
    tables = replace(made.tables, patients=patient_table(studies), studies=studies, vertebrae=bones)
    return replace(made, tables=tables)


def write_report_cohort(root: Path, n_patients: int, seed: int = 1, made: MadeCohort | None = None) -> Tables:
    """Publish such a cohort and return its tables."""
    made = made or make_report_tables(n_patients, seed)
    write_snapshot(root, made)
    (root / "snapshots" / "snapshot-made").rename(root / "snapshots" / SNAPSHOT)
    (root / "latest.json").write_text(json.dumps({"snapshot": SNAPSHOT, "content": "made", "rows": {}}))
    for name in ("other_series", "other_vertebrae"):
        pq.write_table(arrow_schema(name).empty_table(), root / "snapshots" / SNAPSHOT / f"{name}.parquet")
    settings = Settings()
    provenance = {
        "published": "2026-01-01T06:00:00+00:00",
        "run": SNAPSHOT,
        "software_version": "0.1.0",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "model_digest": MODEL,
        "settings_digest": settings.digest(),
        "schema_version": "2",
        "settings": {name: one for name, one in asdict(settings).items() if name not in ("grading", "privacy")},
        "grading": asdict(GradingSettings()),
        "privacy": asdict(PrivacySettings()),
    }
    (root / "snapshots" / SNAPSHOT / "provenance.json").write_text(json.dumps(provenance))
    return made.tables


def _set(table: pa.Table, **columns) -> pa.Table:
    """The table with these columns in place of its own; types stay."""
    for name, values in columns.items():
        i = table.schema.get_field_index(name)
        kind = table.schema.field(i)
        array = values if isinstance(values, pa.Array) else pa.array(values)
        table = table.set_column(i, kind, array.cast(kind.type))
    assert set(table.column_names) <= set(arrow_schema("studies").names) | set(arrow_schema("vertebrae").names)
    return table
