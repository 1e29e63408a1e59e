"""`vertebra serve`: children that are kept running, runs whose process is dead, files of deployments."""

import inspect
import os
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from flows import supervise
from flows.cli import main
from flows.serve import Deployments, Serving, only_one, read_config, settings_of, start_server, tell_missing
from flows.settings import load_settings
from flows.stale import ActiveRun, is_dead
from flows.supervise import Child
from vertebra_core.cohort.lock import this_process
from vertebra_core.errors import CouldNotRun, WrongUse

ROOT = Path(__file__).resolve().parents[2]
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def child(tmp_path, command) -> Child:
    return Child("server", command, {}, tmp_path / "child.log")


def until(look, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- children -----------------------------------------------------------------------------------------------------


def test_a_child_that_keeps_ending_is_started_again_with_longer_pauses(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "FIRST_PAUSE_SECONDS", 0.01)
    said: list[str] = []
    kept = child(tmp_path, [sys.executable, "-c", "print('once'); raise SystemExit(4)"])
    kept._pause = 0.01
    kept.start()
    until(lambda: kept.keep_running(said.append) and len(said) == 4)
    kept.stop(10)
    assert said[0].startswith("server ended (code 4); again in 0 s; see ")
    assert kept._pause == pytest.approx(0.16)
    assert (tmp_path / "child.log").read_text().count("once") >= 4


def test_a_child_that_lived_long_is_started_again_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "SOUND_SECONDS", 0.0)
    kept = child(tmp_path, SLEEP)
    kept.start()
    kept._pause = 60.0
    first = kept.process
    first.kill()
    first.wait()
    said: list[str] = []
    until(lambda: kept.keep_running(said.append))
    assert said == [f"server ended (signal 9); again in 1 s; see {kept.log}"]
    assert kept.process.pid != first.pid
    kept.stop(10)


def test_a_stopped_child_leaves_nothing_that_it_started(tmp_path):
    command = f"import subprocess, sys, time; subprocess.Popen({SLEEP!r}); print('up', flush=True); time.sleep(600)"
    kept = child(tmp_path, [sys.executable, "-c", command])
    kept.start()
    until(lambda: "up" in kept.log.read_text())
    (grandchild,) = psutil.Process(kept.process.pid).children()
    kept.stop(10)
    assert not psutil.wait_procs([grandchild], timeout=10)[1]


def test_a_large_log_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "LARGEST_LOG", 10)
    (tmp_path / "child.log").write_text("a long line of an earlier day")
    kept = child(tmp_path, [sys.executable, "-c", "print('new')"])
    kept.start().wait()
    kept.stop(10)
    assert (tmp_path / "child.old.log").read_text() == "a long line of an earlier day"
    assert (tmp_path / "child.log").read_text() == "new\n"


def test_the_worker_dies_with_its_owner_and_takes_its_runs_along(tmp_path):
    """The owner is killed by signal 9: its pipe closes, and that is all the child hears."""
    code = (
        "import subprocess, sys, time; from flows.owned import follow_owner; "
        "from flows.worker_process import leave_with_nights; "
        f"run = subprocess.Popen({SLEEP!r}); follow_owner(leave_with_nights); print(run.pid, flush=True); "
        "time.sleep(600)"
    )
    owner = (
        f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {code!r}], stdin=subprocess.PIPE); "
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        run = psutil.Process(int(process.stdout.readline()))
        worker = run.parent()
        process.kill()
        assert not psutil.wait_procs([run, worker], timeout=60)[1]


# -- dead runs ----------------------------------------------------------------------------------------------------


def active(**more) -> ActiveRun:
    return replace(ActiveRun(uuid.uuid4(), "a-run", None, None, datetime.now(UTC)), **more)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_signed_run_lives_and_dies_with_its_process():
    me = this_process()
    assert not is_dead(active(owner=me))
    assert is_dead(active(owner=replace(me, pid=dead_pid())))
    assert is_dead(active(owner=replace(me, started=me.started - 1000)))  # the number was given to another process
    assert not is_dead(active(owner=replace(me, host="elsewhere", pid=dead_pid())))  # cannot be seen from here


def test_an_unsigned_run_is_judged_only_where_all_runs_are_of_this_machine():
    now = datetime.now(UTC)
    dead = active(pid=dead_pid())
    assert not is_dead(dead)
    assert is_dead(dead, worker_since=now)
    assert not is_dead(active(pid=os.getpid()), worker_since=now)
    assert is_dead(active(pid=os.getpid(), since=now - timedelta(days=1)), worker_since=now)  # number given again


def test_a_run_that_never_got_a_process_is_dead_once_its_worker_was_started_again():
    now = datetime.now(UTC)
    waiting = active(since=now - timedelta(minutes=5))
    assert is_dead(waiting, worker_since=now)
    assert not is_dead(waiting, worker_since=now - timedelta(minutes=10))


# -- what is served -----------------------------------------------------------------------------------------------


def test_the_deployments_of_the_project_name_flows_that_take_their_parameters():
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    names = [deployment["name"] for deployment in document["deployments"]]
    assert names == ["nightly", "weekly-report", "on-demand"]
    for deployment in document["deployments"]:
        flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
        inspect.signature(flow.fn).bind(**deployment["parameters"])
        assert (flow.retries, flow.persist_result) == (0, False)
    nightly = document["deployments"][0]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert nightly["schedules"][0]["timezone"]
    assert read_config(ROOT / "prefect.yaml") == Deployments("vertebra", tuple(names), ("/archive/ct",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "ParserError"),
        ("just text", "TypeError"),
        ("deployments: [{name: a}]", "KeyError"),
        (
            "deployments: [{name: a, work_pool: {name: x}}, {name: b, work_pool: {name: y}}]",
            "one work pool, found x, y",
        ),
    ],
)
def test_a_file_that_is_no_file_of_deployments_is_refused(tmp_path, text, says):
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(WrongUse, match=says):
        read_config(tmp_path / "prefect.yaml")


def test_an_archive_that_is_not_there_is_told(tmp_path):
    (tmp_path / "here").mkdir()
    said: list[str] = []
    found = Deployments("vertebra", ("nightly",), ("here", "/nowhere/ct", "s3://bucket/ct"))
    tell_missing(Serving(tmp_path / "prefect.yaml", tmp_path), found, said.append)
    assert said == [f"no such archive now: /nowhere/ct; the place stands in {tmp_path / 'prefect.yaml'}"]


def test_a_missing_file_is_one_line_and_wrong_use(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["serve"]) == 2
    assert capsys.readouterr().err.startswith("vertebra: no such file: prefect.yaml")


def test_a_second_one_is_refused(tmp_path):
    with only_one(tmp_path / "home"), pytest.raises(CouldNotRun, match="served already"), only_one(tmp_path / "home"):
        pass
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_told(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        serving = Serving(ROOT / "prefect.yaml", tmp_path, port=taken.getsockname()[1])
        with pytest.raises(CouldNotRun, match="Address already in use; --port takes another"):
            start_server(serving)


def test_the_settings_send_nothing_anywhere_and_keep_every_service_for_schedules(tmp_path):
    settings = settings_of(Serving(ROOT / "prefect.yaml", tmp_path))
    assert settings["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert (settings["DO_NOT_TRACK"], settings["PREFECT_SERVER_ANALYTICS_ENABLED"]) == ("1", "false")
    assert settings["PREFECT_LOGGING_TO_API_ENABLED"] == "false"
    assert not [name for name in settings if name.endswith(("SCHEDULER_ENABLED", "TRIGGERS_ENABLED"))]


def test_the_folder_of_the_deployments_is_no_misspelt_setting(monkeypatch):
    """Prefect's pull step reads it from the environment, where our settings are looked for, too."""
    monkeypatch.setenv("VERTEBRA_HOME", str(ROOT))
    assert load_settings().profile == "local"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_systemd_unit_is_sound(tmp_path):
    (unit,) = (ROOT / "deployments" / "schedules").glob("*.service")
    text = unit.read_text().replace("/srv/vertebra/.venv/bin/vertebra", shutil.which("true") or "")
    (tmp_path / unit.name).write_text(text)
    checked = subprocess.run(["systemd-analyze", "verify", str(tmp_path / unit.name)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
