"""What is done to a volume, with the networks it needs. A run names it by import path, so that a worker can load it."""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vertebra_core.errors import WrongUse
from vertebra_core.settings import Settings
from vertebra_core.volume import Volume

if TYPE_CHECKING:
    from vertebra_core.models import Models
    from vertebra_core.study import StudyResult

Measure = Callable[[Volume, Settings, Callable[[str], None]], "StudyResult"]


@dataclass(frozen=True)
class Method:
    """A way to measure a study.

    Parameters
    ----------
    digest : str
        Digest of the weights, part of the identity of every result.
    load : callable
        Gives the function that measures, with its networks on a device.
    load_lean : callable, optional
        The same in less memory of the device, with results equal to the rounding of float32.
    """

    digest: str
    load: Callable[[str], Measure]
    load_lean: Callable[[str], Measure] | None = None


SHIPPED = "tasks.method:shipped"


def shipped() -> Method:
    """The method of the paper with the weights in the package."""
    from vertebra_core.models import weights_digest

    return Method(weights_digest(), _load_shipped, _load_lean)


def _load_shipped(device: str) -> Measure:
    from vertebra_core.study import measure_study

    models = _models(device)
    return lambda volume, settings, watch: measure_study(volume, models, settings, watch)


def _load_lean(device: str) -> Measure:
    """The first network takes most of the memory by far; it has the others' weights on the device already."""
    from vertebra_core.curve.slabs import CurveNetworkInSlabs
    from vertebra_core.study import measure_study

    models = _models(device)
    lean = replace(models, curve=CurveNetworkInSlabs.sharing(models.curve))
    return lambda volume, settings, watch: measure_study(volume, lean, settings, watch)


@functools.cache
def _models(device: str) -> "Models":
    from vertebra_core.models import load_models

    return load_models(device=device)


def named_method(path: str) -> Method:
    """The method that an import path "module:factory" names."""
    module, _, factory = path.partition(":")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise WrongUse(f"no such method: {path}") from error
    return make()


def choose_device(wanted: str) -> str:
    """The device "auto" stands for.

    Raises
    ------
    WrongUse
        CUDA was asked for and is not there, or the name is none.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise WrongUse(f"device {wanted}: expected auto, cpu or cuda")
    if wanted == "cpu":
        return wanted
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise WrongUse("device cuda: no CUDA device answers; see `vertebra doctor`")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
