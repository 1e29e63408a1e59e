"""Levels from the whole method on a synthetic loin, and in the rows of its study."""

from dataclasses import replace

import numpy as np
import pytest
from made_studies import outcome_of

import vertebra_core.study as study
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.levels.find import NamedLevels
from vertebra_core.levels.names import MEASURED
from vertebra_core.models import Models, load_models
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import random_scan, render, truth_in_view
from vertebra_core.settings import GradingSettings, Settings
from vertebra_core.tables.rows import outcome_rows
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

NEAR_MM = 10.0


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models()


@pytest.fixture(scope="module")
def loin() -> tuple[Volume, Truth]:
    """A CT of a synthetic patient from the lowest ribs to the sacrum."""
    rng = np.random.default_rng(11)
    phantom = random_patient(rng, PatientOptions(variant_probability=0.0, fracture_probability=0.0))
    scan = random_scan(rng, phantom, "lumbar", (1.3, 1.3, 2.0))
    return render(phantom, scan), truth_in_view(phantom, scan)


@pytest.fixture(scope="module")
def result(loin, models) -> study.StudyResult:
    return study.measure_study(loin[0], models, Settings())


def test_names_are_right_or_absent(result, loin):
    truth = loin[1]
    assert len(result.levels) == len(result.level_confidence) == len(result.points)
    away = np.linalg.norm(result.points.mean(1)[:, None] - truth.points.mean(1)[None], axis=-1)
    for level, sure, distances in zip(result.levels, result.level_confidence, away, strict=True):
        if level is None:
            assert np.isnan(sure)
        elif distances.min() < NEAR_MM:
            assert level == truth.levels[distances.argmin()]
            assert Settings().levels.min_confidence <= sure <= 1.0
    named = [level for level in result.levels if level is not None]
    assert named == [level for level in MEASURED if level in named]


def test_rows_carry_the_levels(result):
    rows = outcome_rows(outcome_of(result=result), GradingSettings())
    named = [level for level in result.levels if level is not None]
    assert [row["level"] for row in rows["vertebrae"]] == list(result.levels)
    assert [row["level"] for row in rows["levels_in_view"]] == named
    (row,) = rows["studies"]
    assert (row["level_first"], row["level_last"]) == ((named[0], named[-1]) if named else (None, None))


def foreign(which: slice):
    """`name_levels` that takes some of the finds for the axis or the sacrum."""

    def name(volume, curve, points, *rest) -> NamedLevels:
        named = study_name_levels(volume, curve, points, *rest)
        kept = np.zeros(len(points), bool)
        kept[which] = True
        return replace(named, foreign=kept)

    study_name_levels = study.name_levels
    return name


def test_axis_and_sacrum_leave_the_study_whole(result, loin, models, monkeypatch):
    monkeypatch.setattr(study, "name_levels", foreign(slice(-1, None)))
    fewer = study.measure_study(loin[0], models, Settings())
    np.testing.assert_allclose(fewer.points, result.points[:-1])
    np.testing.assert_allclose(fewer.sizes.g, result.sizes.g[:-1])
    assert fewer.levels == result.levels[:-1]
    assert len(fewer.scores) == len(fewer.complete) == len(fewer.level_confidence) == len(fewer.levels)


def test_a_scan_of_nothing_else_is_not_evaluable(loin, models, monkeypatch):
    monkeypatch.setattr(study, "name_levels", foreign(slice(None)))
    with pytest.raises(NotEvaluable) as refusal:
        study.measure_study(loin[0], models, Settings())
    assert refusal.value.reason is Reason.NO_VERTEBRA
