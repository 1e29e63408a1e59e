"""The column: vertebrae with chance and deformity, stacked from the top down by their plates and discs.

The curve of the spine is not drawn beforehand: as in a patient, it follows from the wedges of bodies and discs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from vertebra_core.geometry import CentreLine
from vertebra_core.phantom.arch import make_arch
from vertebra_core.phantom.body import Body, Node, deform
from vertebra_core.phantom.fields import Bone, RandomField, random_field
from vertebra_core.phantom.levels import (
    LENGTH_SD,
    SACRAL_SIZES,
    level_names,
    level_size,
    random_heights,
    region,
)
from vertebra_core.phantom.patient import PatientOptions, Person
from vertebra_core.phantom.vertebra import Disc, Marrow, Pose, Vertebra
from vertebra_core.phantom.warp import Warp

T8_TILT_DEGREES = (1.0, 5.0)
"""Mean and SD of the tilt of the upper plate of T8, supine (readers' keypoints)."""
AXIS_SIZE = (15.5, 14.5, 15.0, 14.0, 14.6)
"""C2 without the dens: ha, hm, hp, cranial and caudal length, mm."""
DISC_BEND_SD_DEGREES = 1.1
PATIENT_BEND_SD_DEGREES = 1.1
"""Additional wedge of discs, one by one and common to a patient: SD of T4-T12 kyphosis is 14.9 degrees."""
CHEST_BEND_DEGREES = -0.9
"""Mean additional bend of a thoracic disc, so that undeformed spines have the readers' mean kyphosis."""
NECK_BEND_DEGREES = 1.6
"""Additional lordosis of a cervical disc: the head of a lying patient looks up."""
MIN_GAP_MM = 0.9
BODY_SHARE_OF_SCOLIOSIS = 0.65
"""Share of the sideways bend that lies in wedged bodies; the rest lies in the discs."""
ARCH_DENSER_HU = (40.0, 220.0)
ARCH_SHELL_MM = (0.6, 1.6)
"""Laminae and spinous processes are nearly all cortex on sharp CT (looked at beside real CT)."""
FRACTURE_WEIGHTS = {"T6": 2.0, "T7": 2.6, "T8": 2.0, "T11": 2.2, "T12": 3.0, "L1": 3.0, "L2": 1.6}
"""Two peaks, T6-T8 and T11-L1; other levels weigh 1, the neck and T1-T3 less."""


@dataclass(frozen=True)
class Column:
    """The spine of a patient, from C2 to the sacrum.

    Parameters
    ----------
    axis : Vertebra
        C2.
    vertebrae : tuple of Vertebra
        C3 to the last lumbar vertebra: those with keypoints.
    sacrum : tuple of Vertebra
        Fused bodies S1-S5.
    discs : tuple of Disc
    fractures : tuple of (str, str)
        Levels that were deformed, and how.
    """

    axis: Vertebra
    vertebrae: tuple[Vertebra, ...]
    sacrum: tuple[Vertebra, ...]
    discs: tuple[Disc, ...]
    fractures: tuple[tuple[str, str], ...]

    @property
    def all(self) -> tuple[Vertebra, ...]:
        """From C2 to S5."""
        return (self.axis, *self.vertebrae, *self.sacrum)

    @cached_property
    def keypoints(self) -> np.ndarray:
        """Keypoints [k, 6, 3] of `vertebrae`, mm."""
        return np.stack([v.keypoints for v in self.vertebrae])

    @cached_property
    def centre_line(self) -> CentreLine:
        """From the top of the first vertebra with keypoints to the bottom of the last, through the body centres."""
        points = self.keypoints
        top, bottom = points[0, [0, 4]].mean(0), points[-1, [1, 5]].mean(0)
        return CentreLine(np.vstack([top, points.mean(1), bottom]))


def rotation_sagittal(angle: float) -> np.ndarray:
    """Rotation of an own frame about u (radians); positive lifts the back."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rotation_coronal(angle: float) -> np.ndarray:
    """Rotation of an own frame about v (radians); positive lifts the left side."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def rotation_axial(angle: float) -> np.ndarray:
    """Rotation of an own frame about t (radians)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _plate_rotation(body: Body, cranial: bool) -> np.ndarray:
    sign, length = (1, body.cranial) if cranial else (-1, body.caudal)
    sagittal = np.arctan2((body.hp - body.ha) / 2, length)
    return rotation_sagittal(sign * sagittal) @ rotation_coronal(sign * np.arctan(body.tilt / 2))


def random_bodies(rng, levels: tuple[str, ...], person: Person) -> list[Body]:
    """Undeformed bodies of a person, mm."""
    heights = random_heights(rng, levels, person.size)
    common = np.exp(rng.normal(0, LENGTH_SD[0] * 0.8)) * person.size
    bodies = []
    for level, (ha, hm, hp) in zip(levels, heights, strict=True):
        size = level_size(level)
        stretch = common * np.exp(rng.normal(0, LENGTH_SD[1] * 0.7))
        cranial, caudal = size.cranial * stretch, size.caudal * stretch
        cervical = region(level) == "C"
        bodies.append(
            Body(
                float(ha), float(hm), float(hp), float(cranial), float(caudal),
                cranial_share=float(np.clip(size.cranial_share + rng.normal(0, 0.08), 0.02, 0.98)),
                width=size.width * float(rng.uniform(0.95, 1.05)),
                rim=float(max(0.7, 0.045 * cranial)),
                waist=0.04 if cervical else float(rng.uniform(0.05, 0.10)),
                taper=float(rng.uniform(0.5, 1.2)) * {"C": 0.06, "T": 0.26, "L": 0.12}[region(level)],
                uncus=float(rng.uniform(2.0, 3.5)) if cervical else 0.0,
            )
        )  # fmt: skip
    return bodies


def _break(rng, bodies: list[Body], levels, options: PatientOptions) -> list[tuple[str, str]]:
    """Deform some bodies in place of the list; returns what was done."""
    if rng.random() >= options.fracture_probability:
        return []
    weights = np.array(
        [FRACTURE_WEIGHTS.get(n, 0.06 if n[0] == "C" else 0.25 if n in ("T1", "T2", "T3") else 1.0) for n in levels]
    )
    count = int(rng.integers(1, options.max_fractures + 1))
    chosen = rng.choice(len(levels), size=min(count, len(levels)), replace=False, p=weights / weights.sum())
    done = []
    for k in sorted(chosen):
        shape = str(rng.choice(["wedge", "biconcave", "crush"], p=[0.5, 0.42, 0.08]))
        # Mild is common, severe rare.
        g = options.min_g + (0.8 - options.min_g) * rng.beta(2.4, 1.2)
        bodies[k] = deform(bodies[k], shape, float(g))
        done.append((levels[k], shape))
    return done


def wear(rng: np.random.Generator, bodies: list[Body], person: Person, options: PatientOptions) -> list[Body]:
    """Osteophytes and Schmorl nodes."""
    worn = person.wear * rng.random()
    spurs = 0.15 + 0.5 * worn if options.spur_probability is None else options.spur_probability
    nodes = 0.04 + 0.05 * worn if options.node_probability is None else options.node_probability
    out = []
    for body in bodies:
        spur = tuple(float(s) for s in rng.exponential(1 + 3 * worn, 2) * (rng.random(2) < spurs))
        dents = (_node(rng, body),) if rng.random() < nodes else ()
        out.append(replace(body, spur=tuple(min(s, 7.0) for s in spur), nodes=dents))
    return out


def _node(rng, body: Body) -> Node:
    radius = float(rng.uniform(3.5, 0.28 * body.cranial + 2.5))
    # In the middle it moves the middle keypoint with it, elsewhere it stays clear of it; never under a rim.
    central = rng.random() < 0.35
    at = (0.0, 0.0)
    if not central:
        at = (
            float(rng.uniform(-0.3, 0.3)) * body.half_width,
            float(rng.choice([-1, 1])) * min(radius, 0.25 * body.cranial),
        )
    radius = min(radius, 0.46 * body.cranial - abs(at[1]), abs(at[1]) if not central else 99.0)
    return Node(bool(rng.random() < 0.5), at[0], at[1], max(radius, 2.0), float(rng.uniform(1.5, 0.16 * body.hp + 1.0)))


def random_bends(rng, n: int, levels, person: Person, options: PatientOptions) -> np.ndarray:
    """Sagittal, coronal and axial turn [n, 3] (radians) from each of n vertebrae to the next."""
    bends = np.zeros((n, 3))
    bends[:, 0] = rng.normal(0, DISC_BEND_SD_DEGREES, n)
    chest = np.array([region(level) == "T" for level in levels])
    offset = rng.normal(CHEST_BEND_DEGREES, PATIENT_BEND_SD_DEGREES)
    if options.kyphosis_degrees is not None:
        offset = -options.kyphosis_degrees / max(chest.sum(), 1)
    bends[chest, 0] += offset
    bends[~chest, 0] += rng.normal(0, PATIENT_BEND_SD_DEGREES) - 0.5 * (offset - CHEST_BEND_DEGREES)
    bends[: np.argmax(chest), 0] += NECK_BEND_DEGREES
    places = np.arange(n + 1)
    cobb, apex, width = rng.normal(0, 3.0), rng.uniform(6, 18), rng.uniform(2.5, 4.0)
    if rng.random() < options.scoliosis_probability:
        cobb = rng.choice([-1, 1]) * rng.uniform(10, max(10.0, options.max_cobb_degrees))
    x = (places - apex) / width
    tilt = cobb / 2 * x * np.exp(0.5 - x * x / 2)
    turn = 0.35 * cobb * np.exp(-x * x / 2)
    bends[:, 1], bends[:, 2] = np.diff(tilt), np.diff(turn)
    return np.deg2rad(bends)


def stack(bodies: list[Body], gaps, bends) -> list[Pose]:
    """Poses of bodies from the top down; the first lies in the origin, upright."""
    poses = [Pose(np.eye(3), np.zeros(3))]
    for k, (upper, lower) in enumerate(pairwise(bodies)):
        pose = poses[-1]
        plate = pose.rotation @ _plate_rotation(upper, False)
        front, back = gaps[k]
        disc = np.arctan2(front - back, (upper.caudal + lower.cranial) / 2)
        side = bends[k, 1]
        half = plate @ rotation_sagittal(disc / 2) @ rotation_coronal(side / 2)
        full = plate @ rotation_sagittal(disc) @ rotation_coronal(side) @ rotation_axial(bends[k, 2])
        rotation = full @ _plate_rotation(lower, True).T
        bottom = pose.patient_from_own(np.array([0.0, 0.0, -(upper.ha + upper.hp) / 4]))
        top = bottom - half[:, 2] * (front + back) / 2
        poses.append(Pose(rotation, top - rotation @ np.array([0.0, 0.0, (lower.ha + lower.hp) / 4])))
    return poses


def random_gaps(rng, levels, bodies: list[Body], sagittal, person: Person) -> np.ndarray:
    """Front and back gap [n, 2] mm of the disc below each vertebra; narrow discs are common in the old."""
    gaps = []
    worn = person.wear
    for k, level in enumerate(levels):
        size = level_size(level)
        low = rng.uniform(0.35, 0.8) if rng.random() < 0.3 * worn else rng.normal(1.0, 0.1)
        middle = (size.disc_front + size.disc_back) / 2 * low * person.size
        wedge = (size.disc_front - size.disc_back) / 2 + np.tan(sagittal[k]) * bodies[k].caudal / 2
        wedge = np.clip(wedge, -(middle - MIN_GAP_MM), middle - MIN_GAP_MM) if middle > MIN_GAP_MM else 0.0
        gaps.append((middle + wedge, middle - wedge))
    return np.maximum(gaps, MIN_GAP_MM)


def random_column(rng: np.random.Generator, person: Person, options: PatientOptions) -> Column:
    """A spine of a person; T8's centre lies in the origin."""
    counts = (12, 5)
    if rng.random() < options.variant_probability:
        counts = [(11, 5), (13, 5), (12, 4), (12, 6)][int(rng.integers(4))]
    levels = level_names(*counts)
    bodies = random_bodies(rng, levels, person)
    fractures = _break(rng, bodies, levels, options)
    bodies = wear(rng, bodies, person, options)
    every, names = with_ends(rng, bodies, levels, person)
    n = len(levels) + 1
    bends = random_bends(rng, n, ("C2", *levels), person, options)
    gaps = random_gaps(rng, ("C3", *levels), every[:n], bends[:, 0], person)
    sacral = np.zeros((len(every) - 1 - n, 3))
    sacral_gaps = np.tile([0.6, 0.6], (len(sacral), 1))
    bends[:, 0] = 0
    every = _tilted(every, bends[:, 1], n)
    bends[:, 1] *= 1 - BODY_SHARE_OF_SCOLIOSIS
    poses = _upright(rng, stack(every, np.vstack([gaps, sacral_gaps]), np.vstack([bends, sacral])), names)
    vertebrae = furnish(rng, names, every, poses, person, options, dict(fractures))
    discs = make_discs(rng, vertebrae[: n + 1], person, options)
    k = len(levels)
    return Column(vertebrae[0], tuple(vertebrae[1 : k + 1]), tuple(vertebrae[k + 1 :]), discs, tuple(fractures))


def with_ends(rng, bodies, levels, person: Person) -> tuple[list[Body], list[str]]:
    """Add C2 above and the sacrum below."""
    s = person.size
    axis = Body(*(c * s for c in AXIS_SIZE), cranial_share=0.5, width=1.2, rim=0.8, waist=0.1)
    sacrum = []
    for ha, hp, cranial, caudal in SACRAL_SIZES:
        sacrum.append(Body(ha * s, 0.47 * (ha + hp) * s, hp * s, cranial * s, caudal * s, 0.8, 1.45, 1.0, waist=0.02))
    return [axis, *bodies, *sacrum], ["C2", *levels, *(f"S{i + 1}" for i in range(len(sacrum)))]


def _tilted(bodies: list[Body], coronal: np.ndarray, n: int) -> list[Body]:
    """Give each body its share of the sideways bend above and below it."""
    bend = np.zeros(len(bodies))
    bend[1:n] = (coronal[: n - 1] + coronal[1:n]) / 2
    return [
        replace(b, tilt=float(-2 * np.tan(a * BODY_SHARE_OF_SCOLIOSIS / 2))) for b, a in zip(bodies, bend, strict=True)
    ]


def _upright(rng, poses: list[Pose], names: list[str]) -> list[Pose]:
    """Turn and shift a stack so that T8 lies in the origin with its usual tilt."""
    middle = poses[names.index("T8")]
    wanted = rotation_sagittal(-np.deg2rad(rng.normal(*T8_TILT_DEGREES))) @ rotation_coronal(
        np.deg2rad(rng.normal(0, 2.0))
    )
    turn = wanted @ middle.rotation.T
    return [Pose(turn @ p.rotation, turn @ (p.centre - middle.centre)) for p in poses]


def furnish(
    rng: np.random.Generator,
    names: Sequence[str],
    bodies: Sequence[Body],
    poses: Sequence[Pose],
    person: Person,
    options: PatientOptions,
    fractures: dict[str, str],
    warps: dict[str, Warp] | None = None,
) -> list[Vertebra]:
    """Give bodies their arch and their bone.

    Parameters
    ----------
    fractures : dict of str to str
        Shape of the deformity by level, where there is one.
    warps : dict of str to Warp or None
        Bends by level, where there are any.
    """
    fine: RandomField = random_field(rng, 0.6, 1.5)
    coarse = random_field(rng, 1.6, 2.2)
    rough = float(rng.uniform(25, 60))
    shell = Bone(0, float(rng.uniform(900, 1500)), person.cortex_mm)
    arch_core = person.density_hu + float(rng.uniform(*ARCH_DENSER_HU))
    arch_bone = Bone(arch_core, float(rng.uniform(800, 1250)), float(rng.uniform(*ARCH_SHELL_MM)), 60.0)
    plate = float(rng.uniform(80, 380))
    dense = options.sclerosis_probability
    dense = 0.12 * person.wear * rng.random() if dense is None else dense
    out = []
    for name, body, pose in zip(names, bodies, poses, strict=True):
        upper = {"C": 1.7, "T": 1.2, "L": 1.0, "S": 0.8}[name[0]]
        sclerosis = float(rng.uniform(50, 250)) if name in fractures or rng.random() < dense else 0.0
        gas = name in fractures and bool(rng.random() < 0.1)
        marrow = Marrow(person.density_hu * upper + float(rng.normal(0, 12)), rough, rough * 0.6, plate, sclerosis, gas)
        arch = None
        if name[0] != "S":
            arch = make_arch(name, level_size("C3" if name == "C2" else name), body, person.size, rng)
        warp = (warps or {}).get(name)
        out.append(Vertebra(name, body, arch, pose, marrow, shell, arch_bone, fine, coarse, warp))
    return out


def make_discs(
    rng: np.random.Generator, vertebrae: Sequence[Vertebra], person: Person, options: PatientOptions
) -> tuple[Disc, ...]:
    """The discs between neighbouring vertebrae."""
    vacuum = 0.15 * person.wear if options.vacuum_probability is None else options.vacuum_probability
    discs = []
    for above, below in pairwise(vertebrae):
        upper, lower = above.body, below.body
        bottom, top = above.keypoints[[1, 5]].mean(0), below.keypoints[[0, 4]].mean(0)
        half = float(np.linalg.norm(top - bottom)) / 2 + 3.0 + max(upper.concavity[1], lower.concavity[0])
        half_depth = (upper.half_depth + lower.half_depth) / 2 + 0.6
        gas = float(rng.uniform(-500, -100)) if rng.random() < vacuum else 0.0
        pose = Pose(_mean_rotation(above.pose.rotation, below.pose.rotation), (top + bottom) / 2)
        discs.append(Disc(pose, half_depth * upper.width, half_depth, half, float(rng.uniform(55, 95)), gas))
    return tuple(discs)


def _mean_rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(a + b)
    return left @ right
