"""Step 2 with the shipped weights on the exact planes of a phantom."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.geometry import CentreLine
from vertebra_core.keypoints.anchors import boxes_of, overlap
from vertebra_core.keypoints.find import distance_to_edge, find_keypoints
from vertebra_core.models import load_models
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.settings import KeypointSettings, StraightenSettings
from vertebra_core.straighten import StraightSpine, padding
from vertebra_core.training.phantoms import phantom_spine
from vertebra_core.training.spines import STACK_U_MM, STACK_V_MM

SETTINGS = KeypointSettings()


@pytest.fixture(scope="module")
def models():
    torch.set_num_threads(1)
    return load_models().keypoints


@pytest.fixture(scope="module")
def truth():
    """Planes and keypoints of a patient that no training run has drawn."""
    rng = np.random.default_rng([4711, 2])
    return phantom_spine("unseen", random_patient(rng, PatientOptions(ossification_probability=0.0)), rng)


@pytest.fixture(scope="module")
def plane(truth):
    """What `straighten` would have sampled of that patient."""
    wanted = StraightenSettings()
    planes = truth.planes[np.searchsorted(STACK_U_MM, wanted.parallel_mm)].astype(np.float32)
    skip = round((STACK_V_MM - wanted.anterior_mm) / truth.pixel_mm)
    planes = planes[:, :, skip:-skip] + np.random.default_rng(0).normal(0, 10, (1, 1, 1)).astype(np.float32)
    line = CentreLine(np.array([[0.0, 0.0, -10.0 * i] for i in range(80)]))
    origin = np.array([-wanted.anterior_mm, 0.0])
    return StraightSpine(planes, np.ones(planes.shape[1:], bool), line, origin, truth.pixel_mm)


def test_every_vertebra_of_an_unseen_phantom_is_found_once(plane, truth, models):
    found = find_keypoints(plane, models, SETTINGS)
    assert (np.diff(found.points[..., 1].mean(1)) > 0).all()  # from the top down
    agree = overlap(boxes_of(truth.points), boxes_of(found.points)) > 0.5
    assert (agree.sum(1) == 1).all()
    assert (~agree.any(0)).sum() <= 1  # at most one find that is none of C3 to L5
    mine = found.points[agree.argmax(1)]
    assert np.linalg.norm(mine - truth.points, axis=-1).mean() < 1.0
    assert ((found.scores > 0.5) & (found.scores <= 1.0)).all()
    assert found.complete[agree.argmax(1)].all()


def test_refined_points_are_closer_than_the_anchors(plane, truth, models):
    def error(found):
        agree = overlap(boxes_of(truth.points), boxes_of(found.points)).argmax(1)
        return np.linalg.norm(found.points[agree] - truth.points, axis=-1).mean()

    refined = find_keypoints(plane, models, SETTINGS)
    anchors = find_keypoints(plane, replace(models, refiner=None), SETTINGS)
    assert error(refined) < 0.8 * error(anchors)


def test_a_vertebra_cut_by_the_scan_is_incomplete_and_nothing_is_guessed_beyond(plane, truth, models):
    cut = truth.points[10]
    end = int(cut[:, 1].mean() / truth.pixel_mm)
    valid = plane.valid.copy()
    valid[end:] = False
    planes = plane.planes.copy()
    planes[:, end:] = -1000.0
    found = find_keypoints(replace(plane, planes=planes, valid=valid), models, SETTINGS)
    whole = found.points[found.complete]
    mine = (overlap(boxes_of(truth.points), boxes_of(whole)) > 0.5).any(1)
    assert mine[:9].all()  # the tenth may lie too close to the end, the eleventh is cut
    assert not mine[10:].any()
    assert whole[..., 1].max() < end * truth.pixel_mm
    assert found.points[..., 1].mean(1).max() < end * truth.pixel_mm + 5.0


def test_an_empty_plane_has_no_vertebra(plane, models):
    empty = replace(plane, planes=np.full_like(plane.planes, 40.0))
    with pytest.raises(NotEvaluable) as refusal:
        find_keypoints(empty, models, SETTINGS)
    assert refusal.value.reason is Reason.NO_VERTEBRA


def test_distance_to_the_edge_by_hand(plane):
    valid = np.ones((200, 193), bool)
    valid[150:] = False  # ends at s = 75 mm
    spine = replace(plane, valid=valid)
    points = np.full((1, 6, 2), [0.0, 40.0])
    points[0, :3] = [[0.0, 70.0], [0.0, 74.5], [0.0, 80.0]]
    assert distance_to_edge(spine, points)[0].tolist() == [5.0, 0.5, 0.0, 35.0, 35.0, 35.0]


def test_padding_is_the_even_dark_end_of_a_reformat_and_not_the_windpipe():
    rng = np.random.default_rng(0)
    image = rng.normal(30, 12, (120, 100)).astype(np.float32)
    image[:20] = -1024.0  # padded end
    image[60:80, 20:30] = -1000.0  # air inside the body, as even as the padding, but enclosed
    image[100:, :30] = rng.normal(-990, 8, (20, 30))  # noisy air at the edge
    inside = np.ones(image.shape, bool)
    found = padding(image, inside)
    assert found[:20].all()
    assert not found[20:].any()
