"""What was committed and then changed is never counted: every bit is watched, and the shard is set aside."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_studies import NORMAL
from test_cohort_ledger import IDENTITY, shard_tables

from vertebra_core.cohort.commit import parquet_bytes, replace
from vertebra_core.cohort.layout import Layout, run_name
from vertebra_core.cohort.ledger import (
    DamagedShard,
    commit_shard,
    committed,
    done_inputs,
    marks,
    read_companion,
    set_damaged_aside,
)
from vertebra_core.cohort.links import SCHEMA, read_links
from vertebra_core.cohort.seal import SEAL, is_broken
from vertebra_core.errors import CouldNotRun

RUN = "20240101T000000-aa"


def two_shards(root) -> Layout:
    layout = Layout(root)
    commit_shard(layout, RUN, "0", shard_tables(("st1", "a", [NORMAL])))
    commit_shard(layout, RUN, "1", shard_tables(("st2", "b", [NORMAL, NORMAL])))
    return layout


def files(layout: Layout, shard: str) -> dict:
    return {path.name.split(".")[-2]: path for path in (layout.results / RUN).glob(f"{shard}.*")}


@pytest.mark.parametrize("table", ["studies", "vertebrae", "levels_in_view"])
def test_one_bit_turned_over_anywhere_is_seen(tmp_path, table):
    """One bit of each byte; those in the name of the seal take it away, and change nothing else."""
    data = files(two_shards(tmp_path), "0")[table].read_bytes()
    name = data.rfind(SEAL.encode())
    rng, unseen = random.Random(7), []
    for at in range(len(data)):
        turned = bytearray(data)
        turned[at] ^= 1 << rng.randrange(8)
        if not is_broken(bytes(turned)):
            unseen.append(at - name)
    assert not is_broken(data)
    assert unseen == list(range(len(SEAL) + 2))


def test_arrow_alone_reads_other_values_from_a_file_with_one_bit_turned_over():
    """Why there is a seal: the checksums of Parquet's pages do not cover the end of the file."""
    table = shard_tables(("st1", "a", [NORMAL]))["studies"]
    data, rng, other = parquet_bytes(table), random.Random(7), 0
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for at in range(footer, footer + 150):
        turned = bytearray(data)
        turned[at] ^= 1 << rng.randrange(8)
        try:
            read = pq.ParquetFile(pa.BufferReader(bytes(turned)), page_checksum_verification=True).read()
        except (OSError, pa.ArrowException, UnicodeDecodeError):
            continue
        other += not read.equals(table)
    assert other > 0


def cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def turn_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def put_a_folder(path):
    path.unlink()
    path.mkdir()


def put_another_table(path):
    path.write_bytes(parquet_bytes(pa.table({"study_key": [1, 2]})))


@pytest.mark.parametrize(
    "damage", [cut, turn_a_bit, put_a_folder, put_another_table, lambda path: path.write_bytes(b"")]
)
def test_a_damaged_mark_is_set_aside_and_its_studies_are_due_again(tmp_path, damage):
    layout = two_shards(tmp_path)
    damage(layout.mark(RUN, "0"))
    with pytest.raises(DamagedShard, match=r"0\.studies\.parquet: damaged"):
        committed(layout)
    assert [mark.shard for mark in set_damaged_aside(layout)] == ["0"]
    assert done_inputs(committed(layout), IDENTITY) == {("st2", "b")}
    assert not files(layout, "0")
    assert len(list((layout.damaged / RUN).iterdir())) == 3
    assert set_damaged_aside(layout) == []


@pytest.mark.parametrize("damage", [cut, turn_a_bit, put_a_folder, put_another_table, lambda path: path.unlink()])
@pytest.mark.parametrize("table", ["vertebrae", "levels_in_view"])
def test_a_shard_with_another_damaged_table_is_set_aside_whole(tmp_path, damage, table):
    layout = two_shards(tmp_path)
    damage(files(layout, "0")[table])
    assert done_inputs(committed(layout), IDENTITY) == {("st1", "a"), ("st2", "b")}, "the mark is sound"
    assert [mark.shard for mark in set_damaged_aside(layout)] == ["0"]
    assert done_inputs(committed(layout), IDENTITY) == {("st2", "b")}


@pytest.mark.parametrize("table", ["studies", "vertebrae"])
def test_a_table_of_another_shard_is_not_taken_for_ones_own(tmp_path, table):
    """Sealed as it is, it says what it is of."""
    layout = two_shards(tmp_path)
    files(layout, "0")[table].write_bytes(files(layout, "1")[table].read_bytes())
    with pytest.raises(DamagedShard, match=r"/0\."):
        list(committed(layout)) if table == "studies" else read_companion(layout, marks(layout)[0], table)
    assert [mark.shard for mark in set_damaged_aside(layout)] == ["0"]


def test_a_mark_that_cannot_be_read_at_all_is_not_taken_for_damaged(tmp_path, monkeypatch):
    """A disk that fails or rights that are missing: that is for a person, and every shard would go."""
    layout = two_shards(tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("vertebra_core.cohort.ledger.read_whole", refuse)
    for act in (committed, set_damaged_aside):
        with pytest.raises(PermissionError):
            act(layout)
    assert len(files(layout, "0")) == 3


def test_damaged_links_are_one_line(tmp_path):
    layout = Layout(tmp_path)
    replace(layout.links, parquet_bytes(SCHEMA.empty_table()))
    turn_a_bit(layout.links)
    with pytest.raises(CouldNotRun, match=r"links\.parquet: damaged; restore it"):
        read_links(layout)


def test_files_of_before_there_were_seals_are_read(tmp_path):
    layout = two_shards(tmp_path)
    path = layout.mark(RUN, "0")
    metadata = pq.read_metadata(path).metadata
    with pq.ParquetWriter(path, pq.read_schema(path)) as writer:
        writer.write_table(pq.read_table(tmp_path / "results" / RUN / "1.studies.parquet"))
        writer.add_key_value_metadata({b"vertebra.companions": metadata[b"vertebra.companions"]})
    assert committed(layout)["study_key"].to_pylist() == ["st2", "st2"]
    assert read_companion(layout, marks(layout)[0], "vertebrae").num_rows == 1


def test_runs_keep_their_order_when_the_clock_is_put_back():
    names: list[str] = []
    for started in ("2026-03-01T02:59:59+00:00", "2026-03-01T02:59:59+00:00", "2026-03-01T02:00:00+00:00"):
        names.append(run_name(started, f"{9 - len(names)}", names))
    assert names == ["20260301T025959-9", "20260301T030000-8", "20260301T030001-7"]
    assert sorted(names) == names
