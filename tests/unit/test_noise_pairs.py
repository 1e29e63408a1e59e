"""Replicate reads from the tables of two cohorts: which vertebrae are the same, which noise each slice class gets."""

import numpy as np
import pyarrow as pa
import pytest
from twice_measured import two_cohorts

from benchmarks.noise_cases import VIEW, Reading, make_spines, read_heights
from vertebra_core.epidemiology.noise_fit import Reads
from vertebra_core.epidemiology.noise_pairs import Pairs, fit_by_slices, paired_reads
from vertebra_core.errors import WrongUse


@pytest.mark.parametrize("match", ["level", "place"])
@pytest.mark.parametrize("same", ["study_key", "patient_key"])
def test_the_same_vertebrae_are_found_and_the_difference_is_noise_alone(match, same):
    spines, first, second = two_cohorts(30, 1, lose=25)
    pairs = paired_reads(first, second, same, match)
    assert len(pairs.reads.patient) == len(spines.level) - 25 == pairs.n_second
    assert pairs.n_first == len(spines.level)
    apart = pairs.reads.heights[:, 0] - pairs.reads.heights[:, 1]
    assert apart.std() == pytest.approx(0.7 * np.sqrt(2), rel=0.1)
    assert np.abs(apart).max() < 5  # a neighbour would be off by more somewhere in 270 vertebrae
    assert set(pairs.spacing_mm) == {2.0}  # the thicker of both


def test_a_patient_whose_levels_are_one_off_is_left_out_by_name_and_kept_by_place():
    def one_off(patient, level):
        return VIEW[min(level + 1, len(VIEW) - 1)] if patient < 3 else VIEW[level]

    _, first, second = two_cohorts(20, 2, Reading(sd_mm=0.3), rename=one_off)
    by_name = paired_reads(first, second, match="level")
    assert by_name.n_misnamed == 3
    assert set(by_name.reads.patient) == set(range(3, 20))
    by_place = paired_reads(first, second, match="place")
    assert by_place.n_misnamed == 0
    assert set(by_place.reads.patient) == set(range(20))


def test_without_a_name_or_a_height_a_vertebra_is_no_pair():
    spines, first, second = two_cohorts(12, 3, rename=lambda patient, level: None if level == 5 else VIEW[level])
    bones = second[0]
    tall = pa.array([None if i % 7 == 0 else h for i, h in enumerate(bones["hm_mm"].to_pylist())], pa.float64())
    second = (bones.set_column(bones.column_names.index("hm_mm"), "hm_mm", tall), second[1])
    pairs = paired_reads(first, second, match="level")
    measured = [
        h is not None and name is not None for h, name in zip(tall.to_pylist(), bones["level"].to_pylist(), strict=True)
    ]
    assert len(pairs.reads.patient) == sum(measured)
    assert np.isfinite(pairs.reads.heights).all()
    assert len(spines.level) > sum(measured)


def test_cohorts_with_nothing_in_common_are_refused():
    _, first, second = two_cohorts(12, 4)
    other = second[0].set_column(0, "study_key", pa.array([f"x{i}" for i in range(len(second[0]))]))
    with pytest.raises(WrongUse, match="share no study"):
        paired_reads(first, (other, second[1]))


def test_the_same_images_measured_again_are_no_replicate():
    _, first, second = two_cohorts(12, 4)
    with pytest.raises(WrongUse, match="measured on the same images"):
        paired_reads(first, first)
    assert len(paired_reads(first, second).reads.patient)


@pytest.mark.parametrize(
    ("thin", "middle", "thick", "bounds", "patients"),
    [
        (50, 50, 50, [1.6, 3.0, 5.0], [50, 50, 50]),
        (50, 10, 50, [1.6, 5.0], [50, 60]),
        (10, 50, 10, [5.0], [70]),
        (50, 0, 10, [5.0], [60]),
        (30, 0, 0, [1.6], [30]),
    ],
)
def test_slice_classes_have_enough_patients_each(thin, middle, thick, bounds, patients, monkeypatch):
    monkeypatch.setattr("vertebra_core.epidemiology.noise_fit.BURN_IN", 2)
    n = thin + middle + thick
    rng = np.random.default_rng(5)
    spines = make_spines(n, rng)
    twice = np.stack([read_heights(spines, rng, Reading()) for _ in range(2)], 1)
    spacing = np.repeat([1.0, 2.5, 5.0], [thin, middle, thick])[spines.patient]
    classes = fit_by_slices(Pairs(Reads(twice, spines.patient), spacing, 0, 0, 0), rng, kept=2)
    assert [one.slices_up_to_mm for one in classes] == bounds
    assert [one.fitted.n_patients for one in classes] == patients


def test_without_any_known_spacing_there_is_one_class_for_all(monkeypatch):
    monkeypatch.setattr("vertebra_core.epidemiology.noise_fit.BURN_IN", 2)
    rng = np.random.default_rng(6)
    spines = make_spines(12, rng)
    twice = np.stack([read_heights(spines, rng, Reading()) for _ in range(2)], 1)
    (only,) = fit_by_slices(Pairs(Reads(twice, spines.patient), np.full(len(twice), np.nan), 0, 0, 0), rng, kept=2)
    assert only.slices_up_to_mm is None
