"""The truth format: what is written is what is read; everything else is refused with one line."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from vertebra_core.errors import WrongUse
from vertebra_core.truth import FORMAT, Truth, read_truth, truth_document, write_truth

SIX = [[float(i), 2.0 * i, -3.0 * i] for i in range(6)]


def document(**changes) -> dict:
    whole = {"format": FORMAT, "image": "a", "frame": "LPS", "unit": "mm", "reader": "r1"}
    vertebra = {"level": "T7", "complete": True, "keypoints": SIX}
    return {**whole, "vertebrae": [vertebra], **changes}


def written(tmp_path, content) -> object:
    path = tmp_path / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_there_and_back_to_a_hundredth_of_a_millimetre(tmp_path_factory, k, seed):
    rng = np.random.default_rng(seed)
    levels = tuple(rng.choice(["T7", "L1", None], k))
    truth = Truth("series", "reader", rng.uniform(-900, 900, (k, 6, 3)), rng.random(k) < 0.7, levels)
    path = tmp_path_factory.mktemp("truth") / "t.json"
    write_truth(truth, path)
    back = read_truth(path)
    assert (back.image, back.reader, back.levels) == ("series", "reader", levels)
    assert back.points.shape == (k, 6, 3)
    assert_allclose(back.points, truth.points, atol=0.005001)
    assert_array_equal(back.complete, truth.complete)


def test_the_document_says_what_it_is():
    truth = Truth("series", "r", np.array([SIX]), np.array([False]), (None,))
    whole = truth_document(truth)
    assert (whole["format"], whole["frame"], whole["unit"]) == ("vertebra-truth/1", "LPS", "mm")
    assert whole["vertebrae"] == [{"level": None, "complete": False, "keypoints": SIX}]
    json.dumps(whole, allow_nan=False)


def test_a_vertebra_is_complete_unless_it_says_otherwise(tmp_path):
    truth = read_truth(written(tmp_path, document(vertebrae=[{"keypoints": SIX}])))
    assert truth.complete.tolist() == [True]
    assert truth.levels == (None,)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "5",
        "null",
        "\x00\xff",
        "[" * 100_000,
        {},
        document(format="vertebra-truth/2"),
        document(frame="RAS"),
        document(unit="cm"),
        document(vertebrae=None),
        document(vertebrae=5),
        document(vertebrae=[None]),
        document(vertebrae=["T7"]),
        document(vertebrae={"T7": SIX}),
        document(vertebrae=[{"level": "T7"}]),
        document(vertebrae=[{"keypoints": SIX[:5]}]),
        document(vertebrae=[{"keypoints": [p[:2] for p in SIX]}]),
        document(vertebrae=[{"keypoints": np.array(SIX).T.tolist()}]),
        document(vertebrae=[{"keypoints": SIX[:5]}, {"keypoints": [*SIX, SIX[0]]}]),
        document(vertebrae=[{"keypoints": [*SIX[:5], [1.0, float("nan"), 2.0]]}]),
        document(vertebrae=[{"keypoints": [*SIX[:5], [1.0, "left", 2.0]]}]),
        document(vertebrae=[{"keypoints": [*SIX[:5], None]}]),
        document(vertebrae=[{"keypoints": SIX, "complete": "false"}]),
        document(vertebrae=[{"keypoints": SIX, "level": 7}]),
    ],
    ids=lambda content: str(content)[-40:].encode("ascii", "replace").decode().replace("\x00", "0"),
)
def test_anything_else_is_refused_with_a_line_that_names_the_file(tmp_path, content):
    path = written(tmp_path, content)
    with pytest.raises(WrongUse, match=r"truth\.json"):
        read_truth(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(WrongUse, match=r"absent\.json"):
        read_truth(tmp_path / "absent.json")
