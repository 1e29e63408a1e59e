"""Case R3 through the whole method: the vertebra in a gap is not measured, all others as before."""

from dataclasses import replace

import numpy as np
from made_studies import outcome_of

from tasks.study import judge
from vertebra_core.errors import Reason
from vertebra_core.models import load_models
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import random_scan, render
from vertebra_core.reading.formats import fill_slices
from vertebra_core.settings import GradingSettings, Settings
from vertebra_core.study import measure_study
from vertebra_core.tables.outcome import Status
from vertebra_core.tables.rows import outcome_rows

MOST_G = 0.02
"""Slices that are filled in change the noise that the networks see elsewhere, not the anatomy."""


def test_r3_two_missing_slices_cost_the_vertebra_they_lie_in_and_no_other():
    rng = np.random.default_rng(11)
    phantom = random_patient(rng, PatientOptions(variant_probability=0.0, fracture_probability=0.0))
    volume = render(phantom, random_scan(rng, phantom, "lumbar", (1.3, 1.3, 2.0)))
    models, settings = load_models(), Settings()
    before = measure_study(volume, models, settings)
    measured = np.flatnonzero(np.isfinite(before.sizes.g) & before.complete)
    victim = before.points[measured[len(measured) // 2]].mean(0)
    index = int((np.linalg.inv(volume.patient_from_voxel) @ [*victim, 1.0])[2])
    hu = volume.hu.copy()
    filled = fill_slices(hu, (index, index + 1), float(volume.spacing[2]), settings.reading)
    after = measure_study(replace(volume, hu=hu, filled_slices=filled), models, settings)

    lost = np.linalg.norm(after.points.mean(1) - victim, axis=1) < 15
    assert lost.sum() == 1
    assert np.isnan(after.sizes.g[lost]).all()
    assert np.isnan(after.sizes.ha_mm[lost]).all()
    others = [np.linalg.norm(before.points.mean(1) - centre, axis=1).argmin() for centre in after.points[~lost].mean(1)]
    np.testing.assert_allclose(after.sizes.g[~lost], before.sizes.g[others], atol=MOST_G)

    status, reason, _ = judge(after)
    assert (status, reason) == (Status.PARTIAL, Reason.SOME_NOT_MEASURED)
    rows = outcome_rows(outcome_of(result=after), GradingSettings())["vertebrae"]
    flagged = [row for row in rows if row["flags"] == "not_measurable"]
    assert len(flagged) == 1
    assert flagged[0]["g"] is flagged[0]["ha_mm"] is flagged[0]["grade"] is None
