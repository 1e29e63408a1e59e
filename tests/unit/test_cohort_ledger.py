"""What is committed, what a snapshot shows of it, and who may write."""

import json
import multiprocessing
import os
import stat
import time
from concurrent.futures import ProcessPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_studies import NORMAL, SERIES, WEDGE, column, outcome_of, result_of

from vertebra_core.cohort import lock as locking
from vertebra_core.cohort.commit import TEMPORARY, create, parquet_bytes, replace
from vertebra_core.cohort.identity import Pseudonyms, keys_of
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import (
    MethodIdentity,
    commit_shard,
    committed,
    done_inputs,
    is_committed,
    marks,
    read_companion,
)
from vertebra_core.cohort.links import link_table, merge_links, read_links
from vertebra_core.cohort.lock import LEASE_SECONDS, Owner, release_lock, renew_lock, take_lock, this_process
from vertebra_core.cohort.snapshot import latest_snapshot, publish
from vertebra_core.errors import CouldNotRun, Reason, WrongUse
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.outcome import Provenance
from vertebra_core.tables.rows import outcome_rows, to_arrow
from vertebra_core.tables.schema import SCHEMA_VERSION

IDENTITY = MethodIdentity("model-1", "settings-1", SCHEMA_VERSION)
OTHER = MethodIdentity("model-1", "settings-2", SCHEMA_VERSION)
TABLES = ("vertebrae", "studies", "levels_in_view")


def shard_tables(*studies: tuple[str, str, list | Reason], identity: MethodIdentity = IDENTITY) -> dict[str, pa.Table]:
    """Tables of studies (study key, input digest, heights or reason)."""
    rows: dict[str, list] = {name: [] for name in TABLES}
    for key, digest, end in studies:
        refused = isinstance(end, Reason)
        outcome = outcome_of(
            key, f"pt-{key}", None if refused else result_of(column(end)), end if refused else None, SERIES
        )
        provenance = Provenance(digest, identity.model_digest, identity.settings_digest, SCHEMA_VERSION, "0")
        object.__setattr__(outcome, "provenance", provenance)
        for name, more in outcome_rows(outcome, GradingSettings()).items():
            rows[name] += more
    return {name: to_arrow(name, rows[name]) for name in TABLES}


# -- commit -------------------------------------------------------------------------------------------------------


def test_a_file_is_created_once(tmp_path):
    path = tmp_path / "deep" / "file"
    assert create(path, b"first")
    assert not create(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["file"]


def test_a_file_is_replaced_whole(tmp_path):
    replace(tmp_path / "file", b"first", mode=0o600)
    replace(tmp_path / "file", b"second", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"second"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def racers(number: int) -> ProcessPoolExecutor:
    """Processes started afresh: a fork of a test process with threads (Prefect, Arrow) may inherit a held lock."""
    return ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))


def _race(arguments) -> bool:
    path, number, start = arguments
    time.sleep(max(0.0, start - time.time()))
    return create(path, bytes([number]) * 100_000)


def test_of_racing_processes_exactly_one_creates(tmp_path):
    """The loser's bytes are nowhere to be seen, and nobody sees half of the winner's."""
    with racers(4) as pool:
        list(pool.map(time.sleep, [1.0] * 4))  # all are up before the first race
        for round_ in range(5):
            path, start = tmp_path / f"file{round_}", time.time() + 0.1
            won = list(pool.map(_race, [(path, number, start) for number in range(8)]))
            assert sum(won) == 1
            assert path.read_bytes() == bytes([won.index(True)]) * 100_000
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


# -- ledger -------------------------------------------------------------------------------------------------------


def test_a_shard_is_committed_once(tmp_path):
    layout = Layout(tmp_path)
    assert not is_committed(layout, "run", "0")
    assert commit_shard(layout, "run", "0", shard_tables(("st1", "a", [NORMAL, WEDGE])))
    assert not commit_shard(layout, "run", "0", shard_tables(("st1", "a", [NORMAL])))
    assert is_committed(layout, "run", "0")
    (mark,) = marks(layout)
    assert read_companion(layout, mark, "vertebrae").num_rows == 2


def test_without_its_mark_a_shard_is_not_there(tmp_path):
    """Killed between the first file and the mark: what was written is not believed."""
    layout = Layout(tmp_path)
    commit_shard(layout, "run", "0", shard_tables(("st1", "a", [NORMAL])))
    layout.mark("run", "0").unlink()
    assert committed(layout).num_rows == 0
    commit_shard(layout, "run", "0", shard_tables(("st1", "a", [NORMAL, WEDGE])))
    (mark,) = marks(layout)
    assert read_companion(layout, mark, "vertebrae").num_rows == 2


def test_an_equal_identity_is_done_and_any_other_is_due(tmp_path):
    layout = Layout(tmp_path)
    commit_shard(layout, "run", "0", shard_tables(("st1", "a", [NORMAL]), ("st2", "b", Reason.NO_SPINE)))
    ledger = committed(layout)
    assert done_inputs(ledger, IDENTITY) == {("st1", "a"), ("st2", "b")}
    assert done_inputs(ledger, OTHER) == set()
    assert done_inputs(ledger, MethodIdentity("model-1", "settings-1", "another schema")) == set()


def test_a_damaged_file_is_one_clear_error(tmp_path):
    layout = Layout(tmp_path)
    commit_shard(layout, "run", "0", shard_tables(("st1", "a", [NORMAL])))
    layout.mark("run", "0").write_bytes(b"not parquet")
    with pytest.raises(CouldNotRun, match=r"0\.studies\.parquet: damaged"):
        committed(layout)


def test_every_file_of_a_table_has_the_same_schema(tmp_path):
    """Case T1: a shard of refusals only, read with one plain glob."""
    layout = Layout(tmp_path)
    commit_shard(layout, "run", "0", shard_tables(("st1", "a", Reason.NO_SPINE)))
    commit_shard(layout, "run", "1", shard_tables(("st2", "b", [NORMAL])))
    for table in TABLES:
        files = sorted((tmp_path / "results").glob(f"*/*.{table}.parquet"))
        assert len(files) == 2
        assert pq.read_schema(files[0]).equals(pq.read_schema(files[1]))
    query = f"SELECT count(*) FROM '{tmp_path}/results/*/*.vertebrae.parquet'"
    assert duckdb.sql(query).fetchall() == [(1,)]


# -- snapshot -----------------------------------------------------------------------------------------------------


def published(layout: Layout, table: str) -> list[dict]:
    return pq.read_table(latest_snapshot(layout) / f"{table}.parquet").to_pylist()


def test_a_snapshot_holds_one_result_per_study(tmp_path):
    """Case T5: run twice, with changed settings in between, then back."""
    layout = Layout(tmp_path)
    commit_shard(layout, "run1", "0", shard_tables(("st1", "a", [NORMAL]), ("st2", "b", [NORMAL, WEDGE])))
    commit_shard(layout, "run2", "0", shard_tables(("st1", "a", [WEDGE, WEDGE]), identity=OTHER))
    commit_shard(layout, "run3", "0", shard_tables(("st1", "a", [NORMAL, NORMAL, NORMAL])))
    snapshot = publish(layout, "one", IDENTITY, {}, {})
    assert snapshot.rows == {
        "studies": 2,
        "vertebrae": 5,
        "patients": 2,
        "levels_in_view": 0,
        "other_series": 0,
        "other_vertebrae": 0,
    }
    keys = [(row["study_key"], row["vertebra_index"]) for row in published(layout, "vertebrae")]
    assert len(set(keys)) == len(keys)
    assert {row["settings_digest"] for row in published(layout, "studies")} == {"settings-1"}


def test_the_result_of_the_present_input_counts_not_the_newest(tmp_path):
    """A study that changed and was put back: its first result is current again."""
    layout = Layout(tmp_path)
    commit_shard(layout, "run1", "0", shard_tables(("st1", "old", [NORMAL])))
    commit_shard(layout, "run2", "0", shard_tables(("st1", "new", [NORMAL, NORMAL])))
    assert publish(layout, "one", IDENTITY, {"st1": "old"}, {}).rows["vertebrae"] == 1
    assert publish(layout, "two", IDENTITY, {"st1": "new"}, {}).rows["vertebrae"] == 2
    assert publish(layout, "three", IDENTITY, {}, {}).rows["vertebrae"] == 2
    assert publish(layout, "four", IDENTITY, {"st1": "not measured yet"}, {}).rows["studies"] == 0


def test_an_empty_cohort_has_a_snapshot_with_the_full_schema(tmp_path):
    layout = Layout(tmp_path)
    snapshot = publish(layout, "one", IDENTITY, {}, {})
    assert set(snapshot.rows.values()) == {0}
    assert "ha_mm" in pq.read_schema(snapshot.folder / "vertebrae.parquet").names


def test_an_unchanged_cohort_is_not_published_again(tmp_path):
    layout = Layout(tmp_path)
    commit_shard(layout, "run1", "0", shard_tables(("st1", "a", [NORMAL])))
    first = publish(layout, "one", IDENTITY, {}, {})
    again = publish(layout, "two", IDENTITY, {}, {})
    assert (first.is_new, again.is_new, again.folder) == (True, False, first.folder)


def test_other_bounds_grade_all_rows_anew(tmp_path):
    """Rows were written with WEDGE (G = 0.72) moderate; under stricter bounds it is severe, in every table."""
    layout = Layout(tmp_path)
    commit_shard(layout, "run1", "0", shard_tables(("st1", "a", [NORMAL, WEDGE]), ("st2", "b", Reason.NO_SPINE)))
    publish(layout, "one", IDENTITY, {}, {})
    before = published(layout, "studies")
    regraded = publish(layout, "two", IDENTITY, {}, {}, GradingSettings(mild=0.9, moderate=0.8, severe=0.75))
    assert regraded.is_new
    assert [row["grade"] for row in published(layout, "vertebrae")] == ["normal", "severe"]
    assert [row["worst_grade"] for row in published(layout, "studies")] == ["severe", None]
    assert [row["spinal_deformity_index"] for row in before] == [2, None]
    assert [row["spinal_deformity_index"] for row in published(layout, "studies")] == [3, None]
    assert {row["worst_grade"] for row in published(layout, "patients")} == {"severe", None}
    provenance = json.loads((regraded.folder / "provenance.json").read_text())
    assert provenance["grading"] == {"mild": 0.9, "moderate": 0.8, "severe": 0.75}


def test_a_half_written_snapshot_is_never_the_latest(tmp_path):
    layout = Layout(tmp_path)
    commit_shard(layout, "run1", "0", shard_tables(("st1", "a", [NORMAL])))
    first = publish(layout, "one", IDENTITY, {}, {})
    left = layout.snapshots / f"{TEMPORARY}dead"
    left.mkdir()
    (left / "vertebrae.parquet").write_bytes(b"half")
    assert latest_snapshot(layout) == first.folder
    commit_shard(layout, "run2", "0", shard_tables(("st2", "a", [NORMAL])))
    assert publish(layout, "two", IDENTITY, {}, {}).is_new
    assert not left.exists()


def test_nothing_published_yet_is_said_plainly(tmp_path):
    with pytest.raises(WrongUse, match="nothing published yet"):
        latest_snapshot(Layout(tmp_path))


def test_many_shards_become_few_files(tmp_path):
    """Case T8: analysts read six tables, however many nights there were."""
    layout = Layout(tmp_path)
    for night in range(5):
        commit_shard(layout, f"run{night:02d}", "0", shard_tables((f"st{night}", "a", [NORMAL])))
    snapshot = publish(layout, "one", IDENTITY, {}, {})
    assert len(list(snapshot.folder.iterdir())) == 8
    assert pq.read_metadata(snapshot.folder / "vertebrae.parquet").num_row_groups == 1


# -- links --------------------------------------------------------------------------------------------------------


def test_links_are_merged_and_private(tmp_path):
    layout = Layout(tmp_path)
    pseudonyms = Pseudonyms(b"secret")
    for number, path in ((1, "a"), (2, "b"), (1, "moved")):
        series = SERIES.__class__(**{**vars(SERIES), "study_uid": f"1.2.{number}", "series_uid": f"1.3.{number}"})
        object.__setattr__(series, "path", path)
        merge_links(layout, link_table([series], keys_of([series], pseudonyms)))
    assert sorted(read_links(layout)["path"].to_pylist()) == ["b", "moved"]
    assert stat.S_IMODE(layout.links.stat().st_mode) == 0o600


def test_a_file_name_that_is_no_text_is_kept_as_escapes(tmp_path):
    layout = Layout(tmp_path)
    series = SERIES.__class__(**{**vars(SERIES), "path": "scan\udcff"})
    merge_links(layout, link_table([series], keys_of([series], Pseudonyms(b"secret"))))
    assert read_links(layout)["path"].to_pylist() == ["scan\\udcff"]


# -- lock ---------------------------------------------------------------------------------------------------------


def write_owner(layout: Layout, owner: Owner, renewed: float) -> None:
    document = {"run": "other", "owner": vars(owner), "renewed": renewed}
    layout.lock.write_text(json.dumps(document))


def test_a_living_owner_is_respected(tmp_path):
    layout = Layout(tmp_path)
    assert take_lock(layout, "mine", 0.0) is None
    with pytest.raises(CouldNotRun, match="run mine is at work"):
        take_lock(layout, "second", 1e9)
    release_lock(layout, "mine")
    assert take_lock(layout, "second", 0.0) is None


def test_a_dead_owner_on_this_host_is_taken_over_at_once(tmp_path):
    layout, me = Layout(tmp_path), this_process()
    child = multiprocessing.get_context("spawn").Process(target=print)
    child.start()
    owner = Owner(me.host, me.boot, child.pid, time.time())
    child.join()
    write_owner(layout, owner, renewed=100.0)
    assert take_lock(layout, "mine", 100.0) == owner
    assert json.loads(layout.lock.read_text())["run"] == "mine"


def test_a_process_number_given_to_another_is_a_dead_owner(tmp_path):
    me = this_process()
    layout, reused = Layout(tmp_path), Owner(me.host, me.boot, me.pid, me.started - 3600)
    write_owner(layout, reused, renewed=100.0)
    assert take_lock(layout, "mine", 100.0) == reused


def test_an_owner_of_before_the_reboot_is_dead(tmp_path):
    me = this_process()
    layout, before = Layout(tmp_path), Owner(me.host, "another-boot/pid", me.pid, me.started)
    write_owner(layout, before, renewed=100.0)
    assert take_lock(layout, "mine", 100.0) == before


@pytest.mark.parametrize("elsewhere", ["host", "container"])
def test_an_owner_that_cannot_be_seen_keeps_its_lease(tmp_path, elsewhere):
    layout, me = Layout(tmp_path), this_process()
    host, boot = ("elsewhere", "b") if elsewhere == "host" else (me.host, me.boot.split("/")[0] + "/pid:[1]")
    owner = Owner(host, boot, 1, 0.0)
    write_owner(layout, owner, renewed=100.0)
    with pytest.raises(CouldNotRun, match=f"its lock ends in {LEASE_SECONDS - 1:.0f} s"):
        take_lock(layout, "mine", 101.0)
    assert take_lock(layout, "mine", 100.0 + LEASE_SECONDS) == owner


def test_a_renewed_lease_lasts_longer(tmp_path, monkeypatch):
    layout, me = Layout(tmp_path), this_process()
    take_lock(layout, "mine", 0.0)
    renew_lock(layout, "mine", 500.0)
    monkeypatch.setattr(locking, "this_process", lambda: Owner("elsewhere", me.boot, 1, 0.0))
    with pytest.raises(CouldNotRun):
        take_lock(layout, "other", 500.0 + LEASE_SECONDS - 1)
    take_lock(layout, "other", 500.0 + LEASE_SECONDS)


def test_who_lost_the_lock_is_told_and_does_not_release_the_other(tmp_path):
    layout = Layout(tmp_path)
    write_owner(layout, Owner("elsewhere", "b", 1, 0.0), renewed=0.0)
    with pytest.raises(CouldNotRun, match="taken over"):
        renew_lock(layout, "mine", 1.0)
    release_lock(layout, "mine")
    assert layout.lock.exists()


def _take(arguments) -> bool:
    root, start = arguments
    time.sleep(max(0.0, start - time.time()))
    try:
        take_lock(Layout(root), "racer", time.time())
    except CouldNotRun:
        return False
    time.sleep(0.5)  # alive while the others try
    return True


def test_of_racers_for_a_dead_lock_one_gets_it(tmp_path):
    me = this_process()
    write_owner(Layout(tmp_path), Owner(me.host, me.boot, 2**22 - 7, 1.0), renewed=0.0)
    with racers(4) as pool:
        list(pool.map(time.sleep, [1.0] * 4))
        start = time.time() + 0.2
        assert sum(pool.map(_take, [(tmp_path, start)] * 4)) == 1


def test_parquet_bytes_keep_the_schema_free_of_file_metadata():
    plain, marked = parquet_bytes(pa.table({"a": [1]})), parquet_bytes(pa.table({"a": [1]}), {"k": "v"})
    first, second = (pq.read_table(pa.BufferReader(data)).schema for data in (plain, marked))
    assert first.equals(second)
