"""The body of a vertebra in its own frame: a wall between two concave plates.

Own frame (u, v, t), mm: u to the left, v to posterior, t upward, origin in the middle of the body. The keypoints are
points of the two plate functions, so the truth is exact by construction.
"""

from dataclasses import dataclass, replace

import numpy as np

OUTLINE_POWER = 2.5
"""Superellipse of the body seen from above: 2 is an ellipse, larger is squarer."""
BACK_HOLLOW = 0.12
"""The back wall beside the middle reaches this share further back than in the middle (a kidney seen from above)."""


@dataclass(frozen=True)
class Node:
    """A Schmorl node: a rounded dent of a plate.

    Parameters
    ----------
    cranial : bool
        In the upper plate, else the lower.
    u, v, radius, depth : float
        mm.
    """

    cranial: bool
    u: float
    v: float
    radius: float
    depth: float


@dataclass(frozen=True)
class Body:
    """Shape of a vertebral body, mm.

    Parameters
    ----------
    ha, hm, hp : float
        Heights between keypoints, without nodes.
    cranial, caudal : float
        Distances of the front and back keypoints of the plates.
    cranial_share : float
        Share of the concavity in the upper plate.
    width : float
        Width over depth.
    rim : float
        The wall lies this far outside the keypoints: readers put them inside the rounded corner.
    waist : float
        How much narrower the body is at half height, as a share of its radius.
    taper : float
        How much narrower the front is than the back, as a share of the width.
    uncus : float
        Rise of the side rims of the upper plate (cervical uncinate processes).
    skew : float
        The deepest place of the lower plate lies behind the middle.
    tilt : float
        Sideways wedge: rise of the upper plate per mm of u (scoliosis).
    spur : array [2]
        Length of the front osteophytes at the upper and lower corner.
    nodes : tuple of Node
    """

    ha: float
    hm: float
    hp: float
    cranial: float
    caudal: float
    cranial_share: float
    width: float
    rim: float
    waist: float = 0.10
    taper: float = 0.12
    uncus: float = 0.0
    skew: float = 0.25
    tilt: float = 0.0
    spur: tuple[float, float] = (0.0, 0.0)
    nodes: tuple[Node, ...] = ()

    @property
    def half_depth(self) -> float:
        """Half of the bony depth, mean of both plates."""
        return (self.cranial + self.caudal) / 4 + self.rim

    @property
    def half_width(self) -> float:
        """Half of the bony width at the plates."""
        return self.half_depth * self.width

    @property
    def concavity(self) -> tuple[float, float]:
        """Depth of the upper and lower plate at the middle keypoints."""
        total = (self.ha + self.hp) / 2 - self.hm
        return total * self.cranial_share, total * (1 - self.cranial_share)

    def _plate(self, u, v, cranial: bool):
        """Height of a plate over the equator (upper: positive; lower: mirrored), and its steepness."""
        length = self.cranial if cranial else self.caudal
        depth = self.concavity[0 if cranial else 1]
        rim_u = np.float32(max(self.half_width - self.rim, 1.0))
        across, along = u * (1 / rim_u), v * np.float32(2 / length)
        r2 = np.minimum(across * across + along * along, 1)
        dish = (1 - r2) * (1 + np.float32(0.6) * r2)
        if not cranial and self.skew:
            dish = dish * (1 + np.float32(self.skew) * along)
        line = np.float32((self.ha + self.hp) / 4) + np.float32((self.hp - self.ha) / 2 / length) * v
        height = line - np.float32(depth) * dish
        slope = np.float32(2 * depth / length) * np.sqrt(r2) * (np.float32(0.8) + np.float32(2.4) * r2)
        steep = np.where(r2 < 1, slope, 0)
        if self.uncus and cranial:
            height = height + np.float32(self.uncus) * np.square(np.square(across)) * np.clip(
                1 - np.abs(along - np.float32(0.3)), 0, 1
            )
        if self.tilt:
            height = height + np.float32(self.tilt / 2) * u
        for node in self.nodes:
            if node.cranial == cranial:
                q = np.minimum(((u - np.float32(node.u)) ** 2 + (v - np.float32(node.v)) ** 2) / node.radius**2, 1)
                height = height - np.float32(node.depth) * (1 - q) ** 2
                steep = np.maximum(steep, np.float32(1.5 * node.depth / node.radius) * (q < 1))
        return height, steep

    def keypoints(self) -> np.ndarray:
        """The six keypoints [6, 3] (u, v, t) mm, in the project's order."""
        top_v = np.array([-0.5, 0.0, 0.5]) * self.cranial
        bottom_v = np.array([-0.5, 0.0, 0.5]) * self.caudal
        zero = np.zeros(3)
        # float64 here: the surface is the same function that paints the bone.
        top, _ = self._plate(zero, top_v, True)
        bottom, _ = self._plate(zero, bottom_v, False)
        points = np.empty((6, 3))
        points[0::2] = np.stack([zero, top_v, top], 1)
        points[1::2] = np.stack([zero, bottom_v, -bottom], 1)
        return points

    def depth(self, u, v, t):
        """Depth under the surface of the body (mm, positive inside)."""
        up, steep_up = self._plate(u, v, True)
        low, steep_low = self._plate(u, v, False)
        above, below = up - t, low + t
        to_plate = np.minimum(above / np.sqrt(1 + steep_up**2), below / np.sqrt(1 + steep_low**2))
        to_wall = self._wall_depth(u, v, t)
        radius = np.float32(self.rim * 0.9)
        corner_wall, corner_plate = np.maximum(radius - to_wall, 0), np.maximum(radius - to_plate, 0)
        rounding = np.sqrt(corner_wall**2 + corner_plate**2) - np.maximum(corner_wall, corner_plate)
        return np.minimum(to_wall, to_plate) - rounding

    def _wall_depth(self, u, v, t):
        """Radial depth under the side wall, without the plates."""
        middle = np.float32((self.ha + self.hp) / 4)
        lean = np.float32((self.hp - self.ha) / (self.cranial + self.caudal)) * v
        height = t / np.maximum(middle + lean, middle * np.float32(0.3))
        squeeze = 1 - np.float32(self.waist) * np.maximum(1 - height * height, 0)
        grow = np.float32((self.cranial - self.caudal) / 4)
        half_v = (np.float32(self.half_depth) + grow * np.clip(height, -1, 1)) * squeeze
        half_u = np.float32(self.half_width) * squeeze * (1 - np.float32(self.taper) * np.clip(-v / half_v, 0, 1))
        if any(self.spur):
            ahead = np.clip(-v / half_v, 0, 1) ** 2
            upper, lower = (np.exp(-(((height - end) * middle / np.float32(2.6)) ** 2)) for end in (1, -1))
            lip = np.float32(self.spur[0]) * upper + np.float32(self.spur[1]) * lower
            half_v = half_v + ahead * lip
        flat = 1 - np.float32(BACK_HOLLOW) * np.clip(v / half_v, 0, 1) * np.minimum((u / half_u) ** 2, 1)
        across, along = np.abs(u / half_u), np.abs(v * flat / half_v)
        # x^2.5 as x^2 sqrt(x): a general power costs ten times as much.
        q = (across * across * np.sqrt(across) + along * along * np.sqrt(along)) ** np.float32(1 / OUTLINE_POWER)
        q = np.maximum(q, np.float32(0.05))
        return np.maximum(np.sqrt(u * u + v * v), np.float32(0.05) * half_v) * (1 - q) / q


def deform(body: Body, shape: str, g: float) -> Body:
    """A body pressed to a Genant index of ``g`` (min / max of the three heights).

    Wedge: the front gives way and the middle follows. Biconcave: the middle. Crush: the back gives way most and the
    front a little. A pressed body is a little deeper.

    Raises
    ------
    ValueError
        Another shape than wedge, biconcave or crush.
    """
    if shape == "wedge":
        ha = g * body.hp
        hm = min(body.hm, 0.5 * (ha + body.hp) * 0.94)
        hm, new = max(hm, ha), (ha, body.hp)
    elif shape == "biconcave":
        ha = body.ha
        hm, new = g * max(ha, body.hp), (ha, body.hp)
    elif shape == "crush":
        ha = 0.9 * max(body.ha, body.hp)
        hp = g * ha
        hm, new = max(hp, 0.95 * (ha + hp) / 2), (ha, hp)
    else:
        raise ValueError(f"a deformity is wedge, biconcave or crush, not {shape}")
    loss = 1 - (new[0] + hm + new[1]) / (body.ha + body.hm + body.hp)
    longer = 1 + 0.25 * max(loss, 0.0)
    return replace(body, ha=new[0], hm=hm, hp=new[1], cranial=body.cranial * longer, caudal=body.caudal * longer)
