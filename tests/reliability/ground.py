"""The ground of every scenario: an archive, what an undisturbed run makes of it, and runs as processes of their own."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from engine_archive import write_study
from engine_methods import GOOD, RAISE, REFUSE
from s3_server import die_with_parent

from vertebra_core.cohort.commit import TEMPORARY
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import marks, token_of
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.storage import Place, matching, place_of
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.schema import data_columns

TESTS = Path(__file__).resolve().parent.parent
TABLES = ("studies", "vertebrae", "patients", "levels_in_view", "other_series", "other_vertebrae")
SECRET = "a secret of the fault tests only"
WAIT_SECONDS = 600.0
"""Longest wait for anything; a busy machine takes minutes for what an idle one does in seconds."""
MOST_RUNS = 6
"""A fault that needs more reruns than this is not recovered from."""
DONE, DONE_WITH_FAILURES, COULD_NOT_RUN = 0, 1, 3
Contents = dict[str, list[str]]


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Parameters
    ----------
    code : int
        Exit code; negative: the signal that ended it.
    said : str
        What it printed.
    """

    code: int
    said: str

    @property
    def last_line(self) -> str:
        """What a person reads last."""
        return (self.said.strip().splitlines() or [""])[-1]


@dataclass
class Ground:
    """An archive in a folder, and the tables of the undisturbed run.

    Parameters
    ----------
    marks : tuple of int
        What each study does (`engine_methods`).
    flags : dict
        Settings of every run.
    """

    folder: Path
    marks: tuple[int, ...]
    flags: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    archive_name: str = "archive"

    def __post_init__(self) -> None:
        for number, mark in enumerate(self.marks):
            write_study(self.archive / f"s{number:02d}", f"Q77{number:02d}X", mark, number=7000 + number)
        self.before = fingerprint(self.archive)
        undisturbed = self.run("undisturbed")
        assert undisturbed.code in (DONE, DONE_WITH_FAILURES), undisturbed.said
        self.reference, self.pictures = contents(self.cohort("undisturbed")), pictures(self.cohort("undisturbed"))
        assert len(self.reference["studies"]) == len(self.marks)

    @property
    def archive(self) -> Path:
        """What is screened."""
        return self.folder / self.archive_name

    def cohort(self, name: str) -> str:
        """A cohort of this ground: a folder, or a URL as it is."""
        return name if "://" in name else str(self.folder / name)

    def command(self, cohort: str, *words: str) -> list[str]:
        """The command line of a run."""
        flags = {"run.workers": 1, "run.settle_minutes": 0, **self.flags}
        given = [f"{name}={value}" for name, value in flags.items()]
        return [
            sys.executable,
            "-m",
            "engine_run",
            str(self.archive),
            self.cohort(cohort),
            "runner=loop",
            *given,
            *words,
        ]

    def start(
        self, cohort: str, *words: str, before: tuple[str, ...] = (), output: str = "", **environment: str
    ) -> subprocess.Popen:
        """Start a run; ``before`` is put in front of its command (unshare), ``output`` names where its lines go."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "VERTEBRA_PSEUDONYM_SECRET": SECRET}
        everything = {**os.environ, **paths, **self.environment, **environment}
        with open(self.output(output or cohort), "wb") as sink:
            return subprocess.Popen(
                [*before, *self.command(cohort, *words)],
                cwd=self.folder,
                stdout=sink,
                stderr=sink,
                env=everything,
                preexec_fn=die_with_parent,
            )

    def output(self, cohort: str) -> Path:
        """Where a run's lines go."""
        return self.folder / (hashlib.sha256(cohort.encode()).hexdigest()[:12] + ".out")

    def ended(self, process: subprocess.Popen, cohort: str) -> Ended:
        """Wait for a run."""
        code = process.wait(timeout=WAIT_SECONDS)
        return Ended(code, self.output(cohort).read_text(errors="replace"))

    def run(
        self, cohort: str, *words: str, before: tuple[str, ...] = (), output: str = "", **environment: str
    ) -> Ended:
        """Run to the end."""
        process = self.start(cohort, *words, before=before, output=output, **environment)
        return self.ended(process, output or cohort)

    def finish(self, cohort: str, *words: str, **environment: str) -> int:
        """The same command again until nothing is left; how often that was."""
        for times in range(1, MOST_RUNS + 1):
            last = self.run(cohort, *words, **environment)
            assert last.code in (DONE, DONE_WITH_FAILURES, COULD_NOT_RUN), last
            assert "Traceback" not in last.said, last.said
            if last.code != COULD_NOT_RUN and last_record(self.cohort(cohort))["left"] == 0:
                return times
        raise AssertionError(f"not done after {MOST_RUNS} runs: {last}")

    def faults_of(self, cohort: str) -> list[str]:
        """What is not as if nothing had happened; empty if all is."""
        layout = Layout(place_of(self.cohort(cohort)))
        found = contents(self.cohort(cohort))
        wrong = [f"{table} differs" for table in TABLES if found[table] != self.reference[table]]
        if pictures(self.cohort(cohort)) != self.pictures:
            wrong.append("pictures differ")
        keys = Counter(json.loads(row)["study_key"] for row in found["studies"])
        wrong += [f"study {key} {times} times" for key, times in keys.items() if times > 1]
        record = last_record(self.cohort(cohort))
        if record["seen"] != len(self.marks) or record["seen"] != sum(
            record[end] for end in ("measured", "refused", "failed", "left")
        ):
            wrong.append(f"the counts do not add up: {record}")
        wrong += [f"left over: {name}" for name in left_over(layout)]
        if fingerprint(self.archive) != self.before:
            wrong.append("the archive was changed")
        return wrong


MIXED = (GOOD, GOOD, RAISE, GOOD, REFUSE, GOOD, GOOD, GOOD)
"""Eight studies: six are measured, one fails, one is refused."""


def contents(cohort: str) -> Contents:
    """Every data column of every row of the published tables; only timings and the device are left out."""
    folder, found = latest_snapshot(Layout(place_of(cohort))), {}
    for table in TABLES:
        rows = read_table(folder / f"{table}.parquet").select(data_columns(table)).to_pylist()
        found[table] = sorted(json.dumps(row, default=str) for row in rows)
    return found


def pictures(cohort: str) -> dict[str, str]:
    """Digest of every picture."""
    place = Layout(place_of(cohort)).pictures
    return {path.name: digest(path.read_bytes()) for path in matching(place, "*.png")}


def last_record(cohort: str) -> dict:
    """The record of the newest run."""
    return json.loads(Layout(place_of(cohort)).run_records()[-1].read_text())


def left_over(layout: Layout) -> list[str]:
    """Half-written files, plans, a lock, and marks of which a table is missing."""
    root = layout.root
    found: list[Place] = matching(layout.private / "plans", "*/*")
    if isinstance(root, Path):
        found += [path for path in root.rglob("*") if path.name.startswith(TEMPORARY)]
        found += [layout.lock] if layout.lock.exists() else []
    elif json.loads(layout.lock.read_text())["owner"] is not None:
        found.append(layout.lock)
    for mark in marks(layout):
        wanted = ("vertebrae", "levels_in_view")
        paths = [layout.companion(mark.run, mark.shard, token_of(mark), table) for table in wanted]
        found += [path for path in paths if not path.exists()]
    return [str(path) for path in found]


def fingerprint(folder: Path) -> str:
    """Changes with the name, the bytes and the time of any file."""
    lines = [
        f"{path.relative_to(folder)} {path.stat().st_mtime_ns} {digest(path.read_bytes())}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return digest("\n".join(lines).encode())


def digest(data: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(data).hexdigest()


def wait_until(happened: Callable[[], object], process: subprocess.Popen | None = None, what: str = "") -> None:
    """Wait for something that a run does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert process is None or process.poll() is None, f"the run ended before: {what}"
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.1)  # looking at all processes costs some, too


def n_marks(cohort: str) -> int:
    """Shards that are committed."""
    return len(Layout(place_of(cohort)).marks())


def children(process: subprocess.Popen, words: Iterable[str]) -> list[psutil.Process]:
    """Processes below a run whose command line holds all of these words."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if all(word in line for word in words):
            found.append(child)
    return found
