"""The main job through its commands: phantoms as DICOM, the shipped networks, Prefect and Dask, a snapshot."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from vertebra_core.phantom.dicom import archive_plan, write_phantom_archive

SEED = 11


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A lumbar spine with fractures, and legs."""
    root = tmp_path_factory.mktemp("screen")
    plan = [archive_plan(5, without_spine=False)[4], archive_plan(3)[-1]]
    write_phantom_archive(root / "archive", 2, SEED, truth_folder=root / "truth", plan=plan)
    return root


def vertebra(place: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def first(place, prefect_server) -> subprocess.CompletedProcess:
    return vertebra(place, "screen", "archive", "--cohort", "cohort", "--workers", "1", "--json")


def test_every_study_is_measured_or_refused_for_what_it_is(first):
    assert first.returncode == 0, first.stderr
    night = json.loads(first.stdout)
    assert night["settled"]["reasons"] == {"no_spine": 1, "ok": 1}
    assert (night["due"], night["settled"]["left"]) == (2, 0)
    assert night["rows"]["vertebrae"] >= 5


@pytest.mark.usefixtures("first")
def test_a_second_run_measures_nothing(place):
    """It also starts nothing: no server, no cluster."""
    second = vertebra(place, "screen", "archive", "--cohort", "cohort", "--json")
    night = json.loads(second.stdout)
    assert (second.returncode, night["due"], night["measured_now"]) == (0, 0, 0)


@pytest.mark.usefixtures("first")
def test_what_was_found_is_where_the_truth_says(place):
    done = vertebra(place, "evaluate", "cohort", "--truth", "truth", "--json")
    found = json.loads(done.stdout)["detection"]
    assert found["recall"]["value"] >= 0.8
    assert found["localization_mm"]["mean"] <= 4.0


@pytest.mark.usefixtures("first")
def test_the_measured_study_has_a_picture(place):
    studies = pq.read_table(next((place / "cohort" / "snapshots").iterdir()) / "studies.parquet").to_pylist()
    measured = [row["study_key"] for row in studies if row["status"] == "ok"]
    assert [path.stem for path in (place / "cohort" / "pictures").glob("*.png")] == measured


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("words", [("status",), ("tables",), ("prevalence", "--min-vertebrae", "1")])
def test_the_other_verbs_read_the_cohort(place, words):
    verb, *options = words
    done = vertebra(place, verb, "cohort", *options)
    assert done.returncode == 0
    assert done.stdout
    assert not done.stderr


def test_the_archive_is_left_as_it_was(place, first):
    files = [path for path in (place / "archive").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".dcm"}


def test_an_archive_without_files_is_one_clear_line(place):
    (place / "empty").mkdir()
    done = vertebra(place, "screen", "empty", "--cohort", "of-nothing")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "vertebra: no files in empty\n"


@pytest.mark.usefixtures("first")
def test_the_scheduled_night_does_the_same_job(place):
    """The flow that ``prefect.yaml`` names, run by Prefect; it finds everything done."""
    from prefect.flows import load_flow_from_entrypoint

    root = Path(__file__).resolve().parents[2]
    deployments = {one["name"]: one for one in yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]}
    assert set(deployments["nightly"]["parameters"]) == {"archives", "cohort", "profile", "until", "time_zone"}
    nightly = load_flow_from_entrypoint(deployments["nightly"]["entrypoint"])
    state = nightly([str(place / "archive")], str(place / "cohort"), return_state=True)
    assert (state.is_completed(), state.message) == (True, "2 studies, 0 due: nothing was due")
