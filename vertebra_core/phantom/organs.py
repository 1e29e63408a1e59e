"""Organs and vessels inside the trunk, with and without contrast. Places follow the spine; sizes from memory."""

# ruff: noqa: RUF005 -- coordinates are added to arrays here, not lists joined

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vertebra_core.phantom.column import Column
from vertebra_core.phantom.fields import Blob, Filling, Part, random_field, rods
from vertebra_core.phantom.patient import Person
from vertebra_core.phantom.torso import Torso
from vertebra_core.phantom.vertebra import Vertebra

AIR_IN_PATIENT_HU = -980.0
GASSY_LOOPS = 1 / 3
"""Share of bowel loops that are full of gas."""


# fmt: off
AORTA = (
    ("T4", 14, -16), ("T5", 18, -10), ("T6", 19, -8), ("T7", 19, -9), ("T8", 18, -10), ("T9", 16, -14),
    ("T10", 13, -19), ("T11", 10, -23), ("T12", 7, -26), ("L1", 6, -29), ("L2", 6, -30), ("L3", 6, -30), ("L4", 4, -29),
)
# fmt: on
"""The descending aorta: left of the body's centre and behind it, mm; from the left of the bodies to their front."""


@dataclass(frozen=True)
class Landmarks:
    """Points beside the spine of a patient.

    Parameters
    ----------
    column : Column
    torso : Torso
    """

    column: Column
    torso: Torso

    @cached_property
    def bodies(self) -> dict[str, Vertebra]:
        """Vertebrae by level."""
        return {v.level: v for v in self.column.all}

    def vertebra(self, level: str) -> Vertebra:
        """The vertebra of that name; where a variant lacks it, the one above."""
        if level in self.bodies:
            return self.bodies[level]
        return self.bodies[{"T12": "T11", "L5": "L4"}[level]]

    def at(self, level: str, left: float = 0.0, behind: float = 0.0, up: float = 0.0) -> np.ndarray:
        """A point relative to a body's centre, along the patient's axes."""
        return self.vertebra(level).pose.centre + np.array([left, behind, up])

    def ahead(self, level: str) -> float:
        """Half the depth of a body, mm."""
        return self.vertebra(level).body.half_depth

    def front(self, z: float, inset: float = 0.0) -> np.ndarray:
        """The point of the cage's front wall in the middle at height z."""
        t = self.torso
        return np.array([float(t.outer_x(z)), float(t.cage_y(z) - t.cage_depth(z)) + inset, z])


def _blood(rng, person: Person) -> dict[str, float]:
    """HU of what contrast reaches: none, arterial or venous phase."""
    if not person.contrast:
        blood = float(rng.uniform(30, 50))
        return {"artery": blood, "right": blood, "vein": blood, "liver": float(rng.normal(55, 10)), "spleen": 48.0,
                "kidney": 33.0, "muscle": 45.0, "thyroid": 100.0}  # fmt: skip
    arterial = rng.random() < 0.5
    return {
        "artery": float(rng.uniform(220, 480) if arterial else rng.uniform(130, 220)),
        "right": float(rng.uniform(100, 600) if arterial else rng.uniform(120, 200)),
        "vein": float(rng.uniform(40, 120) if arterial else rng.uniform(120, 200)),
        "liver": float(rng.uniform(65, 90) if arterial else rng.uniform(90, 130)),
        "spleen": float(rng.uniform(90, 150)), "kidney": float(rng.uniform(140, 260)),
        "muscle": float(rng.uniform(80, 120)), "thyroid": float(rng.uniform(120, 190)),
    }  # fmt: skip


def random_organs(
    rng: np.random.Generator, person: Person, column: Column, torso: Torso, bowel_gas: float | None = None
) -> tuple[Part, ...]:
    """Everything inside the cage and the abdomen, in the order of painting.

    Parameters
    ----------
    bowel_gas : float or None
        Share of bowel loops that are full of gas.
    """
    mark = Landmarks(column, torso)
    blood = _blood(rng, person)
    return (
        *_abdomen(rng, person, mark, blood, GASSY_LOOPS if bowel_gas is None else bowel_gas),
        *_heart(rng, person, mark, blood),
        *_vessels(rng, person, mark, blood),
        *_airways(rng, person, mark),
    )


def _blob(centre, radii, filling, tilt: float = 0.0) -> Blob:
    c, s = np.cos(tilt), np.sin(tilt)
    axes = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return Blob(np.asarray(centre, float), np.asarray(radii, float), filling, axes)


def _heart(rng, person: Person, mark: Landmarks, blood) -> list[Part]:
    s = person.size * float(rng.uniform(0.9, 1.15))
    middle = mark.front(mark.at("T8")[2], 0) + np.array([20.0, 58.0 * s, 6.0])
    wall = Filling(blood["muscle"])
    fat = Filling(torso_fat(mark))
    return [
        _blob(middle + np.array([2, -4, 0]), np.array([66, 56, 60]) * s, fat, 0.5),
        _blob(middle, np.array([56, 47, 52]) * s, wall, 0.5),
        _blob(middle + np.array([24, 2, -4]) * s, np.array([30, 26, 34]) * s, Filling(blood["artery"]), 0.6),
        _blob(middle + np.array([-10, -22, -6]) * s, np.array([36, 18, 32]) * s, Filling(blood["right"]), 0.5),
        _blob(middle + np.array([-36, 2, 10]) * s, np.array([20, 24, 28]) * s, Filling(blood["right"])),
        _blob(middle + np.array([0, 38, 22]) * s, np.array([34, 17, 22]) * s, Filling(blood["artery"])),
    ]


def torso_fat(mark: Landmarks) -> float:
    """HU of the patient's fat."""
    return mark.torso.tissue.fat


def _vessels(rng, person: Person, mark: Landmarks, blood) -> list[Part]:
    s = person.size
    wide = float(rng.uniform(0.9, 1.35)) if person.age_years > 55 else 1.0
    down = []
    for level, left, behind in AORTA:
        near = max(mark.ahead(level) + 10.5 * wide, 0)
        # In the chest the vessel lies at the left of the bodies, lower down in front of them.
        reach = np.hypot(left, behind) / near
        down.append(mark.at(level, left / min(reach, 1.0), behind / min(reach, 1.0)))
    radii = np.linspace(12.5, 9.0, len(down)) * wide * s
    calcified = person.age_years > 60
    parts: list[Part] = []
    for i in range(len(down) - 1):
        hard = calcified and rng.random() < 0.5
        filling = Filling(
            blood["artery"],
            wall_hu=float(rng.uniform(200, 700)) if hard else blood["artery"],
            wall_mm=0.9 if hard else 0.0,
        )
        parts += rods(down[i : i + 2], radii[i : i + 2], filling)
    root = mark.front(mark.at("T7")[2]) + np.array([-4.0, 52.0, 0]) * s
    rise = mark.front(mark.at("T5")[2]) + np.array([-16.0, 40.0, 0]) * s
    top = mark.front(mark.at("T4")[2]) + np.array([-6.0, 36.0, 6]) * s
    middle = (top + down[0]) / 2 + [4, 0, 10]
    parts += rods(
        [root, rise, top, middle, down[0]], np.array([16, 15.5, 14, 13, 12.5]) * wide * s, Filling(blood["artery"])
    )
    trunk = mark.front(mark.at("T6")[2]) + np.array([20.0, 34.0, 0]) * s
    fork = mark.at("T5", 8, -mark.ahead("T5") - 36)
    right = Filling(blood["right"])
    parts += rods([trunk + [4, -6, -25], trunk, fork], [14 * s, 14 * s, 12 * s], right)
    parts += rods([fork, fork + np.array([-48, 12, -8])], [11 * s, 7 * s], right)
    parts += rods([fork, fork + np.array([44, 20, -2])], [11 * s, 7 * s], right)
    parts += rods(
        [rise + [-22, 6, 70], rise + [-22, 8, -20]],
        8 * s,
        Filling(float(np.clip(blood["right"] * rng.uniform(0.8, 2), 30, 1100))),
    )
    for left in (-16, 8, 22):
        parts += rods(
            [top + [left, 6, 8], mark.at("T1", left * 1.3, -mark.ahead("T1") - 24)], 4.5 * s, Filling(blood["artery"])
        )
    cava = [mark.at(n, -16, -mark.ahead(n) - 9) for n in ("T10", "T12", "L2", "L4")]
    return [*parts, *rods(cava, 10.5 * s, Filling(blood["vein"]))]


def _airways(rng, person: Person, mark: Landmarks) -> list[Part]:
    s = person.size
    air = Filling(AIR_IN_PATIENT_HU, wall_hu=40.0, wall_mm=1.6)
    line = [mark.at(n, left, -mark.ahead(n) - 17 * s) for n, left in (("C5", 0), ("C7", 0), ("T2", -1), ("T4", -2))]
    fork = mark.at("T5", 0, -mark.ahead("T5") - 15 * s)
    parts = rods([*line, fork], np.array([10, 10.5, 10.5, 10.5, 10]) * s, air)
    parts += rods([fork, fork + np.array([-34, 8, -28]) * s], [8.5 * s, 5.5 * s], air)
    parts += rods([fork, fork + np.array([42, 10, -30]) * s], [8 * s, 5 * s], air)
    gullet = [mark.at(n, 5 * s, -mark.ahead(n) - 7 * s) for n in ("C6", "T2", "T5", "T8", "T11")]
    parts += rods(gullet, 6.5 * s, Filling(38.0))
    if rng.random() < 0.4:
        k = int(rng.integers(1, 4))
        parts += rods(gullet[k : k + 2], 2.5 * s, Filling(-800.0))
    return parts


def _abdomen(rng, person: Person, mark: Landmarks, blood, gas: float) -> list[Part]:
    s = person.size
    t = mark.torso
    parts: list[Part] = []
    z12 = mark.at("T12")[2]
    half = float(t.cage_width(z12))
    deep = float(t.cage_depth(z12))
    middle = np.array([float(t.outer_x(z12)), float(t.cage_y(z12)), z12])
    rough = random_field(rng, 1.5, 2.0)
    parts.append(
        _blob(
            middle + [-0.48 * half, -0.1 * deep, 8],
            (0.52 * half, 0.85 * deep, 80 * s),
            Filling(blood["liver"], 6.0, rough),
        )
    )
    parts.append(
        _blob(
            middle + [-0.05 * half, -0.5 * deep, 30],
            (0.48 * half, 0.42 * deep, 48 * s),
            Filling(blood["liver"], 6.0, rough),
        )
    )
    parts.append(_blob(middle + [0.68 * half, 0.3 * deep, -12], (30 * s, 42 * s, 46 * s), Filling(blood["spleen"])))
    stomach = middle + [0.42 * half, -0.42 * deep, 5]
    parts.append(
        _blob(
            stomach,
            (45 * s, 34 * s, 46 * s),
            Filling(float(rng.choice([10.0, 30.0, 250.0])), wall_hu=45.0, wall_mm=4.0),
        )
    )
    parts.append(_blob(stomach + [0, -15, 6], (30 * s, 15 * s, 30 * s), Filling(-900.0)))
    for side, level in ((-1, "L2"), (1, "L1")):
        v = mark.vertebra(level)
        place = mark.at(level, side * (v.body.half_width + 38 * s), 8.0, 4.0)
        parts.append(_blob(place, (30 * s, 31 * s, 58 * s), Filling(t.tissue.fat)))
        cortex = Filling(blood["kidney"] * 0.8, wall_hu=blood["kidney"], wall_mm=8.0)
        parts.append(_blob(place, (25 * s, 26 * s, 52 * s), cortex, side * 0.25))
        parts.append(
            _blob(
                place + [-side * 10, -4, 0],
                (14 * s, 10 * s, 24 * s),
                Filling(float(rng.choice([t.tissue.fat, 15.0, 400.0 if person.contrast else 0.0]))),
            )
        )
    parts += _bowel(rng, person, mark, gas)
    parts.append(
        _blob(
            mark.at("S4", 0, -75 * s),
            np.array([38, 30, 34]) * s,
            Filling(float(rng.choice([5.0, 8.0, 250.0 if person.contrast else 8.0]))),
        )
    )
    return parts


def _bowel(rng, person: Person, mark: Landmarks, gas: float) -> list[Part]:
    t, s = mark.torso, person.size
    parts: list[Part] = []
    oral = float(rng.choice([0.0, 0.0, 300.0]))
    stool = random_field(rng, 2.0, 1.6)
    top, bottom = mark.at("L1")[2], mark.at("S2")[2]
    for side in (-1, 1):
        line = []
        for z in np.linspace(top, bottom, 4):
            line.append(
                [
                    float(t.outer_x(z)) + side * 0.72 * float(t.cage_width(z)) + rng.normal(0, 5),
                    float(t.cage_y(z)) + rng.normal(0, 8),
                    z,
                ]
            )
        parts += rods(
            line,
            rng.uniform(16, 24, 4) * s,
            Filling(float(rng.uniform(-150, 60)) + oral * 0.5, 180.0, stool, 40.0, 2.0),
        )
    for _ in range(9):
        z = rng.uniform(bottom - 20, top)
        at = np.array(
            [
                float(t.outer_x(z)) + rng.uniform(-0.6, 0.6) * float(t.cage_width(z)),
                float(t.cage_y(z)) - rng.uniform(0.2, 0.75) * float(t.cage_depth(z)),
                z,
            ]
        )
        step = rng.normal(0, 1, (3, 3)) * [28, 10, 18]
        content = (-850.0 if rng.random() < gas else float(rng.uniform(15.0, 30.0))) + oral * (rng.random() < 0.5)
        parts += rods(
            [at, at + step[0], at + step[0] + step[1]],
            rng.uniform(10, 16) * s,
            Filling(content, wall_hu=40.0, wall_mm=2.0),
        )
    return parts
