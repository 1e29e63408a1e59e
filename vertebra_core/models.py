"""The networks with their weights, and the digest that identifies them in every row."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file
from torch import nn

from vertebra_core.curve.network import CurveNetwork
from vertebra_core.errors import CouldNotRun
from vertebra_core.keypoints.find import KeypointModels
from vertebra_core.keypoints.network import KeypointDetector, KeypointRefiner
from vertebra_core.levels.network import LevelNetwork

WEIGHTS = Path(__file__).parent / "weights"
"""The weights that ship with the package; docs/model_card.md says what they were trained on."""
Network = TypeVar("Network", bound=nn.Module)
FILES = ("curve.safetensors", "detector.safetensors", "refiner.safetensors", "levels.safetensors")


@dataclass(frozen=True)
class Models:
    """The networks of all steps.

    Parameters
    ----------
    digest : str
        Sixteen hex digits of all weight files together.
    """

    curve: CurveNetwork
    keypoints: KeypointModels
    levels: LevelNetwork
    digest: str


def weights_digest(folder: Path = WEIGHTS) -> str:
    """Digest of the weight files, without loading them.

    Raises
    ------
    CouldNotRun
        A file is missing.
    """
    total = hashlib.sha256()
    for name in FILES:
        path = Path(folder) / name
        if not path.is_file():
            raise CouldNotRun(f"no weights at {path}; reinstall the package or train them (vertebra train)")
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def load_models(folder: Path = WEIGHTS, device: str = "cpu") -> Models:
    """Load all networks, ready for inference.

    Raises
    ------
    CouldNotRun
        A file is missing or does not fit the network.
    """
    digest = weights_digest(folder)
    curve_file, detector_file, refiner_file, levels_file = (Path(folder) / name for name in FILES)
    curve = load_network(CurveNetwork(), curve_file, device)
    detector = load_network(KeypointDetector(), detector_file, device)
    refiner = load_network(KeypointRefiner(), refiner_file, device)
    levels = load_network(LevelNetwork(), levels_file, device)
    return Models(curve, KeypointModels(detector, refiner), levels, digest)


def load_network(network: Network, path: Path, device: str = "cpu") -> Network:
    """Give a network the weights of a file and make it ready for inference.

    Raises
    ------
    CouldNotRun
        The file does not fit the network.
    """
    # Weights are stored as float16 and computed with as float32.
    state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CouldNotRun(f"{path} does not fit {type(network).__name__}: {error}") from error
    return network.eval().to(device)
