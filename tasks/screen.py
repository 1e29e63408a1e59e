"""The Prefect task that screens one shard on a Dask worker."""

import functools

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.plan import read_shard
from tasks.sandbox import Sandbox
from tasks.settings import RunSettings
from tasks.shard import run_shard
from tasks.until import stop_file
from vertebra_core.cohort.layout import Layout
from vertebra_core.storage import place_of


@task(name="screen-shard", task_run_name="shard-{shard}", persist_result=False, cache_policy=NO_CACHE)
def screen_shard(cohort: str, run: str, shard: str) -> dict[str, int]:
    """Screen one shard. The arguments name no patient: the shard itself lies in the cohort's private folder.

    No Prefect retries: on Dask they do not see a dead worker, and what is left is told by the ledger.
    """
    layout = Layout(place_of(cohort))
    settings = read_shard(layout, run, shard).run_settings
    return run_shard(layout, run, shard, _sandbox_of_this_process(settings), stop_file(layout, run).exists)


@functools.lru_cache(maxsize=1)
def _sandbox_of_this_process(settings: RunSettings) -> Sandbox:
    """The sandbox lives as long as the Dask worker: networks are loaded once, not once per shard."""
    return Sandbox(settings)
