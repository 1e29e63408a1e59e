"""Frames and the centre line of the spine.

Patient frame: LPS (x to the patient's left, y to posterior, z to superior), mm, float64.
Straightened frame (u, v, s): s is the arc length along the centre line from its top, growing downward;
v runs to posterior and u to the left, both across the line. All mm. See docs/frames.md.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy.interpolate import CubicSpline
from scipy.spatial import KDTree

POSTERIOR = np.array([0.0, 1.0, 0.0])
NEWTON_STEPS = 30
NEWTON_TOLERANCE_MM = 1e-10
LEAST_STRETCH = 1e-3
"""Where planes meet, a step along the line moves its plane by less than this share: Newton's step would be endless."""
KNOT_MM = 1.0
"""Distance of the knots of the arc-length spline; at 1 mm a millimetre of s is one of the line to 1e-5."""


def apply_affine(affine: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Apply a 4 x 4 affine to points [..., 3].

    Examples
    --------
    >>> shift = np.eye(4); shift[:3, 3] = 1, 2, 3
    >>> apply_affine(shift, np.array([[0.0, 0.0, 10.0]])).tolist()
    [[1.0, 2.0, 13.0]]
    """
    return points @ affine[:3, :3].T + affine[:3, 3]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def parallel_transport(tangents: Float[np.ndarray, "n 3"], start: Float[np.ndarray, "3"]) -> Float[np.ndarray, "n 3"]:
    """Carry a vector along a curve without twisting it about the tangent.

    Double reflection (Wang, Jüttler, Zheng, Liu, ACM TOG 2008;27:2) on the tangents alone: each step is the
    smallest rotation that takes one tangent to the next. Exists on a straight line, where a Frenet frame does not.

    Parameters
    ----------
    tangents : array [n, 3]
        Unit tangents.
    start : array [3]
        Any vector not parallel to the first tangent.
    """
    carried = np.empty_like(tangents)
    carried[0] = _unit(start - (start @ tangents[0]) * tangents[0])
    for i in range(1, len(tangents)):
        before, after = tangents[i - 1], tangents[i]
        vector = carried[i - 1] - (carried[i - 1] @ after) / (1.0 + before @ after) * (before + after)
        carried[i] = _unit(vector - (vector @ after) * after)
    return carried


@dataclass(frozen=True)
class CentreLine:
    """The smooth line through the vertebral bodies, from its top downward.

    A cubic spline over arc length through ``points``; everything else (tangents, frame, both maps) is derived
    from that one spline, so that the forward and the inverse map are exact inverses of each other.

    Parameters
    ----------
    points : array [n, 3], n >= 4
        LPS mm, ordered from the top of the patient downward, at roughly equal distances.

    Raises
    ------
    ValueError
        Fewer than four points, points that are not finite, or two equal neighbours.
    """

    points: Float[np.ndarray, "n 3"]

    def __post_init__(self) -> None:
        if len(self.points) < 4 or not np.isfinite(self.points).all():
            raise ValueError(f"a centre line needs at least 4 finite points, got {len(self.points)}")
        if np.linalg.norm(np.diff(self.points, axis=0), axis=1).min() <= 0:
            raise ValueError("a centre line may not stand still: two neighbouring points are equal")

    @cached_property
    def _spline(self) -> CubicSpline:
        chord = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))]
        rough = CubicSpline(chord, self.points)
        # Re-knot densely by arc length: s is then millimetres along the line, not along its chords. Through the
        # given points alone, 35 mm apart on a strong curve, s would be off by up to 14 % between them.
        steps = np.maximum(1, np.ceil(np.diff(chord) / KNOT_MM)).astype(int)
        parts = np.r_[0, np.cumsum(steps)]
        dense = np.interp(np.arange(parts[-1] + 1), parts, chord)
        halves = np.interp(np.arange(2 * parts[-1] + 1) / 2, parts, chord)
        speed = np.linalg.norm(rough(halves, 1), axis=1)
        arc = np.diff(dense) * (speed[:-2:2] + 4 * speed[1::2] + speed[2::2]) / 6  # Simpson's rule
        return CubicSpline(np.r_[0.0, np.cumsum(arc)], rough(dense))

    @property
    def length(self) -> float:
        """Arc length, mm."""
        return float(self._spline.x[-1])

    @cached_property
    def _posterior_spline(self) -> CubicSpline:
        """Spline of the v direction: transported along the line, then turned once to face posterior on average."""
        s = self._spline.x
        tangents = _unit(self._spline(s, 1))
        seed = POSTERIOR if abs(tangents[0] @ POSTERIOR) < 0.9 else np.array([0.0, 0.0, 1.0])
        v = parallel_transport(tangents, seed)
        u = np.cross(tangents, v)
        anchor = np.arctan2((u @ POSTERIOR).sum(), (v @ POSTERIOR).sum())
        return CubicSpline(s, np.cos(anchor) * v + np.sin(anchor) * u)

    @cached_property
    def _tree(self) -> KDTree:
        """The knots of the line, to begin the search for foot points at the nearest."""
        return KDTree(self._spline(self._spline.x))

    def position(self, s: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 3"]:
        """Points of the line at arc length ``s``; straight continuations beyond both ends."""
        inside = np.clip(s, 0.0, self.length)
        return self._spline(inside) + (s - inside)[..., None] * _unit(self._spline(inside, 1))

    def frame(self, s: Float[np.ndarray, "*n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors (left, posterior, down) [..., 3] of the straightened frame at arc length ``s``."""
        inside = np.clip(s, 0.0, self.length)
        down = _unit(self._spline(inside, 1))
        v = self._posterior_spline(inside)
        v = _unit(v - (v * down).sum(-1, keepdims=True) * down)
        return np.cross(down, v), v, down

    def curvature_vector(self, s: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 3"]:
        """Curvature vector (1/mm, towards the centre of curvature); zero beyond the ends."""
        inside = np.clip(s, 0.0, self.length)
        first, second = self._spline(inside, 1), self._spline(inside, 2)
        speed2 = (first**2).sum(-1, keepdims=True)
        across = second - (second * first).sum(-1, keepdims=True) / speed2 * first
        return np.where((s == inside)[..., None], across / speed2, 0.0)

    def patient_from_straight(self, uvs: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Map straightened (u, v, s) mm to LPS mm. Also defined where planes cross; see `unfolded`."""
        left, posterior, _ = self.frame(uvs[..., 2])
        return self.position(uvs[..., 2]) + uvs[..., :1] * left + uvs[..., 1:2] * posterior

    def unfolded(self, uvs: Float[np.ndarray, "*n 3"]) -> Bool[np.ndarray, "*n"]:
        """True where neighbouring planes do not cross: the offset stays short of the centre of curvature."""
        left, posterior, _ = self.frame(uvs[..., 2])
        offset = uvs[..., :1] * left + uvs[..., 1:2] * posterior
        return (offset * self.curvature_vector(uvs[..., 2])).sum(-1) < 1.0

    def straight_from_patient(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Map LPS mm to straightened (u, v, s) mm: the foot point of each on the line, by Newton's method.

        Exact inverse of `patient_from_straight` (1e-6 mm) where no planes cross; where they do, the foot near the
        point. NaN where no foot point is found and for points that are not finite.
        """
        flat = points.reshape(-1, 3)
        known = np.isfinite(flat).all(axis=1)
        findable = np.where(np.isfinite(flat), flat, 0.0)
        s = np.where(known, self._spline.x[self._tree.query(findable)[1]], np.nan)
        # Beyond an end the foot lies on the straight continuation, where one step is exact. Newton's method from the
        # end itself would turn back where the line is bent more than the point is away.
        past = ((flat - self.position(s)) * self.frame(s)[2]).sum(1)
        s = np.where((s <= 0.0) & (past < 0.0), past, np.where((s >= self.length) & (past > 0.0), s + past, s))
        step = np.full(len(flat), np.inf)
        for _ in range(NEWTON_STEPS):
            if not known.any() or np.nanmax(np.abs(step)) < NEWTON_TOLERANCE_MM:
                break
            away = flat - self.position(s)
            inside = np.clip(s, 0.0, self.length)
            first = self._spline(inside, 1)
            speed = np.linalg.norm(first, axis=1)
            stretch = speed * (1.0 - (away * self.curvature_vector(s)).sum(1))
            stretch = np.where(s == inside, stretch, 1.0)
            # At the nearest place of the line the stretch is not negative, and a knot is never further than one step.
            step = np.clip((away * first).sum(1) / speed / np.maximum(stretch, LEAST_STRETCH), -KNOT_MM, KNOT_MM)
            s = s + np.nan_to_num(step)
        away = flat - self.position(s)
        left, posterior, down = self.frame(s)
        uvs = np.stack([(away * left).sum(1), (away * posterior).sum(1), s], 1)
        uvs[~(np.abs((away * down).sum(1)) < 1e-6)] = np.nan
        return uvs.reshape(points.shape)
