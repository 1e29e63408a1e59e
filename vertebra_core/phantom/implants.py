"""What disease and surgery add: metastases, cement, screws with rods, ports, sternal wires, electrodes on the skin.

None of it moves a keypoint. Sizes from memory of the devices, looked at beside real CT.
"""

# ruff: noqa: RUF005 -- coordinates are added to arrays here, not lists joined

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vertebra_core.phantom.column import Column
from vertebra_core.phantom.fields import Blob, Filling, Part, blend, cover, random_field, rods
from vertebra_core.phantom.organs import Landmarks
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.torso import Torso
from vertebra_core.phantom.vertebra import Vertebra

METAL_HU = 3500.0
"""Metal is far denser than twelve bits hold; this much is cut off to the brightest value, edges included."""
CEMENT_HU = (1500.0, 2800.0)
LYTIC_HU = (20.0, 70.0)
BLASTIC_HU = (450.0, 900.0)
SCREW_RADIUS_MM = 2.8
ROD_RADIUS_MM = 2.75
WIRE_RADIUS_MM = 0.5


@dataclass(frozen=True)
class InBody:
    """A part that is seen only inside a vertebral body, under its shell.

    Parameters
    ----------
    part : Blob
    vertebra : Vertebra
    """

    part: Blob
    vertebra: Vertebra

    @property
    def box(self) -> np.ndarray:
        """Corners [2, 3] of a box that holds everything painted, LPS mm."""
        return self.part.box

    def paint(self, hu: np.ndarray, x, y, z, blur_mm: float) -> np.ndarray:
        """New HU of points inside the box."""
        under = self.vertebra.body_depth(x, y, z) - np.float32(self.vertebra.shell.shell_mm)
        return blend(hu, self.part.paint(hu, x, y, z, blur_mm), cover(under, blur_mm))


@dataclass(frozen=True)
class Extras:
    """Parts that are painted over the bones, and where metal lies.

    Parameters
    ----------
    parts : tuple of Part
    metal : array [n, 2, 3]
        Ends of the straight pieces of thick metal, LPS mm: streaks go out from them.
    """

    parts: tuple[Part, ...]
    metal: np.ndarray


def random_extras(rng: np.random.Generator, column: Column, torso: Torso, options: PatientOptions) -> Extras:
    """Draw what a patient has of all this."""
    parts: list[Part] = []
    if rng.random() < options.metastasis_probability:
        parts += _metastases(rng, column)
    if rng.random() < options.cement_probability:
        parts += _cement(rng, column)
    metal = np.zeros((0, 2, 3))
    if rng.random() < options.screw_probability:
        screws, metal = _screws(rng, column)
        parts += screws
    mark = Landmarks(column, torso)
    for device in (_port, _sternal_wires, _electrodes):
        if rng.random() < options.device_probability:
            parts += device(rng, mark)
    return Extras(tuple(parts), metal)


def _some(rng: np.random.Generator, column: Column, most: int) -> list[Vertebra]:
    """A few vertebrae from T1 down."""
    below = [v for v in column.vertebrae if v.level[0] != "C"]
    chosen = rng.choice(len(below), size=int(rng.integers(1, most + 1)), replace=False)
    return [below[k] for k in sorted(chosen)]


def _lump(rng: np.random.Generator, vertebra: Vertebra, share: tuple[float, float], filling: Filling) -> InBody:
    """An ellipsoid somewhere in a body, its half-axes a share of the body's."""
    b = vertebra.body
    half = np.array([b.half_width, b.half_depth, b.hm / 2])
    radii = half * rng.uniform(*share, 3)
    centre = vertebra.pose.patient_from_own(rng.uniform(-1, 1, 3) * (half - 0.6 * radii))
    return InBody(Blob(centre, radii, filling, vertebra.pose.rotation.T), vertebra)


def _metastases(rng: np.random.Generator, column: Column) -> list[Part]:
    """Lumps that eat bone or harden it, all of one kind in a patient."""
    texture = random_field(rng, 0.8, 1.4)
    lytic = rng.random() < 0.5
    filling = Filling(float(rng.uniform(*(LYTIC_HU if lytic else BLASTIC_HU))), 12.0 if lytic else 90.0, texture)
    return [
        _lump(rng, vertebra, (0.25, 0.7), filling)
        for vertebra in _some(rng, column, 6)
        for _ in range(int(rng.integers(1, 4)))
    ]


def _cement(rng: np.random.Generator, column: Column) -> list[Part]:
    """Bone cement: after a fracture in the broken bodies, else in one to three."""
    broken = {level for level, _ in column.fractures}
    filled = [v for v in column.vertebrae if v.level in broken] or _some(rng, column, 3)
    texture = random_field(rng, 1.2, 1.5)
    filling = Filling(float(rng.uniform(*CEMENT_HU)), 400.0, texture)
    return [_lump(rng, vertebra, (0.35, 0.75), filling) for vertebra in filled for _ in range(2)]


def _screws(rng: np.random.Generator, column: Column) -> tuple[list[Part], np.ndarray]:
    """Pedicle screws on both sides of neighbouring vertebrae, joined by rods behind them; and where the metal is."""
    low = [k for k, v in enumerate(column.vertebrae) if v.level[0] != "C"]
    count = int(rng.integers(2, 6))
    first = int(rng.choice(low[: -count + 1]))
    metal = Filling(METAL_HU)
    parts: list[Part] = []
    pieces = []
    for side in (-1.0, 1.0):
        heads = []
        for v in column.vertebrae[first : first + count]:
            tip, head = _screw(v, side)
            parts += rods([tip, head], SCREW_RADIUS_MM, metal)
            parts.append(Blob(head, np.full(3, 5.5), metal))
            pieces.append([tip, head])
            heads.append(head)
        parts += rods(heads, ROD_RADIUS_MM, metal)
        pieces += [list(pair) for pair in pairwise(heads)]
    return parts, np.array(pieces)


def _screw(vertebra: Vertebra, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Tip in the body and head behind the pedicle, LPS mm."""
    assert vertebra.arch is not None
    start, end = (np.array(p) for p in vertebra.arch.rods[0][:2])
    along = (end - start) / np.linalg.norm(end - start)
    head = end + along * 14.0 + [1.5, 0.0, 0.0]
    b = vertebra.body
    tip = np.array([0.42 * b.half_width, -0.35 * b.half_depth, min(start[2], 0.3 * b.hm)])
    mirror = np.array([side, 1.0, 1.0])
    return vertebra.pose.patient_from_own(tip * mirror), vertebra.pose.patient_from_own(head * mirror)


def _port(rng: np.random.Generator, mark: Landmarks) -> list[Part]:
    """A port under the skin of the chest and its line to the heart."""
    side = float(rng.choice([-1, 1]))
    t = mark.torso
    z = mark.at("T4")[2]
    x = float(t.outer_x(z)) + side * 75.0
    skin = float(t.outer_y(z)) - float(t.outer_depth(z)) * np.sqrt(1 - min(75.0 / float(t.outer_width(z)), 0.95) ** 2)
    chamber = np.array([x, skin + 14.0, z])
    neck = mark.at("T1", side * 30.0, -mark.ahead("T1") - 22.0)
    heart = mark.front(mark.at("T7")[2]) + np.array([-26.0, 58.0, 0.0])
    line = [chamber, chamber + [0, -2, 60], neck, heart + [0, -4, 60], heart]
    metal = Filling(METAL_HU)
    return [
        Blob(chamber, np.array([12.0, 6.0, 12.0]), Filling(120.0, wall_hu=2200.0, wall_mm=1.5)),
        *rods(line, 1.3, Filling(float(rng.uniform(500, 1500)))),
        Blob(chamber + [0, -5, 0], np.array([5.0, 1.5, 5.0]), metal),
    ]


def _sternal_wires(rng: np.random.Generator, mark: Landmarks) -> list[Part]:
    """Wire loops round the breast bone after heart surgery."""
    metal = Filling(METAL_HU)
    parts: list[Part] = []
    for level in ("T3", "T4", "T5", "T6", "T7", "T8")[: int(rng.integers(4, 7))]:
        middle = mark.front(mark.at(level)[2], 0.0)
        angle = np.linspace(0, 2 * np.pi, 9)
        wide, deep = float(rng.uniform(9, 14)), float(rng.uniform(7, 9))
        ring = middle + np.stack([wide * np.cos(angle), deep * np.sin(angle), 2 * np.sin(angle + 1)], 1)
        parts += rods(ring, WIRE_RADIUS_MM, metal)
    return parts


def _electrodes(rng: np.random.Generator, mark: Landmarks) -> list[Part]:
    """Electrodes and their wires on the skin of the chest."""
    t = mark.torso
    parts: list[Part] = []
    for _ in range(int(rng.integers(2, 5))):
        z = mark.at(str(rng.choice(["T3", "T5", "T8"])))[2] + float(rng.normal(0, 12))
        share = float(rng.uniform(-0.7, 0.7))
        x = float(t.outer_x(z)) + share * float(t.outer_width(z))
        y = float(t.outer_y(z)) - float(t.outer_depth(z)) * np.sqrt(1 - share**2) - 2.0
        spot = np.array([x, y, z])
        parts.append(Blob(spot, np.array([5.0, 1.5, 5.0]), Filling(2500.0)))
        line: Sequence[np.ndarray] = [spot, spot + [0, -6, 40], spot + rng.normal(0, 30, 3) * [1, 0.1, 1] + [0, -9, 90]]
        parts += rods(line, 0.8, Filling(1800.0))
    return parts
