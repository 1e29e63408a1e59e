"""The bend that carries a drawn body onto measured points: exact there, gentle and without folds elsewhere."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vertebra_core.phantom.body import Body
from vertebra_core.phantom.on_keypoints import fit_vertebra
from vertebra_core.phantom.warp import REACH

BODY = Body(21.0, 19.0, 22.0, 25.0, 26.0, 0.5, 1.1, 1.1)
MOVES_MM = arrays(float, (6, 3), elements=st.floats(-1.5, 1.5))
TURNS = st.floats(-0.6, 0.6)


def moved(moves, turn: float) -> np.ndarray:
    """The body's keypoints moved by hand and turned about the left-right axis."""
    c, s = np.cos(turn), np.sin(turn)
    return (BODY.keypoints() + moves) @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) + [40.0, -80.0, 300.0]


@settings(max_examples=60, deadline=None)
@given(moves=MOVES_MM, turn=TURNS)
def test_the_six_points_are_met_to_a_hundredth_of_a_millimetre(moves, turn):
    points = moved(moves, turn)
    fit = fit_vertebra(points, BODY)
    own = (points - fit.pose.centre) @ fit.pose.rotation
    drawn = np.stack(fit.warp.drawn_from_own(*own.astype(np.float32).T), 1)
    assert np.abs(drawn - fit.body.keypoints()).max() < 0.01


@settings(max_examples=40, deadline=None)
@given(moves=MOVES_MM, turn=TURNS)
def test_the_bend_has_no_fold_and_stays_below_its_bound(moves, turn):
    fit = fit_vertebra(moved(moves, turn), BODY)
    v, t = (c.ravel() for c in np.mgrid[-30:30:25j, -20:20:25j])
    step = 0.05

    def drawn(v, t):
        return np.stack(fit.warp.drawn_from_own(np.zeros_like(v), v, t), 1)

    along = (drawn(v + step, t) - drawn(v - step, t))[:, 1:] / (2 * step)
    across = (drawn(v, t + step) - drawn(v, t - step))[:, 1:] / (2 * step)
    assert (along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]).min() > 0.2
    away = drawn(v, t) - np.stack([np.zeros_like(v), v, t], 1)
    assert np.abs(away).max() <= fit.warp.largest_mm + 1e-4


@settings(max_examples=20, deadline=None)
@given(moves=MOVES_MM)
def test_the_arch_is_only_moved(moves):
    warp = fit_vertebra(moved(moves, 0.0), BODY).warp
    behind = BODY.cranial / 2 * REACH * np.array([1.3, 2.0, 3.0])
    away = np.stack(warp.drawn_from_own(np.zeros(3), behind, np.zeros(3)), 1) - np.stack(
        [0 * behind, behind, 0 * behind], 1
    )
    assert np.abs(away - away[0]).max() < 1e-5
