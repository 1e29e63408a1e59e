"""Wilson intervals against scipy and against values of R's `prop.test(correct=FALSE)`."""

import pytest
from scipy.stats import binomtest

from vertebra_core.epidemiology.prevalence import wilson

R_VALUES = [
    (81, 263, 0.255288519878274, 0.3662095769828),
    (15, 148, 0.0623863995307363, 0.160487241723308),
    (0, 20, 0.0, 0.161125158052819),
    (1, 29, 0.00611321429276266, 0.171755218793203),
    (20, 20, 0.838874841947181, 1.0),
    (100, 1140, 0.072651827810338, 0.105555962481557),
]


@pytest.mark.parametrize(("count", "n", "low", "high"), R_VALUES)
def test_r_agrees(count, n, low, high):
    ours = wilson(count, n)
    assert (ours.share, ours.low, ours.high) == pytest.approx((count / n, low, high), abs=1e-9)


@pytest.mark.parametrize("n", [1, 7, 60])
def test_scipy_agrees_for_every_count(n):
    for count in range(n + 1):
        interval = binomtest(count, n).proportion_ci(0.95, method="wilson")
        ours = wilson(count, n)
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
