"""Fixtures that several kinds of tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import b0_hu, measured_heights, write_b0
from engine_archive import fresh_fork_server
from hypothesis import settings
from reading_cases import MIDDLE, SMALL, read_only
from s3_server import bucket, s3  # noqa: F401 - fixtures of all tests

from vertebra_core.volume import Volume

# Studies that tests write are minutes old at most; the tests of arriving studies set the limit themselves.
os.environ["VERTEBRA_RUN__SETTLE_MINUTES"] = "0"
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


@pytest.fixture(scope="module")
def methods_are_found() -> Iterator[None]:
    """The children of sandboxes import `engine_methods`, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        fresh_fork_server()
        yield


# -- clean series that the tests of reading spoil ------------------------------------------------------------------


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Path:
    """The middle of B0, one file a slice."""
    folder = tmp_path_factory.mktemp("b0")
    write_b0(folder, grid=MIDDLE)
    return folder


@pytest.fixture(scope="session")
def b0(clean) -> Volume:
    return read_only(clean)[1]


@pytest.fixture(scope="session")
def b0_heights(b0) -> np.ndarray:
    return measured_heights(b0)


@pytest.fixture(scope="session")
def small_hu() -> np.ndarray:
    return b0_hu(SMALL)


@pytest.fixture(scope="session")
def small(tmp_path_factory, small_hu) -> Path:
    """B0 on the coarse grid, one file a slice."""
    folder = tmp_path_factory.mktemp("small")
    write_b0(folder, hu=small_hu, grid=SMALL)
    return folder
