"""How long a cohort takes to be written and read: ``python -m benchmarks.cohort_storage COHORT PLACE...``.

Takes the tables of one committed shard of a cohort, with new study keys, and commits them as the shards of a new
cohort at every place; then publishes, publishes again what has not changed, and reads. What is written is removed.
The first place is warmed up before it is timed; the times of a place are those of this machine and its network.
"""

import statistics
import sys
import time
from collections.abc import Callable

import pyarrow as pa

from flows.places import cohort_place
from vertebra_core.cohort.commit import remove_folder
from vertebra_core.cohort.layout import MARK_TABLE, Layout, open_layout
from vertebra_core.cohort.ledger import MethodIdentity, commit_shard, committed, marks, read_companion, read_mark
from vertebra_core.cohort.lock import release_lock, renew_lock, take_lock
from vertebra_core.cohort.snapshot import publish
from vertebra_core.tables.parquet import read_table

SHARDS = 20
RUN = "20260101T000000-be"
COMPANIONS = ("vertebrae", "levels_in_view")


def main(source: str, *places: str) -> None:
    """Print a line of figures for each place."""
    tables, identity = one_shard(open_layout(source))
    counts = ", ".join(f"{table.num_rows} {name}" for name, table in tables.items())
    print(f"{SHARDS} shards, each of {counts}")
    for place in places:
        layout = Layout(cohort_place(place) / f"benchmark-{time.time_ns()}")
        try:
            measure(layout, tables, identity)
        finally:
            remove_folder(layout.root)


def one_shard(layout: Layout) -> tuple[dict[str, pa.Table], MethodIdentity]:
    """The tables of the largest committed shard."""
    mark = max(marks(layout), key=lambda mark: read_mark(mark, ["study_key"]).num_rows)
    studies = read_mark(mark)
    identity = MethodIdentity(
        *(studies[name][0].as_py() for name in ("model_digest", "settings_digest", "schema_version"))
    )
    return {MARK_TABLE: studies} | {name: read_companion(layout, mark, name) for name in COMPANIONS}, identity


def renamed(tables: dict[str, pa.Table], number: int) -> dict[str, pa.Table]:
    """The same with other study keys."""

    def other(table: pa.Table) -> pa.Table:
        keys = pa.array([f"{key}n{number}" for key in table["study_key"].to_pylist()], pa.string())
        return table.set_column(table.schema.get_field_index("study_key"), table.schema.field("study_key"), keys)

    return {name: other(table) for name, table in tables.items()}


def measure(layout: Layout, tables: dict[str, pa.Table], identity: MethodIdentity) -> None:
    """Time every step at one place."""
    take_lock(layout, "warm-up", time.time())
    release_lock(layout, "warm-up")
    shards = [renamed(tables, number) for number in range(SHARDS)]
    commits = [
        seconds(lambda n=n, shard=shard: commit_shard(layout, RUN, f"{n:05d}", shard)) for n, shard in enumerate(shards)
    ]
    locks = [
        seconds(lambda: take_lock(layout, RUN, time.time())),
        seconds(lambda: renew_lock(layout, RUN, time.time())),
        seconds(lambda: release_lock(layout, RUN)),
    ]
    ledger = seconds(lambda: committed(layout))
    published = seconds(lambda: publish(layout, RUN, identity, {}, {}))
    again = seconds(lambda: publish(layout, RUN, identity, {}, {}))
    read = seconds(lambda: read_table(layout.snapshot(RUN) / "vertebrae.parquet"))
    take, renew, release = (f"{lock * 1e3:.0f}" for lock in locks)
    print(layout.root.parent)
    print(f"  commit of a shard   median {statistics.median(commits) * 1e3:.0f}, longest {max(commits) * 1e3:.0f} ms")
    print(f"  lock                take {take}, renew {renew}, release {release} ms")
    print(f"  ledger              {ledger * 1e3:.0f} ms")
    print(f"  publish             {published * 1e3:.0f} ms; unchanged {again * 1e3:.0f} ms")
    print(f"  read of vertebrae   {read * 1e3:.0f} ms", flush=True)


def seconds(act: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
