"""Prefect's process worker for one work pool, as a process that cannot outlive its owner.

Started by `flows.serve` as ``python -m flows.worker_process POOL NAME``, with its settings in the environment. SIGTERM
is turned into SIGINT by Prefect, which a process started in the background of a shell ignores: not here.
"""

import os
import signal
import sys

from flows.owned import follow_owner
from flows.supervise import descendants


def leave_with_nights() -> None:
    """End the runs of this worker, which nobody would look after, and this process."""
    for process in descendants(os.getpid()):
        process.terminate()
    os._exit(0)


def main(pool: str, name: str) -> None:
    """Take runs from the pool until told to stop."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    follow_owner(leave_with_nights)
    from prefect.cli import app

    words = ["worker", "start", "--pool", pool, "--type", "process", "--name", name]
    sys.argv = ["prefect", *words, "--no-create-pool-if-not-found"]
    app()


if __name__ == "__main__":
    main(*sys.argv[1:])
