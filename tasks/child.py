"""A process that answers one call after another, with a deadline for each, and whose death is seen at once.

pebble and the pools of the standard library hand calls out through a lock or a queue that a child holds while it waits;
one that is killed just then leaves the lock taken, and the next call waits for ever (seen with pebble 5.2.3). Here
there is one child and one pipe, and whoever waits for an answer waits for the end of the process, too.
"""

import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, ForkServerContext
from multiprocessing.util import Finalize
from typing import Any

from vertebra_core.errors import CouldNotRun

OUT_OF_MEMORY_EXIT = 77
"""Exit code by which a child says that it ended itself for want of memory."""
START_SECONDS = 600.0
"""Longest wait for a new child. The first one waits for the imports of the fork server: 2 s, a minute on a busy
machine; this only bounds one that hangs."""
END_SECONDS = 30.0
"""Longest wait for a killed process to be gone; one that waits for a disk is left to the system."""


class DeadlineExceeded(Exception):
    """The child did not answer in time, and was killed."""


class ChildDied(Exception):
    """The child died over a call.

    Parameters
    ----------
    exit_code : int
        Negative: the signal that killed it.
    """

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"exit code {exit_code}")


class ChildGone(Exception):
    """The child had died before it was asked: nothing was lost with it."""


class Child:
    """One child process; `ask` it, and `close` it in the end. It does not outlive its parent (`prepare` sees to that).

    Parameters
    ----------
    context : ForkServerContext or ForkContext
        How a process is made.
    prepare : callable
        Called once in the child, before anything else.
    arguments : sequence
        Of `prepare`.
    """

    def __init__(
        self, context: ForkServerContext | ForkContext, prepare: Callable[..., None], arguments: Sequence[Any]
    ) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=[theirs, prepare, arguments], daemon=True)
        self._process.start()
        theirs.close()
        # At exit a process waits for its children; a worker that is told to end would hang on a child that is not.
        self.close = Finalize(self, _end, args=[self._process, self._pipe], exitpriority=10)
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self._process.pid

    def ask(self, function: Callable[..., Any], arguments: Sequence[Any], deadline_s: float) -> Any:
        """What the function returns in the child, or raises there.

        Parameters
        ----------
        function : callable
            Found by its import path.
        arguments : sequence
        deadline_s : float
            Seconds from the call to the answer; the start of the child is not counted.

        Raises
        ------
        ChildGone
            It was dead already; ask another one.
        ChildDied, DeadlineExceeded
            It is lost with this call.
        """
        try:
            if not self._is_ready:
                self._receive(START_SECONDS)
                self._is_ready = True
            if not self._process.is_alive():
                raise ChildGone
            self._pipe.send((function, arguments))
        except (ChildDied, DeadlineExceeded, BrokenPipeError, ConnectionResetError):
            self.close()
            raise ChildGone from None
        try:
            returned, raised = self._receive(deadline_s)
        except (ChildDied, DeadlineExceeded):
            self.close()
            raise
        if raised is not None:
            raise raised
        return returned

    def _receive(self, deadline_s: float) -> Any:
        if not wait([self._pipe, self._process.sentinel], deadline_s):
            raise DeadlineExceeded
        try:
            if self._pipe.poll():
                return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            pass  # dead, or about to be
        self._process.join(END_SECONDS)
        code = self._process.exitcode
        raise ChildDied(code if code is not None else -1)


def _answer(pipe: Connection, prepare: Callable[..., None], arguments: Sequence[Any]) -> None:
    """The life of a child."""
    prepare(*arguments)
    pipe.send(None)
    while True:
        try:
            function, given = pipe.recv()
        except EOFError:  # the parent has closed its end
            return
        try:
            answer = function(*given), None
        except Exception as error:
            answer = None, error
        _send(pipe, answer)


def _send(pipe: Connection, answer: tuple[Any, Exception | None]) -> None:
    try:
        pipe.send(answer)
    except MemoryError:
        os._exit(OUT_OF_MEMORY_EXIT)
    except OSError:  # the parent is gone
        os._exit(1)
    except Exception:  # what cannot be pickled: an odd error of a library
        pipe.send((None, CouldNotRun(f"unforeseen {type(answer[1] or answer[0]).__name__} in a measuring process")))


def _end(process: Any, pipe: Connection) -> None:
    process.kill()
    process.join(END_SECONDS)
    pipe.close()
