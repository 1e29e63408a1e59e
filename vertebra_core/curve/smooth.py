"""A smooth line through noisy points, some of them far off.

Two fits, each repeated with weights that fall as residuals grow (iteratively reweighted least squares; Holland and
Welsch, Comm. Stat. A 1977;6:813): a stiff polynomial that a whole run of wrong slices cannot drag away, then a local
quadratic (Cleveland, JASA 1979;74:829) that follows the spine.
"""

import numpy as np
from jaxtyping import Float
from numpy.polynomial import chebyshev

ROUNDS = 20
"""Reweighted fits; residuals change by less than 0.1 mm after ten."""
MM_PER_DEGREE = 90.0
"""One degree of the stiff polynomial per this length: a whole spine (500 mm) with its three bends gets six."""
MAX_DEGREE = 6
STIFF_OUTLIER = 2.5
"""The stiff curve itself may be this many times ``outlier_mm`` off before a point counts as wrong."""
STIFFNESS = 1.0
"""Pull of the parabola's curvature to that of the stiff line, relative to the weight of the neighbours. It keeps the
ends from following the last slices; where the spine bends with a radius of 120 mm it costs 0.3 mm."""
RIDGE = 1e-3
"""Pull of the local fit to the stiff one, in weights: decides only where all points near by were left out."""


def robust_line(
    z: Float[np.ndarray, "n"],
    points: Float[np.ndarray, "n 2"],
    weights: Float[np.ndarray, "n"],
    new_z: Float[np.ndarray, "m"],
    smoothing_mm: float,
    outlier_mm: float,
) -> Float[np.ndarray, "m 2"]:
    """Points of a smooth line x(z), y(z) at ``new_z``.

    Parameters
    ----------
    z : array [n]
        mm, in rising order.
    points : array [n, 2]
        Measured (x, y), mm.
    weights : array [n]
        Trust in each point, > 0.
    new_z : array [m]
        Where the line is wanted, mm.
    smoothing_mm : float
        Standard deviation of the Gaussian that weighs neighbours along z.
    outlier_mm : float
        Points further than this from the line do not count.
    """
    stiff = _stiff_line(z, points, weights, STIFF_OUTLIER * outlier_mm)
    rest = points - stiff(z)
    kept = weights * (np.linalg.norm(rest, axis=1) < STIFF_OUTLIER * outlier_mm)
    trusted = kept
    for _ in range(ROUNDS):
        away = np.linalg.norm(rest - _local_quadratic(z, rest, trusted, z, smoothing_mm), axis=1)
        trusted = kept * bisquare(away / outlier_mm)
    return stiff(new_z) + _local_quadratic(z, rest, trusted, new_z, smoothing_mm)


def bisquare(residuals: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Tukey's weight (1 - r^2)^2, zero where |r| >= 1."""
    return np.clip(1.0 - residuals**2, 0.0, 1.0) ** 2


def _stiff_line(z: np.ndarray, points: np.ndarray, weights: np.ndarray, scale_mm: float):
    """Polynomial x(z), y(z) by least absolute distances; a function of z."""
    length = z[-1] - z[0]
    degree = int(np.clip(np.ceil(length / MM_PER_DEGREE), 1, min(MAX_DEGREE, len(z) - 1)))
    unit = 2.0 * (z - z[0]) / length - 1.0
    trusted = weights
    coefficients = chebyshev.chebfit(unit, points, degree, w=np.sqrt(trusted))
    for _ in range(ROUNDS):
        away = np.linalg.norm(points - chebyshev.chebval(unit, coefficients).T, axis=1)
        trusted = weights / np.hypot(1.0, away / (0.1 * scale_mm))
        coefficients = chebyshev.chebfit(unit, points, degree, w=np.sqrt(trusted))
    return lambda new_z: chebyshev.chebval(2.0 * (new_z - z[0]) / length - 1.0, coefficients).T


def _local_quadratic(
    z: np.ndarray, values: np.ndarray, weights: np.ndarray, new_z: np.ndarray, smoothing_mm: float
) -> np.ndarray:
    """Value at each ``new_z`` of the parabola that fits its neighbours best."""
    distance = (z - new_z[:, None]) / smoothing_mm  # [m, n]
    nearness = weights * np.exp(-0.5 * distance**2)
    terms = np.stack([np.ones_like(distance), distance, distance**2], -1)  # [m, n, 3]
    left = np.einsum("mn,mni,mnj->mij", nearness, terms, terms) + RIDGE * np.eye(3)
    left[:, 2, 2] += STIFFNESS * nearness.sum(1)
    right = np.einsum("mn,mni,nk->mik", nearness, terms, values)
    return np.linalg.solve(left, right)[:, 0]
