"""The private Prefect server as one process that cannot outlive its owner.

Started by `flows.server` as ``python -m flows.server_process PORT`` with its settings in the environment. The owner
holds the other end of standard input: when it dies, even by kill -9, the input ends and so does this process.
``prefect server start`` would leave a uvicorn grandchild behind.
"""

import os
import sys
import threading


def exit_with_owner() -> None:
    """Wait for the end of standard input, then leave at once: the database survives, it is a journalled SQLite."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)


def main() -> None:
    """Serve the Prefect API on the loopback port named on the command line."""
    threading.Thread(target=exit_with_owner, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(final=True), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
