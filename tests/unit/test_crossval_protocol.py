"""The parts of the paper's protocol by hand: places of readers' voxels, consensus, folds, experts, mean over folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_studies import NORMAL, WEDGE, column, moved

from vertebra_core.errors import WrongUse
from vertebra_core.evaluation.evidence import gather
from vertebra_core.evaluation.protocol import (
    Marks,
    consensus,
    experts,
    folds_of,
    over_folds,
    patient_from_stack,
)
from vertebra_core.evaluation.readings import find_spacing, read_series, read_spacings
from vertebra_core.evaluation.summary import summarise
from vertebra_core.phantom.dicom import write_dicom_series
from vertebra_core.reading.formats import series_headers
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings
from vertebra_core.volume import Volume

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "reader_keypoints"
FOUR = column([NORMAL, WEDGE, NORMAL, NORMAL])
SETTINGS = ReadingSettings()


def marks(points: np.ndarray, level: str | None = None) -> Marks:
    return Marks(points, (level,) * len(points))


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    """Twenty slices of 2 mm, the first one (InstanceNumber 1) at the top, pixels of 0.5 mm."""
    folder = tmp_path_factory.mktemp("stack")
    affine = np.diag([0.5, 0.5, -2.0, 1.0])
    affine[:3, 3] = -10.0, 20.0, 100.0
    hu = np.random.default_rng(0).integers(-100, 100, (20, 16, 16)).astype(np.int16)
    uids = {"patient_id": "p", "study_uid": "1.2.3", "series_uid": "1.2.3.4"}
    write_dicom_series(Volume(hu, affine), folder, **uids, age_years=60.0, sex="F", transfer_syntax="jpegls")
    (series,) = find_series([folder], SETTINGS).series
    return series_headers(series)


def test_voxels_are_pixel_centres_of_the_stack_by_instance_number(headers):
    voxels = np.array([[0.0, 0.0, 0.0], [4.0, 6.0, 2.5], [0.0, 0.0, -1.0], [0.0, 0.0, 20.0]])
    points = patient_from_stack(voxels, headers, SETTINGS)
    assert points == pytest.approx(np.array([[-10, 20, 100], [-8, 23, 95], [-10, 20, 102], [-10, 20, 60]]), abs=1e-3)


def test_a_stack_numbered_from_the_feet_counts_from_there(headers):
    turned = [replace(one, instance_number=21 - one.instance_number) for one in headers]
    assert patient_from_stack(np.zeros(3), turned, SETTINGS) == pytest.approx([-10, 20, 62], abs=1e-3)


def test_a_missing_slice_is_not_counted(headers):
    """Without InstanceNumber 11, the eleventh image is the twelfth slice, and halfway to it lies in the gap."""
    some = [one for one in headers if one.instance_number != 11]
    points = patient_from_stack(np.array([[0.0, 0.0, 10.0], [0.0, 0.0, 9.5]]), some, SETTINGS)
    assert points[:, 2] == pytest.approx([78.0, 80.0], abs=1e-3)


@pytest.mark.parametrize("number", [None, 2])
def test_instance_numbers_must_tell_slices_apart(headers, number):
    with pytest.raises(WrongUse, match="InstanceNumber"):
        patient_from_stack(np.zeros(3), [replace(headers[0], instance_number=number), *headers[1:]], SETTINGS)


def test_consensus_is_the_mean_from_the_top_down():
    """The second reader lies 2 mm behind, in another order; the third marked only the last vertebra, and named it."""
    readers = [marks(FOUR, "T7"), marks(moved(FOUR, y=2.0)[::-1]), marks(FOUR[3:], "T8")]
    truth = consensus(readers, "scan")
    assert len(truth.points) == 4
    assert truth.points[:3] == pytest.approx(moved(FOUR[:3], y=1.0))
    assert truth.points[3] == pytest.approx(moved(FOUR[3], y=2.0 / 3))
    assert truth.levels[:3] == ("T7",) * 3
    assert consensus([], "scan").points.shape == (0, 6, 3)


def test_experts_are_judged_by_the_others():
    """Three readers: one 3 mm to the left of the other two misses the last vertebra."""
    readers = {"a": marks(FOUR), "b": marks(FOUR), "c": marks(moved(FOUR[:3], x=3.0))}
    summary = summarise(gather(experts("scan", readers)))
    assert (summary.detection.recall.count, summary.detection.recall.n) == (11, 12)
    assert summary.detection.precision.value == 1.0
    # a and b: 1.5 mm from the mean of the other and c (3 vertebrae), 0 at the last one; c: 3 mm
    assert summary.detection.localization_mm.mean == pytest.approx((6 * 1.5 + 2 * 0 + 3 * 3) / 11)
    patient = [one for one in summary.classification if one.unit == "patient" and one.bound == 0.74]
    assert (patient[0].sensitivity.count, patient[0].sensitivity.n) == (3, 3)  # a reader of a scan is a patient
    assert experts("scan", {"a": marks(FOUR)}) == []


def test_folds_hold_every_study_once_and_patients_together():
    patients = [f"p{i % 7}" for i in range(20)]
    folds = folds_of(patients, 5, seed=3)
    assert sorted(i for fold in folds for i in fold) == list(range(20))
    homes = [{patients[i] for i in fold} for fold in folds]
    assert sum(map(len, homes)) == 7
    assert folds == folds_of(patients, 5, seed=3)
    assert folds != folds_of(patients, 5, seed=4)
    for wrong in (1, 8):
        with pytest.raises(WrongUse, match="folds"):
            folds_of(patients, wrong, seed=0)


def test_mean_and_sd_over_folds():
    half = summarise(gather(experts("s", {"a": marks(FOUR), "b": marks(FOUR[:2])})))
    whole = summarise(gather(experts("s", {"a": marks(FOUR), "b": marks(FOUR)})))
    mean, sd = over_folds([half, whole])["detection.recall.value"]
    a, b = half.detection.recall.value, whole.detection.recall.value
    assert (mean, sd) == (pytest.approx((a + b) / 2), pytest.approx(abs(a - b) / np.sqrt(2)))
    assert over_folds([whole])["detection.recall.value"] == (1.0, None)


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the readers' files are not beside the repository")
def test_experts_of_the_paper():
    """Its rows "Experts", from the same annotations: vertebrae .91 .91 .70 at mild, .98 .97 .79 at moderate."""
    folder = ANNOTATIONS / "severity2020"
    spacings = read_spacings(find_spacing(folder))
    comparisons = []
    for one in read_series(folder):
        pixel, slices = spacings[one.name]
        readers = {who: Marks(own.voxels * [pixel, pixel, -slices], own.levels) for who, own in one.readings.items()}
        comparisons += experts(one.name, readers)
    summary = summarise(gather(comparisons))
    by = {(one.unit, one.bound): one for one in summary.classification}
    for bound, auc, specificity, sensitivity in ((0.80, 0.91, 0.91, 0.70), (0.74, 0.98, 0.97, 0.79)):
        assert by["vertebra", bound].auc == pytest.approx(auc, abs=0.015)
        assert by["vertebra", bound].specificity.value == pytest.approx(specificity, abs=0.01)
        assert by["vertebra", bound].sensitivity.value == pytest.approx(sensitivity, abs=0.01)
    assert summary.detection.recall.value == pytest.approx(0.983, abs=0.015)
    assert summary.detection.precision.value == pytest.approx(0.996, abs=0.005)
