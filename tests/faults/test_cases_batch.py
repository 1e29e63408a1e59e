"""Cases O1, O8, O10, T1 and T5, by the letter of their recipes, and their kin (docs/reliability.md has them all)."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest
from engine_archive import N_SLICES, fresh_fork_server, write_study
from engine_methods import GOOD, RAISE

from flows.screen import Night, screen_archives
from flows.settings import load_settings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.links import read_links
from vertebra_core.errors import CouldNotRun
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="module")
def _environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
        fresh_fork_server()
        yield


def screen(archive: Path, cohort: Path, say=str, **flags: object) -> Night:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    settings = load_settings(flags={"run.pictures": False, "run.workers": 1, "run.settle_minutes": 0, **given})
    return screen_archives([archive], cohort, settings, "loop", "engine_methods:marked", say=say)


def studies(night: Night) -> list[dict]:
    return pq.read_table(Path(str(night.snapshot.folder)) / "studies.parquet").to_pylist()


def adds_up(night: Night) -> bool:
    end = night.settled
    return end.seen == end.measured + end.refused + end.failed + end.left and end.seen <= len(studies(night)) + end.left


def claim(folder: Path, rows: int, columns: int, frames: int | None = None) -> None:
    """Let the headers of a study claim more pixels than there are."""
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        ds.Rows, ds.Columns = rows, columns
        if frames:
            ds.NumberOfFrames = frames
        ds.save_as(path)


def test_o1_a_study_whose_header_claims_more_than_the_memory_there_is(tmp_path):
    """32 GiB a slice, or 16,000 frames of it, under a limit of half a GiB: refused, and its neighbours are measured."""
    for number in range(3):
        write_study(tmp_path / "archive" / f"s{number}", f"MR-{number}")
    claim(write_study(tmp_path / "archive" / "s1-large", "MR-11"), 65_535, 65_535)
    claim(write_study(tmp_path / "archive" / "s1-many", "MR-12"), 32_767, 32_767, 16_000)
    claim(write_study(tmp_path / "archive" / "s0-wide", "MR-13"), 12_000, 12_000)
    night = screen(tmp_path / "archive", tmp_path / "cohort", run__memory_gb=0.5)
    status = Counter((row["status"], row["reason"]) for row in studies(night))
    assert status["ok", None] == 3, status
    assert sum(count for (_, reason), count in status.items() if reason) == 3, status
    assert not any(reason in ("failed", "worker_died") for _, reason in status), status
    assert adds_up(night)
    assert screen(tmp_path / "archive", tmp_path / "cohort", run__memory_gb=0.5).due == 0


@pytest.mark.parametrize("poison", [(0,), (3,), (0, 1, 2, 3)], ids=["first", "last", "all"])
def test_o1_poison_anywhere_in_a_shard(tmp_path, poison):
    for number in range(4):
        write_study(tmp_path / "archive" / f"s{number}", f"MR-{number}", RAISE if number in poison else GOOD)
    night = screen(tmp_path / "archive", tmp_path / "cohort", run__shard_size=4)
    assert (night.settled.measured, night.settled.failed) == (4 - len(poison), len(poison))
    assert adds_up(night)


def test_o8_broken_studies_come_first_and_five_sound_ones_after(tmp_path):
    """With a folder of mode 000 for a run without root's rights."""
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    cut = write_study(archive / "0-cut", "MR-90") / "007.dcm"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (archive / "1-empty-file").mkdir()
    (archive / "1-empty-file" / "000.dcm").touch()
    for number in range(5):
        write_study(archive / f"2-sound-{number}", f"MR-{number}")
    locked = write_study(archive / "3-locked", "MR-91")
    (archive / "4-empty").mkdir()
    before = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("a folder cannot be locked for root, and there is no setpriv to give root's rights up")
        before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    locked.chmod(0)
    words = ["runner=loop", "run.workers=1", "run.settle_minutes=0"]
    command = [*before, sys.executable, "-m", "engine_run", str(archive), str(cohort), *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    locked.chmod(0o755)
    assert run.returncode == 1, run
    assert "Traceback" not in run.stdout + run.stderr
    record = json.loads(Layout(cohort).run_records()[-1].read_text())
    assert (record["seen"], record["measured"], record["refused"], record["left"]) == (6, 5, 1, 0)
    assert record["left_alone"] == {"empty_file": 1, "unreadable": 1}
    assert record["reasons"] == {"ok": 5, "pixels_damaged": 1}


def test_o10_slices_that_come_while_runs_are_at_work(tmp_path):
    """Two files a second for eight seconds, also into a study that is done: one result each, of the full study."""
    archive, away = tmp_path / "archive", tmp_path / "away"
    for name in ("MR-1", "MR-2"):
        write_study(away / name, name)
    (archive / "MR-1").mkdir(parents=True)
    shutil.copytree(away / "MR-2", archive / "MR-2", ignore=lambda folder, names: sorted(names)[13:])
    settle_minutes = 2.0 / 60.0
    time.sleep(2.5)
    assert screen(archive, tmp_path / "cohort", run__settle_minutes=settle_minutes).settled.measured == 1

    def arrive() -> None:
        for number in range(N_SLICES):
            for name in ("MR-1", "MR-2"):
                if not (archive / name / f"{number:03d}.dcm").exists():
                    shutil.copy(away / name / f"{number:03d}.dcm", archive / name)
            time.sleep(0.5)

    sender = threading.Thread(target=arrive)
    sender.start()
    nights = []
    while sender.is_alive() or not nights or nights[-1].arriving:
        nights.append(screen(archive, tmp_path / "cohort", run__settle_minutes=settle_minutes))
        assert adds_up(nights[-1])
    sender.join()
    assert any(night.arriving for night in nights), "runs met a study that was arriving"
    assert all(Counter(row["study_key"] for row in studies(night)).most_common(1)[0][1] == 1 for night in nights)
    assert [row["n_slices"] for row in studies(nights[-1])] == [N_SLICES, N_SLICES]


def test_t1_two_nights_are_read_with_one_glob(tmp_path):
    """Night 1 has no failure and no sex, night 2 both: results and snapshots."""
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    write_study(archive / "s1", "MR-1", sex="", age="")
    first = screen(archive, cohort)
    write_study(archive / "s2", "MR-2", RAISE)
    write_study(archive / "s3", "MR-3", sex="F")
    second = screen(archive, cohort)
    for glob, expected in (("results/*/*.studies.parquet", 3), ("snapshots/*/studies.parquet", 1 + 3)):
        files = sorted(cohort.glob(glob))
        assert len(files) > 1
        (counted,) = duckdb.sql(f"SELECT count(*), count(reason), count(sex) FROM '{cohort}/{glob}'").fetchall()
        frame = pd.concat([pd.read_parquet(path) for path in files])
        assert counted == (expected, int(frame["reason"].notna().sum()), int(frame["sex"].notna().sum()))
        assert counted[:2] == (expected, 1)
        assert all(pq.read_schema(path).equals(pq.read_schema(files[0]), check_metadata=True) for path in files)
    in_pandas = pd.read_parquet([Path(str(night.snapshot.folder)) / "studies.parquet" for night in (first, second)])
    assert in_pandas["sex"].notna().tolist().count(True) == 2


def test_t5_the_same_night_again_with_other_settings_and_back(tmp_path):
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    for number in range(3):
        write_study(archive / f"s{number}", f"MR-{number}", RAISE if number == 2 else GOOD)
    nights = [screen(archive, cohort) for _ in range(2)]
    other = screen(archive, cohort, curve__presence=0.6)
    back = screen(archive, cohort)
    assert [night.due for night in (*nights, other, back)] == [3, 0, 3, 0]
    for folder in (cohort / "snapshots").iterdir():
        rows = pq.read_table(folder / "vertebrae.parquet").select(["study_key", "vertebra_index"]).to_pylist()
        assert len({tuple(row.values()) for row in rows}) == len(rows) == 6
        table = pq.read_table(folder / "studies.parquet")
        assert len(set(table["study_key"].to_pylist())) == table.num_rows == 3
        assert len(set(table["settings_digest"].to_pylist())) == 1
    data = [pq.read_table(Path(str(night.snapshot.folder)) / "studies.parquet") for night in (nights[0], back)]
    assert data[0].select(data_columns("studies")).equals(data[1].select(data_columns("studies")))


def test_an_archive_that_goes_away_under_a_run_leaves_its_studies_due(tmp_path):
    """They were rows once, "unreadable", and stood for ever when the disk was back."""
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    for number in range(3):
        write_study(archive / f"s{number}", f"MR-{number}")

    def take_away(line: str) -> None:
        if line.endswith("3 to measure"):
            archive.rename(tmp_path / "elsewhere")
            archive.mkdir()  # as a disk that is not mounted leaves it

    with pytest.raises(CouldNotRun, match="1 of 1 shards are missing"):
        screen(archive, cohort, say=take_away)
    assert "".join(log.read_text() for log in cohort.glob("logs/*/shard-*.jsonl")).count('"study_gone"') == 3
    archive.rmdir()
    (tmp_path / "elsewhere").rename(archive)
    night = screen(archive, cohort)
    assert (night.due, night.settled.measured, night.has_failures) == (3, 3, False)


def test_a_study_that_is_replaced_between_plan_and_measuring_is_measured_anew_by_the_next_run(tmp_path):
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    for number in range(2):
        write_study(archive / f"s{number}", f"MR-{number}", number=500 + number)

    def replace_one(line: str) -> None:
        if line.endswith("2 to measure"):
            write_study(archive / "s1", "MR-1", number=501, n_slices=N_SLICES + 4)

    screen(archive, cohort, say=replace_one)
    night = screen(archive, cohort)
    assert night.due == 1
    assert sorted(row["n_slices"] for row in studies(night)) == [N_SLICES, N_SLICES + 4]
    links = {row["study_key"] for row in read_links(Layout(cohort)).to_pylist()}
    assert {row["study_key"] for row in studies(night)} == links
