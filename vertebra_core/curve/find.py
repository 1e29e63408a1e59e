"""Step 1 of the method (paper 3.1): from a CT to the centre line of its spine.

Volume -> `read_slices` (network) -> `spine_range` (where a spine is) -> `smooth_line` (robust) -> `CentreLine`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d
from torch import nn

from vertebra_core.curve.grid import network_channels, patient_grid
from vertebra_core.curve.network import MULTIPLE, STRIDE
from vertebra_core.curve.smooth import robust_line
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.geometry import CentreLine
from vertebra_core.settings import CurveSettings
from vertebra_core.volume import Volume

CHUNK, OVERLAP = 144, 48
"""Slices read at once, and how many neighbouring chunks share: at 3 mm 432 and 144 mm. Bounds the memory of a
whole-body scan; the shared slices are seen with at least 72 mm of body above and below."""
PRESENCE_SD_MM = 6.0
"""Smoothing of presence along z: less than half of the smallest body (C3, 13 mm high)."""
BRIDGE_MM = 25.0
"""A dip of presence this long inside a spine is bridged: one body and its disc, hidden by metal or destroyed."""
POINT_STEP_MM = 4.0
"""Distance along z of the points handed on."""


@dataclass(frozen=True)
class SliceReading:
    """What the network says of each axial slice it was asked about, from the bottom upward.

    Parameters
    ----------
    z : array [n]
        LPS z, mm, ascending, equal steps.
    points : array [n, 2]
        LPS (x, y) of the spine, mm; meaningless where there is none.
    presence : array [n]
        Probability that the slice shows a vertebral body (C3 to L5).
    """

    z: Float[np.ndarray, "n"]
    points: Float[np.ndarray, "n 2"]
    presence: Float[np.ndarray, "n"]


def find_curve(volume: Volume, network: nn.Module, settings: CurveSettings) -> CentreLine:
    """Centre line of the vertebral bodies in view, from the top downward.

    Parameters
    ----------
    volume : Volume
        Any orientation.
    network : CurveNetwork
        In evaluation mode, on the device that computes.
    settings : CurveSettings

    Raises
    ------
    NotEvaluable
        NO_SPINE where no run of slices with a body reaches ``settings.min_length_mm``; NOT_FINITE where the volume
        holds voxels that are not numbers.
    """
    return line_from_slices(read_slices(volume, network, settings), settings)


def read_slices(volume: Volume, network: nn.Module, settings: CurveSettings) -> SliceReading:
    """Ask the network about every second slice of the patient-aligned grid."""
    if volume.hu.dtype.kind == "f" and not np.isfinite(volume.hu).all():
        raise NotEvaluable(Reason.NOT_FINITE, "the volume holds voxels that are not numbers")
    grid = patient_grid(volume, settings.grid_mm)
    parts = [_read_chunk(grid.hu[start:stop], network) for start, stop in _chunks(len(grid.hu))]
    points, presence = (np.concatenate(part) for part in zip(*_joined(parts, len(grid.hu)), strict=True))
    z = grid.z_mm()[::STRIDE]
    return SliceReading(z, grid.origin[:2] + grid.spacing_mm * points, presence)


def _chunks(count: int) -> list[tuple[int, int]]:
    """Slices [start, stop) of each chunk; starts are whole multiples of the output's stride."""
    starts = range(0, max(1, count - OVERLAP), CHUNK - OVERLAP)
    return [(start, min(count, start + CHUNK)) for start in starts]


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut the chunks' readings in the middle of what they share."""
    half, kept = OVERLAP // 2 // STRIDE, []
    for number, (points, presence) in enumerate(parts):
        low = 0 if number == 0 else half
        high = len(presence) if number == len(parts) - 1 else CHUNK // STRIDE - half
        kept.append((points[low:high], presence[low:high]))
    if sum(len(presence) for _, presence in kept) != -(-count // STRIDE):
        raise AssertionError("chunks do not add up to the scan")
    return kept


@torch.inference_mode()
def _read_chunk(hu: np.ndarray, network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, 2] in voxels (x, y) and presence [n] of every second slice of [z, y, x]."""
    padded = [(0, -size % MULTIPLE) for size in hu.shape]
    x = np.pad(network_channels(hu), [(0, 0), *padded])  # zero is air in both channels
    device = next(network.parameters()).device
    said = network(torch.from_numpy(x)[None].to(device).contiguous(memory_format=torch.channels_last_3d))
    count = -(-len(hu) // STRIDE)
    return said.points[0, :count].double().cpu().numpy(), said.presence[0, :count].sigmoid().double().cpu().numpy()


def line_from_slices(reading: SliceReading, settings: CurveSettings) -> CentreLine:
    """Smooth line through the slices that show a spine, prolonged straight by ``settings.margin_mm`` at both ends."""
    inside = spine_range(reading, settings)
    z, points, presence = reading.z[inside], reading.points[inside], reading.presence[inside]
    steps = max(3, int(np.ceil((z[-1] - z[0]) / POINT_STEP_MM)))
    new_z = np.linspace(z[-1], z[0], steps + 1)
    xy = robust_line(z, points, np.maximum(presence, 1e-3), new_z, settings.smoothing_mm, settings.outlier_mm)
    line = np.c_[xy, new_z]
    above, below = _beyond(line[0], line[2], settings)[::-1], _beyond(line[-1], line[-3], settings)
    return CentreLine(np.concatenate([above, line, below]))


def _beyond(end: np.ndarray, before: np.ndarray, settings: CurveSettings) -> np.ndarray:
    """Points of the straight continuation past ``end``, nearest first."""
    direction = (end - before) / np.linalg.norm(end - before)
    count = int(np.ceil(settings.margin_mm / POINT_STEP_MM))
    return end + np.arange(1, count + 1)[:, None] / max(count, 1) * settings.margin_mm * direction


def spine_range(reading: SliceReading, settings: CurveSettings) -> slice:
    """The longest run of slices that show a body, short dips bridged.

    Raises
    ------
    NotEvaluable
        NO_SPINE.
    """
    step = reading.z[1] - reading.z[0] if len(reading.z) > 1 else settings.grid_mm * STRIDE
    smooth = gaussian_filter1d(reading.presence, PRESENCE_SD_MM / step, mode="nearest")
    runs = bridged_runs(smooth >= settings.presence, int(BRIDGE_MM / step))
    longest = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
    length = (longest[1] - longest[0]) * step
    if length < settings.min_length_mm:
        found = f"the longest run of slices with a vertebral body is {length:.0f} mm"
        raise NotEvaluable(Reason.NO_SPINE, f"{found}, at least {settings.min_length_mm:.0f} mm expected")
    return slice(*longest)


def bridged_runs(present: Bool[np.ndarray, "n"], bridge: int) -> list[tuple[int, int]]:
    """Runs [start, stop) of true values; runs at most ``bridge`` values apart count as one.

    Examples
    --------
    >>> bridged_runs(np.array([1, 1, 0, 1, 0, 0, 1], bool), 1)
    [(0, 4), (6, 7)]
    """
    edges = np.flatnonzero(np.diff(np.r_[False, present, False].astype(int)))
    runs: list[tuple[int, int]] = []
    for start, stop in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] <= bridge:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs
