"""``vertebra train curve``, ``vertebra train keypoints`` and ``vertebra train levels``."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@dataclass(frozen=True)
class Run:
    """What every training is asked.

    Parameters
    ----------
    images
        Folder of annotated CT; without it, phantoms only.
    annotations
        Folder of truth files (vertebra-truth/1) of these images.
    work
        Checkpoints and prepared scans; the same folder goes on.
    weights
        Folder for the weights; the shipped ones are never written over by default.
    leave_out
        Name of a truth file that is not trained on; may be given several times.
    seed
        Of all random choices.
    device
        auto, cpu or cuda.
    """

    images: Path | None = None
    annotations: Path | None = None
    work: Path = Path("training")
    weights: Path = Path("training/weights")
    leave_out: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"


COMMON = Run()
Asked = Annotated[Run, Parameter(name="*")]
"""The options of a run, flat among those of the command."""


def curve(*, run: Asked = COMMON, phantoms: int = 12, steps: int = 2300) -> None:
    """Train the network of the centre line; goes on from its last checkpoint.

    Example: vertebra train curve --images ct --annotations ct/annotations --steps 2300

    Parameters
    ----------
    run
        What every training is asked.
    phantoms
        Synthetic patients to train on besides.
    steps
        Steps in all.
    """
    from vertebra_core.training.curve import train

    _train(train, run, phantoms=phantoms, steps=steps)


def keypoints(*, run: Asked = COMMON, phantoms: int = 60, detector_steps: int = 850, refiner_steps: int = 2600) -> None:
    """Train the networks of the keypoints; goes on from the last checkpoint.

    Example: vertebra train keypoints --images ct --annotations ct/annotations

    Parameters
    ----------
    run
        What every training is asked.
    phantoms
        Synthetic patients to train on besides.
    detector_steps
        Steps of the network that finds vertebrae.
    refiner_steps
        Steps of the network that places keypoints.
    """
    from vertebra_core.training.keypoints import train

    _train(train, run, phantoms=phantoms, detector_steps=detector_steps, refiner_steps=refiner_steps)


def levels(*, run: Asked = COMMON, phantoms: int = 100, steps: int = 1800) -> None:
    """Train the network that tells levels; goes on from its last checkpoint.

    Example: vertebra train levels --images ct --annotations ct/annotations

    Parameters
    ----------
    run
        What every training is asked.
    phantoms
        Synthetic patients to train on besides.
    steps
        Steps in all.
    """
    from vertebra_core.training.levels import train

    _train(train, run, phantoms=phantoms, steps=steps)


def _train(train: Callable[..., None], run: Run, **sizes: int) -> None:
    from tasks.method import choose_device
    from vertebra_core.errors import WrongUse

    if (run.images is None) != (run.annotations is None):
        raise WrongUse("--images and --annotations belong together")
    for folder in (run.images, run.annotations):
        if folder is not None and not folder.is_dir():
            raise WrongUse(f"no such folder: {folder}")
    if run.images is None and not sizes["phantoms"]:
        raise WrongUse("nothing to train on: give --images and --annotations, or --phantoms")
    train(
        run.images,
        run.annotations,
        run.work,
        run.weights,
        leave_out=run.leave_out,
        seed=run.seed,
        device=choose_device(run.device),
        say=_on_stderr,
        **sizes,
    )
    print(f"weights in {run.weights}")


def _on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
