"""Level-specific sizes of the phantom's vertebrae, mm and degrees, C3 to L5.

Heights, plate lengths, concavities and disc gaps of C4-L3: consensus of radiologists' keypoints on 100 supine chest
CTs (normal vertebrae, G > 0.8). Levels beyond and everything behind the bodies: published anatomy (Panjabi 1991,
Int J Spine Surg table of L5, Clouthier 2023 for L2-L5), rounded, and looked at beside real CT.
"""

# ruff: noqa: E501 -- the table below reads by its columns

from dataclasses import dataclass

import numpy as np

LEVEL_SIZE_SD = 0.037
"""SD of log(hp) inside a patient."""
LENGTH_SD = (0.093, 0.053)
"""SD of log(plate length) between and inside patients."""
HA_HP_SD = (0.023, 0.045)
"""SD of ha/hp between and inside patients."""
HM_HP_SD = (0.023, 0.028)
"""SD of hm/hp between and inside patients."""
RATIO_CORRELATION = 0.35
"""Correlation of ha/hp and hm/hp of normal vertebrae."""

NORMAL_G = 0.80
"""The statistics above are those of vertebrae with a larger Genant index, so undeformed ones are drawn with it."""
NORMAL_DRAWS = 12


@dataclass(frozen=True)
class LevelSize:
    """Mean sizes of one level, mm and degrees.

    Parameters
    ----------
    ha, hm, hp : float
        Heights between keypoints.
    cranial, caudal : float
        Distance of the anterior and posterior keypoint of each plate.
    cranial_share : float
        Share of the concavity (mean of ha and hp, less hm) that lies in the cranial plate.
    width : float
        Width of the body over its depth.
    canal : tuple of float
        Half-width and half-depth of the spinal canal.
    pedicle : tuple of float
        Width and height of a pedicle.
    spinous : tuple of float
        Length behind the canal, angle below the plate (degrees), half-height.
    transverse : tuple of float
        Tip of the transverse process: distance from the middle, behind the centre of the canal, above the body's centre.
    disc_front, disc_back : float
        Gap of the disc below this vertebra between the keypoints, in front and behind.
    """

    ha: float
    hm: float
    hp: float
    cranial: float
    caudal: float
    cranial_share: float
    width: float
    canal: tuple[float, float]
    pedicle: tuple[float, float]
    spinous: tuple[float, float, float]
    transverse: tuple[float, float, float]
    disc_front: float
    disc_back: float


# fmt: off
#                        ha    hm    hp    cran  caud share width  canal         pedicle       spinous              transverse          disc
LEVEL_SIZES = {
    "C3": LevelSize(12.8, 11.3, 13.0, 13.4, 14.2, 0.10, 1.30, (11.5, 7.0), (5.0, 7.0), (15.0, 14.0, 4.0), (25.0, -11.0, -1.0), 3.2, 2.6),
    "C4": LevelSize(12.9, 11.5, 13.1, 13.4, 14.3, 0.10, 1.32, (12.0, 6.9), (5.0, 7.0), (15.0, 16.0, 4.0), (25.5, -11.0, -1.0), 3.1, 2.7),
    "C5": LevelSize(12.8, 11.3, 12.8, 13.0, 14.6, 0.10, 1.38, (12.2, 6.9), (5.2, 7.0), (17.0, 18.0, 4.0), (26.0, -11.0, -1.0), 2.9, 2.9),
    "C6": LevelSize(12.6, 11.7, 13.2, 13.7, 14.6, 0.10, 1.42, (12.3, 6.9), (5.5, 7.2), (21.0, 21.0, 4.2), (27.0, -10.0, -1.0), 3.2, 1.8),
    "C7": LevelSize(15.0, 13.4, 15.3, 14.5, 14.8, 0.15, 1.46, (12.0, 7.0), (6.2, 7.6), (30.0, 25.0, 5.0), (31.0, -3.0, 1.0), 3.1, 2.4),
    "T1": LevelSize(16.5, 15.0, 17.3, 14.6, 15.5, 0.30, 1.45, (10.8, 7.6), (7.6, 9.0), (32.0, 28.0, 5.6), (36.0, 6.0, 3.5), 2.8, 2.3),
    "T2": LevelSize(17.9, 15.9, 18.3, 15.7, 17.2, 0.42, 1.36, (9.8, 7.1), (7.1, 10.5), (31.0, 34.0, 5.4), (34.0, 8.0, 4.0), 2.2, 2.2),
    "T3": LevelSize(18.2, 16.4, 19.0, 17.4, 19.0, 0.43, 1.24, (9.1, 7.3), (5.8, 11.2), (31.0, 41.0, 5.0), (32.0, 9.0, 4.0), 1.8, 2.0),
    "T4": LevelSize(18.5, 16.9, 19.6, 19.5, 20.9, 0.46, 1.16, (8.8, 7.3), (5.3, 11.4), (32.0, 48.0, 4.8), (31.5, 10.0, 4.0), 1.8, 2.0),
    "T5": LevelSize(18.8, 17.5, 20.4, 21.1, 22.4, 0.51, 1.12, (8.7, 7.4), (5.3, 11.4), (33.0, 54.0, 4.6), (31.5, 10.5, 4.0), 1.9, 2.2),
    "T6": LevelSize(18.7, 18.0, 20.9, 22.6, 23.9, 0.52, 1.10, (8.7, 7.4), (5.5, 11.6), (34.0, 58.0, 4.6), (31.5, 11.0, 4.0), 2.3, 2.3),
    "T7": LevelSize(18.8, 18.2, 21.2, 23.8, 24.9, 0.52, 1.10, (8.7, 7.4), (6.0, 11.8), (34.0, 59.0, 4.6), (31.0, 11.0, 4.0), 2.7, 2.5),
    "T8": LevelSize(19.6, 18.6, 21.7, 25.3, 26.1, 0.49, 1.11, (8.8, 7.4), (6.4, 12.2), (32.0, 57.0, 4.8), (30.5, 11.0, 4.0), 3.1, 2.5),
    "T9": LevelSize(20.6, 19.2, 22.3, 26.3, 26.6, 0.43, 1.14, (9.0, 7.4), (6.9, 13.2), (29.0, 50.0, 5.4), (29.5, 10.5, 4.0), 3.4, 2.5),
    "T10": LevelSize(22.3, 20.5, 23.5, 26.7, 27.0, 0.44, 1.18, (9.2, 7.4), (7.8, 14.6), (26.0, 40.0, 6.4), (27.5, 9.5, 4.0), 3.8, 2.6),
    "T11": LevelSize(23.3, 21.9, 25.3, 26.9, 27.1, 0.49, 1.22, (9.6, 8.2), (8.2, 16.0), (24.0, 26.0, 8.0), (23.0, 8.0, 3.0), 4.9, 3.2),
    "T12": LevelSize(24.8, 23.3, 26.8, 27.3, 27.4, 0.39, 1.26, (10.6, 8.5), (8.0, 16.4), (25.0, 13.0, 9.5), (20.0, 6.0, 1.0), 5.2, 3.2),
    "L1": LevelSize(26.5, 24.7, 28.3, 28.4, 28.9, 0.49, 1.30, (11.0, 8.4), (7.6, 15.2), (28.0, 9.0, 10.5), (37.0, 2.0, 1.0), 7.6, 3.9),
    "L2": LevelSize(27.8, 24.8, 28.7, 28.9, 29.2, 0.45, 1.33, (11.2, 8.2), (8.2, 14.8), (29.0, 8.0, 11.0), (42.0, 1.5, 1.0), 8.8, 4.6),
    "L3": LevelSize(28.5, 24.9, 29.4, 30.2, 30.2, 0.42, 1.35, (11.6, 8.0), (9.8, 14.4), (30.0, 8.0, 11.0), (47.0, 0.5, 1.0), 9.8, 5.2),
    "L4": LevelSize(28.8, 24.6, 28.2, 30.8, 30.6, 0.42, 1.38, (12.2, 8.0), (12.4, 14.2), (27.0, 9.0, 10.0), (43.0, 0.0, 2.0), 10.8, 5.6),
    "L5": LevelSize(29.6, 24.6, 25.6, 31.0, 30.0, 0.45, 1.42, (13.6, 8.0), (15.4, 13.0), (20.0, 14.0, 8.0), (42.0, -3.0, 3.0), 11.0, 4.8),
}
# fmt: on

SACRAL_SIZES = (
    (28.0, 24.0, 30.0, 24.0),
    (23.0, 21.0, 21.0, 17.0),
    (20.0, 19.0, 15.0, 13.0),
    (18.0, 17.0, 12.0, 10.0),
    (16.0, 16.0, 9.0, 7.0),
)
"""ha, hp, cranial and caudal depth (mm) of the fused bodies S1-S5; from memory of sacral anatomy."""


def region(level: str) -> str:
    """Region of a level: "C", "T" or "L"."""
    return level[0]


def level_names(n_thoracic: int = 12, n_lumbar: int = 5) -> tuple[str, ...]:
    """Names from C3 downward; other counts give T13 or L6, or end at T11 or L4."""
    return tuple(
        [f"C{i}" for i in range(3, 8)]
        + [f"T{i}" for i in range(1, n_thoracic + 1)]
        + [f"L{i}" for i in range(1, n_lumbar + 1)]
    )


def level_size(level: str) -> LevelSize:
    """Sizes of a level; T13 is built as T12 and L6 as L5."""
    return LEVEL_SIZES.get(level, LEVEL_SIZES["T12" if region(level) == "T" else "L5"])


def random_heights(rng: np.random.Generator, levels: tuple[str, ...], size: float) -> np.ndarray:
    """Heights [k, 3] (ha, hm, hp) mm of undeformed vertebrae.

    Parameters
    ----------
    size : float
        Size of the patient relative to the mean.
    """
    sizes = [level_size(level) for level in levels]
    mean_a, mean_m = (np.array([getattr(s, h) / s.hp for s in sizes]) for h in ("ha", "hm"))
    hp = np.array([s.hp for s in sizes]) * size * np.exp(rng.normal(0, LEVEL_SIZE_SD, len(levels)))
    both = np.array([[1.0, RATIO_CORRELATION], [RATIO_CORRELATION, 1.0]])
    root = np.linalg.cholesky(both)
    patient = root @ rng.normal(size=2)
    ratios = np.empty((len(levels), 2))
    for k in range(len(levels)):
        for _ in range(NORMAL_DRAWS):
            inside = root @ rng.normal(size=2)
            a = mean_a[k] + patient[0] * HA_HP_SD[0] + inside[0] * HA_HP_SD[1]
            m = mean_m[k] + patient[1] * HM_HP_SD[0] + inside[1] * HM_HP_SD[1]
            # A middle higher than the line between the rims would be a convex plate.
            m = min(m, 0.985 * (a + 1) / 2)
            ratios[k] = a, m
            if min(a, m, 1.0) / max(a, 1.0) > NORMAL_G:
                break
    return hp[:, None] * np.stack([ratios[:, 0], ratios[:, 1], np.ones(len(levels))], 1)
