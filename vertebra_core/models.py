"""Both networks with their weights, and the digest that identifies them in every row."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class KeypointModels:
    """The networks of step 2 (paper 3.2).

    Parameters
    ----------
    detector : nn.Module
        Anchor network on the whole plane.
    refiner : nn.Module or None
        Heat maps on a patch turned to each vertebra; None: the detector's own points are used.
    """

    detector: nn.Module
    refiner: nn.Module | None


@dataclass(frozen=True)
class Models:
    """The networks of both steps.

    Parameters
    ----------
    digest : str
        Sixteen hex digits of all weight files together.
    """

    curve: nn.Module
    keypoints: KeypointModels
    digest: str
