"""The record of a run, ``logs/RUN/run.json``: who, when, by which software and settings, and how it ended.

Written by the process that leads the run, when it begins, when it has planned and when it is over; a run that was
killed leaves what was known until then. No identifier of a patient stands in it, and no path of a study.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any

from tasks.clock import now
from vertebra_core.cohort.commit import create, replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.lock import Owner, this_process

PACKAGES = ("vertebra", "torch", "numpy", "scipy", "pydicom", "SimpleITK", "dask", "prefect")
"""Whose versions a record names: those a height, or the fate of a shard, may depend on."""


def begin_record(layout: Layout, run: str, dead: Owner | None = None) -> None:
    """Say that a run has begun.

    Parameters
    ----------
    layout : Layout
    run : str
    dead : Owner, optional
        The owner from whom the cohort was taken over.
    """
    record = {
        "run": run,
        "started": now(),
        "owner": asdict(this_process()),
        "took_over": asdict(dead) if dead else None,
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    create(layout.run_record(run), _document(record))


def add_to_record(layout: Layout, run: str, **more: object) -> None:
    """Say more of a run."""
    record = json.loads(layout.run_record(run).read_text())
    replace(layout.run_record(run), _document({**record, **more}))


def end_record(layout: Layout, run: str, **more: object) -> None:
    """Say that a run has come to its end, and what else is to be known of it."""
    add_to_record(layout, run, ended=now(), **more)


def stop_record(layout: Layout, run: str, error: BaseException) -> None:
    """Say that a run was stopped by an error, by its type alone; where that cannot be written, nothing is said."""
    with suppress(Exception):
        add_to_record(layout, run, stopped=now(), error=type(error).__name__)


def _document(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=1, default=str).encode()
