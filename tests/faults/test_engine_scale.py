"""Thousands of studies are not thousands of tasks (case O5), at a size that a test can afford.

The same with 1,000 to 100,000 studies is ``make bench-engine`` (docs/engine.md).
"""

import time

import pytest

from benchmarks.engine import measure, server_figures

STUDIES, SHARD = 120, 20
SAME_MB = 60
"""What the flow may grow by while shards are done, MB: less than a half of what Prefect's client alone takes."""

RECORDED_SECONDS = 120.0


@pytest.fixture(scope="module")
def figures(tmp_path_factory, prefect_server) -> dict:
    """A run on Dask with the server of the session; what the server counted before and after."""
    before = server_figures()
    found = measure(tmp_path_factory.mktemp("scale"), STUDIES, "benchmarks.engine:stub", 2, SHARD, pilot=False)
    deadline = time.monotonic() + RECORDED_SECONDS
    while (after := server_figures())["task_runs"] < before["task_runs"] + found["shards"]:
        assert time.monotonic() < deadline, after  # the server records task runs in batches, a little later
        time.sleep(0.5)
    return {**found, "task_runs": after["task_runs"] - before["task_runs"], "locked": after["database_is_locked"]}


def test_every_study_is_measured_and_published(figures):
    assert figures["settled"] == {"ok": STUDIES}
    assert figures["studies_published"] == STUDIES


def test_task_runs_grow_with_shards_and_not_with_studies(figures):
    assert figures["shards"] == STUDIES / SHARD
    assert figures["task_runs"] == figures["shards"]


def test_the_database_of_the_server_is_never_locked(figures):
    assert figures["locked"] == 0


def test_the_memory_of_the_flow_stays_flat_while_shards_are_done(figures):
    later = figures["flow_rss_mb"][5:]
    assert max(later) - min(later) < SAME_MB
