"""Symmetric 2 x 2 matrices, many at a time: what the samplers of height noise need of linear algebra.

A matrix is kept as three arrays, so that thousands of inverses and draws are a few products; numpy's own routines
call LAPACK once for each matrix and take some twenty times as long.
"""

from typing import Any, NamedTuple

import numpy as np

TINY = 1e-14
"""Least variance, in squared log ratios: a thousandth of a micrometre of a vertebra. Keeps rounding out of roots."""


class Sym(NamedTuple):
    """Matrices [[aa, ab], [ab, bb]]; the three are numbers or arrays of one shape."""

    aa: Any
    ab: Any
    bb: Any

    def plus(self, other: "Sym") -> "Sym":
        """Sum."""
        return Sym(self.aa + other.aa, self.ab + other.ab, self.bb + other.bb)

    def times(self, factor: np.ndarray | float) -> "Sym":
        """Product with a number, or with one number for each matrix."""
        return Sym(self.aa * factor, self.ab * factor, self.bb * factor)

    def determinant(self) -> Any:
        """Determinant."""
        return self.aa * self.bb - self.ab * self.ab

    def inverse(self) -> "Sym":
        """Inverse.

        Examples
        --------
        >>> Sym(2.0, 1.0, 2.0).inverse()
        Sym(aa=0.6666666666666666, ab=-0.3333333333333333, bb=0.6666666666666666)
        """
        over = 1 / self.determinant()
        return Sym(self.bb * over, -self.ab * over, self.aa * over)

    def apply(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Product with vectors (a, b)."""
        return self.aa * a + self.ab * b, self.ab * a + self.bb * b

    def norm(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Quadratic form of vectors (a, b)."""
        return self.aa * a * a + 2 * self.ab * a * b + self.bb * b * b

    def take(self, index: np.ndarray) -> "Sym":
        """The matrices at these places."""
        return Sym(np.take(self.aa, index), np.take(self.ab, index), np.take(self.bb, index))

    def matrix(self) -> np.ndarray:
        """One matrix as array [2, 2]."""
        return np.array([[self.aa, self.ab], [self.ab, self.bb]], float)


def symmetric(matrix: np.ndarray) -> Sym:
    """Of arrays [..., 2, 2]."""
    matrix = np.asarray(matrix, float)
    return Sym(matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1])


def normal(rng: np.random.Generator, covariance: Sym, shape: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Normal vectors of mean 0."""
    first, second = rng.standard_normal((2, *np.atleast_1d(shape)))
    root = np.sqrt(np.maximum(covariance.aa, TINY))
    slope = covariance.ab / root
    rest = np.sqrt(np.maximum(covariance.bb - slope * slope, TINY))
    return root * first, slope * first + rest * second


def normal_of_precision(
    rng: np.random.Generator, precision: Sym, pull: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Normal vectors with this precision P and mean P^-1 pull: the conditional of a normal mean."""
    covariance = precision.inverse()
    mean = covariance.apply(*pull)
    scatter = normal(rng, covariance, np.shape(pull[0]))
    return mean[0] + scatter[0], mean[1] + scatter[1]


def inverse_wishart(rng: np.random.Generator, freedom: float, scale: Sym) -> Sym:
    """One covariance from an inverse Wishart, by Bartlett's decomposition of its inverse.

    scipy's `invwishart` gives the same distribution and takes a hundred times as long, a fifth of an iteration.
    """
    inner = scale.inverse()
    root = np.sqrt(inner.aa)
    slope = inner.ab / root
    rest = np.sqrt(max(inner.bb - slope * slope, 0.0))
    first, second = np.sqrt(rng.chisquare(freedom)), np.sqrt(rng.chisquare(freedom - 1))
    between = rng.standard_normal()
    a, b, c = root * first, slope * first + rest * between, rest * second
    return Sym(a * a, a * b, b * b + c * c).inverse()
