"""Building blocks of a phantom: coverage of an edge, random fields, tables along z, and parts with a box.

All arrays of points are three separate float32 vectors x, y, z (LPS mm, relative to the phantom's origin): numpy then
runs over contiguous memory, and a part sees only the points inside its box.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

EDGE_WIDTH = np.sqrt(5.0)
"""Half-width of a smoothstep whose derivative has unit standard deviation (Beta(2, 2) on [-w, w]: w^2 / 5)."""
MIN_BLUR_MM = 1e-4
"""Below this an edge is a step."""
LEAST_HU = -1000.0
"""Air: the texture of mixed tissue does not go below it."""
FIELD_SIZE = 64
FIELD_VARIANTS = 6


def cover(depth, blur_mm: float) -> np.ndarray:
    """Share of a point spread function (standard deviation ``blur_mm``) inside an edge, 0 to 1.

    Parameters
    ----------
    depth : array
        Signed distance to the edge, mm, positive inside.
    """
    if blur_mm < MIN_BLUR_MM:
        return (depth >= 0).astype(np.float32)
    step = np.asarray(depth * np.float32(0.5 / (EDGE_WIDTH * blur_mm)) + np.float32(0.5))
    np.maximum(step, 0, out=step)
    np.minimum(step, 1, out=step)
    return step * step * (3 - 2 * step)


@lru_cache(maxsize=2 * FIELD_VARIANTS)
def _periodic_field(variant: int, smoothing: float) -> np.ndarray:
    white = np.random.default_rng(variant).normal(size=(FIELD_SIZE,) * 3).astype(np.float32)
    smooth = gaussian_filter(white, smoothing, mode="wrap")
    smooth = ((smooth - smooth.mean()) / smooth.std()).astype(np.float32).ravel()
    smooth.flags.writeable = False
    return smooth


@dataclass(frozen=True)
class RandomField:
    """A smooth periodic random function of space, mean 0, SD 1, read at the nearest node.

    Parameters
    ----------
    variant : int
        Which of the stored fields.
    step_mm : float
        Distance of its nodes; the period is 64 nodes.
    smoothing : float
        Correlation in nodes.
    shift : tuple of float
        Where in the field the origin lies, nodes.
    """

    variant: int
    step_mm: float
    smoothing: float
    shift: tuple[float, float, float]

    def __call__(self, x, y, z) -> np.ndarray:
        scale = np.float32(1.0 / self.step_mm)
        # 1024 periods keep the numbers positive, so that truncation is a floor.
        ix, iy, iz = (
            (c * scale + np.float32(s + 1024 * FIELD_SIZE)).astype(np.int32) & (FIELD_SIZE - 1)
            for c, s in zip((x, y, z), self.shift, strict=True)
        )
        return _periodic_field(self.variant, self.smoothing)[(iz * FIELD_SIZE + iy) * FIELD_SIZE + ix]


def random_field(rng: np.random.Generator, step_mm: float, smoothing: float) -> RandomField:
    """A field at a random place of a random variant."""
    shift = tuple(float(s) for s in rng.uniform(0, FIELD_SIZE, 3))
    return RandomField(int(rng.integers(FIELD_VARIANTS)), step_mm, smoothing, shift)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Profile:
    """A quantity that changes along z: straight between knots, constant beyond them.

    Parameters
    ----------
    start, step : float
        z of the first value and distance of the values, mm.
    values : array [n], float32
    """

    start: float
    step: float
    values: np.ndarray

    def __call__(self, z) -> np.ndarray:
        """Values at z: one number for a single z (a whole axial slice), else one a point."""
        place = (np.float32(z) - np.float32(self.start)) * np.float32(1 / self.step)
        place = np.clip(place, np.float32(0), np.float32(len(self.values) - 1.001))
        below = place.astype(np.int32)
        low = self.values[below]
        # int32 against float32 would make float64 of everything that follows.
        return low + (place - below.astype(np.float32)) * (self.values[below + 1] - low)


PROFILE_STEP_MM = 2.0


def profile(z_knots, values) -> Profile:
    """A `Profile` through knots given in any order of z."""
    order = np.argsort(z_knots)
    z, v = np.asarray(z_knots, float)[order], np.asarray(values, float)[order]
    grid = np.arange(z[0], z[-1] + PROFILE_STEP_MM, PROFILE_STEP_MM)
    return Profile(float(z[0]), PROFILE_STEP_MM, np.interp(grid, z, v).astype(np.float32))


@dataclass(frozen=True)
class Bone:
    """Cortex around trabecular bone.

    Parameters
    ----------
    core_hu, shell_hu : float
    shell_mm : float
    rough_hu : float
        SD of the trabecular texture.
    """

    core_hu: float = 200.0
    shell_hu: float = 1300.0
    shell_mm: float = 1.2
    rough_hu: float = 40.0

    def paint(self, hu, depth, texture, blur_mm: float) -> np.ndarray:
        """New HU at points ``depth`` mm under the bone's surface (negative: outside)."""
        inside, deep = cover(depth, blur_mm), cover(depth - np.float32(self.shell_mm), blur_mm)
        core = np.float32(self.core_hu) + np.float32(self.rough_hu) * texture
        shell = np.float32(self.shell_hu)
        # What the edge blurs together: surroundings, a thin shell of weight inside - deep, and the core.
        return hu + inside * (shell - hu) + deep * (core - shell)


class Part(Protocol):
    """Something with a box that paints the points inside it."""

    @property
    def box(self) -> np.ndarray:
        """Corners [2, 3] mm: outside them the part covers nothing."""
        ...

    def paint(self, hu: np.ndarray, x, y, z, blur_mm: float) -> np.ndarray:
        """New HU of points inside the box."""
        ...


def blend(hu, value, share):
    """Mix ``value`` into ``hu`` by its share of each point."""
    return hu + share * (value - hu)


CORNER = 1.5
"""Where two faces meet, a point within reach of both lies up to sqrt(2) times that reach from the edge."""
BOX_MARGIN_MM = 3.0
"""Boxes are this much larger than their part; a blur of more than a third of it needs a larger margin."""


@dataclass(frozen=True)
class Parts:
    """Parts in the order of painting, with their boxes side by side.

    Parameters
    ----------
    items : tuple of Part
    """

    items: tuple[Part, ...]

    @cached_property
    def boxes(self) -> np.ndarray:
        """Corners [n, 2, 3] of all boxes, mm."""
        return np.array([p.box for p in self.items], np.float32).reshape(-1, 2, 3)

    def paint(self, hu: np.ndarray, x, y, z, blur_mm: float, range_: np.ndarray, cull: bool = True) -> None:
        """Paint in place; each part sees only the points in its box, or all where ``cull`` is off (for tests).

        Parameters
        ----------
        range_ : array [2, 3]
            Smallest and largest coordinates of the points.
        """
        if not cull:
            for part in self.items:
                hu[:] = part.paint(hu, x, y, z, blur_mm)
            return
        grow = np.float32(max(0.0, CORNER * EDGE_WIDTH * blur_mm - BOX_MARGIN_MM))
        low, high = range_[0] - grow, range_[1] + grow
        boxes = self.boxes
        for k in np.flatnonzero(((boxes[:, 0] <= high) & (boxes[:, 1] >= low)).all(1)):
            chosen = _in_box((x, y, z), boxes[k, 0] - grow, boxes[k, 1] + grow, low, high)
            if len(chosen):
                hu[chosen] = self.items[k].paint(hu[chosen], x[chosen], y[chosen], z[chosen], blur_mm)


def _in_box(points, box_low, box_high, low, high) -> np.ndarray:
    """Indices of points inside a box; sides that the points' own range does not reach are not compared."""
    inside: np.ndarray | None = None
    for axis, c in enumerate(points):
        for bound, reached, compare in (
            (box_low[axis], low[axis] < box_low[axis], np.greater),
            (box_high[axis], high[axis] > box_high[axis], np.less),
        ):
            if reached:
                side = compare(c, bound)
                inside = side if inside is None else np.logical_and(inside, side, out=inside)
    return np.arange(len(points[0])) if inside is None else np.flatnonzero(inside)


@dataclass(frozen=True)
class Filling:
    """What a solid is made of: one HU with a wall, or bone.

    Parameters
    ----------
    hu, rough_hu : float
        Mean and SD of the inside.
    texture : RandomField or None
    wall_hu, wall_mm : float
        A wall of another HU; none where ``wall_mm`` is 0.
    bone : Bone or None
        Given: cortex and core instead.
    """

    hu: float = 40.0
    rough_hu: float = 0.0
    texture: RandomField | None = None
    wall_hu: float = 0.0
    wall_mm: float = 0.0
    bone: Bone | None = None

    def paint(self, hu, depth, x, y, z, blur_mm: float):
        """New HU at points ``depth`` mm inside the solid."""
        texture = np.float32(0) if self.texture is None else self.texture(x, y, z)
        if self.bone is not None:
            return self.bone.paint(hu, depth, texture, blur_mm)
        value = np.maximum(np.float32(self.hu) + np.float32(self.rough_hu) * texture, np.float32(LEAST_HU))
        inside = cover(depth, blur_mm)
        if not self.wall_mm:
            return blend(hu, value, inside)
        wall = np.float32(self.wall_hu)
        return hu + inside * (wall - hu) + cover(depth - np.float32(self.wall_mm), blur_mm) * (value - wall)


@dataclass(frozen=True)
class Blob:
    """An ellipsoid.

    Parameters
    ----------
    centre : array [3]
    radii : array [3]
        Half-axes, mm.
    filling : Filling
    axes : array [3, 3]
        Rows: unit directions of the half-axes.
    square : bool
        Fourth powers instead of squares: a box with round edges.
    """

    centre: np.ndarray
    radii: np.ndarray
    filling: Filling
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    square: bool = False

    @property
    def box(self) -> np.ndarray:
        """Corners [2, 3] of a box that holds everything painted, LPS mm."""
        edges = self.axes * self.radii[:, None]
        half = (np.abs(edges).sum(0) if self.square else np.sqrt((edges**2).sum(0))) + BOX_MARGIN_MM
        return np.stack([self.centre - half, self.centre + half])

    def depth(self, x, y, z) -> np.ndarray:
        """Radial depth under the surface, mm."""
        ax, ay, az = (c - np.float32(o) for c, o in zip((x, y, z), self.centre, strict=True))
        m = (self.axes / self.radii[:, None]).astype(np.float32)
        squares = [np.square(row[0] * ax + row[1] * ay + row[2] * az) for row in m]
        if self.square:
            squares = [np.square(q) for q in squares]
        q = np.sqrt(squares[0] + squares[1] + squares[2])
        q = np.maximum(np.sqrt(q) if self.square else q, np.float32(0.05))
        distance = np.maximum(np.sqrt(ax * ax + ay * ay + az * az), np.float32(0.05 * self.radii.min()))
        return distance * (1 - q) / q

    def paint(self, hu, x, y, z, blur_mm: float):
        """New HU of points inside the box."""
        return self.filling.paint(hu, self.depth(x, y, z), x, y, z, blur_mm)


@dataclass(frozen=True)
class Rod:
    """A straight rod with round ends, its thickness changing along it.

    Parameters
    ----------
    start, end : array [3]
    radii : tuple of float
        At both ends, mm.
    filling : Filling
    """

    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, float]
    filling: Filling

    @property
    def box(self) -> np.ndarray:
        """Corners [2, 3] of a box that holds everything painted, LPS mm."""
        reach = max(self.radii) + BOX_MARGIN_MM
        return np.stack([np.minimum(self.start, self.end) - reach, np.maximum(self.start, self.end) + reach])

    def paint(self, hu, x, y, z, blur_mm: float):
        """New HU of points inside the box."""
        depth = rod_depth(x, y, z, self.start, self.end, *self.radii)
        return self.filling.paint(hu, depth, x, y, z, blur_mm)


def rod_depth(x, y, z, start, end, r_start: float, r_end: float) -> np.ndarray:
    """Depth (mm, positive inside) under the surface of a rod with round ends."""
    along = np.asarray(end, float) - np.asarray(start, float)
    ax, ay, az = x - np.float32(start[0]), y - np.float32(start[1]), z - np.float32(start[2])
    ux, uy, uz = (along / float(along @ along)).astype(np.float32)
    t = np.clip(ax * ux + ay * uy + az * uz, 0, 1)
    dx, dy, dz = along.astype(np.float32)
    gap2 = (ax - t * dx) ** 2 + (ay - t * dy) ** 2 + (az - t * dz) ** 2
    return np.float32(r_start) + t * np.float32(r_end - r_start) - np.sqrt(gap2)


def rods(points, radii, filling: Filling) -> list[Part]:
    """A chain of rods through points [n, 3] with radii [n] or one radius."""
    p = np.asarray(points, float)
    r = np.broadcast_to(np.asarray(radii, float), len(p))
    return [Rod(p[i], p[i + 1], (float(r[i]), float(r[i + 1])), filling) for i in range(len(p) - 1)]
