"""What publishing many studies takes: ``python -m benchmarks.publishing COHORT FOLDER --studies 100000``.

Takes the tables of the largest committed shard of a cohort, with new keys, as the shards of a new cohort with a patient
for every study, and publishes that in this process: seconds and memory. FOLDER must not be there; it is removed.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import pyarrow as pa

from benchmarks.cohort_storage import COMPANIONS, RUN, one_shard, seconds
from vertebra_core.cohort.commit import parquet_bytes, private_folder, remove_folder, replace
from vertebra_core.cohort.layout import MARK_TABLE, Layout, open_layout
from vertebra_core.cohort.ledger import choose, commit_shard, committed, done_inputs
from vertebra_core.cohort.links import SCHEMA
from vertebra_core.cohort.snapshot import publish


def renamed(table: pa.Table, number: int) -> pa.Table:
    """The same rows of other studies and patients."""
    for name in ("study_key", "series_key", "patient_key"):
        if name in table.column_names:
            keys = pa.array([f"{key}n{number}" for key in table[name].to_pylist()], pa.string())
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), keys)
    return table


def links_of(studies: pa.Table) -> pa.Table:
    """Links of made-up patients."""
    n = studies.num_rows
    columns = {name: studies[name].to_pylist() for name in ("study_key", "series_key", "patient_key")}
    known = {"patient_id": "MADE", "sex": "F", "study_date": "2024-03-01", "age_years": 67.0, "path": "0001/1.nii"}
    return pa.table(
        {name: columns.get(name, [known.get(name)] * n) for name in SCHEMA.names}, schema=SCHEMA
    )  # identifiers of 100,000 studies take room, whether they differ or not


def main() -> int:
    """Write, publish, and print a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publishing", description=__doc__)
    parser.add_argument("source")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=100_000)
    wanted = parser.parse_args()
    if wanted.folder.exists():
        parser.error(f"{wanted.folder} is there")
    tables, identity = one_shard(open_layout(wanted.source))
    layout, each = Layout(wanted.folder), tables[MARK_TABLE].num_rows
    shards = -(-wanted.studies // each)
    try:
        links = []
        for number in range(shards):
            made = {name: renamed(table, number) for name, table in tables.items()}
            commit_shard(layout, RUN, f"{number:05d}", made)
            links.append(links_of(made[MARK_TABLE]))
        private_folder(layout.private)
        replace(layout.links, parquet_bytes(pa.concat_tables(links).sort_by("series_key")), mode=0o600)
        del links, made
        figures = {"studies": shards * each, "shards": shards, "load": round(os.getloadavg()[0], 1)}
        figures["rss_before_mb"] = peak_mb()
        figures["plan_ledger_s"] = seconds(lambda: done_inputs(committed(layout), identity))
        figures["settle_s"] = seconds(lambda: choose(committed(layout), identity, {}))
        figures["rss_settled_mb"] = peak_mb()
        cpu = time.process_time()
        figures["publish_s"] = seconds(lambda: publish(layout, RUN, identity, {}, {}))
        figures["publish_cpu_s"] = time.process_time() - cpu
        figures["rss_published_mb"] = peak_mb()
        figures["unchanged_s"] = seconds(lambda: publish(layout, RUN, identity, {}, {}))
        figures["files"] = sum(1 for path in layout.snapshot(RUN).iterdir())
        figures["rows"] = {name: tables[name].num_rows * shards for name in COMPANIONS}
        print(json.dumps(figures))
    finally:
        remove_folder(layout.root)
    return 0


def peak_mb() -> float:
    """The most memory that this process had so far, MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


if __name__ == "__main__":
    sys.exit(main())
