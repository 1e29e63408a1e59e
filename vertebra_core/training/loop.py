"""The one training loop of detector, refiner and levels: batches in, a network out; stops and goes on anywhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vertebra_core.training.checkpoint import load_checkpoint, save_checkpoint

Network = TypeVar("Network", bound=nn.Module)
STEADY_FROM = 0.7
"""Share of the steps after which batch normalisation keeps its means: the rest of the training sees what inference
will. With means that follow the augmented batches to the end, clean and sharp patches were read 0.3-0.9 mm too low
(docs/experiments.md)."""
CHECKPOINT_EVERY, SAY_EVERY = 150, 50
LARGEST_GRADIENT = 5.0
WARM_UP, SHORTEST_RUN = 50, 10
"""Steps of the warm-up, at most one step in this many: a short training is not all warm-up."""


@dataclass(frozen=True)
class Run:
    """How a network is trained.

    Parameters
    ----------
    name : str
        Of the network, for messages.
    checkpoint : Path
    steps, batch : int
    learning_rate : float
        AdamW's, at its height (`learning_curve`).
    halve_at : sequence of int
        Steps at which the learning rate is halved, as in the paper (5.1); none: `learning_curve`.
    steady_from : float
        Share of the steps after which batch normalisation keeps its means; 1: it never does.
    """

    name: str
    checkpoint: Path
    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 1e-3
    halve_at: Sequence[int] = ()
    steady_from: float = STEADY_FROM
    seed: int = 0
    device: str = "cpu"
    loaders: int = 1
    say: Callable[[str], None] = print


def learning_curve(step: int, steps: int, warm_up: int = WARM_UP) -> float:
    """Linear warm-up, then half a cosine to 2 % of the learning rate."""
    warm_up = min(warm_up, steps // SHORTEST_RUN)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * (step - warm_up) / max(1, steps - warm_up)))


def hold_normalisation(network: nn.Module) -> None:
    """Let batch normalisation use its running means from now on, in training too."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()


def halvings(step: int, halve_at: Sequence[int]) -> float:
    """One half for every bound that the step has reached.

    Examples
    --------
    >>> [halvings(step, (1000, 1400)) for step in (0, 999, 1000, 1400)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return 0.5 ** sum(step >= bound for bound in halve_at)


def fit(
    network: Network,
    data: torch.utils.data.Dataset,
    collate: Callable[[list], Any],
    loss_of: Callable[[Network, Any], tuple[Tensor, np.ndarray] | None],
    report: Callable[[np.ndarray], str],
    run: Run,
) -> Network:
    """Train, or go on from the checkpoint exactly where it was written.

    Parameters
    ----------
    network : nn.Module
        Made, and torch seeded, by the caller.
    data : Dataset
        At least ``steps * batch`` samples, each a pure function of its number.
    collate : callable
        Batch of a list of samples.
    loss_of : callable
        (network, batch) -> loss and numbers to report, or None where a batch teaches nothing.
    report : callable
        Mean of these numbers since the last report -> text.

    Returns
    -------
    nn.Module
        The same network, ready for inference.
    """
    rng = np.random.default_rng(run.seed)
    network.to(run.device)
    optimiser = torch.optim.AdamW(network.parameters(), run.learning_rate, weight_decay=run.weight_decay)
    done = load_checkpoint(run.checkpoint, network, optimiser, rng)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: halvings(i + done, run.halve_at) if run.halve_at else learning_curve(i + done, run.steps)
    )
    ahead = torch.utils.data.Subset(data, range(done * run.batch, run.steps * run.batch))
    # With a generator of its own the loader leaves torch's alone, which dropout draws from and the checkpoint holds.
    own = torch.Generator()
    loader = torch.utils.data.DataLoader(ahead, run.batch, collate_fn=collate, num_workers=run.loaders, generator=own)
    network.train()
    steady_from = round(run.steady_from * run.steps)
    recent: list[np.ndarray] = []
    for step, batch in enumerate(loader, done + 1):
        if step > steady_from:
            hold_normalisation(network)
        outcome = loss_of(network, batch)
        if outcome is not None:
            loss, numbers = outcome
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
            optimiser.step()
            recent.append(numbers)
        schedule.step()
        if recent and (step % SAY_EVERY == 0 or step == run.steps):
            run.say(f"{run.name} step {step}/{run.steps}: {report(np.mean(recent, 0))}")
            recent.clear()
        if step % CHECKPOINT_EVERY == 0 or step == run.steps:
            save_checkpoint(run.checkpoint, network, optimiser, step, rng)
    return network.eval()
