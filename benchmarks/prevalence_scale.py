"""How long `vertebra prevalence` and `vertebra report` take for a million studies: ``make prevalence-scale``.

    python -m benchmarks.prevalence_scale --folder build/prevalence-scale --studies 1000000

Writes a published cohort of one study a patient with 13 vertebrae, a tenth of them not evaluable, with the columns that
the commands read, and runs them in processes of its own: wall and CPU seconds, and peak memory. Made once; a
second run measures only.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vertebra_core.cohort.snapshot import ROW_GROUP
from vertebra_core.epidemiology.cases import HEIGHTS
from vertebra_core.report.quality import SECONDS_COLUMNS
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import GRADES, SHAPES
from vertebra_core.tables.grades import reaches

LEVELS = (*(f"T{i}" for i in range(4, 13)), *(f"L{i}" for i in range(1, 5)))
NOT_EVALUABLE, FRACTURED, WITHOUT_AGE = 0.1, 0.02, 0.02
STUDIES_AT_A_TIME = 100_000
QUESTIONS = (
    "prevalence",
    "prevalence --by sex,age_band",
    "prevalence --by sex --standard esp2013",
    "prevalence --by level",
    "prevalence --by level,sex",
    "report",
)
REASONS = ("slices_too_thick", "no_spine", "missing_slices")


def main() -> None:
    """Make the cohort where it is not there, then time every question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=1_000_000)
    asked = parser.parse_args()
    if not (asked.folder / "latest.json").exists():
        make_cohort(asked.folder, asked.studies)
    for question in QUESTIONS:
        verb, *words = question.split()
        wall, cpu, gib = timed([sys.executable, "-m", "flows.cli", verb, str(asked.folder), *words])
        print(f"{question:41} wall {wall:6.1f} s   CPU {cpu:6.1f} s   peak {gib:4.1f} GiB", flush=True)


def timed(command: list[str]) -> tuple[float, float, float]:
    """Wall and CPU seconds and peak memory (GiB) of a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def make_cohort(folder: Path, n: int) -> None:
    """Write the tables in pieces, so that making them takes little memory."""
    snapshot = folder / "snapshots" / "snapshot-made"
    snapshot.mkdir(parents=True, exist_ok=True)
    writers: dict[str, pq.ParquetWriter] = {}
    for piece, start in enumerate(range(0, n, STUDIES_AT_A_TIME)):
        made = tables(start, min(STUDIES_AT_A_TIME, n - start), np.random.default_rng(piece))
        for name, table in made.items():
            if name not in writers:
                writers[name] = pq.ParquetWriter(snapshot / f"{name}.parquet", table.schema, compression="zstd")
            writers[name].write_table(table, row_group_size=ROW_GROUP)
    for writer in writers.values():
        writer.close()
    (snapshot / "provenance.json").write_text(json.dumps({"grading": asdict(GradingSettings())}))
    (folder / "cohort.json").write_text("{}")
    (folder / "latest.json").write_text(json.dumps({"snapshot": snapshot.name, "content": "made", "rows": {}}))


def tables(start: int, n: int, rng: np.random.Generator) -> dict[str, pa.Table]:
    """The columns that the commands read, of `n` studies; keys are as long as real ones, patients in another order."""
    studies = pa.array([f"st{number:016x}" for number in range(start, start + n)])
    order = rng.permutation(n)
    patients = pa.array([f"pt{start + number:016x}" for number in order.tolist()])
    evaluable = rng.random(n) >= NOT_EVALUABLE
    g = rng.normal(0.89, 0.04, (n, len(LEVELS))).clip(0.3, 1.0)
    g = np.where(rng.random(g.shape) < FRACTURED, rng.uniform(0.5, 0.74, g.shape), g)
    row = np.repeat(np.flatnonzero(evaluable), len(LEVELS))
    level = pa.array(LEVELS).take(pa.array(np.tile(np.arange(len(LEVELS)), evaluable.sum())))
    by_patient = np.argsort(order)
    index = studies.take(pa.array(by_patient)).to_pylist()
    ages = rng.uniform(50, 95, n).clip(max=90)
    sexes = rng.choice(["F", "M"], n)
    smallest = pa.array(np.where(evaluable, g.min(1), np.nan), from_pandas=True)
    return {
        "studies": pa.table(
            {
                "study_key": studies,
                "patient_key": patients,
                "status": np.where(evaluable, "ok", "not_evaluable"),
                "reason": pa.array(rng.choice(REASONS, n), mask=evaluable),
                "device": pa.array(["cpu"] * n),
                "min_g": smallest,
                "min_g_level": pa.array(np.array(LEVELS)[g.argmin(1)], mask=~evaluable),
                "worst_grade": grades(smallest.to_numpy(zero_copy_only=False)),
                **{name: rng.lognormal(1.0, 0.3, n) for name in SECONDS_COLUMNS},
                "n_vertebrae": pa.array(np.where(evaluable, len(LEVELS), 0), pa.int32()),
                "slice_spacing_mm": rng.choice([1.0, 1.5, 2.0], n),
                "age_years": pa.array(ages, mask=rng.random(n) < WITHOUT_AGE),
                "sex": sexes,
                "site": rng.choice(["north", "south"], n),
                "scanner": rng.choice([f"Model {i}" for i in range(20)], n),
                "study_year": pa.array(rng.integers(2012, 2025, n), pa.int32()),
                "study_day": pa.nulls(n, pa.int32()),
                "study_date": pa.nulls(n, pa.date32()),
            }
        ),
        "patients": pa.table(
            {
                "patient_key": patients.take(pa.array(by_patient)),
                "index_study_key": pa.array(index, pa.string(), mask=~evaluable[by_patient]),
                "n_evaluable_studies": pa.array(evaluable[by_patient].astype(np.int32)),
                "sex": sexes[by_patient],
                "n_vertebrae": pa.array(np.where(evaluable, len(LEVELS), 0)[by_patient], pa.int32()),
                "min_g": smallest.take(pa.array(by_patient)),
                "worst_grade": grades(smallest.to_numpy(zero_copy_only=False)[by_patient]),
            }
        ),
        "vertebrae": vertebrae(studies.take(pa.array(row)), level, g[evaluable].ravel(), rng),
        "levels_in_view": pa.table({"study_key": studies.take(pa.array(row)), "level": level}),
    }


def grades(g: np.ndarray) -> pa.Array:
    """Grade of each G by the default bounds; NULL for NaN."""
    bounds = GradingSettings()
    number = sum(reaches(g, bound).astype(int) for bound in (bounds.mild, bounds.moderate, bounds.severe))
    return pa.array(GRADES).take(pa.array(number, mask=np.isnan(g)))


def vertebrae(keys: pa.Array, level: pa.Array, g: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Vertebrae of which the smallest of three heights is drawn; the others are 25 mm."""
    smallest = rng.integers(0, len(SHAPES), len(g))
    heights = np.where(np.arange(len(SHAPES)) == smallest[:, None], 25.0 * g[:, None], 25.0)
    normal = ~reaches(g, GradingSettings().mild)
    return pa.table(
        {
            "study_key": keys,
            "level": level,
            "g": g,
            **{name: heights[:, i] for i, name in enumerate(HEIGHTS)},
            "complete": np.ones(len(g), bool),
            "grade": grades(g),
            "shape": pa.array(np.array(SHAPES)[smallest], mask=normal),
        }
    )


if __name__ == "__main__":
    main()
