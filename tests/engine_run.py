"""Screen with a test method, as a program of its own: ``python -m engine_run ARCHIVE COHORT [FLAG=VALUE]``."""

import signal
import sys

from flows.cli import explain, interrupt, open_standard_streams


def main(archive: str, cohort: str, *words: str) -> int:
    from flows.server import hush
    from flows.settings import assignments, load_settings

    hush()
    flags = assignments(words)
    runner, method = flags.pop("runner", "dask"), flags.pop("method", "engine_methods:marked")
    from flows.screen import screen_archives

    night = screen_archives([archive], cohort, load_settings(flags=flags), runner, method)
    return int(night.has_failures)


if __name__ == "__main__":
    open_standard_streams()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        code = main(*sys.argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        message, code = explain(error)
        print(message)
    sys.exit(code)
