"""Methods for tests of the engine: they measure nothing and ask for no network, but die, hang and grow as real ones do.

Named by import path ("engine_methods:marked") and run in the same sandbox as the real method.
"""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from engine_archive import MARK_HU_STEP

import tasks.study
from tasks.method import Measure, Method
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.geometry import CentreLine
from vertebra_core.measure import measure_vertebrae
from vertebra_core.settings import Settings, StraightenSettings
from vertebra_core.straighten import straighten
from vertebra_core.study import StudyResult, Watch
from vertebra_core.volume import Volume

GOOD, EXIT, SEGFAULT, HANG, GROW, RAISE, REFUSE, EXIT_ONCE, SLOW, KEEP, NEEDY, SPOILED, KILL_WORKER, CROWDED = range(14)
SLOWER = 14
HURRY = "ENGINE_TEST_HURRY"
"""Variable; where it is set, SLOWER is not slow."""
ONCE = "ENGINE_TEST_ONCE"
"""Variable naming a file that EXIT_ONCE leaves behind the first time."""
KEPT_MIB, NEEDED_MIB = 110, 440
"""What KEEP never gives back, and what NEEDY takes for a moment."""
kept: list[np.ndarray] = []
measured_before = 0


def marked() -> Method:
    """Do what the first voxel says."""
    return Method("digest-of-marked", lambda device: _do_as_marked)


def other() -> Method:
    """As `marked`, with other weights."""
    return Method("digest-of-other0", lambda device: _do_as_marked)


def _do_as_marked(volume: Volume, settings: Settings, watch: Watch) -> StudyResult:
    global measured_before
    mark = round(float(volume.hu[0, 0, 0]) / MARK_HU_STEP)
    watch("curve")
    measured_before += 1
    if mark == EXIT or (mark == EXIT_ONCE and _first_time()):
        os._exit(3)
    if mark == SEGFAULT:
        os.kill(os.getpid(), signal.SIGSEGV)
    if mark == HANG:
        while True:
            time.sleep(60)
    if mark == GROW:
        held = [np.ones(64 * 2**20) for _ in range(400)]  # 200 GiB, half a GiB at a time
        raise AssertionError(f"{len(held)} pieces fitted")
    if mark == RAISE:
        raise ValueError("Surname^Secret, born 1957, has no vertebrae")
    if mark == REFUSE:
        raise NotEvaluable(Reason.NO_SPINE)
    if mark == KEEP:
        kept.append(np.ones(KEPT_MIB * 2**17))
    if mark == NEEDY:
        np.ones(NEEDED_MIB * 2**17)
    if mark == SPOILED and measured_before > 1:
        raise OSError("Too many open files")
    if mark == KILL_WORKER:
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(60)
    if mark == CROWDED and tasks.study._reader.held_bytes() != 0:
        os._exit(3)  # as if the study that is read ahead had done it
    if mark == SLOWER and HURRY not in os.environ:
        time.sleep(3.0)
    if mark == SLOW:
        time.sleep(0.5)
    return _result(volume)


def _first_time() -> bool:
    try:
        Path(os.environ[ONCE]).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _result(volume: Volume) -> StudyResult:
    """Three vertebrae whose heights follow from the voxels: another volume gives other numbers."""
    signature = float(volume.hu[:, 8:24, 8:24].mean())
    z = volume.corners[:, 2].max() - np.array([8.0, 20.0, 32.0])
    centres = np.stack([np.zeros(3), np.zeros(3), z], 1)
    heights = np.array([9.0, 8.5, 9.0]) - np.arange(3)[:, None] * signature / 100.0
    points = np.zeros((3, 6, 3)) + centres[:, None]
    for j in range(3):
        points[:, 2 * j : 2 * j + 2, 1] += 14.0 * (j - 1)
        points[:, 2 * j, 2] += heights[:, j] / 2
        points[:, 2 * j + 1, 2] -= heights[:, j] / 2
    top, bottom = volume.corners[:, 2].max(), volume.corners[:, 2].min()
    along = np.linspace(top, bottom, 8)
    curve = CentreLine(np.stack([np.zeros(8), np.zeros(8), along], 1))
    spine = straighten(volume, curve, StraightenSettings())
    whole = np.ones(3, bool)
    sizes = measure_vertebrae(points)
    return StudyResult(curve, spine, points, np.full(3, 0.9), whole, sizes, ("T7", "T8", "T9"), np.full(3, 0.8))


def short_of_memory() -> Method:
    """As `marked`; the first study finds a "GPU" without memory."""
    left = [torch.OutOfMemoryError("CUDA out of memory.")]

    def on(device: str) -> Measure:
        def measure(volume: Volume, settings: Settings, watch: Watch) -> StudyResult:
            if device == "cuda" and left:
                raise left.pop()
            return _do_as_marked(volume, settings, watch)

        return measure

    return Method("digest-of-short0", on)
