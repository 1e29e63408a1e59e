"""A vertebra placed in the patient: body and arch as one bone, its rib necks, and the disc below it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vertebra_core.phantom.arch import Arch
from vertebra_core.phantom.body import Body
from vertebra_core.phantom.fields import BOX_MARGIN_MM, EDGE_WIDTH, Bone, RandomField, cover
from vertebra_core.phantom.warp import Warp


@dataclass(frozen=True)
class Pose:
    """Where an own frame lies in the patient.

    Parameters
    ----------
    rotation : array [3, 3]
        Columns: directions of u, v and t in LPS.
    centre : array [3]
        Its origin, LPS mm.
    """

    rotation: np.ndarray
    centre: np.ndarray

    def patient_from_own(self, points: np.ndarray) -> np.ndarray:
        """Map own (u, v, t) [..., 3] to LPS mm."""
        return points @ self.rotation.T + self.centre

    def own_from_patient(self, x, y, z):
        """Own coordinates u, v, t (float32) of separate LPS vectors."""
        ax, ay, az = (c - np.float32(o) for c, o in zip((x, y, z), self.centre, strict=True))
        r = self.rotation.astype(np.float32)
        return tuple(r[0, i] * ax + r[1, i] * ay + r[2, i] * az for i in range(3))

    def box(self, own: np.ndarray) -> np.ndarray:
        """Axis-parallel LPS box [2, 3] round a box [2, 3] of the own frame."""
        middle, half = own.mean(0), (own[1] - own[0]) / 2
        centre, reach = self.patient_from_own(middle), np.abs(self.rotation) @ half + BOX_MARGIN_MM
        return np.stack([centre - reach, centre + reach])


@dataclass(frozen=True)
class Marrow:
    """What fills a body.

    Parameters
    ----------
    hu : float
        Mean trabecular HU.
    rough_hu, patchy_hu : float
        SD of the fine and of the coarse texture.
    plate_hu : float
        How much denser bone is right under the plates and walls.
    sclerosis_hu : float
        Additional density of a thick layer under the plates (degeneration, healed fracture).
    gas : bool
        A cleft of gas in the middle of a broken body.
    """

    hu: float
    rough_hu: float
    patchy_hu: float
    plate_hu: float
    sclerosis_hu: float = 0.0
    gas: bool = False


PLATE_LAYER_MM = 1.4
"""Decay of the density under the plates."""
SCLEROSIS_LAYER_MM = 5.0
GAS_HU = -650.0
VEIN_HU = -90.0
"""The basivertebral vein lowers trabecular bone by this much."""


@dataclass(frozen=True)
class Vertebra:
    """One vertebra in the patient.

    Parameters
    ----------
    level : str
    body : Body
    arch : Arch or None
        None for the fused bodies of the sacrum.
    pose : Pose
    marrow : Marrow
    shell : Bone
        Cortex of the body (thin); its core is ``marrow``.
    arch_bone : Bone
    fine, coarse : RandomField
    warp : Warp or None
        Bends the frame so that the keypoints are measured ones.
    """

    level: str
    body: Body
    arch: Arch | None
    pose: Pose
    marrow: Marrow
    shell: Bone
    arch_bone: Bone
    fine: RandomField
    coarse: RandomField
    warp: Warp | None = None

    @property
    def keypoints(self) -> np.ndarray:
        """The six keypoints [6, 3], LPS mm."""
        own = self.body.keypoints() if self.warp is None else self.warp.points
        return self.pose.patient_from_own(own)

    @cached_property
    def own_box(self) -> np.ndarray:
        """The same in the own frame of the vertebra, mm."""
        b = self.body
        half = np.array([b.half_width * 1.05, b.half_depth * 1.1 + max(b.spur), max(b.ha, b.hp) / 2 + b.uncus + 1.0])
        half[2] += abs(b.tilt) * b.half_width / 2
        box = np.stack([-half, half])
        if self.arch is not None:
            arch = self.arch.reach
            box = np.stack([np.minimum(box[0], arch[0]), np.maximum(box[1], arch[1])])
        return box if self.warp is None else box + self.warp.largest_mm * np.array([[-1.0], [1.0]])

    @property
    def box(self) -> np.ndarray:
        """Corners [2, 3] of a box that holds everything painted, LPS mm."""
        return self.pose.box(self.own_box)

    def paint(self, hu, x, y, z, blur_mm: float):
        """New HU of points inside the box."""
        u, v, t = self.pose.own_from_patient(x, y, z)
        if self.warp is not None:
            u, v, t = self.warp.drawn_from_own(u, v, t)
        body, arch = self._depths(u, v, t, EDGE_WIDTH * blur_mm)
        touched = np.flatnonzero(np.maximum(body, arch) > -EDGE_WIDTH * blur_mm - 1e-3)
        if not len(touched):
            return hu
        x, y, z, u, v, t, body, arch = (a[touched] for a in (x, y, z, u, v, t, body, arch))
        hu = hu.copy()
        hu[touched] = self._mix(hu[touched], body, arch, (x, y, z), (u, v, t), blur_mm)
        return hu

    def body_depth(self, x, y, z):
        """Depth (mm, positive inside) under the surface of the body, without its arch, of LPS points."""
        u, v, t = self.pose.own_from_patient(x, y, z)
        if self.warp is not None:
            u, v, t = self.warp.drawn_from_own(u, v, t)
        return self.body.depth(u, v, t)

    def _depths(self, u, v, t, reach: float):
        """Depths in the body and in the arch (mm); far outside a large negative number."""
        b = self.body
        body, arch = np.full((2, len(u)), -99.0, np.float32)
        front = np.flatnonzero(v < b.half_depth * 1.1 + reach)
        body[front] = b.depth(u[front], v[front], t[front])
        if self.arch is not None:
            back = np.flatnonzero(v > self.arch.reach[0, 1] - reach)
            arch[back] = self.arch.depth(u[back], v[back], t[back])
        return body, arch

    def _mix(self, hu, body, arch, xyz, uvt, blur_mm: float):
        depth = np.maximum(body, arch)
        in_body = body >= arch
        shell_mm = np.where(in_body, np.float32(self.shell.shell_mm), np.float32(self.arch_bone.shell_mm))
        shell_hu = np.where(in_body, np.float32(self.shell.shell_hu), np.float32(self.arch_bone.shell_hu))
        fine = self.fine(*xyz)
        core = np.where(in_body, self._marrow(depth, uvt, fine, xyz), self._arch_core(fine))
        inside, deep = cover(depth, blur_mm), cover(depth - shell_mm, blur_mm)
        return hu + inside * (shell_hu - hu) + deep * (core - shell_hu)

    def _arch_core(self, fine):
        return np.float32(self.arch_bone.core_hu) + np.float32(self.arch_bone.rough_hu) * fine

    def _marrow(self, depth, uvt, fine, xyz):
        m, b = self.marrow, self.body
        u, v, t = uvt
        hu = np.float32(m.hu) + np.float32(m.rough_hu) * fine + np.float32(m.patchy_hu) * self.coarse(*xyz)
        layer = np.maximum(depth, 0)
        hu += np.float32(m.plate_hu) * np.exp(layer * np.float32(-1 / PLATE_LAYER_MM))
        if m.sclerosis_hu:
            hu += np.float32(m.sclerosis_hu) * np.exp(-((layer * np.float32(1 / SCLEROSIS_LAYER_MM)) ** 2))
        back = np.float32(b.half_depth * 0.6)
        vein = (u / (0.9 * back)) ** 2 + ((v - back) / (0.8 * back)) ** 2 + (t * np.float32(1 / 2.0)) ** 2
        hu += np.float32(VEIN_HU) * np.maximum(1 - vein, 0)
        if m.gas:
            half = np.float32(b.half_depth * 0.55)
            cleft = (u / half) ** 2 + (v / half) ** 2 + (t * np.float32(1 / 2.5)) ** 2
            hu = np.where(cleft < 1, np.float32(GAS_HU), hu)
        return hu


@dataclass(frozen=True)
class Disc:
    """The disc below a vertebra: a slab between two bodies; bone is painted over it.

    Parameters
    ----------
    pose : Pose
        Origin in the middle of the gap.
    half_width, half_depth, half_height : float
        mm; the height reaches into both bodies.
    hu : float
    gas_hu : float
        HU of a vacuum cleft, or 0 for none.
    """

    pose: Pose
    half_width: float
    half_depth: float
    half_height: float
    hu: float
    gas_hu: float = 0.0

    @property
    def box(self) -> np.ndarray:
        """Corners [2, 3] of a box that holds everything painted, LPS mm."""
        half = np.array([self.half_width, self.half_depth, self.half_height])
        return self.pose.box(np.stack([-half, half]))

    def paint(self, hu, x, y, z, blur_mm: float):
        """New HU of points inside the box."""
        u, v, t = self.pose.own_from_patient(x, y, z)
        q = np.sqrt((u / np.float32(self.half_width)) ** 2 + (v / np.float32(self.half_depth)) ** 2)
        steep = np.maximum(q, np.float32(0.05))
        side = np.maximum(np.sqrt(u * u + v * v), np.float32(0.05 * self.half_depth)) * (1 - steep) / steep
        share = cover(np.minimum(side, np.float32(self.half_height) - np.abs(t)), max(blur_mm, 0.3))
        value = np.float32(self.hu) + np.float32(25.0) * np.minimum(q, 1)
        if self.gas_hu:
            value = np.where((q < 0.55) & (np.abs(t) < 1.0), np.float32(self.gas_hu), value)
        return hu + share * (value - hu)
