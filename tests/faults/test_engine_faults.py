"""Studies that kill, hang, grow, lie and are broken: each ends as a row, and everything else is done.

One archive holds them all and is screened once, by a real Prefect server on real Dask workers; the tests look at what
came of it. Cases O1, O8, R15 and T5.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_archive import fresh_fork_server, write_study
from engine_logs import lines_of, undeclared_in
from engine_methods import EXIT, EXIT_ONCE, GOOD, GROW, HANG, ONCE, RAISE, REFUSE, SEGFAULT
from planted import opened, png_chunks

from flows.screen import screen_archives
from flows.settings import load_settings
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.links import read_links
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
FLAGS = {"run.memory_gb": 0.5, "run.workers": 2, "run.shard_size": 4}
PATIENT = "Q7719{number:02d}X"
"""Looks like nothing else, so that it can be searched for."""
MARKS = {
    "a-exit": EXIT,
    "b-segfault": SEGFAULT,
    "d-grow": GROW,
    "e-raise": RAISE,
    "f-refuse": REFUSE,
    "g-exit-once": EXIT_ONCE,
    **{f"h-good-{number}": GOOD for number in range(5)},
}


def write_archive(root: Path) -> Path:
    """Eleven sound studies with marks; two patients called ANON; and whatever else lies in an archive."""
    for number, (name, mark) in enumerate(MARKS.items()):
        write_study(root / name, PATIENT.format(number=number), mark, number=1000 + number)
    write_study(root / "i-anon-1", "ANON", number=2001)
    write_study(root / "i-anon-2", "ANON", number=2002, sex="M")
    cut = write_study(root / "0-cut", PATIENT.format(number=90), number=3001)
    damaged = cut / "007.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    write_study(root / "0-mr", PATIENT.format(number=91), number=3002, modality="MR")
    write_study(root / "0-two", PATIENT.format(number=92), number=3003, n_slices=2)
    (root / "0-odd").mkdir()
    (root / "0-odd" / "empty.dcm").touch()
    (root / "0-odd" / "text.dcm").write_text("not DICOM at all\n" * 100)
    (root / "0-nothing").mkdir()
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory, monkeypatch_module, prefect_server) -> Path:
    root = tmp_path_factory.mktemp("faults")
    monkeypatch_module.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
    monkeypatch_module.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")  # this checkout, not an installed one
    write_archive(root / "archive")
    fresh_fork_server()
    return root


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def night(place) -> subprocess.CompletedProcess:
    """The archive screened once, on Dask."""
    return screen_in_a_process(place, "cohort")


def screen_in_a_process(place: Path, cohort: str, *words: str) -> subprocess.CompletedProcess:
    flags = [f"{name}={value}" for name, value in FLAGS.items()]
    command = [sys.executable, "-m", "engine_run", str(place / "archive"), str(place / cohort), *flags, *words]
    environment = {**os.environ, ONCE: str(place / f"{cohort}-once")}
    return subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=900)


def screen_here(place: Path, cohort: str, runner: str = "loop", method: str = "engine_methods:marked"):
    os.environ[ONCE] = str(place / f"{cohort}-once")
    said: list[str] = []
    night = screen_archives(
        [place / "archive"], place / cohort, load_settings(flags=FLAGS), runner, method, say=said.append
    )
    return night, said


def studies(place: Path, cohort: str = "cohort") -> pa.Table:
    return pq.read_table(latest_snapshot(Layout(place / cohort)) / "studies.parquet")


def by_folder(place: Path) -> dict[str, dict]:
    """Rows of ``studies`` by the folder of the study."""
    links = {row["study_key"]: row["path"] for row in read_links(Layout(place / "cohort")).to_pylist()}
    return {links[row["study_key"]].split("/")[0]: row for row in studies(place).to_pylist()}


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("folder", "status", "reason"),
    [
        ("a-exit", "failed", "worker_died"),
        ("b-segfault", "failed", "worker_died"),
        ("d-grow", "failed", "out_of_memory"),
        ("e-raise", "failed", "failed"),
        ("f-refuse", "not_evaluable", "no_spine"),
        ("g-exit-once", "ok", None),
        ("0-cut", "not_evaluable", "pixels_damaged"),
        ("0-mr", "not_evaluable", "other_modality"),
        ("0-two", "not_evaluable", "too_few_slices"),
        *((f"h-good-{number}", "ok", None) for number in range(5)),
        ("i-anon-1", "ok", None),
        ("i-anon-2", "ok", None),
    ],
)
def test_every_study_ends_as_a_row(place, folder, status, reason):
    row = by_folder(place)[folder]
    assert (row["status"], row["reason"]) == (status, reason)


def test_the_run_ends_with_code_1_and_without_a_traceback(place, night):
    assert night.returncode == 1
    assert "Traceback" not in night.stdout + night.stderr
    assert "16 studies, 16 due: 13 to measure" in night.stdout
    assert "1 empty_file" in night.stdout
    assert "1 not_dicom" in night.stdout


@pytest.mark.usefixtures("night")
def test_the_counts_add_up(place):
    statuses = Counter(studies(place)["status"].to_pylist())
    assert statuses == {"ok": 8, "failed": 4, "not_evaluable": 4}
    record = json.loads(Layout(place / "cohort").run_records()[0].read_text())
    assert record["seen"] == record["measured"] + record["refused"] + record["failed"] == 16
    assert len(record["failures"]) == 5  # four failed, and the damaged file can be fetched again


@pytest.mark.usefixtures("night")
def test_an_unforeseen_error_is_told_by_its_digest_only(place):
    row = by_folder(place)["e-raise"]
    assert row["reason_detail"].startswith("ValueError, digest ")
    digest = row["reason_detail"].split()[-1]
    logged = "".join(path.read_text() for path in (place / "cohort" / "logs").glob("*/*.jsonl"))
    assert digest in logged
    assert "Secret" not in logged


@pytest.mark.usefixtures("night")
def test_the_log_says_what_is_declared_and_nothing_else(place):
    """Of a run in which studies died, grew and raised: every line, every field, every value of its kind."""
    logs = place / "cohort" / "logs"
    assert undeclared_in(logs) == []
    told = Counter(line["event"] for line in lines_of(logs))
    assert told["shard_started"] == told["shard_committed"] >= 4
    assert told["study_done"] == 13  # of 16: three were refused by their headers
    assert told["run_ended"] == 1
    done = [line for line in lines_of(logs) if line["event"] == "study_done" and line["status"] == "ok"]
    assert all(line["by_stage"]["read"] > 0 and line["device"] == "cpu" for line in done)


@pytest.mark.usefixtures("night")
def test_two_patients_called_anon_stay_two(place):
    rows = by_folder(place)
    assert rows["i-anon-1"]["patient_key"] != rows["i-anon-2"]["patient_key"]


def test_the_next_run_measures_nothing_and_starts_nothing(place, night, monkeypatch):
    """Also not the study that killed its worker: its row is the memory of that."""
    monkeypatch.setattr("flows.screen.named_runner", None)
    before = sorted(path for path in (place / "cohort" / "results").rglob("*"))
    second, said = screen_here(place, "cohort", runner="dask")
    assert (second.due, second.measured_now, second.snapshot.is_new) == (0, 0, False)
    assert "16 studies, 0 due: 0 to measure" in said
    assert not second.has_failures
    assert sorted(path for path in (place / "cohort" / "results").rglob("*")) == before


def test_a_plain_loop_gives_the_same_tables(place, night):
    """The Dask run against its slow and simple reference, in every data column."""
    screen_here(place, "in-a-loop")
    for table in ("studies", "vertebrae", "patients", "levels_in_view"):
        first, second = (rows_of(place, cohort, table) for cohort in ("cohort", "in-a-loop"))
        assert first.equals(second), table


def rows_of(place: Path, cohort: str, table: str) -> pa.Table:
    found = pq.read_table(latest_snapshot(Layout(place / cohort)) / f"{table}.parquet").select(data_columns(table))
    return found.sort_by([(name, "ascending") for name in found.column_names if name.endswith(("key", "index"))])


def test_a_study_that_hangs_is_ended_and_the_next_one_is_done(place):
    """The deadline is long: the sound study must keep it on a busy machine, too."""
    write_study(place / "hanging" / "s0", PATIENT.format(number=60), HANG)
    write_study(place / "hanging" / "s1", PATIENT.format(number=61))
    settings = load_settings(flags={**FLAGS, "run.deadline_s": 10.0, "run.pictures": False})
    screen_archives([place / "hanging"], place / "hung", settings, "loop", "engine_methods:marked", say=str)
    assert sorted(str(reason) for reason in studies(place, "hung")["reason"].to_pylist()) == ["None", "deadline"]


def test_other_weights_make_every_study_due_again_and_are_not_mixed_in(place):
    for number in range(2):
        write_study(place / "small" / f"s{number}", PATIENT.format(number=50 + number))

    def screen(method: str):
        settings = load_settings(flags=FLAGS)
        cohort = place / "two-methods"
        return screen_archives([place / "small"], cohort, settings, "loop", f"engine_methods:{method}", say=str)

    assert [screen(method).due for method in ("marked", "other", "marked")] == [2, 2, 0]
    assert set(studies(place, "two-methods")["model_digest"].to_pylist()) == {"digest-of-marked"}


@pytest.mark.usefixtures("night")
def test_nothing_outside_private_names_a_patient(place, prefect_server):
    """Every byte of the cohort, also inside Parquet and PNG, and of the Prefect server's database."""
    secrets = [b"Q7719", b"1.2.826.0.1.3680043.10.1", b"Surname", b"Elsewhere", b"Doctor^Who", b"ACCQ", b"19570102"]
    secrets += [b"h-good", b"a-exit", b"i-anon", b"a secret of this test module"]
    private = place / "cohort" / "private"
    files = [path for path in (place / "cohort").rglob("*") if path.is_file() and private not in path.parents]
    files += [path for path in prefect_server.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert any(path.name.startswith("prefect.db") for path in files)
    for path in files:
        content = b"".join(opened(path))
        found = [secret for secret in secrets if secret in content]
        assert not found, (path, found)


@pytest.mark.usefixtures("night")
def test_pictures_hold_an_image_and_no_text(place):
    pictures = sorted((place / "cohort" / "pictures").glob("*.png"))
    assert len(pictures) == 8
    for picture in pictures:
        kinds = {kind for kind, _ in png_chunks(picture.read_bytes())}
        assert kinds <= {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"PLTE"}


@pytest.mark.usefixtures("night")
def test_the_private_folder_is_for_its_owner_only(place):
    private = place / "cohort" / "private"
    assert private.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in private.iterdir())
    assert not (private / "secret").exists()  # it came from the environment
    assert not list((private / "plans").glob("*"))
