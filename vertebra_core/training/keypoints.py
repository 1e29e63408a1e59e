"""Training of step 2 from annotated CT, annotated sagittal slices and phantoms: `vertebra train keypoints`."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.training.checkpoint import save_weights
from vertebra_core.training.detector import train_detector
from vertebra_core.training.phantoms import phantom_spine
from vertebra_core.training.prepared import keep, prepared_scans
from vertebra_core.training.refiner import train_refiner
from vertebra_core.training.slices import sagittal_spines
from vertebra_core.training.spines import PHANTOM, Spine, straight_spine

PHANTOM_SHARE = 0.2
"""Share of training windows drawn from phantoms; the rest are real spines."""
UNSURE_SHARE = 0.5
"""Spines whose heights are known within a tolerance only are drawn this often for each sharp one."""


def train(
    images: Path | None,
    annotations: Path | None,
    work: Path,
    weights: Path,
    *,
    leave_out: Sequence[str] = (),
    phantoms: int = 60,
    detector_steps: int = 850,
    refiner_steps: int = 2600,
    seed: int = 0,
    device: str = "cpu",
    loaders: int = 1,
    say: Callable[[str], None] = print,
    detector_settings: Mapping[str, Any] | None = None,
) -> None:
    """Train detector and refiner and write their weights.

    A run that was stopped goes on from the checkpoints in `work`.

    Parameters
    ----------
    images, annotations : Path or None
        Annotated CT (`vertebra_core.training.real`); a folder `sagittal_2d` in `annotations` is used too.
        None: phantoms only.
    work : Path
        Straightened spines and checkpoints.
    weights : Path
        Where ``detector.safetensors`` and ``refiner.safetensors`` are written.
    leave_out : sequence of str
        Names of truth files that are not trained on, for evaluation on unseen patients.
    detector_settings : mapping or None
        Numbers of `train_detector` that shall differ from its own (batch, learning_rate, ...).
    """
    spines = [*real_spines(images, annotations, work, leave_out, say), *phantom_spines(phantoms, seed, work, say)]
    shares = shares_of(spines)
    say(f"{len(spines)} spines, {sum(len(s.points) for s in spines)} vertebrae")
    run = work / f"keypoints-{hashlib.sha256(repr(([s.name for s in spines], seed)).encode()).hexdigest()[:8]}"
    common = {"seed": seed, "device": device, "loaders": loaders, "say": say}
    refiner = train_refiner(spines, shares, run / "refiner.pt", steps=refiner_steps, **common)
    save_weights(weights / "refiner.safetensors", refiner)
    own = detector_settings or {}
    detector = train_detector(spines, shares, run / "detector.pt", steps=detector_steps, **common, **own)
    save_weights(weights / "detector.safetensors", detector)


def shares_of(spines: Sequence[Spine]) -> np.ndarray:
    """How often each spine is drawn: more for long and for sharp ones, a fixed share for all phantoms together."""
    shares = np.array([(1.0 if s.tolerance_mm == 0 else UNSURE_SHARE) * np.sqrt(len(s.points)) for s in spines])
    synthetic = np.array([s.synthetic for s in spines])
    if synthetic.any() and not synthetic.all():
        shares[synthetic] *= PHANTOM_SHARE / (1 - PHANTOM_SHARE) * shares[~synthetic].sum() / shares[synthetic].sum()
    return shares / shares.sum()


def real_spines(
    images: Path | None, annotations: Path | None, work: Path, leave_out: Sequence[str], say: Callable[[str], None]
) -> list[Spine]:
    """Straightened spines of all annotated images, kept in `work` for the next run."""
    spines = prepared_scans(images, annotations, work / "spines", leave_out, straight_spine, load_spine, say)
    if images is None or annotations is None:
        return spines
    flat = Path(annotations) / "sagittal_2d"
    return spines + (list(sagittal_spines(images, flat)) if flat.is_dir() else [])


def phantom_spines(count: int, seed: int, work: Path, say: Callable[[str], None]) -> Iterator[Spine]:
    """Straightened phantoms; patient `i` of a seed is always the same."""
    for i in range(count):
        path = work / "phantoms" / f"{seed}-{i}.npz"
        if not path.exists():
            rng = np.random.default_rng([seed, 1000, i])
            keep(path, phantom_spine(f"{PHANTOM}{i}", random_patient(rng), rng))
            if i % 10 == 9:
                say(f"phantom {i + 1} of {count}")
        yield load_spine(path)


def load_spine(path: Path) -> Spine:
    """Read a spine that was kept."""
    with np.load(path) as kept:
        values = {f.name: kept[f.name] for f in fields(Spine)}
    known = values["known_mm"]
    values["known_mm"] = (float(known[0]), float(known[1]))
    for name, kind in (("name", str), ("pixel_mm", float), ("tolerance_mm", float)):
        values[name] = kind(values[name])
    return Spine(**values)
