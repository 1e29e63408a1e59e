"""A Prefect server as one process that cannot outlive its owner.

Started as ``python -m flows.server_process PORT [HOST]`` with its settings in the environment: by `flows.server` for
one run, by `flows.serve` for all nights. ``prefect server start`` would leave a uvicorn grandchild behind.
"""

import sys

from flows.owned import follow_owner

LOOPBACK = "127.0.0.1"


def main(port: str, host: str = LOOPBACK) -> None:
    """Serve the Prefect API; the owner's death ends it at once, for the database survives: a journalled SQLite."""
    follow_owner()
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(final=True), host=host, port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
