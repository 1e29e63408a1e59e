"""The document of the noise, what is refused, and the correction of whole tables."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.noise_cases import VIEW, Reading, make_spines, read_heights, shares_below
from vertebra_core.epidemiology import noise as correction
from vertebra_core.epidemiology.noise import THRESHOLDS, NotCorrectable, corrected_prevalence
from vertebra_core.epidemiology.noise_fit import FittedNoise
from vertebra_core.epidemiology.noise_model import NoiseClass, NoiseModel, check_noise, read_noise, write_noise
from vertebra_core.errors import WrongUse

DIGEST = "0123456789abcdef"
BOUNDS = np.array(THRESHOLDS)


def fitted(sd_mm: float = 0.7, draws: int = 8, n_patients: int = 60, shared: float = 0.01) -> FittedNoise:
    rng = np.random.default_rng(3)
    factor = rng.normal(1, 0.03, draws)[:, None, None]
    scale = factor * Reading(sd_mm=sd_mm).covariance()
    common = np.repeat(shared * np.eye(2)[None], draws, 0)
    return FittedNoise(scale, common, np.full(draws, 60.0), np.zeros((2, 2)), n_patients, 600, 1200)


def noise_model(*classes: NoiseClass, **changed) -> NoiseModel:
    return replace(
        NoiseModel("2026-01-31", DIGEST, "two scans within a month", classes or (NoiseClass(None, fitted()),)),
        **changed,
    )


def tables(n: int, seed: int, spacing=1.0) -> tuple[pa.Table, pa.Table, tuple]:
    """Vertebrae as read, index studies in another order, and the true and read shares of patients."""
    rng = np.random.default_rng(seed)
    spines = make_spines(n, rng)
    read = read_heights(spines, rng, Reading())
    keys = np.array([f"st{i:05d}" for i in range(n)])
    columns = dict(zip(("ha_mm", "hm_mm", "hp_mm"), read.T, strict=True))
    levels = [VIEW[i] for i in spines.level]
    bones = pa.table({"study_key": keys[spines.patient], "level": levels, **columns})
    order = rng.permutation(n)
    spacings = pa.array(np.broadcast_to(spacing, n)[order], pa.float64())
    studies = pa.table({"study_key": keys[order], "slice_spacing_mm": spacings})
    shares = tuple(shares_below(spines, heights, BOUNDS)[1] for heights in (spines.heights, read))
    return bones.take(rng.permutation(len(bones))), studies, shares


# -- the document --------------------------------------------------------------------------------------------------


def test_a_document_comes_back_as_it_was_written(tmp_path):
    noise = noise_model(NoiseClass(5.0, fitted(0.9, n_patients=41)), NoiseClass(1.6, fitted(0.5)))
    write_noise(tmp_path / "noise.json", noise)
    back = read_noise(tmp_path / "noise.json")
    assert [one.slices_up_to_mm for one in back.classes] == [1.6, 5.0]
    assert (back.measured_on, back.model_digest, back.source) == (noise.measured_on, DIGEST, noise.source)
    assert back.n_patients == 41
    for one, other in zip(back.classes, reversed(noise.classes), strict=True):
        assert one.fitted.scale == pytest.approx(other.fitted.scale, abs=1e-6)
        assert one.fitted.shared == pytest.approx(other.fitted.shared, abs=1e-6)
        assert one.covariance == pytest.approx(other.covariance, rel=1e-4)


def test_the_covariance_of_a_read_is_its_own_and_the_shared_part():
    one = NoiseClass(None, replace(fitted(draws=1, shared=0.2), scale=np.array([[[0.6, 0.3], [0.3, 0.6]]])))
    one = replace(one, fitted=replace(one.fitted, freedom=np.array([4.0])))
    assert one.covariance == pytest.approx(np.array([[0.6 * 2 + 0.2, 0.6], [0.6, 1.4]]))


def test_each_study_gets_the_class_of_its_slices():
    noise = noise_model(NoiseClass(1.6, fitted()), NoiseClass(3.0, fitted()))
    assert noise.class_of(np.array([0.5, 1.6, 1.7, 3.0, 3.1, np.nan])).tolist() == [0, 0, 1, 1, -1, -1]
    any_slices = noise_model(NoiseClass(1.6, fitted()), NoiseClass(None, fitted()))
    assert any_slices.class_of(np.array([1.0, 9.0, np.nan])).tolist() == [0, 1, 1]


def broken(key, value):
    def change(document):
        document[key] = value

    return change


def of_class(key, value):
    def change(document):
        document["classes"][0][key] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        broken("kind", "recipe"),
        broken("format", 2),
        broken("classes", []),
        broken("measured_on", "yesterday"),
        of_class("draws", []),
        of_class("draws", [[0.5, 0.6, 0.5, 0, 0, 0, 5.0]]),  # not positive definite
        of_class("draws", [[0.5, 0.1, 0.5, 0, 0, 0, 1.5]]),  # no variance
        of_class("draws", [[0.5, 0.1, float("nan"), 0, 0, 0, 5.0]]),
        of_class("draws", [[0.5, 0.1, 0.5, 0.1, 0.2, 0.1, 5.0]]),
        of_class("slices_up_to_mm", -1),
        lambda document: document.pop("model_digest"),
        lambda document: document["classes"].append(document["classes"][0]),
    ],
)
def test_a_document_that_is_no_noise_is_one_clear_refusal(tmp_path, change):
    path = tmp_path / "noise.json"
    write_noise(path, noise_model())
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(WrongUse, match=r"noise\.json: no measured noise"):
        read_noise(path)


def test_no_file_and_no_json_are_refused_too(tmp_path):
    with pytest.raises(WrongUse, match="no measured noise"):
        read_noise(tmp_path / "absent.json")
    (tmp_path / "half.json").write_text('{"kind": ')
    with pytest.raises(WrongUse, match="no measured noise"):
        read_noise(tmp_path / "half.json")


def test_noise_of_other_networks_or_none_is_refused():
    bones, studies, _ = tables(20, 0)
    with pytest.raises(WrongUse, match="no measured noise"):
        corrected_prevalence(bones, studies, None, DIGEST)
    with pytest.raises(WrongUse, match=f"networks {DIGEST}, the cohort of networks ffff"):
        check_noise(noise_model(), "ffff")


# -- whole tables --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answer():
    bones, studies, shares = tables(200, 5)
    return corrected_prevalence(bones, studies, noise_model(), DIGEST, draws=150, seed=2), shares


def test_the_apparent_curve_is_counted_and_the_corrected_one_lies_near_the_truth(answer):
    found, (true, read) = answer
    assert [one.threshold for one in found.patients] == list(THRESHOLDS)
    assert [one.apparent.share for one in found.patients] == pytest.approx(read)
    corrected = np.array([one.corrected.share for one in found.patients])
    assert np.abs(corrected - true)[BOUNDS <= 0.80].max() < 0.04
    assert found.at(0.80).apparent.share - found.at(0.80).corrected.share > 0.12
    assert (found.n_patients, found.n_counted, found.n_eligible, found.n_outside) == (200, 200, 200, 0)


def test_more_noise_takes_more_away_and_intervals_hold_their_share(answer):
    mild = answer[0].at(0.80)
    assert mild.smaller_noise > mild.corrected.share > mild.larger_noise
    for unit in ("patients", "vertebrae"):
        for one in getattr(answer[0], unit):
            for interval in (one.apparent, one.corrected):
                assert 0 <= interval.low <= interval.share <= interval.high <= 1


@pytest.fixture
def any_chains(monkeypatch):
    """Short chains, which agree badly, are good enough for what is tested."""
    monkeypatch.setattr(correction, "LARGEST_RHAT", 99.0)
    monkeypatch.setattr(correction, "BURN_IN", 20)


def test_the_noise_behind_an_answer_is_named(answer):
    found, _ = answer
    assert found.rhat < 1.1
    assert (found.noise.measured_on, found.noise.n_patients, found.remarks) == ("2026-01-31", 60, ())


def test_patients_are_sampled_left_out_and_counted_by_rule(any_chains):
    bones, studies, _ = tables(120, 6, spacing=np.r_[np.full(20, 5.0), np.full(100, 1.0)])
    noise = noise_model(NoiseClass(1.6, fitted(n_patients=25)))
    found = corrected_prevalence(
        bones, studies, noise, DIGEST, min_vertebrae=10, most_patients=70, draws=40, fewest_counted=10
    )
    assert (found.n_patients, found.n_eligible, found.n_outside) == (70, 100, 20)
    assert 10 <= found.n_counted < 70
    assert [word in " ".join(found.remarks) for word in ("70 of 100", "20 patients are left out", "25 patients")] == [
        True
    ] * 3


def test_unmeasured_rows_are_passed_over_and_the_same_question_gets_the_same_answer(any_chains):
    bones, studies, _ = tables(40, 7)
    holes = pa.table(
        {
            "study_key": ["st00001", "other"],
            "level": [None, "L1"],
            "ha_mm": [None, 20.0],
            "hm_mm": [20.0] * 2,
            "hp_mm": [25.0] * 2,
        }
    )
    few = {"noise": noise_model(), "model_digest": DIGEST, "draws": 20, "fewest_counted": 10}
    plain = corrected_prevalence(bones, studies, **few)
    assert corrected_prevalence(pa.concat_tables([bones, holes], promote_options="permissive"), studies, **few) == plain


def test_chains_that_do_not_agree_are_no_answer(monkeypatch):
    bones, studies, _ = tables(30, 9)
    monkeypatch.setattr(correction, "LARGEST_RHAT", 0.9)
    with pytest.raises(NotCorrectable, match=r"the chains do not agree \(R-hat"):
        corrected_prevalence(bones, studies, noise_model(), DIGEST, draws=8, fewest_counted=10)


def test_too_few_patients_are_not_corrected():
    bones, studies, _ = tables(40, 8)
    with pytest.raises(NotCorrectable, match="40 patients with 7 vertebrae or more and known noise; 150 are needed"):
        corrected_prevalence(bones, studies, noise_model(), DIGEST)
    with pytest.raises(NotCorrectable, match="0 patients with 7"):
        corrected_prevalence(bones.slice(0, 0), studies, noise_model(), DIGEST)
