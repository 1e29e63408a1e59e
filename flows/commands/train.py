"""``vertebra train curve`` and ``vertebra train keypoints``."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

WORK, WEIGHTS = Path("training"), Path("training") / "weights"
"""Where a training keeps its state, and where the weights go; the shipped ones are never written over by default."""


def curve(
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    work: Path = WORK,
    weights: Path = WEIGHTS,
    leave_out: Sequence[str] = (),
    phantoms: int = 12,
    steps: int = 2300,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Train the network of the centre line; goes on from its last checkpoint.

    Example: vertebra train curve --images ct --annotations ct/annotations --steps 2300

    Parameters
    ----------
    images
        Folder of annotated CT; without it, phantoms only.
    annotations
        Folder of truth files (vertebra-truth/1) of these images.
    work
        Checkpoints and prepared scans; the same folder goes on.
    weights
        Folder for curve.safetensors.
    leave_out
        Name of a truth file that is not trained on; may be given several times.
    phantoms
        Synthetic patients to train on besides.
    steps
        Steps in all.
    seed
        Of all random choices.
    device
        auto, cpu or cuda.
    """
    from vertebra_core.training.curve import train

    sizes = {"phantoms": phantoms, "steps": steps}
    _run(train, images, annotations, work, weights, leave_out, seed, device, sizes)


def keypoints(
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    work: Path = WORK,
    weights: Path = WEIGHTS,
    leave_out: Sequence[str] = (),
    phantoms: int = 60,
    detector_steps: int = 850,
    refiner_steps: int = 2600,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Train the networks of the keypoints; goes on from the last checkpoint.

    Example: vertebra train keypoints --images ct --annotations ct/annotations

    Parameters
    ----------
    images
        Folder of annotated CT; without it, phantoms only.
    annotations
        Folder of truth files (vertebra-truth/1) of these images.
    work
        Checkpoints and straightened spines; the same folder goes on.
    weights
        Folder for detector.safetensors and refiner.safetensors.
    leave_out
        Name of a truth file that is not trained on; may be given several times.
    phantoms
        Synthetic patients to train on besides.
    detector_steps
        Steps of the network that finds vertebrae.
    refiner_steps
        Steps of the network that places keypoints.
    seed
        Of all random choices.
    device
        auto, cpu or cuda.
    """
    from vertebra_core.training.keypoints import train

    sizes = {"phantoms": phantoms, "detector_steps": detector_steps, "refiner_steps": refiner_steps}
    _run(train, images, annotations, work, weights, leave_out, seed, device, sizes)


def _run(
    train: Callable[..., None],
    images: Path | None,
    annotations: Path | None,
    work: Path,
    weights: Path,
    leave_out: Sequence[str],
    seed: int,
    device: str,
    sizes: dict[str, int],
) -> None:
    from tasks.method import choose_device
    from vertebra_core.errors import WrongUse

    if (images is None) != (annotations is None):
        raise WrongUse("--images and --annotations belong together")
    for folder in (images, annotations):
        if folder is not None and not folder.is_dir():
            raise WrongUse(f"no such folder: {folder}")
    if images is None and not sizes["phantoms"]:
        raise WrongUse("nothing to train on: give --images and --annotations, or --phantoms")
    chosen = choose_device(device)
    say = _on_stderr
    train(images, annotations, work, weights, leave_out=leave_out, seed=seed, device=chosen, say=say, **sizes)
    print(f"weights in {weights}")


def _on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
