"""Fixtures that several kinds of tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, so that a change is blamed for what it broke; HYPOTHESIS_PROFILE=default searches on.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[Path]:
    """A real Prefect server for the whole session, configured as its users would; yields its folder."""
    from flows.server import prefect_api

    state = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_STATE_DIR", str(state))
        with prefect_api(state):
            assert os.environ["PREFECT_API_URL"].startswith("http://127.0.0.1:")
            yield state
