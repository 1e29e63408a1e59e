"""``vertebra serve``: nightly screening on one machine."""

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def serve(
    *,
    config: Annotated[Path, Parameter(help="The deployments: a prefect.yaml.")] = Path("prefect.yaml"),
    port: Annotated[int, Parameter(help="Of the server.")] = 4200,
    host: Annotated[
        str, Parameter(help="Address the server listens on; 0.0.0.0: all, without any login.")
    ] = "127.0.0.1",
    api: Annotated[str | None, Parameter(help="Use the Prefect server at this URL instead of an own one.")] = None,
    grace: Annotated[float, Parameter(help="Seconds that nights get to wind up when everything is stopped.")] = 120.0,
) -> int:
    """Run scheduled nights on this machine: Prefect's server, the deployments of prefect.yaml, and a worker.

    Runs until it is stopped (Ctrl-C, SIGTERM); for a service see deployments/schedules. What it keeps lies in
    ~/.local/state/vertebra, or where VERTEBRA_STATE_DIR says.

    Example: vertebra serve --config prefect.yaml
    """
    from flows.cli import DONE
    from flows.server import hush, state_folder_base
    from vertebra_core.errors import WrongUse

    if not config.is_file():
        raise WrongUse(f"no such file: {config}; start from the prefect.yaml of Vertebra (docs/nightly.md)")
    hush()
    from flows.serve import Serving  # brings Prefect
    from flows.serve import serve as serve_until_stopped

    serving = Serving(config, state_folder_base() / "serve", host, port, api, grace)
    serve_until_stopped(serving, partial(print, flush=True))
    return DONE
