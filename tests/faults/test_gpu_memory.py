"""A GPU whose memory runs out in the middle of a study: measured another way, said so, and the next one untouched.

No GPU is needed, and none is tried: the networks of "cuda" run on the CPU here and raise what torch raises when CUDA
has no memory left. The fallback, the slabs and the networks are the real ones.
"""

import weakref
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from engine_archive import write_study
from engine_methods import GOOD
from numpy.testing import assert_allclose
from reading_cases import take

import tasks.study
from tasks.device import CPU_INSTEAD, CUDA, DEVICE_CHANGED, IN_SLABS, MODELS_LOADED, Networks, limit_threads
from tasks.method import _models, named_method, shipped
from tasks.plan import Shard, StudyOrder
from tasks.sandbox import Sandbox
from tasks.settings import RunSettings
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import random_scan, render
from vertebra_core.settings import Settings
from vertebra_core.study import StudyResult, unwatched
from vertebra_core.volume import Volume


@pytest.fixture(scope="module")
def loin() -> Volume:
    rng = np.random.default_rng(11)
    phantom = random_patient(rng, PatientOptions(variant_probability=0.0, fracture_probability=0.0))
    return render(phantom, random_scan(rng, phantom, "lumbar", (2.0, 2.0, 3.0)))


class FullGpu:
    """Networks on a "GPU" that has no memory for what `full` names."""

    def __init__(self) -> None:
        real = shipped()
        self.full: set[str] = set()
        self.networks = Networks(
            replace(real, load=lambda d: real.load("cpu"), load_lean=lambda d: real.load_lean("cpu")), CUDA
        )
        self._hook = _models("cpu").curve.register_forward_pre_hook(self._refuse)

    def _refuse(self, module, given) -> None:
        if self.networks.device in self.full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def close(self) -> None:
        self._hook.remove()

    def measure(self, volume: Volume) -> tuple[StudyResult, str, list[dict]]:
        result = self.networks(volume, Settings(), unwatched)
        device = self.networks.device
        return result, device, list(self.networks.told())


@pytest.fixture
def gpu():
    gpu = FullGpu()
    yield gpu
    gpu.close()


def same(one: StudyResult, other: StudyResult) -> bool:
    """Whether every number is equal to the last bit."""
    pairs = [(one.points, other.points), (one.scores, other.scores), (one.level_confidence, other.level_confidence)]
    pairs += [(getattr(one.sizes, f.name), getattr(other.sizes, f.name)) for f in fields(one.sizes)]
    return one.levels == other.levels and all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def test_the_way_of_a_study_without_memory_and_of_the_one_after_it(gpu, loin):
    undisturbed, device, notes = gpu.measure(loin)
    assert (device, [note["event"] for note in notes]) == (CUDA, [MODELS_LOADED])

    gpu.full = {CUDA}
    lean, device, notes = gpu.measure(loin)
    assert device == IN_SLABS
    assert [(note["event"], note["device"]) for note in notes] == [
        (MODELS_LOADED, IN_SLABS),
        (DEVICE_CHANGED, IN_SLABS),
    ]
    assert lean.levels == undisturbed.levels
    assert_allclose(lean.points, undisturbed.points, atol=1e-3, rtol=0)  # mm

    gpu.full = {CUDA, IN_SLABS}
    on_cpu, device, notes = gpu.measure(loin)
    assert device == CPU_INSTEAD
    changed = [note["device"] for note in notes if note["event"] == DEVICE_CHANGED]
    assert changed == [IN_SLABS, CPU_INSTEAD]
    assert same(on_cpu, undisturbed)  # the same networks on the same device here

    gpu.full = set()
    after, device, notes = gpu.measure(loin)
    assert (device, notes) == (CUDA, [])
    assert same(after, undisturbed)


def test_nothing_of_the_failed_try_is_held(gpu, loin, monkeypatch):
    """Memory is freed where no traceback holds it any more: a tensor of the failed try is gone by then."""
    born, alive = [], []

    def keep(module, given):
        born.append(weakref.ref(given[0]))

    hook = _models("cpu").curve.register_forward_pre_hook(keep, prepend=True)
    monkeypatch.setattr("tasks.device.free_cuda_memory", lambda: alive.append(born[0]()))
    gpu.full = {CUDA}
    gpu.measure(loin)
    hook.remove()
    assert alive == [None]


def test_an_error_that_is_not_about_memory_is_not_tried_again(loin):
    def broken(volume, settings, watch):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    networks = Networks(replace(shipped(), load=lambda device: broken), CUDA)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        networks(loin, Settings(), unwatched)


@pytest.fixture
def order(tmp_path) -> StudyOrder:
    folder = write_study(tmp_path / "study", "P1", GOOD)
    return StudyOrder("st1", "pt1", "se1", "digest", take(folder).series[0])


def shard(method: str, run: RunSettings) -> Shard:
    identity = MethodIdentity(named_method(method).digest, "settings", "schema")
    return Shard("run", "00000", (), method, identity, Settings(), run)


def test_the_row_says_how_its_study_was_measured(order, monkeypatch):
    """Through the function that the sandbox runs, with a device that is "cuda" by name."""
    monkeypatch.setattr(tasks.study, "choose_device", lambda wanted: CUDA)
    one = shard("engine_methods:short_of_memory", RunSettings(pictures=False))
    rows = [tasks.study.screen_study(order, one).rows["studies"][0] for _ in range(2)]
    assert [row["device"] for row in rows] == [CPU_INSTEAD, CUDA]
    assert [row["status"] for row in rows] == ["ok", "ok"]


def test_networks_are_loaded_once_in_a_child(order):
    with Sandbox(RunSettings(memory_gb=2.0, pictures=False, device="cpu")) as sandbox:
        one = shard("engine_methods:marked", RunSettings(pictures=False, device="cpu"))
        loads = []
        for number in range(6):  # of three shards
            screened = sandbox.screen(order, replace(one, name=f"{number // 2:05d}"))
            loads += [note for note in screened.notes if note["event"] == MODELS_LOADED]
    assert len(loads) == 1
    assert loads[0]["device"] == "cpu"


def test_every_library_uses_the_threads_of_the_settings():
    before = limit_threads(1)
    assert set(before) >= {"torch", "openblas"}
    assert set(limit_threads(2).values()) == {2}
    assert set(limit_threads(1).values()) == {1}
