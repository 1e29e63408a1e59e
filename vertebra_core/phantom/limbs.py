"""Head, neck, shoulders, arms, pelvis and legs, and the bones that belong to no vertebra. Sizes from memory."""

# ruff: noqa: RUF005 -- coordinates are added to arrays here, not lists joined

import numpy as np

from vertebra_core.phantom.column import Column
from vertebra_core.phantom.fields import Blob, Bone, Filling, Part, random_field, rods
from vertebra_core.phantom.organs import AIR_IN_PATIENT_HU, Landmarks
from vertebra_core.phantom.patient import Person
from vertebra_core.phantom.torso import Torso


def _axes(*rows) -> np.ndarray:
    """Right-angled unit rows from a first and a second direction."""
    first = np.asarray(rows[0], float) / np.linalg.norm(rows[0])
    second = np.asarray(rows[1], float)
    second = second - (second @ first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def _shoulder(mark: Landmarks, side: int, size: float) -> np.ndarray:
    z = mark.at("T2")[2]
    t = mark.torso
    return np.array(
        [
            float(t.outer_x(z)) + side * (float(t.outer_width(mark.at("T3")[2])) - 32 * size),
            float(t.outer_y(z)) + 6,
            z - 8,
        ]
    )


def _elbow(mark: Landmarks, person: Person, side: int) -> np.ndarray:
    shoulder = _shoulder(mark, side, person.size)
    if person.arms_up:
        return shoulder + np.array([side * 45.0, -25.0, 270.0]) * person.size
    return shoulder + np.array([side * 70.0, 10.0, -280.0]) * person.size


def random_limbs(
    rng: np.random.Generator, person: Person, column: Column, torso: Torso
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Soft tissue of arms, legs and head; and apart from it the vessels and airways of head and neck."""
    mark, s = Landmarks(column, torso), person.size
    fat, muscle = torso.tissue.fat, torso.tissue.muscle
    flesh = Filling(muscle, 8.0, torso.fine, fat, 4 + 12 * person.fat)
    parts: list[Part] = []
    for side in (-1, 1):
        shoulder, elbow = _shoulder(mark, side, s), _elbow(mark, person, side)
        wrist = elbow + np.array([-side * 60, -40, 230 if person.arms_up else -230])
        parts += rods([shoulder, elbow, wrist], np.array([50, 42, 30]) * s + 14 * person.fat, flesh)
        hip = _hip(mark, side, s)
        parts += rods([hip + [0, 5, -20], hip + [-side * 25, 5, -420]], np.array([84, 62]) * s + 22 * person.fat, flesh)
    skull = _skull(mark, s)
    parts.append(Blob(skull, np.array([82, 100, 92]) * s, Filling(30.0, 6.0, torso.fine, fat, 3.0)))
    face = skull + np.array([0, -52, -70]) * s
    parts.append(Blob(face, np.array([58, 48, 62]) * s, Filling(muscle, 10.0, torso.coarse, fat, 6.0)))
    neck_parts: list[Part] = []
    air = Filling(AIR_IN_PATIENT_HU)
    neck_parts.append(Blob(face + np.array([0, -12, 18]) * s, np.array([12, 30, 20]) * s, air))
    neck_parts += rods(
        [
            face + np.array([0, 26, 20]),
            mark.at("C3", 0, -mark.ahead("C3") - 13),
            mark.at("C5", 0, -mark.ahead("C5") - 17 * s),
        ],
        8.0 * s,
        air,
    )
    artery = Filling(float(rng.uniform(150, 400)) if person.contrast else 42.0)
    iodine = Filling(float(rng.uniform(90, 180)))
    for side in (-1, 1):
        neck = [mark.at(n, side * 26 * s, -mark.ahead(n) - 12) for n in ("T1", "C6", "C3")]
        neck_parts += rods(neck, 3.6 * s, artery)
        neck_parts += rods([p + [side * 9, 4, 0] for p in neck], 5.0 * s, artery)
        neck_parts.append(Blob(mark.at("C7", side * 17 * s, -mark.ahead("C7") - 20), np.array([9, 9, 22]) * s, iodine))
    return tuple(parts), tuple(neck_parts)


def _skull(mark: Landmarks, size: float) -> np.ndarray:
    return mark.at("C2", 0, -14 * size, 98 * size)


def _hip(mark: Landmarks, side: int, size: float) -> np.ndarray:
    return mark.at("S4", side * 88 * size, -62 * size, -28 * size)


def random_skeleton(
    rng: np.random.Generator, person: Person, column: Column, torso: Torso
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Bones of shoulders and arms; and apart from them breast bone, skull, pelvis, thighs and rib necks."""
    mark, s = Landmarks(column, torso), person.size
    texture = random_field(rng, 0.9, 1.2)
    loose = Filling(texture=texture, bone=Bone(person.density_hu * 0.8 + 10, float(rng.uniform(700, 1000)), 0.9, 40.0))
    dense = Filling(texture=texture, bone=Bone(person.density_hu + 40, float(rng.uniform(1000, 1400)), 2.2, 40.0))
    shaft = Filling(texture=texture, bone=Bone(-40.0, float(rng.uniform(1100, 1500)), 4.5, 10.0))
    return tuple(_shoulder_bones(mark, person, loose, dense, shaft)), (
        *_breast_bone(mark, s, loose),
        *_head_bones(mark, s, person, texture, dense),
        *_pelvis(mark, s, loose, dense, shaft),
        *_rib_necks(mark, column, s, loose),
    )


def _breast_ends(mark: Landmarks) -> tuple[np.ndarray, np.ndarray]:
    """Top of the handle and lower end of the breast bone."""
    top = (mark.at("T3")[2] + mark.at("T2")[2]) / 2
    return mark.front(top, -1), mark.front(mark.at("T9")[2], 1)


def _breast_bone(mark: Landmarks, s: float, loose) -> list[Part]:
    handle, xiphoid = _breast_ends(mark)
    joint = handle + (xiphoid - handle) * 0.30
    parts: list[Part] = []
    for a, b, wide in ((handle, joint, 25.0), (joint, xiphoid, 16.0)):
        axes = _axes([1, 0, 0], b - a)
        half = np.array([wide * s, np.linalg.norm(b - a) / 2 - 1, 5.5 * s])
        parts.append(Blob((a + b) / 2, half, loose, axes, square=True))
    return parts


def _shoulder_bones(mark: Landmarks, person: Person, loose, dense, shaft) -> list[Part]:
    s, t = person.size, mark.torso
    handle, _ = _breast_ends(mark)
    parts: list[Part] = []
    for side in (-1, 1):
        shoulder = _shoulder(mark, side, s)
        parts += rods(
            [handle + [side * 26, 4, 4], handle + [side * 75, 14, 22], shoulder + [-side * 8, -14, 24]],
            [7.0, 5.0, 5.5],
            dense,
        )
        elbow = _elbow(mark, person, side)
        parts.append(Blob(shoulder, np.full(3, 23 * s), loose))
        parts += rods([shoulder, shoulder + (elbow - shoulder) * 0.2, elbow], np.array([17, 11, 11]) * s, shaft)
        high = mark.at("T4")[2]
        x = float(t.outer_x(high)) + side * 0.74 * float(t.cage_width(high))
        out = np.array([side * 0.62, 0.78, 0.05])
        blade = np.array([x, float(t.cage_y(high)) + 0.66 * float(t.cage_depth(high)), high - 6]) + out * 16
        parts.append(Blob(blade, np.array([3.4, 58.0, 36.0]) * s, dense, _axes(out, [side * 0.1, 0, -1])))
        parts += rods([blade + out * 6 + [-side * 30, -4, 30], shoulder + [side * 2, 12, 22]], [4.0, 6.0], dense)
        parts += rods([blade + [side * 28, -26, 38], shoulder + [-side * 24, 4, 2]], [6.0, 13.0], loose)
    return parts


def _head_bones(mark: Landmarks, s: float, person: Person, texture, dense) -> list[Part]:
    skull = _skull(mark, s)
    vault = Filling(35.0, 5.0, texture, wall_hu=1000.0, wall_mm=6.0)
    parts: list[Part] = [Blob(skull + [0, 0, 2], np.array([72, 90, 80]) * s, vault)]
    base = mark.at("C2", 0, -8, 34 * s)
    rough = Filling(450.0, 350.0, texture)
    parts.append(Blob(base + [0, -30, 0], np.array([42, 34, 9]) * s, rough))
    for side in (-1, 1):
        parts.append(Blob(base + [side * 48, -8, 6], np.array([22, 18, 20]) * s, Filling(300.0, 700.0, texture)))
        jaw = skull + np.array([side * 46, -50, -92]) * s
        parts += rods(
            [jaw + [0, 25, 38], jaw + [0, 14, 0], skull + np.array([side * 14, -100, -112]) * s], [5.5, 6.5, 7.0], dense
        )
    face = skull + np.array([0, -78, -62]) * s
    parts.append(Blob(face, np.array([28, 20, 5]) * s, rough))
    parts += rods(
        [face + [-18, -10, -6], face + [0, -22, -6], face + [18, -10, -6]], 5.0, Filling(1600.0, 400.0, texture)
    )
    return [*parts, *_atlas(mark, s, dense)]


def _atlas(mark: Landmarks, s: float, dense) -> list[Part]:
    """The dens of C2, and C1 round it, in the frame of C2."""
    axis = mark.vertebra("C2")
    top, front = (axis.body.ha + axis.body.hp) / 4, axis.body.half_depth

    def own(u: float, v: float, t: float) -> np.ndarray:
        return axis.pose.patient_from_own(np.array([u, v, t]) * [s, s, s])

    dens = rods([own(0, -1, top - 6), own(0, -1.5, top + 15)], [5.6 * s, 4.6 * s], dense)
    ring: list[Part] = []
    for side in (-1, 1):
        ring.append(Blob(own(side * 17, 2, top + 9), np.array([9, 9, 8]) * s, dense))
        arc = [own(0, -front - 2.5, top + 10), own(side * 10, -front + 1, top + 9), own(side * 20, 4, top + 9)]
        ring += rods(arc, 3.6 * s, dense)
        back = [own(side * 19, 8, top + 9), own(side * 16, 22, top + 8), own(0, 34, top + 7)]
        ring += rods(back, 3.6 * s, dense)
    return [*dens, *ring]


def _pelvis(mark: Landmarks, s: float, loose, dense, shaft) -> list[Part]:
    parts: list[Part] = []
    for side in (-1, 1):
        for level, wide, deep, high in (("S1", 25, 17, 16), ("S2", 22, 14, 14), ("S3", 16, 10, 11)):
            v = mark.vertebra(level)
            place = v.pose.patient_from_own(np.array([side * (v.body.half_width + 0.4 * wide * s), 3.0, 0]))
            parts.append(Blob(place, np.array([wide, deep, high]) * s, loose, v.pose.rotation.T))
        hip = _hip(mark, side, s)
        joint = mark.at("S1", side * 62 * s, 8, -10)
        crest = mark.at("L5", side * 98 * s, -40, 0)
        middle = (joint + crest + hip) / 3 + [side * 4, 0, 10]
        normal = np.cross(crest - joint, hip - joint)
        parts.append(Blob(middle, np.array([5.5, 64, 50]) * s, dense, _axes(normal, (crest - hip))))
        parts.append(
            Blob(joint + [side * 2, 2, 0], np.array([7, 16, 28]) * s, dense, _axes([1, -side * 0.4, 0], [0, 1, 0]))
        )
        parts.append(Blob(hip + [-side * 4, 2, 12], np.array([30, 28, 30]) * s, loose))
        parts.append(Blob(hip, np.full(3, 26.5 * s), Filling(40.0)))
        parts.append(Blob(hip, np.full(3, 24 * s), loose))
        great = hip + np.array([side * 52, 10, -22]) * s
        parts += rods([hip, great], [15 * s, 18 * s], loose)
        parts += rods([great + [-side * 6, 0, -20], great + np.array([-side * 34, 8, -400])], [15 * s, 13 * s], shaft)
        pubis = mark.at("S5", side * 8, -112 * s, -44 * s)
        parts += rods([hip + [-side * 18, -14, -2], pubis], [9.0, 9.0], loose)
        seat = hip + np.array([-side * 22, 34, -62])
        parts += rods([hip + [-side * 14, 18, -18], seat, pubis + [0, 6, -14]], [12.0, 13.0, 6.0], loose)
    return parts


def _rib_necks(mark: Landmarks, column: Column, s: float, loose) -> list[Part]:
    """From the side of a body to its transverse process, and on to where the rib of the cage begins."""
    parts: list[Part] = []
    t = mark.torso
    for v in column.vertebrae:
        if v.arch is None or v.level[0] != "T":
            continue
        b = v.body
        tip = max((rod[1] for rod in v.arch.rods[4:]), key=lambda p: p[0])
        high = 0.44 * (b.ha + b.hp) / 2 if v.level not in ("T11", "T12", "T13") else 2.0
        for side in (-1, 1):
            head = v.pose.patient_from_own(np.array([side * (b.half_width + 2.0), 0.72 * b.half_depth, high]))
            joint = v.pose.patient_from_own(np.array([side * (tip[0] + 2), tip[1] - 8.0, tip[2] + 1]))
            z = float(joint[2]) - 4
            x = float(t.spine_x(z)) + side * 40.0
            cage = np.array([x, _cage_back(t, x, z) - 5.0, z])
            parts += rods([head, joint, cage], [3.8 * s, 4.2 * s, 4.6 * s], loose)
    return parts


def _cage_back(torso: Torso, x: float, z: float) -> float:
    """y of the cage's surface at the back."""
    y = np.linspace(
        float(torso.cage_y(z)), float(torso.cage_y(z)) + 1.3 * float(torso.cage_depth(z)) + 12, 200, dtype=np.float32
    )
    depth, _ = torso.cage(np.full(200, x, np.float32), y, np.float32(z))
    return float(y[np.argmin(np.abs(depth))])
