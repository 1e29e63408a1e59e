"""The next study is read while one is measured: the same tables, and no study pays for its neighbour."""

import threading
from dataclasses import replace

import pytest
from engine_archive import write_study
from engine_methods import CROWDED, EXIT, GOOD, SLOW
from reading_cases import take

from tasks.ahead import ReadAhead
from tasks.method import named_method
from tasks.plan import Shard, StudyOrder
from tasks.sandbox import TRIED_ALONE, Sandbox
from tasks.settings import RunSettings
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.settings import ReadingSettings, Settings
from vertebra_core.tables.schema import data_columns

pytestmark = pytest.mark.usefixtures("methods_are_found")
METHOD = "engine_methods:marked"
READING = ReadingSettings()
ON = RunSettings(memory_gb=0.5, pictures=False, device="cpu", read_ahead="on")


@pytest.fixture(scope="module")
def orders(tmp_path_factory) -> dict[str, StudyOrder]:
    """Studies by their names; each with voxels of its own."""
    root = tmp_path_factory.mktemp("ahead")
    marks = {"good": GOOD, "other": GOOD, "slow": SLOW, "crowded": CROWDED, "exit": EXIT}
    made = {}
    for name, mark in marks.items():
        series = take(write_study(root / name, "P1", mark)).series[0]
        made[name] = StudyOrder(f"st-{name}", "pt1", f"se-{name}", series.input_digest, series)
    return made


# -- the reader ----------------------------------------------------------------------------------------------------


@pytest.fixture
def reading(monkeypatch):
    """Reads instead of files: who reads what is written down; "bad" fails when it is read ahead, "worse" always."""
    read: list[tuple[str, str]] = []

    def read_volume(series, settings):
        thread = "ahead" if threading.current_thread() is not threading.main_thread() else "here"
        read.append((series, thread))
        if series == "bad" and thread == "ahead":
            raise MemoryError
        if series == "worse":
            raise NotEvaluable(Reason.PIXELS_DAMAGED)
        return f"volume of {series}"

    monkeypatch.setattr("vertebra_core.reading.formats.read_volume", read_volume)
    return read


def order_of(series: str) -> StudyOrder:
    return StudyOrder(series, "pt", "se", "digest", series)


@pytest.mark.parametrize(
    ("begun", "asked", "expected"),
    [
        (None, "a", [("a", "here")]),
        ("a", "a", [("a", "ahead")]),
        ("b", "a", [("b", "ahead"), ("a", "here")]),
        ("bad", "bad", [("bad", "ahead"), ("bad", "here")]),
    ],
)
def test_a_study_is_read_once_and_again_only_where_reading_ahead_was_no_use(reading, begun, asked, expected):
    reader = ReadAhead()
    if begun is not None:
        reader.begin(order_of(begun), READING)
        reader._next[1].exception()  # wait
    assert reader.read(order_of(asked), READING) == f"volume of {asked}"
    assert reading == expected
    assert reader.held_bytes() == 0


def test_what_is_wrong_with_a_study_is_told_when_it_is_asked_for(reading):
    reader = ReadAhead()
    reader.begin(order_of("worse"), READING)
    with pytest.raises(NotEvaluable):
        reader.read(order_of("worse"), READING)


def test_a_volume_read_ahead_is_counted(orders):
    reader = ReadAhead()
    reader.begin(orders["good"], READING)
    volume = reader._next[1].result()
    assert reader.held_bytes() == volume.hu.nbytes > 0
    assert reader.read(orders["good"], READING) is volume
    assert reader.held_bytes() == 0


# -- the sandbox ---------------------------------------------------------------------------------------------------


def screened(settings: RunSettings, *some: StudyOrder) -> list:
    """Studies one after the other in one sandbox, as a shard screens them."""
    identity = MethodIdentity(named_method(METHOD).digest, "settings", "schema")
    shard = Shard("run", "00000", (), METHOD, identity, Settings(), settings)
    with Sandbox(settings) as sandbox:
        return [sandbox.screen(one, shard, next_one) for one, next_one in zip(some, (*some[1:], None), strict=True)]


def data(one, table: str) -> list[dict]:
    names = data_columns(table)
    return [{name: row.get(name) for name in names} for row in one.rows[table]]


def test_rows_are_the_same_with_and_without(orders):
    some = [orders[name] for name in ("good", "slow", "other", "good")]
    on, off = screened(ON, *some), screened(replace(ON, read_ahead="off"), *some)
    for with_it, without in zip(on, off, strict=True):
        for table in ("studies", "vertebrae", "levels_in_view"):
            assert repr(data(with_it, table)) == repr(data(without, table))
    # While the slow one was measured its successor was read: then there was nothing left to wait for.
    assert on[2].rows["studies"][0]["seconds_read"] < off[2].rows["studies"][0]["seconds_read"]


def test_a_study_that_dies_beside_its_neighbour_is_tried_alone_before_it_is_blamed(orders):
    """One attempt is all it has: the death with two studies in the child must not be it."""
    crowded, good = screened(replace(ON, attempts=1), orders["crowded"], orders["good"])
    assert [row.rows["studies"][0]["status"] for row in (crowded, good)] == ["ok", "ok"]
    assert {"event": TRIED_ALONE, "reason": "worker_died"} in list(crowded.notes)


def test_a_study_that_dies_by_itself_is_blamed_and_its_neighbours_are_not(orders):
    before, bad, after = screened(replace(ON, attempts=1), orders["good"], orders["exit"], orders["other"])
    assert [one.rows["studies"][0]["status"] for one in (before, bad, after)] == ["ok", "failed", "ok"]
    assert bad.rows["studies"][0]["reason"] == "worker_died"


@pytest.mark.parametrize(
    ("setting", "device", "archive", "expected"),
    [
        ("on", "cpu", "/archive", True),
        ("off", "cuda", "s3://archive", False),
        ("auto", "cpu", "/archive", False),
        ("auto", "cuda", "/archive", True),
        ("auto", "cpu", "s3://archive", True),
    ],
)
def test_when_the_next_study_is_read(orders, setting, device, archive, expected):
    order = replace(orders["good"], series=replace(orders["good"].series, archive=archive))
    with Sandbox(replace(ON, read_ahead=setting)) as sandbox:
        sandbox._device = device if device == "cuda" else None  # as the child would say on a machine with a GPU
        assert sandbox._reads_ahead(order) is expected
