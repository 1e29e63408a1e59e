"""Processes that cannot outlive their owner.

The owner starts them with a pipe as standard input and never writes to it: when it dies, even by kill -9, the input
ends, and so do they.
"""

import os
import sys
import threading
from collections.abc import Callable


def leave_at_once() -> None:
    """End this process without any winding up."""
    os._exit(0)


def follow_owner(leave: Callable[[], None] = leave_at_once) -> None:
    """Watch for the owner's death in a thread of its own, and leave when it comes."""
    threading.Thread(target=_wait_for_end_of_input, args=(leave,), daemon=True).start()


def _wait_for_end_of_input(leave: Callable[[], None]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    leave()
