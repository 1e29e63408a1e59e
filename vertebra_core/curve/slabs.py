"""The curve network in little memory: one slab of slices after the other on its device, the rest in the computer's.

For a GPU that other processes have filled. Every stage of the network is local: an output slice depends on input
slices within two output steps of it (two 3 x 3 x 3 convolutions in a row are the most). A slab that brings two more
slices on either side, which are dropped again, therefore gives what the whole gives, to the rounding of float32:
no slice sees less of the body, as it would if the scan itself were cut into shorter pieces.
"""

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vertebra_core.curve.network import CurveNetwork, CurvePrediction

SLAB = 16
"""Slices of output of a stage on the device at a time; even, so that coarser stages halve it. With the halo 20 of the
72 of a whole chunk, in 1.6 times the time on a CPU; slabs of 8 take six times as long there."""
HALO = 2
"""Slices of output beyond a slab on either side: the reach of two convolutions."""


class CurveNetworkInSlabs(CurveNetwork):
    """A `CurveNetwork` that needs a fraction of the memory of its device, and a little more time.

    Examples
    --------
    >>> whole = CurveNetwork((4, 6, 8, 10)).eval()
    >>> lean = CurveNetworkInSlabs.sharing(whole)
    >>> x = torch.zeros(1, 2, 32, 16, 16)
    >>> with torch.inference_mode():
    ...     torch.allclose(whole(x).points, lean(x).points, atol=1e-4)
    True
    """

    @classmethod
    def sharing(cls, network: CurveNetwork) -> "CurveNetworkInSlabs":
        """The same network, its weights not copied, run in slabs."""
        lean = cls.__new__(cls)
        lean.__dict__ = copy(network).__dict__
        return lean

    def forward(self, x: Tensor) -> CurvePrediction:
        device = next(self.parameters()).device
        return super().forward(x.cpu(), partial(in_slabs, device))


def in_slabs(device: torch.device, stage: Callable[..., Any], *parts: Tensor, halving: bool = False) -> Any:
    """Apply a stage, as `vertebra_core.curve.network.at_once` does, to a slab at a time on a device.

    What goes in and what comes out, a tensor or a tuple of tensors, lies where `parts` lie.
    """
    count = max(part.shape[2] for part in parts) // (2 if halving else 1)
    done = []
    for start in range(0, count, SLAB):
        stop = min(start + SLAB, count)
        low, high = max(0, start - HALO), min(count, stop + HALO)
        slabs = [part[:, :, low * part.shape[2] // count : high * part.shape[2] // count].to(device) for part in parts]
        told = stage(*slabs)
        kept = told if isinstance(told, tuple) else (told,)
        done.append([one[:, :, start - low : stop - low].to(parts[0].device) for one in kept])
    whole = tuple(torch.cat(slabs, 2) for slabs in zip(*done, strict=True))
    return whole if isinstance(told, tuple) else whole[0]
