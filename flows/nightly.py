"""The scheduled night of ``prefect.yaml``: what ``vertebra screen`` does, as a Prefect flow."""

from dataclasses import asdict

from prefect import flow

from flows.screen import screen_archives
from flows.settings import load_settings


@flow(name="nightly", persist_result=False)
def nightly(archives: list[str], cohort: str, profile: str = "local") -> dict:
    """Screen what is new and publish; the shards run as a flow within this one.

    Returns
    -------
    dict
        How the studies of the archives stand (`tasks.publish.Settled`).
    """
    night = screen_archives(archives, cohort, load_settings(profile))
    return {"run": night.run, **asdict(night.settled)}
