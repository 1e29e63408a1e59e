"""Training of the first network (paper 5.1): `vertebra train curve`, and its one loop; on a CPU or a GPU."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vertebra_core.curve.grid import network_channels
from vertebra_core.curve.network import STRIDE, CurveNetwork, CurvePrediction
from vertebra_core.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from vertebra_core.training.curve_cases import PRESENT, UNKNOWN, CurveCase, phantom_cases, real_cases
from vertebra_core.training.curve_data import GRID_MM, Piece, random_piece
from vertebra_core.training.curve_spineless import spineless_piece
from vertebra_core.training.loop import SHORTEST_RUN

SHAPES = ((64, 112, 112), (48, 144, 144), (112, 80, 80), (64, 64, 64))
"""Sizes [Z, Y, X] of the pieces, 3 mm voxels: a chest with its front, a whole body, a long spine, a spine protocol."""
SHAPE_SHARES = (0.45, 0.2, 0.2, 0.15)


@dataclass(frozen=True)
class CurveTraining:
    """Numbers of a training run."""

    steps: int = 2300
    batch: int = 4
    shapes: tuple[tuple[int, int, int], ...] = SHAPES
    shares: tuple[float, ...] = SHAPE_SHARES
    """How often each size is drawn; a batch holds pieces of one size."""
    rate: float = 1e-3
    """Adam's, with its default betas (paper 5.1); falls to a hundredth along a half cosine after ``warm_up`` steps."""
    warm_up: int = 50
    decays: bool = True
    """False: the rate stays as it is, as in the paper (5.1)."""
    presence_weight: float = 2.0
    """Cross-entropy of presence against the mean absolute error in mm: about equal at the end of training."""
    phantom_share: float = 0.24
    """Share of pieces cut from phantoms where there are real scans too."""
    spineless_share: float = 0.06
    """Share of pieces without a spine (`spineless_piece`)."""
    seed: int = 0
    checkpoint_every: int = 100


@dataclass(frozen=True)
class Progress:
    """What a run reports at a step, means since the last report."""

    step: int
    error_mm: float
    presence_loss: float


def curve_loss(said: CurvePrediction, points: Tensor, placed: Tensor, status: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute error of the points (paper 3.1), mm, and binary cross-entropy of presence.

    Parameters
    ----------
    said : CurvePrediction
    points : tensor [B, z, 2]
        True (x, y), voxels.
    placed : tensor [B, z], bool
        Slices whose point counts.
    status : tensor [B, z]
        PRESENT, ABSENT or UNKNOWN (does not count).
    """
    error = (said.points - points).abs().mean(-1) * GRID_MM
    known = status != UNKNOWN
    presence = F.binary_cross_entropy_with_logits(said.presence, status.clamp_min(0).float(), reduction="none")
    return (error * placed).sum() / placed.sum().clamp_min(1), (presence * known).sum() / known.sum().clamp_min(1)


def draw_piece(
    scans: Sequence[CurveCase],
    phantoms: Sequence[CurveCase],
    shape: tuple[int, int, int],
    settings: CurveTraining,
    rng: np.random.Generator,
) -> Piece:
    """One piece of a scan, of a phantom, or of neither."""
    kind = rng.random()
    if kind < settings.spineless_share:
        return spineless_piece(shape, rng)
    synthetic = not scans or (bool(phantoms) and kind < settings.spineless_share + settings.phantom_share)
    cases = phantoms if synthetic else scans
    lengths = np.array([np.sqrt((case.status == PRESENT).sum()) for case in cases])  # long spines show more
    return random_piece(cases[int(rng.choice(len(cases), p=lengths / lengths.sum()))], shape, rng)


def draw_batch(
    scans: Sequence[CurveCase], phantoms: Sequence[CurveCase], settings: CurveTraining, rng: np.random.Generator
) -> list[Piece]:
    """Pieces of one random size."""
    shape = settings.shapes[int(rng.choice(len(settings.shapes), p=settings.shares))]
    return [draw_piece(scans, phantoms, shape, settings, rng) for _ in range(settings.batch)]


def collate(pieces: Sequence[Piece], device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Network input and the truth of its output slices: (input, points, placed, status)."""
    channels = np.stack([network_channels(piece.hu.numpy()) for piece in pieces])
    x = torch.from_numpy(channels).to(device).contiguous(memory_format=torch.channels_last_3d)
    points, placed, status = (
        torch.stack([getattr(piece, part) for piece in pieces])[:, ::STRIDE].to(device)
        for part in ("points", "placed", "status")
    )
    return x, points, placed, status


def rate_at(step: int, settings: CurveTraining) -> float:
    """Learning rate: linear warm-up, then half a cosine down to a hundredth; or the same throughout."""
    if not settings.decays:
        return settings.rate
    warm_up = min(settings.warm_up, settings.steps // SHORTEST_RUN)
    if step < warm_up:
        return settings.rate * (step + 1) / warm_up
    share = (step - warm_up) / max(1, settings.steps - warm_up)
    return settings.rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(1.0, share))))


def train(
    images: Path | None,
    annotations: Path | None,
    work: Path,
    weights: Path,
    *,
    leave_out: Sequence[str] = (),
    phantoms: int = 16,
    steps: int = CurveTraining.steps,
    seed: int = 0,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    settings: CurveTraining = CurveTraining(),
) -> None:
    """Train the first network and write its weights.

    A run that was stopped goes on from its checkpoint in ``work``.

    Parameters
    ----------
    images, annotations : Path or None
        Annotated CT (`vertebra_core.training.real`). None: phantoms only.
    work : Path
        Resampled scans, phantoms and checkpoints.
    weights : Path
        Where ``curve.safetensors`` is written.
    leave_out : sequence of str
        Names of truth files that are not trained on, for evaluation on unseen patients.
    settings : CurveTraining
        All other numbers; its steps and seed are replaced by those given.
    """
    scans = real_cases(images, annotations, work, leave_out, say)
    synthetic = list(phantom_cases(phantoms, seed, work, say))
    say(f"{len(scans)} scans, {len(synthetic)} phantoms")
    settings = replace(settings, steps=steps, seed=seed)
    names = [case.name for case in [*scans, *synthetic]]
    run = hashlib.sha256(repr((names, settings)).encode()).hexdigest()[:8]
    network = fit(scans, synthetic, work / f"curve-{run}.pt", settings, device, lambda progress: say(str(progress)))
    save_weights(weights / "curve.safetensors", network)


def fit(
    scans: Sequence[CurveCase],
    phantoms: Sequence[CurveCase],
    checkpoint: Path,
    settings: CurveTraining,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
) -> CurveNetwork:
    """Train, or go on from ``checkpoint`` exactly where it was written; returns the network, in evaluation mode.

    Parameters
    ----------
    scans, phantoms : sequence of CurveCase
    checkpoint : Path
        Written every ``settings.checkpoint_every`` steps: weights, optimiser, step and random state.
    settings : CurveTraining
    device : str
        "cpu" or "cuda"; both compute the convolutions in bfloat16.
    report : callable
        Hears the progress after every checkpoint.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = CurveNetwork().to(device).to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
    start = load_checkpoint(checkpoint, network, optimiser, rng)
    sums = np.zeros(3)
    network.train()
    for step in range(start, settings.steps):
        optimiser.param_groups[0]["lr"] = rate_at(step, settings)
        x, points, placed, status = collate(draw_batch(scans, phantoms, settings, rng), device)
        with torch.autocast(device, torch.bfloat16):
            said = network(x)
        error, presence = curve_loss(said, points, placed, status)
        optimiser.zero_grad()
        (error + settings.presence_weight * presence).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 50.0)
        optimiser.step()

        sums += [error.item(), presence.item(), 1]
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            save_checkpoint(checkpoint, network, optimiser, step + 1, rng)
            report(Progress(step + 1, float(sums[0] / sums[2]), float(sums[1] / sums[2])))
            sums[:] = 0
    return network.eval()
