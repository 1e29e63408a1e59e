"""Cohorts of any size with known prevalence by level: published tables made at once from arrays, without any scan."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vertebra_core.epidemiology.cases import Tables
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import LEVELS
from vertebra_core.tables.patients import patient_table
from vertebra_core.tables.schema import arrow_schema

THORACIC, LUMBAR = tuple(f"T{i}" for i in range(1, 13)), tuple(f"L{i}" for i in range(1, 6))
SHOWN = (*THORACIC, *LUMBAR)
BASE = np.array([0.4, 0.4, 0.8, 1.2, 2.0, 3.0, 3.6, 3.0, 1.6, 1.2, 2.4, 4.4, 4.4, 2.0, 1.2, 0.8, 0.4]) / 100
"""Prevalence of a moderate fracture in a woman of 50-59 with average frailty: peaks at T7 and at T12 to L1."""
AGE_STARTS = np.array([50, 60, 70, 80])
AGE_FACTOR = np.array([1.0, 1.5, 2.5, 4.0])
LUMBAR_CHANCE = np.array([0.2, 0.4, 0.6, 0.8])
"""Who is scanned where: the old in the lumbar spine, the young in the chest; half of all each."""
FRAILTY, FRAILTY_SHARE = np.array([0.5, 3.0]), np.array([0.8, 0.2])
SEX_FACTOR = {"F": 1.0, "M": 0.7}
NEVER_EVALUABLE, SOMETIMES_NOT = 0.07, 0.03
"""A tenth of all scans: most are of patients who never are (metal), the others happen once."""
THREE_SCANS_FRACTURED, THREE_SCANS_OTHERS = 0.5, 0.05
CUT = 0.3
"""Chance that the edge of the scan cuts the last vertebra of the view."""


BODY_MM = 25.0
"""Middle and posterior height; every deformity is a wedge."""


@dataclass(frozen=True)
class MadeCohort:
    """Tables of a snapshot and how many studies and patients they hold."""

    tables: Tables
    n_patients: int
    n_studies: int


@dataclass(frozen=True)
class Truth:
    """Expected prevalence of moderate fractures in the population that patients are drawn from.

    Parameters
    ----------
    by_level : dict
        Of vertebrae.
    thoracic_patient : float
        Of patients whose scan shows T1 to T12, all complete ones judged, with their mix of ages.
    thoracic_patient_even : float
        The same if ages were even from 50 to 89.
    """

    by_level: dict[str, float] = field(default_factory=dict)
    thoracic_patient: float = 0.0
    thoracic_patient_even: float = 0.0


def truth() -> Truth:
    """By summing over sex, age and frailty."""
    sexes = np.array(list(SEX_FACTOR.values()))
    by_level = {
        level: float(base * AGE_FACTOR.mean() * sexes.mean() * (FRAILTY @ FRAILTY_SHARE))
        for level, base in zip(SHOWN, BASE, strict=True)
    }
    risk = BASE[: len(THORACIC)] * (AGE_FACTOR[:, None, None] * sexes[:, None] * FRAILTY)[..., None]
    free = np.prod(1 - risk[..., :-1], -1) * (CUT + (1 - CUT) * (1 - risk[..., -1]))
    fractured = ((1 - free) @ FRAILTY_SHARE).mean(1)
    chest = (1 - LUMBAR_CHANCE) / (1 - LUMBAR_CHANCE).sum()
    return Truth(by_level, float(fractured @ chest), float(fractured.mean()))


def make_cohort_tables(n_patients: int, seed: int) -> MadeCohort:
    """Draw patients and their scans; the tables have the schema of a snapshot."""
    rng = np.random.default_rng(seed)
    band = rng.integers(0, len(AGE_STARTS), n_patients)
    age = AGE_STARTS[band] + rng.integers(0, 10, n_patients)
    sex = rng.choice(list(SEX_FACTOR), n_patients)
    frailty = rng.choice(FRAILTY, n_patients, p=FRAILTY_SHARE)
    risk = AGE_FACTOR[band] * np.where(sex == "F", SEX_FACTOR["F"], SEX_FACTOR["M"]) * frailty
    broken = rng.random((n_patients, len(SHOWN))) < risk[:, None] * BASE
    many = rng.random(n_patients) < np.where(broken.any(1), THREE_SCANS_FRACTURED, THREE_SCANS_OTHERS)
    never = rng.random(n_patients) < NEVER_EVALUABLE

    patient = np.repeat(np.arange(n_patients), np.where(many, 3, 1))
    n_studies = len(patient)
    lumbar = rng.random(n_studies) < LUMBAR_CHANCE[band[patient]]
    evaluable = ~never[patient] & (rng.random(n_studies) >= SOMETIMES_NOT)
    number = np.arange(n_studies) - np.searchsorted(patient, patient)
    study, level = np.nonzero(np.where(lumbar[:, None], np.arange(17) >= 12, np.arange(17) < 12) & evaluable[:, None])
    last = np.where(lumbar, 16, 11)[study] == level
    complete = ~(last & (rng.random(len(study)) < CUT))
    fractured = broken[patient[study], level]
    g = np.where(fractured, rng.uniform(0.61, 0.73, len(study)), rng.uniform(0.82, 0.95, len(study)))

    study_keys = np.char.add("st", np.char.zfill(np.arange(n_studies).astype(str), 7))
    patient_keys = np.char.add("pt", np.char.zfill(patient.astype(str), 7))
    studies = _table(
        "studies",
        n_studies,
        study_key=study_keys,
        patient_key=patient_keys,
        series_key=study_keys,
        status=np.where(evaluable, "ok", "not_evaluable"),
        n_vertebrae=np.bincount(study[complete], minlength=n_studies),
        min_g=pa.array(_smallest(g, study, complete, n_studies), from_pandas=True),
        age_years=age[patient].astype(float),
        sex=sex[patient],
        study_date=np.datetime64("2020-01-01", "D") + 200 * number,
        slice_spacing_mm=np.full(n_studies, 1.0),
    )
    vertebrae = _table(
        "vertebrae",
        len(study),
        study_key=study_keys[study],
        patient_key=patient_keys[study],
        series_key=study_keys[study],
        vertebra_index=level - np.where(lumbar, 12, 0)[study],
        level=np.array(SHOWN)[level],
        complete=complete,
        g=pa.array(np.where(complete, g, np.nan), from_pandas=True),
        ha_mm=pa.array(np.where(complete, g * BODY_MM, np.nan), from_pandas=True),
        hm_mm=pa.array(np.where(complete, BODY_MM, np.nan), from_pandas=True),
        hp_mm=pa.array(np.where(complete, BODY_MM, np.nan), from_pandas=True),
    )
    levels = _table(
        "levels_in_view",
        len(study),
        level_number=np.array([LEVELS.index(name) + 1 for name in SHOWN])[level],
        **{name: vertebrae[name] for name in ("study_key", "patient_key", "level", "vertebra_index", "complete", "g")},
    )
    return MadeCohort(Tables(patient_table(studies), studies, vertebrae, levels), n_patients, n_studies)


def write_snapshot(root: Path, made: MadeCohort) -> None:
    """Lay the tables down as a published cohort."""
    folder = root / "snapshots" / "snapshot-made"
    folder.mkdir(parents=True)
    for name in ("patients", "studies", "vertebrae", "levels_in_view"):
        pq.write_table(getattr(made.tables, name), folder / f"{name}.parquet")
    (folder / "provenance.json").write_text(json.dumps({"grading": asdict(GradingSettings())}))
    (root / "cohort.json").write_text("{}")
    (root / "latest.json").write_text(json.dumps({"snapshot": folder.name, "content": "made", "rows": {}}))


def _smallest(g: np.ndarray, study: np.ndarray, complete: np.ndarray, n_studies: int) -> np.ndarray:
    smallest = np.full(n_studies, np.inf)
    np.minimum.at(smallest, study[complete], g[complete])
    return np.where(np.isfinite(smallest), smallest, np.nan)


def _table(name: str, n: int, **columns) -> pa.Table:
    """The declared columns; those not given are NULL, or zero where NULL is not allowed."""
    schema = arrow_schema(name)
    arrays = []
    for one in schema:
        if one.name in columns:
            values = columns[one.name]
            arrays.append(
                (values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)).cast(one.type)
            )
        elif one.nullable:
            arrays.append(pa.nulls(n, one.type))
        else:
            filler = pa.scalar("made" if pa.types.is_string(one.type) else 0, one.type)
            arrays.append(pa.repeat(filler, n))
    return pa.Table.from_arrays(arrays, schema=schema)
