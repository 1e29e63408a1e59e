"""How long ``vertebra status`` and ``vertebra runs`` take on a large cohort: ``python -m benchmarks.status PLACE...``.

At every place a cohort is made with the tables of a snapshot of 100,000 studies, the records of a year of nights and,
for the newest, the logs of 2,000 shards; what is made is removed. One line a place, wall and CPU seconds, the median
of five.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.places import cohort_place
from tasks.history import run_detail, run_states
from tasks.log import StudiesDone
from tasks.record import add_to_record, begin_record
from tasks.report import cohort_state
from vertebra_core.cohort.commit import parquet_bytes, remove_folder, replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.tables.schema import arrow_schema

STUDIES, NIGHTS, SHARDS, TIMES = 100_000, 365, 2_000, 5
REASONS = ("no_spine", "too_few_slices", "other_modality")


def main(*places: str) -> None:
    """Print a line of figures for each place."""
    for place in places:
        layout = Layout(cohort_place(place) / f"benchmark-{time.time_ns()}")
        try:
            for name, call in calls(layout, make(layout)).items():
                print(f"{place}\t{name}\t{timed(call)}", flush=True)
        finally:
            remove_folder(layout.root)


def calls(layout: Layout, newest: str) -> dict[str, Callable[[], object]]:
    """What is timed."""
    count = StudiesDone(layout.logs(newest))
    found = {
        "status": lambda: cohort_state(layout),
        "runs": lambda: run_states(layout, 20),
        "runs RUN": lambda: run_detail(layout, newest),
        "progress, first look": lambda: StudiesDone(layout.logs(newest))(),
    }
    if isinstance(layout.root, Path):  # in a store it looks every ten seconds only
        assert count() == STUDIES
        found["progress, next look"] = count
    return found


def timed(call: Callable[[], object]) -> str:
    """Median wall and CPU time of some calls."""
    walls, cpus = [], []
    for _ in range(TIMES):
        wall, cpu = time.monotonic(), time.process_time()
        call()
        walls.append(time.monotonic() - wall)
        cpus.append(time.process_time() - cpu)
    return f"{statistics.median(walls):.3f} s, {statistics.median(cpus):.3f} s of CPU"


def make(layout: Layout) -> str:
    """A cohort as large as the figures above; the name of its newest run."""
    replace_all(layout, {"snapshots/s/studies.parquet": parquet_bytes(studies())})
    outcome = {"published": "2026-11-28T05:00:00+00:00", "rows": {"studies": STUDIES}}
    replace_all(layout, {"snapshots/s/provenance.json": json.dumps(outcome).encode()})
    replace_all(layout, {"latest.json": json.dumps({"snapshot": "s", "content": "", "rows": {}}).encode()})
    names = [f"2026{1 + day // 31:02d}{1 + day % 31:02d}T210000-0000" for day in range(NIGHTS)]
    make_folders(layout, [f"logs/{name}" for name in names])
    begin_record(layout, names[0])
    more = {"left": 0, "new": {"ok": 900}, "kind": "screen", "settings": {f"section.key{i}": i for i in range(90)}}
    add_to_record(layout, names[0], ended="2026-11-28T05:00:00+00:00", **more)
    record = json.loads(layout.run_record(names[0]).read_text())
    replace_all(
        layout, {f"logs/{name}/run.json": json.dumps({**record, "run": name}, indent=1).encode() for name in names}
    )
    replace_all(layout, {f"logs/{names[-1]}/shard-{n:05d}.jsonl": shard_lines(n) for n in range(SHARDS)})
    return names[-1]


def studies() -> pa.Table:
    """One row per study, with what most columns hold left empty."""
    schema, rng = arrow_schema("studies"), np.random.default_rng(0)
    status = rng.choice(["ok", "partial", "not_evaluable", "failed"], STUDIES, p=[0.7, 0.1, 0.19, 0.01])
    reason = np.where(status == "not_evaluable", rng.choice(REASONS, STUDIES), "failed")
    known = {
        "study_key": pa.array([f"st{number:020x}" for number in range(STUDIES)]),
        "status": pa.array(status, pa.string()),
        "reason": pa.array(np.where(status == "ok", None, reason), pa.string()),
    }
    columns = [known.get(field.name, pa.nulls(STUDIES, field.type)) for field in schema]
    return pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in schema]))


def shard_lines(number: int) -> bytes:
    """The log of a shard of 50 studies."""
    size, when = STUDIES // SHARDS, {"time": "2026-11-28T05:00:00+00:00"}
    keys = [f"st{number * size + i:020x}" for i in range(size)]
    ended = {"status": "ok", "reason": None, "seconds": 20.0, "by_stage": {"read": 3.0, "curve": 2.0}, "device": "cpu"}
    shard = f"{number:05d}"
    lines = [
        {"event": "shard_started", "shard": shard, "studies": size, "worker": "here:1"},
        *({"event": "study_done", "study_key": key, **ended} for key in keys),
        {"event": "shard_committed", "shard": shard, "by_status": {"ok": size}, "seconds": 1e3, "is_first": True},
    ]
    return "".join(json.dumps({**when, **line}) + "\n" for line in lines).encode()


def make_folders(layout: Layout, names: list[str]) -> None:
    """Folders; a store has none."""
    for name in names:
        (layout.root / name).mkdir(parents=True, exist_ok=True)


def replace_all(layout: Layout, files: dict[str, bytes]) -> None:
    """Write files, many at a time."""
    for name in files:
        (layout.root / name).parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: replace(layout.root / name, files[name]), files))


if __name__ == "__main__":
    main(*sys.argv[1:])
