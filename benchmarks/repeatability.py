"""How far heights move when the same study is measured by other arithmetic: ``python -m benchmarks.repeatability CT``.

The same weights on the same volume, with what differs from machine to machine: another number of threads, other
convolution code (without oneDNN), and the arithmetic of NVIDIA GPUs since Ampere, which round what goes into a
convolution to 10 bits (TF32, PyTorch's default there). The last is imitated on the CPU: inputs and weights of every
convolution and linear layer are rounded, sums are taken in 32 bits as there. One line a study and a way.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flows.commands.show import one_series
from vertebra_core.models import Models, load_models
from vertebra_core.reading.formats import read_volume
from vertebra_core.settings import Settings
from vertebra_core.study import measure_study
from vertebra_core.volume import Volume

TF32_DROPPED_BITS = 13
"""Of the 23 bits of a float32 mantissa; 10 are left (NVIDIA A100 white paper, 2020)."""
LAYERS = nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear


def rounded(values: torch.Tensor) -> torch.Tensor:
    """Float32 values to the nearest with a mantissa of 10 bits."""
    bits = values.contiguous().view(torch.int32)
    half = 1 << (TF32_DROPPED_BITS - 1)
    return ((bits + half) & ~((1 << TF32_DROPPED_BITS) - 1)).view(torch.float32)


@contextmanager
def as_it_is(models: Models) -> Iterator[None]:
    """One thread, the default code."""
    yield


@contextmanager
def two_threads(models: Models) -> Iterator[None]:
    """The same with two threads."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@contextmanager
def without_onednn(models: Models) -> Iterator[None]:
    """PyTorch's own convolutions."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@contextmanager
def as_tf32(models: Models) -> Iterator[None]:
    """What goes into convolutions and linear layers rounded to 10 bits."""
    networks = models.curve, models.keypoints.detector, models.keypoints.refiner, models.levels
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, LAYERS)]
    weights = [layer.weight.data.clone() for layer in layers]
    hooks = [layer.register_forward_pre_hook(lambda _, given: tuple(map(rounded, given))) for layer in layers]
    for layer in layers:
        layer.weight.data = rounded(layer.weight.data)
    yield
    for layer, weight, hook in zip(layers, weights, hooks, strict=True):
        layer.weight.data = weight
        hook.remove()


WAYS: dict[str, Callable] = {
    "again": as_it_is,
    "two threads": two_threads,
    "without oneDNN": without_onednn,
    "as TF32": as_tf32,
}


def heights(volume: Volume, models: Models, settings: Settings) -> np.ndarray:
    """Heights of whole vertebrae [k, 3], mm."""
    result = measure_study(volume, models, settings)
    sizes = result.sizes
    return np.stack([sizes.ha_mm, sizes.hm_mm, sizes.hp_mm], 1)[np.asarray(result.complete, bool)]


def main() -> None:
    """Measure every CT named on the command line in every way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", nargs="+", type=Path)
    settings, models = Settings(), load_models()
    torch.set_num_threads(1)
    for path in parser.parse_args().ct:
        volume = read_volume(one_series(path, settings), settings.reading)
        first = heights(volume, models, settings)
        for name, way in WAYS.items():
            with way(models):
                again = heights(volume, models, settings)
            if again.shape != first.shape:
                print(f"{path.name}\t{name}\t{len(first)} vertebrae, then {len(again)}", flush=True)
                continue
            off = np.abs(again - first)
            print(
                f"{path.name}\t{name}\t{len(first)} vertebrae\tmedian {np.nanmedian(off):.5f} mm"
                f"\tlargest {np.nanmax(off):.5f} mm",
                flush=True,
            )


if __name__ == "__main__":
    main()
