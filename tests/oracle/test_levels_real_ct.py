"""The shipped network on real CTs, most of which it was trained on: a check of the path, not of how it generalises."""

from pathlib import Path

import pytest
import torch

from vertebra_core.levels.find import name_levels
from vertebra_core.levels.network import LevelNetwork
from vertebra_core.models import WEIGHTS, load_network
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import LevelSettings, ReadingSettings
from vertebra_core.training.spines import true_line
from vertebra_core.truth import read_truth

SHARED = Path(__file__).parents[3] / "shared" / "real_ct"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real CTs (../shared/real_ct) are absent")
FAST = ("totalseg_aorta_crop", "totalseg_example", "verse012", "verse014", "sts_037_crop", "crlm_ct_1006")
"""Small ones: cropped to the chest, pelvis, sagittal, oblique, near the edge of the image, 5 mm slices."""

NAMED = ("sts_037_crop", "crlm_ct_1006")
"""Those in which most names are sure enough to be given."""


@pytest.mark.parametrize("name", FAST)
def test_no_level_is_wrong(name):
    torch.set_num_threads(1)
    settings = ReadingSettings()
    series = next(s for s in find_series([SHARED / name], settings).series if s.decision is None)
    truth = read_truth(SHARED / "annotations" / f"{name}.json")
    network = load_network(LevelNetwork(), WEIGHTS / "levels.safetensors")
    line = true_line(truth.points, 30.0)
    named = name_levels(read_volume(series, settings), line, truth.points, truth.complete, network, LevelSettings())
    assert not named.foreign.any()
    wrong = [(a, b) for a, b in zip(named.levels, truth.levels, strict=True) if a not in (None, b)]
    assert not wrong
    if name in NAMED:
        assert sum(level is not None for level in named.levels) >= 0.8 * len(truth.levels)
