"""Training of the network of levels from annotated CT and phantoms: `vertebra train levels`."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vertebra_core.levels.network import LevelNetwork
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.training.checkpoint import save_weights
from vertebra_core.training.level_samples import LevelSample, LevelSamples
from vertebra_core.training.level_stacks import LevelStack, load_stack, phantom_stack, scan_stack
from vertebra_core.training.loop import Run, fit
from vertebra_core.training.prepared import keep, prepared_scans
from vertebra_core.training.spines import PHANTOM

LEARNING_RATE = 2e-3
VARIANT_SHARE = 0.3
"""Share of phantoms with one vertebra more or less: more than among people, or the network would hardly meet one."""


def train(
    images: Path | None,
    annotations: Path | None,
    work: Path,
    weights: Path,
    *,
    leave_out: Sequence[str] = (),
    phantoms: int = 100,
    steps: int = 1800,
    seed: int = 0,
    device: str = "cpu",
    loaders: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train the network of levels and write its weights.

    A run that was stopped goes on from the checkpoint in `work`.

    Parameters
    ----------
    images, annotations : Path or None
        Annotated CT (`vertebra_core.training.real`). None: phantoms only.
    work : Path
        Straightened blocks and checkpoints.
    weights : Path
        Where ``levels.safetensors`` is written.
    leave_out : sequence of str
        Names of truth files that are not trained on, for evaluation on unseen patients.
    """
    stacks = [
        *prepared_scans(images, annotations, work / "level_blocks", leave_out, scan_stack, load_stack, say),
        *phantom_stacks(phantoms, seed, work, say),
    ]
    say(f"{len(stacks)} spines, {sum(len(s.along_mm) for s in stacks)} vertebrae")
    run = f"levels-{hashlib.sha256(repr(([s.name for s in stacks], seed)).encode()).hexdigest()[:8]}.pt"
    network = train_levels(stacks, work / run, steps=steps, seed=seed, device=device, loaders=loaders, say=say)
    save_weights(weights / "levels.safetensors", network)


def phantom_stacks(count: int, seed: int, work: Path, say: Callable[[str], None]) -> Iterator[LevelStack]:
    """Blocks of phantoms; patient `i` of a seed is always the same."""
    for i in range(count):
        path = work / "level_phantoms" / f"{seed}-{i}.npz"
        if not path.exists():
            rng = np.random.default_rng([seed, 3000, i])
            patient = random_patient(rng, PatientOptions(variant_probability=VARIANT_SHARE))
            keep(path, phantom_stack(f"{PHANTOM}{i}", patient, rng))
            if i % 25 == 24:
                say(f"phantom {i + 1} of {count}")
        yield load_stack(path)


def level_loss(logits: Tensor, rows: Tensor, looks: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the rows [b, r] that belong to a vertebra, and the share of them whose look is right.

    Parameters
    ----------
    logits : tensor [b, looks, r]
    rows : tensor [b, r]
        -1 where a row belongs to none.
    looks : tensor [b, r, looks]
    """
    belongs = rows >= 0
    said = logits.float().movedim(1, -1)[belongs]
    wanted = looks[belongs]
    loss = -(wanted * said.log_softmax(-1)).sum(-1).mean()
    return loss, (said.argmax(-1) == wanted.argmax(-1)).float().mean()


def _together(samples: list[LevelSample]) -> tuple[Tensor, Tensor, Tensor]:
    x, rows, looks = (torch.stack([getattr(s, name) for s in samples]) for name in ("x", "rows", "looks"))
    return x, rows, looks


def train_levels(
    stacks: Sequence[LevelStack], checkpoint: Path, *, steps: int = 1800, batch: int = 8, **how: Any
) -> LevelNetwork:
    """Train the network on `batch` windows a step; goes on from `checkpoint`. `how`: fields of `Run`."""
    torch.manual_seed(how.get("seed", 0))
    how = {"loaders": 0, **how}
    run = Run("levels", checkpoint, steps, batch, LEARNING_RATE, weight_decay=2e-2, steady_from=1.0, **how)

    def loss_of(model: LevelNetwork, samples: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, np.ndarray]:
        """Loss, and it with the share of looks that are right."""
        x, rows, looks = (part.to(run.device) for part in samples)
        with torch.autocast(run.device, torch.bfloat16):
            logits = model(x)
        loss, right = level_loss(logits, rows, looks)
        return loss, np.array([loss.item(), right.item()])

    def report(mean: np.ndarray) -> str:
        """Both as text."""
        return f"loss {mean[0]:.3f}, looks right {mean[1]:.2f}"

    return fit(LevelNetwork(), LevelSamples(stacks, run.seed + 1, steps * batch), _together, loss_of, report, run)
