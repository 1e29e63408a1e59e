"""Checkpoints of a training run: small, whole or absent, and enough to go on as if nothing had happened."""

import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn


def save_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, step: int, rng: np.random.Generator
) -> None:
    """Write weights, optimiser, step and random state; a kill leaves the old file or the new one."""
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "rng": rng.bit_generator.state,
        "torch_rng": torch.get_rng_state(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, rng: np.random.Generator) -> int:
    """Restore a run; returns the step it had reached, 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    # Our own file, holding a bit generator's state, which weights_only would refuse.
    state = torch.load(path, map_location="cpu", weights_only=False)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    rng.bit_generator.state = state["rng"]
    torch.set_rng_state(state["torch_rng"])
    return int(state["step"])


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights as safetensors: float16 on disk (half the size), float32 when loaded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, path)
