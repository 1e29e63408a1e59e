"""Levels of phantoms with the shipped weights: whole spines with every number of vertebrae, and parts of them."""

from functools import cache

import numpy as np
import pytest

from vertebra_core.levels.find import NamedLevels, name_levels
from vertebra_core.levels.names import NAMES
from vertebra_core.levels.network import LevelNetwork
from vertebra_core.models import WEIGHTS, load_network
from vertebra_core.phantom.anatomy import Phantom, random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.settings import LevelSettings
from vertebra_core.training.spines import true_line
from vertebra_core.volume import Volume

GRID_MM, ROUND_MM = 3.0, 62.0
SETTINGS = LevelSettings()


@cache
def network() -> LevelNetwork:
    return load_network(LevelNetwork(), WEIGHTS / "levels.safetensors")


@cache
def patient(last_rib: str, last: str) -> Phantom:
    """The first patient of a row of seeds with these last vertebrae of chest and loin."""
    for seed in range(7000, 7400):
        phantom = random_patient(np.random.default_rng(seed), PatientOptions(variant_probability=1.0))
        levels = phantom.truth.levels
        if levels[-1] == last and [n for n in levels if n[0] == "T"][-1] == last_rib:
            return phantom
    raise AssertionError(f"no phantom with {last_rib} and {last}")


def scan(phantom: Phantom, part: slice) -> tuple[Volume, np.ndarray]:
    """A block round some vertebrae, ending where they end unless they are the last ones, and their keypoints."""
    points = phantom.truth.points[part]
    reach = ROUND_MM * np.ones((2, 3))
    if part.start:
        reach[1, 2] = 2.0
    if part.stop is not None:
        reach[0, 2] = 2.0
    low, high = points.min((0, 1)) - reach[0], points.max((0, 1)) + reach[1]
    axes = [np.arange(a, b, GRID_MM) for a, b in zip(low, high, strict=True)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    affine = np.diag([GRID_MM, GRID_MM, GRID_MM, 1.0])
    affine[:3, 3] = low
    return Volume(phantom.hu(np.stack([x, y, z], -1), blur_mm=1.2), affine), points


def names(phantom: Phantom, part: slice) -> NamedLevels:
    volume, points = scan(phantom, part)
    return name_levels(volume, true_line(points, 30.0), points, np.ones(len(points), bool), network(), SETTINGS)


UNSEEN_RIB = pytest.mark.xfail(reason="the short training does not see the last rib: T11-L5 is read as T12-L4")
"""Which of eleven or thirteen ribbed vertebrae is the last one waits for longer trained weights (docs/levels.md)."""


@pytest.mark.parametrize(
    ("last_rib", "last"),
    [
        ("T12", "L5"),
        pytest.param("T11", "L5", marks=UNSEEN_RIB),
        pytest.param("T13", "L5", marks=UNSEEN_RIB),
        ("T12", "L4"),
        ("T12", "L6"),
    ],
)
def test_whole_spines_are_named_whatever_the_number(last_rib, last):
    options = PatientOptions(variant_probability=0.0)
    ordinary = last_rib == "T12" and last == "L5"
    phantom = random_patient(np.random.default_rng(7000), options) if ordinary else patient(last_rib, last)
    named = names(phantom, slice(0, None))
    given = [(a, b) for a, b in zip(named.levels, phantom.truth.levels, strict=True) if a is not None]
    assert all(a == b for a, b in given)
    assert len(given) >= 0.8 * len(named.levels)
    assert not named.foreign.any()


@pytest.mark.parametrize(("first", "last"), [("C3", "T6"), ("C7", "L1"), ("T11", "L5")])
def test_parts_with_a_landmark_are_named(first, last):
    phantom = random_patient(np.random.default_rng(7001), PatientOptions(variant_probability=0.0))
    levels = phantom.truth.levels
    stop = levels.index(last) + 1
    part = slice(levels.index(first), None if stop == len(levels) else stop)
    named = names(phantom, part)
    assert [a for a, b in zip(named.levels, levels[part], strict=True) if a not in (None, b)] == []
    assert sum(level is not None for level in named.levels) >= 0.7 * len(named.levels)


def test_confidence_falls_where_no_landmark_is_in_view():
    phantom = random_patient(np.random.default_rng(7002), PatientOptions(variant_probability=0.0))
    levels = phantom.truth.levels
    chest = slice(levels.index("T5"), levels.index("T8") + 1)
    whole = names(phantom, slice(0, None)).chain
    part = names(phantom, chest).chain
    columns = [NAMES.index(n) for n in levels[chest]]
    true = np.arange(len(columns))
    assert part.probability[true, columns].mean() < whole.probability[chest][true, columns].mean()
