"""Phantoms against the consensus of radiologists' keypoints on a hundred supine chest CTs."""

import numpy as np
import pytest

from vertebra_core.phantom.column import random_column
from vertebra_core.phantom.patient import PatientOptions, random_person

READERS = {  # level: ha, hm, hp, cranial length of normal vertebrae, mm
    "T1": (16.5, 15.0, 17.3, 14.4), "T4": (18.5, 16.9, 19.6, 19.5), "T7": (18.8, 18.2, 21.2, 23.8),
    "T10": (22.3, 20.5, 23.5, 26.7), "T12": (24.8, 23.3, 26.8, 27.3), "L1": (26.5, 24.7, 28.3, 28.4),
}  # fmt: skip
READERS_CENTRES = {("T1", "T2"): 20.0, ("T5", "T6"): 21.3, ("T9", "T10"): 24.9, ("T12", "L1"): 30.8}
READERS_TILT = {"T1": -29.0, "T4": -23.0, "T6": -13.0, "T8": 1.0, "T10": 6.0, "T12": 10.0}
PATIENTS = 50


@pytest.fixture(scope="module")
def keypoints():
    options = PatientOptions(fracture_probability=0.0, scoliosis_probability=0.1, variant_probability=0.0)
    columns = []
    for seed in range(PATIENTS):
        rng = np.random.default_rng(seed)
        columns.append(random_column(rng, random_person(rng, options), options))
    levels = [v.level for v in columns[0].vertebrae]
    return levels, np.stack([c.keypoints for c in columns])


def _heights(points):
    return np.linalg.norm(points[..., 0::2, :] - points[..., 1::2, :], axis=-1)


def test_heights_and_plates_have_the_readers_means(keypoints):
    levels, points = keypoints
    for level, expected in READERS.items():
        six = points[:, levels.index(level)]
        length = np.linalg.norm(six[:, 4] - six[:, 0], axis=-1)
        found = [*_heights(six).mean(0), length.mean()]
        assert found == pytest.approx(expected, rel=0.04), level


def test_normal_vertebrae_have_the_readers_index(keypoints):
    levels, points = keypoints
    heights = _heights(points[:, levels.index("T1") : levels.index("L1") + 1])
    g = heights.min(-1) / heights.max(-1)
    assert np.median(g) == pytest.approx(0.857, abs=0.008)
    assert g[g > 0.8].std() == pytest.approx(0.032, abs=0.008)
    assert (heights[..., 1] / heights[..., 2])[g > 0.8].mean() == pytest.approx(0.865, abs=0.01)
    assert (heights[..., 0] / heights[..., 2])[g > 0.8].mean() == pytest.approx(0.936, abs=0.015)


def test_neighbours_stand_as_far_apart_as_the_readers_saw(keypoints):
    levels, points = keypoints
    centres = points.mean(2)
    for (upper, lower), expected in READERS_CENTRES.items():
        gap = np.linalg.norm(centres[:, levels.index(upper)] - centres[:, levels.index(lower)], axis=-1)
        assert gap.mean() == pytest.approx(expected, rel=0.06), upper


def _tilt(points, front: int, back: int):
    across = points[..., back, :] - points[..., front, :]
    return -np.degrees(np.arctan2(across[..., 2], across[..., 1]))


def test_the_spine_bends_as_the_readers_saw(keypoints):
    levels, points = keypoints
    for level, expected in READERS_TILT.items():
        assert _tilt(points[:, levels.index(level)], 0, 4).mean() == pytest.approx(expected, abs=5.0), level
    kyphosis = _tilt(points[:, levels.index("T12")], 1, 5) - _tilt(points[:, levels.index("T4")], 0, 4)
    assert kyphosis.mean() == pytest.approx(38.8, abs=5.0)
    assert kyphosis.std() == pytest.approx(14.9, abs=4.5)


def test_scoliosis_reaches_sixty_degrees_with_rotation():
    options = PatientOptions(fracture_probability=0.0, scoliosis_probability=1.0, max_cobb_degrees=60.0)
    angles, turns = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        column = random_column(rng, random_person(rng, options), options)
        rotations = np.stack([v.pose.rotation for v in column.vertebrae])
        side = np.degrees(np.arctan2(rotations[:, 2, 0], np.hypot(rotations[:, 0, 0], rotations[:, 1, 0])))
        angles.append(np.ptp(side))
        turns.append(np.ptp(np.degrees(np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0]))))
    assert max(angles) > 45
    assert min(angles) > 5
    assert max(turns) > 12
