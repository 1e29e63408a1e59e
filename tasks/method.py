"""What is done to a volume, with the networks it needs. A run names it by import path, so that a worker can load it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from vertebra_core.errors import WrongUse
from vertebra_core.settings import Settings
from vertebra_core.study import StudyResult, Watch
from vertebra_core.volume import Volume


@dataclass(frozen=True)
class Method:
    """A way to measure a study.

    Parameters
    ----------
    measure : callable
        (volume, settings, watch) -> StudyResult.
    digest : str
        Digest of the weights, part of the identity of every result.
    """

    measure: Callable[[Volume, Settings, Watch], StudyResult]
    digest: str


SHIPPED = "tasks.method:shipped"


def shipped(device: str) -> Method:
    """The method of the paper with the weights in the package."""
    from vertebra_core.models import load_models
    from vertebra_core.study import measure_study

    models = load_models(device)
    return Method(lambda volume, settings, watch: measure_study(volume, models, settings, watch), models.digest)


def load_method(path: str, device: str) -> Method:
    """Load the method that an import path "module:factory" names; the factory takes the device."""
    module, _, factory = path.partition(":")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise WrongUse(f"no such method: {path}") from error
    return make(device)


def choose_device(wanted: str) -> str:
    """The device "auto" stands for.

    Raises
    ------
    WrongUse
        CUDA was asked for and is not there.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise WrongUse("device cuda: no CUDA device answers; see `vertebra doctor`")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
