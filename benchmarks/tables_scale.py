"""How long analysts wait: main queries over a million studies in DuckDB, and publishing. ``make tables-scale``.

    python -m benchmarks.tables_scale --folder build/prevalence-scale --publish build/tables-scale --studies 200000

Queries run on the cohort that `benchmarks.prevalence_scale` makes (a million studies, 12 million vertebrae), each three
times in one process on two threads; the best time is held against a second. Publishing (case T8) commits shards of full
rows and publishes them in a process of its own: files, row groups, seconds and peak memory.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.prevalence_scale import LEVELS, grades, make_cohort
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity, commit_shard
from vertebra_core.cohort.snapshot import publish
from vertebra_core.tables.schema import SCHEMA_VERSION, arrow_schema

THREADS, LIMIT_S, TIMES = 2, 1.0, 3
QUERIES = {
    "vertebrae by grade": "SELECT grade, count(*) FROM {vertebrae} GROUP BY grade",
    "fractured patients by sex": """
        SELECT sex, count(*), count(*) FILTER (worst_grade IN ('moderate', 'severe'))
        FROM {patients} WHERE n_vertebrae >= 7 GROUP BY sex""",
    "fractured vertebrae of index studies": """
        SELECT count(*), count(*) FILTER (v.g <= 0.74 + 1e-9)
        FROM {vertebrae} v JOIN {patients} p ON v.study_key = p.index_study_key WHERE v.g IS NOT NULL""",
    "by level, of index studies": """
        SELECT v.level, count(*), avg(v.g), count(*) FILTER (v.g <= 0.74 + 1e-9)
        FROM {vertebrae} v JOIN {patients} p ON v.study_key = p.index_study_key WHERE v.g IS NOT NULL
        GROUP BY v.level""",
    "quantiles of G by level": """
        SELECT level, approx_quantile(g, [0.05, 0.5, 0.95]) FROM {vertebrae} WHERE g IS NOT NULL GROUP BY level""",
    "by sex and ten years of age": """
        SELECT s.sex, floor(s.age_years / 10), count(*), count(*) FILTER (p.min_g <= 0.74 + 1e-9)
        FROM {patients} p JOIN {studies} s ON s.study_key = p.index_study_key GROUP BY ALL""",
    "studies by status and scanner": "SELECT status, scanner, count(*) FROM {studies} GROUP BY ALL",
    "levels in view": "SELECT level, count(*) FROM {levels_in_view} GROUP BY level",
}
PER_SHARD, VERTEBRAE = 2_000, 15
IDENTITY = MethodIdentity("model", "settings", SCHEMA_VERSION)


def main() -> int:
    """Time the queries, then publishing; exit code 1 where a query takes longer than a second."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folder", type=Path, required=True)
    asked.add_argument("--publish", type=Path)
    asked.add_argument("--studies", type=int, default=200_000)
    asked.add_argument("--only-publish", action="store_true", help=argparse.SUPPRESS)
    args = asked.parse_args()
    if args.only_publish:
        publish_made(args.publish, args.studies)
        return 0
    if not (args.folder / "latest.json").exists():
        make_cohort(args.folder, 1_000_000)
    slow = time_queries(args.folder / "snapshots" / "snapshot-made")
    if args.publish is not None:
        again = ["--folder", str(args.folder), "--publish", str(args.publish), "--studies", str(args.studies)]
        subprocess.run([sys.executable, "-m", "benchmarks.tables_scale", *again, "--only-publish"], check=True)
    return 1 if slow else 0


def time_queries(snapshot: Path) -> list[str]:
    """Print the best wall time of each query; those over `LIMIT_S`."""
    names = ("vertebrae", "studies", "patients", "levels_in_view")
    tables = {name: f"'{snapshot / f'{name}.parquet'}'" for name in names}
    connection, slow = duckdb.connect(config={"threads": THREADS}), []
    for name, text in QUERIES.items():
        walls = []
        for _ in range(TIMES):
            start = time.perf_counter()
            connection.sql(text.format(**tables)).fetchall()
            walls.append(time.perf_counter() - start)
        slow += [name] if min(walls) > LIMIT_S else []
        print(f"{name:40} {min(walls):6.2f} s", flush=True)
    return slow


def publish_made(folder: Path, n: int) -> None:
    """Commit n studies in shards where they are not there, publish, and print what it took."""
    layout = Layout(folder)
    folder.mkdir(parents=True, exist_ok=True)
    layout.description.write_text("{}")
    for number, start in enumerate(range(0, n, PER_SHARD)):
        if not layout.mark("20260101T000000-made", f"{number:05d}").exists():
            tables = full_tables(start, min(PER_SHARD, n - start), np.random.default_rng(number))
            commit_shard(layout, "20260101T000000-made", f"{number:05d}", tables)
    before, start = _peak_gib(), time.process_time()
    made = publish(layout, f"snapshot-{time.time_ns()}", IDENTITY, {}, {})
    seconds, path = time.process_time() - start, made.folder / "vertebrae.parquet"
    files = [one for one in made.folder.iterdir() if one.suffix == ".parquet"]
    metadata = pq.read_metadata(path)
    print(f"published {made.rows} in {seconds:.0f} s of CPU, peak {_peak_gib():.1f} GiB (before: {before:.1f})")
    mib = path.stat().st_size >> 20
    print(f"{len(files)} Parquet files; vertebrae: {metadata.num_row_groups} row groups, {mib} MiB")
    time_grades(path)


def time_grades(path: Path) -> None:
    """Case T8: count by grade over what was published."""
    connection, start = duckdb.connect(config={"threads": THREADS}), time.perf_counter()
    connection.sql(f"SELECT grade, count(*) FROM '{path}' GROUP BY grade").fetchall()
    print(f"count by grade {time.perf_counter() - start:.2f} s")


def full_tables(start: int, n: int, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Full rows of n studies with 15 vertebrae each, one study a patient."""
    keys = np.array([f"st{number:020x}" for number in range(start, start + n)])
    people = np.char.replace(keys, "st", "pt")
    row, index = np.repeat(np.arange(n), VERTEBRAE), np.tile(np.arange(VERTEBRAE), n)
    heights = rng.normal(24, 1.5, (len(row), 3))
    g = heights.min(1) / heights.max(1)
    level = np.array([*LEVELS, "L5", "T3"])[index]
    bones = {"study_key": keys[row], "patient_key": people[row], "series_key": keys[row], "vertebra_index": index,
             "level": level, "complete": np.ones(len(row), bool), "g": g, "grade": grades(g),
             **dict(zip(("ha_mm", "hm_mm", "hp_mm"), heights.T, strict=True))}  # fmt: skip
    studies = {"study_key": keys, "patient_key": people, "series_key": keys, "status": np.full(n, "ok"),
               "n_vertebrae": np.full(n, VERTEBRAE), "min_g": g.reshape(n, -1).min(1), "input_digest": keys,
               "model_digest": np.full(n, "model"), "settings_digest": np.full(n, "settings"),
               "schema_version": np.full(n, SCHEMA_VERSION)}  # fmt: skip
    shown = {name: bones[name] for name in ("study_key", "patient_key", "level", "vertebra_index", "complete", "g")}
    filled = {"studies": (n, studies), "vertebrae": (len(row), bones), "levels_in_view": (len(row), shown)}
    return {name: _table(name, size, columns) for name, (size, columns) in filled.items()}


def _table(name: str, n: int, columns: dict) -> pa.Table:
    """The declared columns; those not given are NULL, or filler where NULL is not allowed."""
    arrays = []
    for one in arrow_schema(name):
        if one.name in columns:
            arrays.append(pa.array(columns[one.name]).cast(one.type))
        elif one.nullable:
            arrays.append(pa.nulls(n, one.type))
        else:
            arrays.append(pa.repeat(pa.scalar("made" if pa.types.is_string(one.type) else 0, one.type), n))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(name))


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
