"""The shipped network on the real CTs it was trained on: a check of the whole path, not of how it generalises."""

from pathlib import Path

import numpy as np
import pytest

import vertebra_core.models
from vertebra_core.curve.find import find_curve
from vertebra_core.curve.network import CurveNetwork
from vertebra_core.models import load_network
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import CurveSettings, ReadingSettings
from vertebra_core.training.curve_cases import PRESENT, labelled_line
from vertebra_core.truth import read_truth

SHARED = Path(__file__).parents[3] / "shared" / "real_ct"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real CTs (../shared/real_ct) are absent")
FAST = ("totalseg_aorta_crop", "totalseg_example", "verse012", "verse014", "cptac_pda_c3l_00189", "sts_037_crop")
"""Small ones: strong contrast, pelvis, sagittal, oblique, 5 mm slices, a spine near the edge of the image."""


@pytest.mark.parametrize("name", FAST)
def test_no_slice_is_far_off(name):
    network = CurveNetwork()
    load_network(network, Path(vertebra_core.models.__file__).parent / "weights" / "curve.safetensors")
    settings = ReadingSettings()
    series = next(s for s in find_series([SHARED / name], settings).series if s.decision is None)
    line = find_curve(read_volume(series, settings), network, CurveSettings())
    truth, status = labelled_line(read_truth(SHARED / "annotations" / f"{name}.json"))
    goal = truth[status == PRESENT]
    points = line.position(np.linspace(0, line.length, 2000))[::-1]
    at = np.stack([np.interp(goal[:, 2], points[:, 2], points[:, a], np.nan, np.nan) for a in (0, 1)], 1)
    away = np.linalg.norm(at - goal[:, :2], axis=1)
    assert np.isfinite(away).mean() > 0.95
    assert np.nanmean(away) < 3.0
    assert np.nanmax(away) < 10.0
