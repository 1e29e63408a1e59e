"""A method for tests of the sentinel studies: as `engine_methods.marked`, but its heights drift when it is told so."""

import os
from dataclasses import replace
from pathlib import Path

from engine_methods import _do_as_marked

from tasks.method import Method
from vertebra_core.measure import measure_vertebrae
from vertebra_core.settings import Settings
from vertebra_core.study import StudyResult, Watch
from vertebra_core.volume import Volume

DRIFT = "SENTINEL_TEST_DRIFT"
"""Variable naming a file with the drift in mm; a new library would do so without changing any digest."""


def drifting() -> Method:
    """Measure, and add to the anterior height what the file says."""
    return Method("digest-of-drifting", lambda device: _drifted)


def other() -> Method:
    """The same with other weights."""
    return Method("digest-of-other0", lambda device: _drifted)


def _drifted(volume: Volume, settings: Settings, watch: Watch) -> StudyResult:
    result = _do_as_marked(volume, settings, watch)
    points = result.points.copy()
    points[:, 0, 2] += float(Path(os.environ[DRIFT]).read_text())
    return replace(result, points=points, sizes=measure_vertebrae(points))
