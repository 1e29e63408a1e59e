"""Names of the vertebrae of one scan: the network's looks along the line, then the chain that counts."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from vertebra_core.geometry import CentreLine
from vertebra_core.levels.chain import Chain, Finds, Trust, name_chain
from vertebra_core.levels.names import MEASURED, NAMES, VARIANTS
from vertebra_core.levels.network import ACROSS, FRONT_MM, GRID_MM, REACH_MM, ROW_MM, LevelNetwork, at_places, channels
from vertebra_core.levels.sizes import SizeSpread
from vertebra_core.settings import LevelSettings
from vertebra_core.straighten import sample_volume
from vertebra_core.volume import AIR_HU, Volume

DISC_MM = 2.0
"""Added to the mean of the largest heights of two neighbours it gives the distance of their centres: with it the ratio
of the annotated spines has a mean of 1.00 and an SD of 0.07 (docs/levels.md)."""
DEFORMED = 0.74
"""Below this quotient of the lowest and the largest height even the posterior one may have lost height (moderate
deformity: `GradingSettings.moderate`)."""
NEXT_STEP, NEXT_HALF = 1.15, 0.65
"""Where the next vertebra of a row would lie, and half of what it would take up, over the distance of the last two."""
NEXT_ACROSS_MM, TISSUE_HU = 10.0, -200.0
"""Half-width of the place where its body would be, and the HU above which that place shows tissue."""
MOST_FINDS = min(len(variant.names) for variant in VARIANTS)
"""No spine has more vertebrae from the axis to the sacrum than any variant has names; more finds are blunders."""


@dataclass(frozen=True)
class NamedLevels:
    """Names of k finds, from the top down.

    Parameters
    ----------
    levels : tuple of (str or None)
        "C3" .. "L6"; None where the name is less sure than ``settings.min_confidence``.
    confidence : array [k]
        Probability that the name is right; NaN where there is none.
    foreign : array [k], bool
        True for a find that is surely the axis or the sacrum, and so none of the vertebrae that are measured.
    chain : Chain
        All probabilities.
    """

    levels: tuple[str | None, ...]
    confidence: Float[np.ndarray, "k"]
    foreign: Bool[np.ndarray, "k"]
    chain: Chain


def name_levels(
    volume: Volume,
    curve: CentreLine,
    points: Float[np.ndarray, "k 6 3"],
    complete: Bool[np.ndarray, "k"],
    network: LevelNetwork,
    settings: LevelSettings,
) -> NamedLevels:
    """Name all finds of a scan, the ones that its edge cuts too: they count.

    Parameters
    ----------
    volume : Volume
    curve : CentreLine
        The line that the finds lie on.
    points : array [k, 6, 3]
        Keypoints, LPS mm, from the top down.
    complete : array [k], bool
        False where the edge of the scan cuts a find: it counts, but its size says nothing.
    network : LevelNetwork
    settings : LevelSettings
    """
    if len(points) > MOST_FINDS:
        nothing = Chain((NAMES[0],) * len(points), np.zeros((len(points), len(NAMES))), np.zeros(0))
        return NamedLevels((None,) * len(points), np.full(len(points), np.nan), np.zeros(len(points), bool), nothing)
    along = curve.straight_from_patient(points.mean(1))[:, 2]
    looks, sizes = looks_along(volume, curve, along, network), log_sizes(points, complete)
    finds = Finds(looks, neighbour_ratio(points), sizes, spine_ends(volume, curve, points))
    return read_chain(name_chain(finds, trust_of(settings)), settings)


def trust_of(settings: LevelSettings) -> Trust:
    """How far the settings trust each kind of evidence."""
    return Trust(settings.trust, settings.doubt, SizeSpread(settings.patient_size_sd, settings.vertebra_size_sd))


def read_chain(chain: Chain, settings: LevelSettings) -> NamedLevels:
    """Names that are sure enough, from the probabilities of a chain."""
    sure = np.array([row[NAMES.index(name)] for row, name in zip(chain.probability, chain.path, strict=True)])
    levels = tuple(
        name if name in MEASURED and p >= settings.min_confidence else None
        for name, p in zip(chain.path, sure, strict=True)
    )
    measured = chain.probability[:, [NAMES.index(name) for name in MEASURED]].sum(1)
    named = np.array([level is not None for level in levels])
    return NamedLevels(levels, np.where(named, sure, np.nan), 1.0 - measured >= settings.foreign, chain)


def looks_along(
    volume: Volume, curve: CentreLine, along: Float[np.ndarray, "k"], network: LevelNetwork
) -> Float[np.ndarray, "k looks"]:
    """Probability of each look at places `along` the line (mm)."""
    s = row_places(float(along.min()) - REACH_MM, float(along.max()) + REACH_MM)
    hu = sample_volume(volume, grid_points(curve, s))
    inside = np.isfinite(hu)
    device = next(network.parameters()).device
    x = channels(
        torch.from_numpy(np.nan_to_num(hu, nan=AIR_HU)).to(device)[None], torch.from_numpy(inside).to(device)[None]
    )
    with torch.inference_mode():
        logits = network(x)[0].float().cpu()
    return at_places(logits, torch.from_numpy(row_of(along, s)).float()).softmax(-1).numpy().astype(float)


def row_places(start: float, stop: float) -> Float[np.ndarray, "s"]:
    """Places of the samples along the line, mm; an even number of them."""
    return start + GRID_MM * np.arange(2 * int(np.ceil((stop - start) / ROW_MM)) + 2)


def row_of(along: Float[np.ndarray, "k"], s: Float[np.ndarray, "s"]) -> Float[np.ndarray, "k"]:
    """Fractional rows of the network's answer at places along the line."""
    return (along - s[0]) / ROW_MM - 0.25


def across_mm() -> tuple[np.ndarray, np.ndarray]:
    """Places (v, u) of the samples across the line, mm."""
    steps = GRID_MM * np.arange(ACROSS)
    return FRONT_MM + steps, steps - steps.mean()


def grid_points(curve: CentreLine, s: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s v u 3"]:
    """LPS mm of all samples round the line."""
    v, u = across_mm()
    left, posterior, _ = curve.frame(s)
    across = v[None, :, None, None] * posterior[:, None, None] + u[None, None, :, None] * left[:, None, None]
    return curve.position(s)[:, None, None] + across


def neighbour_ratio(points: Float[np.ndarray, "k 6 3"]) -> Float[np.ndarray, "g"]:
    """Distance of each centre from the next over the one expected of neighbours: half of both bodies and a disc."""
    centres = points.mean(1)
    heights = np.linalg.norm(points[:, 0::2] - points[:, 1::2], axis=-1).max(1)
    expected = (heights[1:] + heights[:-1]) / 2 + DISC_MM
    return np.linalg.norm(np.diff(centres, axis=0), axis=1) / expected


def log_sizes(points: Float[np.ndarray, "k 6 3"], complete: Bool[np.ndarray, "k"]) -> Float[np.ndarray, "k 2"]:
    """Log of posterior height and mean depth, mm; NaN for cut finds and for the height of a deformed one."""
    heights = np.linalg.norm(points[:, 0::2] - points[:, 1::2], axis=-1)
    depth = np.linalg.norm(points[:, 4:6] - points[:, 0:2], axis=-1).mean(1)
    sizes = np.log(np.maximum(np.stack([heights[:, 2], depth], 1), 1.0))
    deformed = heights.min(1) < DEFORMED * heights.max(1)
    return np.where(np.stack([complete & ~deformed, complete], 1), sizes, np.nan)


def spine_ends(volume: Volume, curve: CentreLine, points: Float[np.ndarray, "k 6 3"]) -> tuple[bool, bool]:
    """Whether the scan shows the whole place of a further vertebra above the first and below the last of k finds."""
    if len(points) < 2:
        return False, False
    s = curve.straight_from_patient(points.mean(1))[:, 2]
    above, below = ((s[0], s[0] - s[1]), (s[-1], s[-1] - s[-2]))
    return _shows_next(volume, curve, *above), _shows_next(volume, curve, *below)


def _shows_next(volume: Volume, curve: CentreLine, end_mm: float, step_mm: float) -> bool:
    along = end_mm + step_mm * (NEXT_STEP + NEXT_HALF * np.array([-1.0, 0.0, 1.0]))
    across = NEXT_ACROSS_MM * np.array([-1.0, 0.0, 1.0])
    uvs = np.stack(np.meshgrid(across, across, along, indexing="ij"), -1)
    hu = sample_volume(volume, curve.patient_from_straight(uvs))
    return bool(np.isfinite(hu).all() and np.mean(hu > TISSUE_HU) > 0.5)
