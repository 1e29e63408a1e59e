"""Whole runs into an S3 bucket: as into a folder, and after whatever happens to the run, the store or the network."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from engine_archive import fresh_fork_server, write_study
from engine_methods import REFUSE, SLOW
from s3_faults import FAULTS, flaky
from s3_server import filesystem, make_bucket, objects

from flows.cli import explain, main
from flows.screen import Night, screen_archives
from flows.settings import load_settings
from tasks.history import DEAD, ENDED
from tasks.report import cohort_state
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.others import OTHER_TABLES
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.errors import CouldNotRun
from vertebra_core.storage import place_of
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
FLAGS = {"run.workers": 1, "run.shard_size": 2}
STUDIES, REFUSED = 6, 3
PATIENT = "Q7719{number:02d}X"
"""Looks like nothing else, so that it can be searched for."""
TABLES = ("studies", "vertebrae", "patients", "levels_in_view", *OTHER_TABLES.values())


@pytest.fixture(scope="module")
def archive(tmp_path_factory, s3) -> Path:
    """Six studies, each half a second long but one that is refused."""
    root = tmp_path_factory.mktemp("runs") / "archive"
    for number in range(STUDIES):
        write_study(root / f"s{number:02d}", PATIENT.format(number=number), REFUSE if number == REFUSED else SLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_PSEUDONYM_SECRET", "a secret of this test module")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
        fresh_fork_server()
        yield root


@pytest.fixture(scope="module")
def in_a_folder(archive) -> dict:
    """What a run into a folder gives."""
    cohort = archive.parent / "cohort"
    screen(archive, str(cohort), pictures=True)
    return contents(str(cohort))


@pytest.fixture(scope="module")
def in_a_bucket(archive) -> tuple[str, Night]:
    """A run into a bucket: the cohort and what the run did."""
    cohort = f"{make_bucket()}/spines"
    return cohort, screen(archive, cohort, pictures=True)[0]


def screen(archive: Path, cohort: str, pictures: bool = False) -> tuple[Night, list[str]]:
    said: list[str] = []
    settings = load_settings(flags={**FLAGS, "run.pictures": pictures})
    night = screen_archives([str(archive)], cohort, settings, "loop", "engine_methods:marked", say=said.append)
    return night, said


def contents(cohort: str) -> dict:
    """Every data column of every row of all tables; timings and the device are left out."""
    layout = Layout(place_of(cohort))
    found: dict = {}
    for table in TABLES:
        rows = read_table(latest_snapshot(layout) / f"{table}.parquet").select(data_columns(table)).to_pylist()
        found[table] = sorted(json.dumps(row, default=str) for row in rows)
    return found


def pictures(cohort: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Layout(place_of(cohort)).pictures.iterdir()}


def start(archive: Path, cohort: str, **environment: str) -> subprocess.Popen:
    flags = [f"{name}={value}" for name, value in FLAGS.items()]
    command = [sys.executable, "-m", "engine_run", str(archive), cohort, "runner=loop", "run.pictures=false", *flags]
    with open(archive.parent / "out", "wb") as sink:
        return subprocess.Popen(command, stdout=sink, stderr=sink, env={**os.environ, **environment})


def wait_for_shards(process: subprocess.Popen, cohort: str, number: int) -> None:
    deadline = time.monotonic() + 300
    while len(Layout(place_of(cohort)).marks()) < number:
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline, "no shard was committed"
        time.sleep(0.1)


def nothing_is_left_over(cohort: str) -> None:
    """No plan, no lock, no upload that was not ended."""
    assert not [name for name in objects(cohort) if name.startswith("private/plans/")]
    assert json.loads(Layout(place_of(cohort)).lock.read_bytes())["owner"] is None
    assert filesystem().list_multipart_uploads(cohort.removeprefix("s3://").split("/")[0]) == []


def test_a_run_into_a_bucket_gives_what_a_run_into_a_folder_gives(archive, in_a_folder, in_a_bucket):
    cohort, night = in_a_bucket
    assert (night.settled.measured, night.settled.refused, night.settled.left) == (STUDIES - 1, 1, 0)
    assert contents(cohort) == in_a_folder
    assert pictures(cohort) == pictures(str(archive.parent / "cohort"))
    assert len(pictures(cohort)) == STUDIES - 1
    nothing_is_left_over(cohort)
    again, _ = screen(archive, cohort)
    assert (again.due, again.snapshot.is_new) == (0, False)
    logged = "".join(path.read_text() for path in Layout(place_of(cohort)).logs(night.run).iterdir())
    assert logged.count('"study_done"') == STUDIES
    assert logged.count('"run_ended"') == 1


def test_nothing_private_lies_where_tables_are_published(in_a_bucket):
    """Rights in a bucket go by prefix: snapshots may be opened to analysts without a key to a patient."""
    cohort, _ = in_a_bucket
    names = list(objects(cohort))
    assert {name for name in names if "secret" in name or "links" in name} == {"private/links.parquet"}
    published = {name.rsplit("/", 1)[1] for name in names if name.startswith("snapshots/")}
    assert published == {f"{table}.parquet" for table in TABLES} | {"dictionary.json", "provenance.json"}
    store = filesystem()
    for name in names:
        if not name.startswith("private/"):
            data = store.cat_file(f"{cohort}/{name}")
            assert not any(PATIENT.format(number=number).encode() in data for number in range(STUDIES)), name


def test_kill_9_half_way_and_run_again(archive, in_a_folder, bucket, tmp_path):
    cohort = f"{bucket}/spines"
    process = start(archive, cohort, TMPDIR=str(tmp_path))
    wait_for_shards(process, cohort, 1)
    process.kill()
    process.wait()
    assert cohort_state(Layout(place_of(cohort))).runs[0].state == DEAD
    night, said = screen(archive, cohort)
    assert any(line.startswith("taking over from a run that died") for line in said)
    assert 0 < night.due < STUDIES
    assert contents(cohort) == in_a_folder
    assert [run.state for run in cohort_state(Layout(place_of(cohort))).runs] == [ENDED, DEAD]
    nothing_is_left_over(cohort)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_network_that_fails_every_seventh_time_changes_nothing(archive, in_a_folder, bucket, s3, monkeypatch):
    cohort = f"{bucket}/spines"
    with flaky(s3.port, every=7) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        forget_clients()
        night, _ = screen(archive, cohort)
        monkeypatch.undo()
    forget_clients()
    assert min(proxy.done[fault] for fault in FAULTS) >= 2, proxy.done
    assert (night.settled.measured, night.settled.left) == (STUDIES - 1, 0)
    assert contents(cohort) == in_a_folder
    nothing_is_left_over(cohort)


def forget_clients() -> None:
    """s3fs keeps clients, with the address they were made for."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_that_vanishes_is_one_line_and_code_3(archive, bucket):
    cohort = f"{bucket}/spines"

    def remove_after_the_first_shard() -> None:
        while not Layout(place_of(cohort)).marks():
            time.sleep(0.05)
        filesystem().call_s3("delete_bucket", Bucket=bucket.removeprefix("s3://"))  # at once, whatever is in it

    remover = threading.Thread(target=remove_after_the_first_shard, daemon=True)
    remover.start()
    with pytest.raises(CouldNotRun) as ended:
        screen(archive, cohort)
    remover.join()
    assert explain(ended.value) == (f"{cohort}: there is no such bucket", 3)
    assert not filesystem().exists(bucket)  # nobody made it again


@pytest.mark.parametrize(
    ("environment", "line"),
    [({"AWS_SECRET_ACCESS_KEY": "wrong"}, "access denied"), ({"AWS_ACCESS_KEY_ID": ""}, "no credentials")],
)
@pytest.mark.parametrize("verb", ["screen", "status", "tables", "prevalence", "show"])
def test_wrong_credentials_are_one_line_and_code_3(archive, bucket, capsys, monkeypatch, environment, line, verb):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    cohort = f"{bucket}/spines"
    assert main(["screen", str(archive), "--cohort", cohort] if verb == "screen" else [verb, cohort]) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"vertebra: {cohort}: {line}")
    monkeypatch.undo()
    forget_clients()
    assert objects(bucket) == {}
