"""From orders to shards to the count: what is kept of a plan, what is missing at its end, how long studies take."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from engine_archive import write_study
from made_studies import IDENTITY

from flows.screen import screen_archives
from flows.settings import load_settings
from tasks.inventory import take_inventory
from tasks.pace import FEWEST_STUDIES, SECONDS_PER_SLICE, seconds_per_slice
from tasks.plan import FannedOut, Plan, Shard, order_studies, plan_shards, read_shard
from tasks.publish import hand_out, settle
from tasks.settings import RunSettings
from tasks.shard import RESULT_TABLES
from tasks.study import ended, rows_of
from vertebra_core.cohort.identity import Pseudonyms, keys_of
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import commit_shard
from vertebra_core.errors import CouldNotRun, Reason
from vertebra_core.settings import ReadingSettings, Settings
from vertebra_core.tables.outcome import Status
from vertebra_core.tables.rows import to_arrow

RUN = "20240101T000000-aa"


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> tuple:
    """Five studies to be measured and one that is refused."""
    root = tmp_path_factory.mktemp("archive")
    for number in range(5):
        write_study(root / f"s{number}", f"P{number}", n_slices=16)
    write_study(root / "short", "P9", n_slices=2)
    return take_inventory([root], ReadingSettings()).series


def planned(layout: Layout, series: tuple, size: int = 2) -> tuple[Plan, list[Shard]]:
    orders = order_studies(series, keys_of(series, Pseudonyms(b"a secret of this test")))
    written: list[Shard] = []

    def take(shard: Shard) -> None:
        written.append(shard)
        hand_out(layout, shard)

    how = "engine_methods:marked", IDENTITY, Settings(), RunSettings(workers=1, shard_size=size)
    return plan_shards(RUN, orders, set(), *how, hand_out=take), written


def commit(layout: Layout, shard: Shard, name: str | None = None) -> None:
    """Commit a shard in which every study failed."""
    rows = {table: [] for table in RESULT_TABLES}
    for order in shard.studies:
        for table, more in rows_of(ended(order, shard, Status.FAILED, Reason.FAILED, ""), shard).items():
            rows[table] += more
    commit_shard(layout, RUN, name or shard.name, {table: to_arrow(table, rows[table]) for table in RESULT_TABLES})


def test_a_plan_keeps_keys_and_its_shards_hold_everything_else(tmp_path, series):
    plan, written = planned(Layout(tmp_path), series)
    assert [(shard.name, len(shard.keys)) for shard in (*plan.refused, *plan.shards)] == [
        ("refused-00000", 1),
        ("00000", 2),
        ("00001", 2),
        ("00002", 1),
    ]
    assert (plan.n_due, plan.n_refused, plan.n_to_measure, plan.n_others) == (6, 1, 5, 0)
    assert sorted(plan.current) == sorted(key for shard in (*plan.refused, *plan.shards) for key in shard.keys)
    assert [read_shard(Layout(tmp_path), RUN, shard.name) for shard in written[1:]] == written[1:]
    assert [len(order.series.files) for shard in written for order in shard.studies] == [0, 16, 16, 16, 16, 16]
    assert not any(one.path in repr(plan) or one.series_uid in repr(plan) for one in series)


def test_shards_on_disk_are_for_their_owner_only(tmp_path, series):
    planned(Layout(tmp_path), series)
    files = [path for path in (tmp_path / "private").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "private", *files))


def settled(layout: Layout, plan: Plan, *left: str):
    return settle(layout, plan, IDENTITY, FannedOut(left, "the night is over" if left else ""))


def test_studies_of_shards_that_were_put_back_are_left_and_the_counts_add_up(tmp_path, series):
    layout = Layout(tmp_path)
    plan, written = planned(layout, series)
    commit(layout, written[1])
    stands = settled(layout, plan, "00001", "00002")
    assert (stands.seen, stands.measured, stands.refused, stands.failed, stands.left) == (6, 0, 1, 2, 3)
    assert stands.left_why == "the night is over"


def test_missing_shards_are_named_and_nothing_is_said_to_be_settled(tmp_path, series):
    layout = Layout(tmp_path)
    plan, written = planned(layout, series)
    commit(layout, written[1])
    with pytest.raises(CouldNotRun, match=r"1 of 3 shards are missing \(00002\): nothing was published"):
        settled(layout, plan, "00001")
    (line,) = (layout.logs(RUN) / "run.jsonl").read_text().splitlines()
    assert (json.loads(line)["event"], json.loads(line)["shards"]) == ("shards_missing", ["00002"])


def test_a_shard_that_was_committed_in_parts_is_not_missing(tmp_path, series):
    layout = Layout(tmp_path)
    plan, written = planned(layout, series, size=5)
    whole = written[1]
    commit(layout, replace(whole, studies=whole.studies[:2]), "00000.0")
    with pytest.raises(CouldNotRun, match="shards are missing"):
        settled(layout, plan)
    commit(layout, replace(whole, studies=whole.studies[2:]), "00000.1")
    assert settled(layout, plan).failed == 5


def test_a_run_with_a_missing_shard_publishes_nothing_and_the_next_one_does(tmp_path, series, monkeypatch):
    root = Path(series[0].archive)
    settings = load_settings(flags={"run.workers": 1, "run.shard_size": 3, "run.pictures": False})

    def screen():
        return screen_archives([root], tmp_path / "cohort", settings, "loop", "engine_methods:marked", say=str)

    def lose_the_last(layout, run, shards, settings):
        return honest(layout, run, shards[:-1], settings)

    from flows.loop import run_in_a_loop as honest

    with monkeypatch.context() as patch:
        patch.setattr("flows.screen.run_in_a_loop", lose_the_last)
        with pytest.raises(CouldNotRun, match=r"1 of 2 shards are missing \(00001\)"):
            screen()
    assert not (tmp_path / "cohort" / "latest.json").exists()
    night = screen()
    assert (night.due, night.settled.measured, night.settled.left) == (2, 5, 0)


def test_the_pace_is_the_median_of_what_this_method_measured_last(tmp_path, series):
    layout = Layout(tmp_path)
    assert seconds_per_slice(layout, IDENTITY) == SECONDS_PER_SLICE
    _, written = planned(layout, series, size=5)
    (shard,) = (one for one in written if one.name == "00000")
    rows = {table: [] for table in RESULT_TABLES}
    for number, order in enumerate(shard.studies):
        outcome = replace(ended(order, shard, Status.FAILED, Reason.FAILED, ""), seconds={"read": 1.6 * (number + 1)})
        rows["studies"] += rows_of(outcome, shard)["studies"]
    commit_shard(layout, RUN, "00000", {table: to_arrow(table, rows[table]) for table in RESULT_TABLES})
    assert len(rows["studies"]) == FEWEST_STUDIES
    assert seconds_per_slice(layout, IDENTITY) == pytest.approx(0.3)  # 4.8 s of 16 slices
    assert seconds_per_slice(layout, replace(IDENTITY, model_digest="another")) == SECONDS_PER_SLICE
