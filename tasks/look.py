"""What a Dask worker sees where it is: asked of every worker before a run hands shards out.

A worker on another host may have another version, no way to the cohort, or no leave to start a sandbox. Every study
it took would end as a row that blames the study; so the run asks first and refuses in one line.
"""

import multiprocessing
import os
from importlib import metadata

from tasks.method import named_method
from tasks.plan import Shard, read_shard
from vertebra_core.cohort.layout import Layout
from vertebra_core.reading.files import open_file
from vertebra_core.storage import place_of

API_VARIABLE = "PREFECT_API_URL"


def look_around(cohort: str, run: str, shard: str, version: str, api: str) -> str:
    """What keeps this worker from screening a shard; "" if nothing does. Runs on the worker, names no patient.

    Parameters
    ----------
    cohort, run, shard : str
    version, api : str
        Of this package, and the address of Prefect's server, where the run is led from.
    """
    if metadata.version("vertebra") != version:
        return f"has vertebra {metadata.version('vertebra')}, the run is led by {version}"
    if multiprocessing.current_process().daemon:
        return "may not start a sandbox: it needs DASK_DISTRIBUTED__WORKER__DAEMON=False, as `vertebra worker` sets it"
    if os.environ.get(API_VARIABLE) != api:
        return f"has {API_VARIABLE} {os.environ.get(API_VARIABLE)}, the run is led with {api}"
    try:
        plan = read_shard(Layout(place_of(cohort)), run, shard)
    except Exception as error:
        return f"cannot read the plan in {cohort} ({type(error).__name__}): same path or URL on every host?"
    if named_method(plan.method).digest != plan.identity.model_digest:
        return "has other weights"
    if not sees_archive(plan):
        return f"cannot read the archive {plan.studies[0].series.archive}: same path or URL on every host?"
    return ""


def sees_archive(shard: Shard) -> bool:
    """Whether the first file of a shard can be opened from here."""
    series = shard.studies[0].series
    try:
        with open_file(series.archive, series.files[0]):
            return True
    except Exception:
        return False
