"""Further series of a study: measured on request, kept apart, never counted (`--all-series`)."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from engine_archive import write_study
from engine_methods import GOOD, RAISE, SLOW
from pydicom import dcmread

from flows.cli import main
from flows.screen import Night, screen_archives
from flows.settings import load_settings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
COUNTED = ("studies", "vertebrae", "levels_in_view", "patients")
OTHERS = ("other_series", "other_vertebrae")


def add_series(study: Path, number: int, mark: int = GOOD, kernel: str = "LUNG", thickness: float = 2.5) -> Path:
    """The study's series once more, made otherwise: brighter, so that the test method measures other heights."""
    folder = study / f"series{number}"
    folder.mkdir()
    for file in sorted(study.glob("*.dcm")):
        ds = dcmread(file)
        ds.SeriesInstanceUID += f".{number}"
        ds.SOPInstanceUID += f".{number}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.ConvolutionKernel, ds.SliceThickness = kernel, thickness
        stored = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns) + np.uint16(10 * number)
        stored[0, 0] = 1024 + mark * 100
        ds.PixelData = stored.astype("<u2").tobytes()
        ds.save_as(folder / file.name)
    return folder


def write_archive(root: Path) -> Path:
    """Patient A with one series, B with two further ones, C with one that cannot be measured."""
    write_study(root / "a", "A1")
    for number in (1, 2):
        add_series(write_study(root / "b", "B2") if number == 1 else root / "b", number)
    add_series(write_study(root / "c", "C3"), 1, RAISE)
    return root


def screen(place: Path, cohort: str = "cohort", **flags: object) -> Night:
    settings = load_settings(flags={"run.workers": 1, **{f"run.{name}": value for name, value in flags.items()}})
    return screen_archives([place / "archive"], place / cohort, settings, "loop", "engine_methods:marked", say=str)


def rows_of(place: Path, name: str, cohort: str = "cohort") -> list[dict]:
    """Data columns of all rows of a table, in a fixed order."""
    found = pq.read_table(latest_snapshot(Layout(place / cohort)) / f"{name}.parquet").select(data_columns(name))
    return sorted(found.to_pylist(), key=lambda row: json.dumps(row, default=str))


Tables = dict[str, list[dict]]


@pytest.fixture(scope="module")
def nights(tmp_path_factory) -> dict[str, tuple[Night, Tables]]:
    """One cohort through several nights: what each did, and all its tables afterwards."""
    place = tmp_path_factory.mktemp("all-series")
    steps: dict[str, tuple[Night, Tables]] = {}

    def step(name: str, **flags: object) -> None:
        steps[name] = screen(place, **flags), {table: rows_of(place, table) for table in (*COUNTED, *OTHERS)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        write_archive(place / "archive")
        step("default")
        step("all", all_series=True)
        step("default again")
        step("all again", all_series=True)
        add_series(place / "archive" / "b", 3, kernel="STANDARD", thickness=1.0)
        shutil.rmtree(place / "archive" / "b" / "series1")
        (place / "archive" / "b" / "series2" / "000.dcm").touch()
        step("changed")
        step("all of changed", all_series=True)
    PLACES.append(place)
    return steps


PLACES: list[Path] = []


def keys(tables: Tables, name: str, key: str = "series_key") -> set[str]:
    return {row[key] for row in tables[name]}


def test_by_default_one_series_of_a_study_is_measured(nights):
    night, tables = nights["default"]
    assert (night.settled.seen, night.settled.measured, night.settled.others) == (3, 3, {})
    assert [tables[name] for name in OTHERS] == [[], []]


def test_with_all_series_every_other_one_is_measured_and_nothing_is_counted_twice(nights):
    night, tables = nights["all"]
    assert (night.due, night.measured_now, night.settled.others) == (0, 0, {"failed": 1, "ok": 2})
    assert night.has_failures
    assert [reason for _, reason in night.settled.failures] == ["failed"]
    assert {name: tables[name] for name in COUNTED} == {name: nights["default"][1][name] for name in COUNTED}
    assert sorted(row["status"] for row in tables["other_series"]) == ["failed", "ok", "ok"]
    assert keys(tables, "other_series", "kernel") == {"LUNG"}
    assert not keys(tables, "other_series") & keys(tables, "studies")
    for key in ("study_key", "patient_key"):
        assert keys(tables, "other_series", key) < keys(tables, "studies", key)


def test_put_together_the_tables_are_one_row_per_series_and_vertebra(nights):
    """What an analyst does who compares kernels: the columns are equal, and no key occurs twice."""
    _, tables = nights["all"]
    both = tables["vertebrae"] + tables["other_vertebrae"]
    assert len({(row["series_key"], row["vertebra_index"]) for row in both}) == len(both) == (3 + 2) * 3
    assert len({row["ha_mm"] for row in both if row["vertebra_index"] == 1}) == 5  # each series gave its own


@pytest.mark.parametrize("name", ["default again", "all again"])
def test_back_and_forth_nothing_is_measured_and_nothing_is_lost(nights, name):
    night, tables = nights[name]
    assert (night.due, night.settled.new, night.snapshot.is_new) == (0, {}, False)
    assert night.settled.others == {"failed": 1, "ok": 2}
    assert not night.has_failures
    assert tables == nights["all"][1]


def test_a_series_that_comes_to_stand_for_its_study_is_not_shown_twice(nights):
    """A finer, softer series of B has arrived: it is the study now, and the one before is a further one."""
    before = keys(nights["all"][1], "studies")
    for name in ("changed", "all of changed"):
        _, tables = nights[name]
        shown = [row["series_key"] for table in ("studies", "other_series") for row in tables[table]]
        assert len(shown) == len(set(shown))
        assert len(keys(tables, "studies", "study_key")) == 3
    (replaced,) = before - keys(nights["changed"][1], "studies")
    assert replaced in keys(nights["all of changed"][1], "other_series")


def test_further_series_that_are_gone_or_changed_are_not_shown_until_measured_again(nights):
    """Of B's two, one is gone and one was rewritten; C's is as it was. Then: C's, B's rewritten one and B's old one."""
    assert len(nights["changed"][1]["other_series"]) == 1
    assert len(nights["all of changed"][1]["other_series"]) == 3
    assert len(nights["all of changed"][1]["other_vertebrae"]) == 6


def test_a_further_series_has_a_picture_of_its_own(nights, tmp_path, capsys):
    cohort = PLACES[0] / "cohort"
    key = next(row["series_key"] for row in nights["all of changed"][1]["other_series"] if row["status"] == "ok")
    assert {path.stem[:2] for path in (cohort / "pictures").iterdir()} == {"st", "se"}
    assert main(["show", str(cohort), key, "--out", str(tmp_path / "one.png")]) == 0
    assert (tmp_path / "one.png").read_bytes() == (cohort / "pictures" / f"{key}.png").read_bytes()
    assert "one.png" in capsys.readouterr().out


def test_killed_among_further_series_the_next_run_goes_on_there(tmp_path, monkeypatch):
    monkeypatch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]))
    study = write_study(tmp_path / "archive" / "b", "B2")
    for number in range(1, 7):
        add_series(study, number, SLOW)
    words = ["runner=loop", "run.all_series=true", "run.workers=1", "run.shard_size=1"]
    command = [sys.executable, "-m", "engine_run", str(tmp_path / "archive"), str(tmp_path / "cohort"), *words]
    with open(tmp_path / "out", "wb") as sink:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=sink, stderr=sink)
    wait_until(lambda: len(marks(tmp_path)) >= 1 + 2, process)
    process.kill()
    process.wait()
    done = len(marks(tmp_path)) - 1
    assert 2 <= done < 6
    night = screen(tmp_path, all_series=True, shard_size=1)
    assert (night.due, night.settled.others_left) == (0, 0)
    assert len(marks(tmp_path)) == 1 + 6
    screen(tmp_path, "undisturbed", all_series=True)
    for name in (*COUNTED, *OTHERS):
        assert rows_of(tmp_path, name) == rows_of(tmp_path, name, "undisturbed"), name


def marks(place: Path) -> list:
    return Layout(place / "cohort").marks()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)
