"""Runs as forks of one process that has everything imported: real processes that start in a tenth of a second.

A run can be told to kill itself (SIGKILL) right before its n-th change of the cohort: Python tells a hook of every
file that is opened for writing, linked, renamed and removed (PEP 578). So every instant between two changes can be met,
and the code that is killed is the code that runs every night. Changes of the thread that renews the lock are counted
apart: the others come in the same order in every run.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path

from engine_archive import fresh_fork_server

from reliability.ground import SECRET, WAIT_SECONDS, Ended, Ground

PRELOAD = ["torch", "engine_run", "engine_methods", "flows.screen", "flows.loop", "tasks.study", "reliability.forks"]
PRELOAD += ["vertebra_core.reading.formats", "vertebra_core.report.picture"]
CHANGES = {"os.rename": 1, "os.link": 1, "os.remove": 0, "os.rmdir": 0}
"""Events of the hook, and which of their arguments is the path that changes."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
QUICK_RENEWAL_SECONDS = 0.05
"""A run of a second renews its lock too, so that it can be killed while it does."""


class Forks:
    """Starts runs on a ground."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        fresh_fork_server()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        forkserver._forkserver.ensure_running()
        self._address = forkserver._forkserver._forkserver_address

    def start(self, cohort: str, kill_at: int = 0, output: str = ""):
        """Start a run; with ``kill_at`` it kills itself before that change (negative: of the renewal)."""
        words = self._ground.command(cohort)[3:]
        arguments = (self._address, words, str(self._ground.output(output or cohort)), words[1], kill_at)
        process = self._context.Process(target=_run, args=arguments)
        process.start()
        return process

    def ended(self, process, cohort: str) -> Ended:
        """Wait for a run."""
        process.join(WAIT_SECONDS)
        assert process.exitcode is not None, "the run hangs"
        return Ended(process.exitcode, self._ground.output(cohort).read_text(errors="replace"))

    def run(self, cohort: str, kill_at: int = 0, output: str = "") -> Ended:
        """Run to the end."""
        return self.ended(self.start(cohort, kill_at, output), output or cohort)

    def changes(self, cohort: str) -> list[str]:
        """Run undisturbed; every change it makes, in order."""
        done = self.run(cohort)
        assert done.code in (0, 1), done
        return Path(f"{self._ground.output(cohort)}.changes").read_text().splitlines()


def _run(address: str, words: Sequence[str], output: str, cohort: str, kill_at: int) -> None:
    """What a fork does."""
    import engine_run

    import flows.screen
    from flows.cli import explain

    server = forkserver._forkserver
    server._forkserver_address, server.ensure_running = address, lambda: None  # sandboxes from the same server
    os.environ["VERTEBRA_PSEUDONYM_SECRET"] = SECRET
    sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    flows.screen.RENEW_SECONDS = QUICK_RENEWAL_SECONDS
    signal.signal(signal.SIGTERM, engine_run.interrupt)
    _watch_changes(cohort, f"{output}.changes", kill_at)
    try:
        code = engine_run.main(*words)
    except (Exception, KeyboardInterrupt) as error:
        message, code = explain(error)
        print(message)
    sys.stdout.flush()
    os._exit(code)


def _watch_changes(cohort: str, log: str, kill_at: int) -> None:
    main, numbers, renewals = threading.main_thread(), itertools.count(1), itertools.count(1)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hear(event: str, arguments: tuple) -> None:
        if event == "open":
            path, changes = arguments[0], bool((arguments[2] or 0) & WRITING)
        elif event in CHANGES:
            path, changes = arguments[CHANGES[event]], True
        else:
            return
        if not changes or isinstance(path, int) or not os.fspath(path).startswith(cohort):
            return
        number = next(numbers) if threading.current_thread() is main else -next(renewals)
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number > 0:
            os.write(sink, f"{event} {os.path.relpath(path, cohort)}\n".encode())

    sys.addaudithook(hear)
