"""A method for the test of leaks: as `engine_methods`, but it talks, and what it says are names and identifiers."""

import ctypes
import logging
import os
import sys
import warnings

import numpy as np
from engine_methods import MARK_HU_STEP, RAISE, _do_as_marked
from planted import UID_ROOT

from tasks.method import Method
from vertebra_core.settings import Settings
from vertebra_core.study import StudyResult, Watch
from vertebra_core.volume import Volume

SAID = "Zq99999x"


def talking() -> Method:
    """Say an identifier in every way a library can, then do what the first voxel says."""
    return Method("digest-of-talking", lambda device: _talk_and_do)


def _talk_and_do(volume: Volume, settings: Settings, watch: Watch) -> StudyResult:
    print(f"patient {SAID}")
    print(f"patient {SAID}", file=sys.stderr)
    warnings.warn(f"Invalid value for VR UI: '{UID_ROOT}.99999' of {SAID}", stacklevel=1)
    logging.getLogger("pydicom").error("patient %s", SAID)
    os.write(2, f"a library in C says {SAID}\n".encode())
    ctypes.CDLL(None).puts(f"a library in C says {SAID}".encode())
    if round(float(volume.hu[0, 0, 0]) / MARK_HU_STEP) == RAISE:
        raise KeyError(f"{SAID} of {volume.source!r} has no key {np.float64(0)}")
    return _do_as_marked(volume, settings, watch)
