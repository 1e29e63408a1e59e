"""A shard whose worker died: closed for good, parted at the study it was at, and nobody blamed who had not begun."""

import pyarrow as pa
import pytest
from made_studies import SERIES
from test_cohort_ledger import IDENTITY

from tasks.log import shard_log
from tasks.loss import attempts_at, cut_at, first_name, give_up, part, put_back
from tasks.plan import FannedOut, Shard, StudyOrder, read_shard, write_shard
from tasks.settings import RunSettings
from tasks.shard import RESULT_TABLES, committed_tables
from tasks.study import ended, rows_of
from tasks.until import ClosingTime
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import commit_shard, committed
from vertebra_core.errors import Reason
from vertebra_core.settings import Settings
from vertebra_core.tables.outcome import Status

RUN = "20261128T210409-a3f1"


def shard_of(name: str, *keys: str, is_index: bool = True) -> Shard:
    orders = tuple(StudyOrder(key, f"pt-{key}", f"se-{key}", "digest", SERIES, is_index) for key in keys)
    return Shard(RUN, name, orders, "method", IDENTITY, Settings(), RunSettings())


def tables_of(shard: Shard) -> dict[str, pa.Table]:
    """What a worker would commit."""
    rows: dict[str, list] = {table: [] for table in RESULT_TABLES}
    for order in shard.studies:
        for table, more in rows_of(ended(order, shard, Status.NOT_EVALUABLE, Reason.NO_SPINE, ""), shard).items():
            rows[table] += more
    return committed_tables(shard.name, rows)


@pytest.mark.parametrize(
    ("at", "pieces"),
    [
        ("b", ["a", "b", "cde"]),
        ("a", ["", "a", "bcde"]),
        ("e", ["abcd", "e", ""]),
        (None, ["abc", "de"]),
        ("z", ["abc", "de"]),
    ],
)
def test_a_shard_is_cut_at_the_study_it_was_at_and_in_halves_where_none_is_known(at, pieces):
    cut = cut_at(shard_of("00000", *"abcde").studies, at)
    assert ["".join(order.key for order in piece) for piece in cut] == pieces


def test_parts_are_named_after_their_parent_and_hold_its_studies(tmp_path):
    layout = Layout(tmp_path)
    write_shard(layout, shard_of("00012", *"abcde"))
    assert part(layout, RUN, "00012", "b") == ["00012a", "00012b", "00012c"]
    assert part(layout, RUN, "00012c", "c") == ["00012ca", "00012cb"]  # nothing lies before it
    held = {name: [order.key for order in read_shard(layout, RUN, name).studies] for name in ("00012ca", "00012cb")}
    assert held == {"00012ca": ["c"], "00012cb": ["d", "e"]}
    assert {first_name(name) for name in ("00012", "00012ca")} == {"00012"}
    assert first_name("other-00003b") == "other-00003"


def test_parent_and_parts_are_never_both_committed_whoever_comes_first(tmp_path):
    layout, parent = Layout(tmp_path), shard_of("00000", *"abc")
    write_shard(layout, parent)
    assert part(layout, RUN, "00000", None) == ["00000a", "00000b"]
    assert not commit_shard(layout, RUN, "00000", tables_of(parent))  # the straggler comes too late
    assert committed(layout).num_rows == 0

    other = shard_of("00001", *"abc")
    write_shard(layout, other)
    assert commit_shard(layout, RUN, "00001", tables_of(other))
    assert part(layout, RUN, "00001", None) == []  # it came first: there is nothing to part
    assert committed(layout)["study_key"].to_pylist() == ["a", "b", "c"]


def test_what_the_log_says_of_each_attempt(tmp_path):
    layout = Layout(tmp_path)
    log = shard_log(layout, RUN, "00000")
    shard_log(layout, RUN, "00000a")("shard_started", shard="00000a", studies=1, worker="here:1")  # another shard
    log("shard_started", shard="00000", studies=2, worker="here:1")
    log("study_started", study_key="st1")
    log("study_done", study_key="st1", status="ok")
    log("study_started", study_key="st1", series_key="se2")
    log("shard_started", shard="00000", studies=2, worker="here:2")
    log("shard_started", shard="00000", studies=2, worker="here:3")
    log("study_started", study_key="st1")
    log("shard_given_back", shard="00000", error="CouldNotRun")
    first, second, third = attempts_at(layout, RUN, "00000")
    assert (first.at, first.begun, first.killed_a_worker) == ("se2", 2, True)
    assert (second.at, second.killed_a_worker) == (None, False)  # nothing had begun
    assert (third.at, third.killed_a_worker) == ("st1", False)  # it said itself that it stops
    assert attempts_at(layout, RUN, "00001") == []


@pytest.mark.parametrize(("name", "is_index"), [("00000", True), ("other-00000", False)])
def test_a_study_is_given_up_once_and_not_if_it_has_a_row(tmp_path, name, is_index):
    layout, shard = Layout(tmp_path), shard_of(name, "a", is_index=is_index)
    assert give_up(layout, RUN, shard, 2)
    assert not give_up(layout, RUN, shard, 2)
    assert committed(layout)["reason"].to_pylist() == (["worker_died"] if is_index else [])
    straggler = shard_of("00001", "b")
    assert commit_shard(layout, RUN, "00001", tables_of(straggler))
    assert not give_up(layout, RUN, straggler, 2)


def test_what_is_left_is_put_back_at_the_hour_and_lost_before(tmp_path):
    left = ["00003ca", "00003cb", "00001"]
    assert put_back(left, ClosingTime(0.0, "06:00")) == FannedOut(("00001", "00003"), "stopped at 06:00")
    assert put_back([], ClosingTime(0.0, "06:00")) == FannedOut()
    assert put_back(left, ClosingTime()) == FannedOut()
