"""Nothing that a run writes or says names a patient.

A made archive holds an own recognisable value in every attribute of pydicom's dictionary that can hold one: 647 of the
655 of PS3.15 Table E.1-1 (edition 2026c); of the rest two are told, three belong to commands and directories, and
three are too short to be told apart; in private ones, nested ones and the meta header; in file and folder names and in
the headers of volume files. It is screened; then every byte of every output is searched for every such value.

By the settings, and so not planted: the patient's sex and age (93, told as 90), the year of the study (1699), maker and
model of the scanner, kernel, image type.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from leak_archive import write_archive
from leak_methods import SAID
from planted import STUDY_YEAR, Planter, found_in, opened, plant
from pydicom.dataset import Dataset

from flows.cli import main
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.links import read_links
from vertebra_core.cohort.snapshot import latest_snapshot

TESTS = Path(__file__).resolve().parent.parent
FLAGS = (
    "run.workers=1",
    "run.memory_gb=1.0",
    "run.deadline_s=15",
    "run.all_series=true",
    "run.shard_size=8",
    "run.report=true",
)
SECRET = "a secret of this test module"


@pytest.fixture(scope="module")
def place(tmp_path_factory, prefect_server) -> Path:
    root = tmp_path_factory.mktemp("leaks")
    write_archive(root / "archive")
    return root


def screened(place: Path, runner: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "PYTHONPATH": path, "VERTEBRA_PSEUDONYM_SECRET": SECRET, **environment}
    words = [f"runner={runner}", "method=leak_methods:talking", *FLAGS]
    command = [sys.executable, "-m", "engine_run", str(place / "archive"), str(place / runner), *words]
    return subprocess.run(command, env=variables, cwd=place, capture_output=True, timeout=900)


@pytest.fixture(scope="module")
def loop(place) -> subprocess.CompletedProcess:
    return screened(place, "loop")


@pytest.fixture(scope="module")
def dask(place) -> subprocess.CompletedProcess:
    """With tracebacks asked for, which is no reason to name anybody in a log."""
    return screened(place, "dask", VERTEBRA_DEBUG="1")


def assert_silent(name: str, content: bytes) -> None:
    found = found_in(content)
    assert not found, (name, sorted(found)[:10], len(found))


# -- the test itself ----------------------------------------------------------------------------------------------


def test_the_search_finds_every_value_it_is_meant_to_find():
    planter = Planter()
    assert plant(Dataset(), planter) > 3500
    for vr in ("PN", "LO", "CS", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "UI", "DA", "TM", "DT", "DS", "IS", "OB"):
        value = planter.value(vr)
        plain = value if isinstance(value, bytes) else str(value).encode()
        assert found_in(b"before" + plain + b"after" if vr in ("PN", "LO", "UI") else b'"' + plain + b'"'), vr
        if vr in ("PN", "LO"):
            for encoding in ("utf-16-le", "utf-16-be"):
                assert found_in(b"\x01" + str(value).encode(encoding)), (vr, encoding)
    assert found_in(b"SMITHZQ00123XJOHN")
    assert found_in(b"1650-03-17")
    assert not found_in(json.dumps({"a": 0.1677123456789, "b": "20261128T101112", "c": "st0123456789abcdef"}).encode())


def test_the_archive_holds_what_is_looked_for(place):
    found = set()
    for path in (place / "archive").rglob("*"):
        found |= found_in(path.name.encode())
        if path.is_file() and not path.is_symlink():
            found |= found_in(path.read_bytes())
    assert len(found) > 9000


# -- what a run leaves and says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["loop", "dask"])
def test_no_output_of_a_run_names_a_patient(place, request, runner, prefect_server):
    night = request.getfixturevalue(runner)
    assert night.returncode == 1, night.stderr[-2000:]
    assert_silent("stdout", night.stdout)
    assert_silent("stderr", night.stderr)
    assert b"Traceback" not in night.stdout + night.stderr
    cohort = place / runner
    files = [p for p in cohort.rglob("*") if p.is_file() and cohort / "private" not in p.parents]
    assert {p.suffix for p in files} >= {".parquet", ".json", ".jsonl", ".png", ".html"}
    if runner == "dask":
        files += [p for p in prefect_server.rglob("*") if p.is_file()]
        assert any(p.name.startswith("prefect.db") for p in files)
    for path in files:
        assert_silent("name", str(path.relative_to(cohort if cohort in path.parents else prefect_server)).encode())
        for content in opened(path):
            assert_silent(path.name, content)
            assert SECRET.encode() not in content


@pytest.mark.usefixtures("loop")
def test_the_archive_ended_in_every_way(place):
    snapshot = latest_snapshot(Layout(place / "loop"))
    reasons = set(pq.read_table(snapshot / "studies.parquet")["reason"].to_pylist())
    assert reasons >= {None, "failed", "worker_died", "deadline", "no_spine", "other_modality", "not_an_image"}
    assert reasons >= {"localizer", "report_page", "no_geometry", "slices_too_thick", "too_few_slices"}
    assert reasons >= {"missing_slices", "pixels_damaged"}
    assert pq.read_metadata(snapshot / "other_series.parquet").num_rows == 1


@pytest.mark.usefixtures("loop")
def test_what_the_settings_allow_is_told(place):
    rows = pq.read_table(latest_snapshot(Layout(place / "loop")) / "studies.parquet").to_pylist()
    told = {(row["age_years"], row["sex"], row["study_year"]) for row in rows if row["status"] == "ok"}
    assert (90.0, "F", STUDY_YEAR) in told


@pytest.mark.usefixtures("loop")
def test_private_links_hold_what_the_tables_do_not(place):
    """So that the search above is not empty for want of values that reached the program."""
    links = json.dumps(read_links(Layout(place / "loop")).to_pylist()).encode()
    assert len(found_in(links)) > 100


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("tables",),
        ("tables", "--json"),
        ("prevalence", "--min-vertebrae", "1"),
        ("prevalence", "--json", "--by", "sex"),
        ("show", "ok", "--out", "shown.png", "--export", "shown.json"),
        ("show", "failed"),
        ("show", "st00"),
    ],
    ids=" ".join,
)
def test_no_other_verb_names_a_patient(place, capfd, monkeypatch, words):
    monkeypatch.chdir(place)
    verb, *options = words
    if verb == "show":
        rows = pq.read_table(latest_snapshot(Layout(place / "loop")) / "studies.parquet").to_pylist()
        keys = {row["status"]: row["study_key"] for row in rows}
        options = [keys.get(options[0], options[0]), *options[1:]]
    main([verb, "loop", *options])
    said = capfd.readouterr()
    assert said.out + said.err
    assert_silent("said", (said.out + said.err).encode())
    for path in place.glob("shown.*"):
        for content in opened(path):
            assert_silent(path.name, content)


def test_taking_stock_names_no_patient(place, capfd, monkeypatch):
    monkeypatch.chdir(place)
    main(["inventory", "archive", "--cohort", "stock"])
    main(["inventory", "archive", "--cohort", "stock", "--json"])
    said = capfd.readouterr()
    assert "too_few_slices" in said.out
    assert_silent("said", (said.out + said.err).encode())
    files = [p for p in (place / "stock").rglob("*") if p.is_file() and place / "stock/private" not in p.parents]
    assert any(p.suffix == ".parquet" for p in files)
    for path in files:
        for content in opened(path):
            assert_silent(path.name, content)


@pytest.mark.usefixtures("loop")
def test_a_log_names_an_error_by_its_type_and_place_only(place):
    """The method raised an error whose text holds an identifier and the place of the volume."""
    lines = b"".join(path.read_bytes() for path in (place / "loop" / "logs").rglob("*.jsonl"))
    assert b"KeyError" in lines
    assert b"leak_methods.py" in lines
    assert SAID.encode() not in lines


@pytest.mark.usefixtures("loop")
def test_what_a_night_puts_into_prefects_database_names_no_patient(place):
    """Its artifacts are made of these lines; its message, where something unforeseen stops it, of type and place."""
    from flows.nightly import without_names
    from tasks.night import drift_lines, failure_lines, flow_lines, rows_of_run, throughput_lines
    from tasks.publish import Settled
    from vertebra_core.cohort.drift import scanner_drift

    layout = Layout(place / "loop")
    record = json.loads(layout.run_records()[-1].read_text())
    rows = rows_of_run(layout, record["run"])
    counts = {name: record[name] for name in Settled.__dataclass_fields__ if name in record}
    flow = flow_lines(Settled(**counts), 0, record["due"], rows)
    drift = drift_lines(scanner_drift(latest_snapshot(layout), set(rows["study_key"].to_pylist())))
    lines = [flow, failure_lines(rows), throughput_lines(rows, record["started"], record["ended"]), drift]
    assert all(lines)
    assert_silent("artifacts", json.dumps(lines).encode())
    try:
        raise KeyError(SAID)
    except KeyError as error:
        told = without_names(error)
    assert told.startswith("unforeseen KeyError at test_privacy_leaks.py:")
    assert_silent("message", told.encode())
