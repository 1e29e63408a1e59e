"""The correction in the groups of the counts: which are fitted, which are too small, what is refused."""

import pyarrow as pa
import pytest
from test_noise_correction import DIGEST, noise_model, tables

from vertebra_core.epidemiology import noise as correction
from vertebra_core.epidemiology.analysis import Analysis
from vertebra_core.epidemiology.cases import Tables
from vertebra_core.epidemiology.noise_groups import corrected_groups
from vertebra_core.epidemiology.prevalence import prevalence
from vertebra_core.errors import WrongUse
from vertebra_core.tables.schema import arrow_schema


@pytest.fixture(scope="module")
def cohort() -> Tables:
    """200 patients read once, 30 of them men."""
    bones, few, _ = tables(200, 5)
    keys = few["study_key"]
    known = {
        "study_key": keys,
        "patient_key": keys,
        "n_vertebrae": pa.repeat(13, 200),
        "slice_spacing_mm": few["slice_spacing_mm"],
        "sex": pa.array(["M"] * 30 + ["F"] * 170),
    }
    fields = [field for field in arrow_schema("studies") if field.name in known or field.nullable]
    studies = pa.table({field.name: known.get(field.name, pa.nulls(200, field.type)) for field in fields})
    heights = [bones[name].to_numpy() for name in ("ha_mm", "hm_mm", "hp_mm")]
    g = [min(three) / max(three) for three in zip(*heights, strict=True)]
    return Tables(pa.table({"index_study_key": keys}), studies, bones.append_column("g", pa.array(g)))


def test_large_groups_are_corrected_and_small_ones_say_why_not(cohort, monkeypatch):
    """Short chains agree badly; that they must agree is tested elsewhere."""
    monkeypatch.setattr(correction, "LARGEST_RHAT", 99.0)
    monkeypatch.setattr(correction, "BURN_IN", 40)
    analysis = Analysis(by=("sex",))
    women, men, everybody = corrected_groups(cohort, analysis, noise_model(), DIGEST, draws=60)
    assert [one.name for one in (women, men, everybody)] == ["F", "M", "all"]
    assert (men.answer, "150 are needed" in men.not_corrected) == (None, True)
    counted = {group.name: group for group in prevalence(cohort, analysis).patients}
    for one in (women, everybody):
        at = one.answer.at(0.80)
        assert at.apparent.share == pytest.approx(counted[one.name].mild.share)
        assert at.corrected.share < at.apparent.share - 0.05


@pytest.mark.parametrize(
    ("analysis", "noise", "complaint"),
    [
        (Analysis(), None, "no measured noise"),
        (Analysis(by=("level",)), noise_model(), "not by level"),
        (Analysis(definition="height-loss"), noise_model(), "Genant's index only"),
        (Analysis(), noise_model(model_digest="ffff"), "networks ffff"),
    ],
)
def test_what_cannot_be_corrected_is_refused(cohort, analysis, noise, complaint):
    with pytest.raises(WrongUse, match=complaint):
        corrected_groups(cohort, analysis, noise, DIGEST)
