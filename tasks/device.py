"""Where the networks of a sandbox run, what happens when a GPU has no memory left, and how many threads they take."""

import gc
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tasks.method import Measure, Method
from vertebra_core.settings import Settings
from vertebra_core.volume import Volume

if TYPE_CHECKING:
    from vertebra_core.study import StudyResult

MODELS_LOADED, DEVICE_CHANGED = "models_loaded", "device_changed"
"""Events in the log of a shard."""
CUDA, CPU = "cuda", "cpu"
IN_SLABS = "cuda, in slabs for want of memory"
CPU_INSTEAD = "cpu, for want of memory on cuda"
"""What a row says of its device where the study did not run as it should have."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""What the libraries of a sandbox read when they are loaded: OpenMP and torch, MKL, numpy and scipy, SimpleITK."""


class Networks:
    """A method with its networks on a device; measures as the method does, and stands by where a GPU's memory runs out.

    Then the study is measured again, in slabs that need a fraction of the memory (`vertebra_core.curve.slabs`), and if
    there is no room for those, on the CPU. The next study begins on the GPU again, with its cache emptied. Networks are
    loaded when they are first needed, and once.

    Parameters
    ----------
    method : Method
    device : str
        "cpu" or "cuda".
    """

    def __init__(self, method: Method, device: str) -> None:
        ways = {device: lambda: method.load(device)}
        if device == CUDA:
            lean = method.load_lean
            ways |= {IN_SLABS: lambda: lean(CUDA)} if lean else {}
            ways |= {CPU_INSTEAD: lambda: method.load(CPU)}
        self._ways: Mapping[str, Callable[[], Measure]] = ways
        self._loaded: dict[str, Measure] = {}
        self._notes: list[dict] = []
        self.device = device
        """Where the present study is measured, as its row says it."""

    def __call__(self, volume: Volume, settings: Settings, watch: Callable[[str], None]) -> "StudyResult":
        """Measure one study.

        Parameters
        ----------
        volume : Volume
        settings : Settings
        watch : callable
            Hears the stages; those of a try that failed, too.
        """
        *tries, last = self._ways
        for way in tries:
            result = self._unless_out_of_memory(way, volume, settings, watch)
            if result is not None:
                return result
            free_cuda_memory()  # here, not where the error is caught: its traceback holds the tensors
        return self._measure(last, volume, settings, watch)

    def told(self) -> tuple[dict, ...]:
        """What is to be logged of the study that has ended; the next one begins on the device."""
        notes, self._notes = tuple(self._notes), []
        self.device = next(iter(self._ways))
        return notes

    def _unless_out_of_memory(self, way: str, *arguments) -> "StudyResult | None":
        try:
            return self._measure(way, *arguments)
        except Exception as error:
            if not is_cuda_out_of_memory(error):
                raise
        return None

    def _measure(self, way: str, *arguments) -> "StudyResult":
        self.device = way
        if way not in self._loaded:
            self._loaded[way] = self._ways[way]()
            self._notes.append({"event": MODELS_LOADED, "device": way, "child": os.getpid()})
        if way != next(iter(self._ways)):
            self._notes.append({"event": DEVICE_CHANGED, "device": way})
        return self._loaded[way](*arguments)


def is_cuda_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a GPU has no memory left, for a tensor or for a context.

    Examples
    --------
    >>> is_cuda_out_of_memory(RuntimeError("CUDA error: out of memory")), is_cuda_out_of_memory(MemoryError())
    (True, False)
    """
    import torch

    said = str(error).lower()
    by_words = isinstance(error, RuntimeError) and "cuda" in said and "out of memory" in said
    return isinstance(error, torch.OutOfMemoryError) or by_words


def free_cuda_memory() -> None:
    """Give back to other processes what this one no longer holds."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def thread_variables(threads: int) -> dict[str, str]:
    """The number of threads in the words of every library that would choose one of its own.

    Examples
    --------
    >>> thread_variables(2)["OMP_NUM_THREADS"]
    '2'
    """
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def limit_threads(threads: int) -> dict[str, int]:
    """Let every library in this process use so many threads, whether it is loaded already or will be.

    Returns
    -------
    dict
        Threads in force by library: "torch", and each pool of BLAS and OpenMP that is loaded.
    """
    import threadpoolctl
    import torch

    os.environ.update(thread_variables(threads))
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)
    pools = {pool["internal_api"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return {"torch": torch.get_num_threads(), **pools}
