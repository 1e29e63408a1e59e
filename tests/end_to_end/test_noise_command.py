"""`vertebra noise` on two published cohorts of the same patients, and `vertebra prevalence` with what it found."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from twice_measured import two_cohorts

from benchmarks.noise_cases import Reading
from flows.cli import main
from vertebra_core.epidemiology.noise_model import read_noise
from vertebra_core.epidemiology.selection import STUDY_COLUMNS
from vertebra_core.measure import genant_index
from vertebra_core.settings import GradingSettings

DIGEST = "0123456789abcdef"


def published(root, tables: tuple[pa.Table, pa.Table], digest: str = DIGEST) -> str:
    """The files of a cohort that the command reads."""
    bones, studies = tables
    snapshot = root / "snapshots" / "one"
    snapshot.mkdir(parents=True)
    (root / "cohort.json").write_text("{}")
    (root / "latest.json").write_text(json.dumps({"snapshot": "one", "content": "", "rows": {}}))
    (snapshot / "provenance.json").write_text(
        json.dumps({"model_digest": digest, "grading": asdict(GradingSettings())})
    )
    heights = np.stack([bones[name].to_numpy() for name in ("ha_mm", "hm_mm", "hp_mm")], 1)
    pq.write_table(bones.append_column("g", pa.array(genant_index(heights))), snapshot / "vertebrae.parquet")
    for name in STUDY_COLUMNS:
        if name not in studies.column_names:
            known = {"patient_key": [key.replace("s", "p") for key in studies["study_key"].to_pylist()]}
            values = known.get(name, ["ok" if name == "status" else None] * len(studies))
            kind = pa.float64() if name == "age_years" else pa.string()
            studies = studies.append_column(name, pa.array(values, kind))
    pq.write_table(studies, snapshot / "studies.parquet")
    index = pa.array([*studies["study_key"].to_pylist()[1:], None], pa.string())
    patients = pa.table({"patient_key": studies["patient_key"], "index_study_key": index})
    pq.write_table(patients, snapshot / "patients.parquet")
    return str(root)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twice")
    _, first, second = two_cohorts(45, 8, Reading(sd_mm=0.5))
    return folder, published(folder / "spines", first), published(folder / "again", second), second


def test_the_noise_lands_in_the_first_cohort_and_is_what_was_put_in(cohorts, capsys):
    folder, first, second, _ = cohorts
    assert main(["noise", first, second, "--source", "made reads"]) == 0
    told = capsys.readouterr().out
    found = read_noise(folder / "spines" / "noise.json")
    assert (found.model_digest, found.source, found.n_patients) == (DIGEST, "made reads", 45)
    (one,) = found.classes
    assert one.slices_up_to_mm == 2.0
    assert np.sqrt(np.diag(one.covariance)) == pytest.approx(0.5 * np.sqrt(2), rel=0.12)
    assert "up to 2.0 mm" in told
    assert "few" not in told


def test_by_level_and_patient_as_json_elsewhere(cohorts, capsys):
    folder, first, second, _ = cohorts
    out = folder / "elsewhere.json"
    words = ["noise", first, second, "--match", "level", "--same", "patient", "--out", str(out), "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(out)
    assert document["classes"][0]["n_patients"] == 44 == read_noise(out).n_patients  # one has no index study


def test_what_cannot_be_is_one_line(cohorts, capsys):
    folder, first, _, tables = cohorts
    other = published(folder / "other", tables, "ffff")
    few = published(folder / "few", (tables[0].slice(0, 5), tables[1]))
    for words, line in (
        ([first, other], "different networks"),
        ([first, few], "replicate reads of"),
        ([first, str(folder / "absent")], "absent"),
    ):
        assert main(["noise", *words]) == 2
        told = capsys.readouterr()
        assert line in told.err
        assert told.err.count("\n") == 1


# -- prevalence ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> str:
    """A cohort of 170 patients with the noise of its measurements."""
    folder = tmp_path_factory.mktemp("measured")
    _, first, second = two_cohorts(170, 9, Reading(sd_mm=0.7))
    cohort = published(folder / "spines", first)
    assert main(["noise", cohort, published(folder / "again", second), "--source", "made reads"]) == 0
    return cohort


def test_prevalence_has_the_corrected_curve_beside_the_one_as_read(measured, capsys):
    assert main(["prevalence", measured, "--noise", "own", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = document["noise_corrected"][-1]["answer"]
    mild = {unit: next(one for one in found[unit] if one["threshold"] == 0.80) for unit in ("patients", "vertebrae")}
    for unit, one in mild.items():
        counted = document["prevalence"][unit][-1]["mild"]
        assert one["apparent"]["share"] == pytest.approx(counted["share"])  # both count the same people and vertebrae
    assert mild["patients"]["apparent"]["share"] - mild["patients"]["corrected"]["share"] > 0.1
    assert (found["n_counted"], found["noise"]["n_patients"]) == (169, 170)  # one has no index study


def test_a_correction_that_would_not_hold_is_told_as_not_corrected(measured, capsys):
    assert main(["prevalence", measured, "--noise", "own", "--min-vertebrae", "13"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "all: not corrected:" in out
    assert "150 are needed" in out


def test_noise_of_other_networks_is_refused(measured, capsys):
    document = Path(measured) / "noise.json"
    before = document.read_text()
    document.write_text(before.replace(DIGEST, "ffff"))
    assert main(["prevalence", measured, "--noise", "own"]) == 2
    document.write_text(before)
    assert "the noise is of networks ffff" in capsys.readouterr().err
