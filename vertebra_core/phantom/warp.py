"""A gentle bending of a vertebra's own frame that carries six points onto six others.

A `vertebra_core.phantom.body.Body` has plates that are alike in front and behind but for their heights; six measured
points are not. The body is drawn as usual and the space it is drawn in is bent, so that its keypoints are the measured
ones.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vertebra_core.phantom.body import Body

REACH = 1.25
"""The bend grows to this many half-lengths of the body and stays the same beyond, so that the arch is only moved."""
LOWEST_MM = 1.0
"""Half-height that a crushed end is given at least, so that no place is divided by nothing."""


@dataclass(frozen=True)
class Warp:
    """Displacement from the measured vertebra to the drawn body, in the own frame (u, v, t), mm.

    Quadratic along v and straight along t: six functions for six points. It does not depend on u.

    Parameters
    ----------
    body : Body
        The body that is drawn.
    points : array [6, 3]
        Where its keypoints are to lie, own frame.
    """

    body: Body
    points: Float[np.ndarray, "6 3"]

    def __post_init__(self) -> None:
        drawn = self.body.keypoints()
        weights = np.linalg.solve(self._functions(self.points[:, 1], self.points[:, 2]).T, drawn - self.points)
        object.__setattr__(self, "_weights", weights)

    def _functions(self, v, t) -> np.ndarray:
        """The six functions [6, n] at places of the middle plane."""
        b = self.body
        along = np.clip(v * (4 / (b.cranial + b.caudal)), -REACH, REACH)
        half = np.maximum((b.ha + b.hp) / 4 + (b.hp - b.ha) / 4 * along, LOWEST_MM)
        up = np.clip(t / half, -REACH, REACH)
        one = np.ones_like(along)
        return np.stack([one, along, along * along, up, up * along, up * along * along])

    def drawn_from_own(self, u, v, t):
        """Where (float32 vectors) a place of the vertebra lies in the frame of the drawn body."""
        functions = self._functions(v, t).astype(np.float32)
        weights: np.ndarray = self._weights.astype(np.float32)  # type: ignore[attr-defined]
        return tuple(c + weights[:, axis] @ functions for axis, c in enumerate((u, v, t)))

    @property
    def largest_mm(self) -> float:
        """Bound of the displacement: the sum of the largest terms, mm."""
        bounds = np.array([1, REACH, REACH**2, REACH, REACH**2, REACH**3])
        return float((np.abs(self._weights) * bounds[:, None]).sum(0).max())  # type: ignore[attr-defined]
