"""`vertebra noise` on two published cohorts of the same patients, from the command line to the file it leaves."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from twice_measured import two_cohorts

from benchmarks.noise_cases import Reading
from flows.cli import main
from vertebra_core.epidemiology.noise_model import read_noise

DIGEST = "0123456789abcdef"


def published(root, tables: tuple[pa.Table, pa.Table], digest: str = DIGEST) -> str:
    """The files of a cohort that the command reads."""
    bones, studies = tables
    snapshot = root / "snapshots" / "one"
    snapshot.mkdir(parents=True)
    (root / "cohort.json").write_text("{}")
    (root / "latest.json").write_text(json.dumps({"snapshot": "one", "content": "", "rows": {}}))
    (snapshot / "provenance.json").write_text(json.dumps({"model_digest": digest}))
    pq.write_table(bones, snapshot / "vertebrae.parquet")
    pq.write_table(studies, snapshot / "studies.parquet")
    patients = pa.table({"index_study_key": pa.array([*studies["study_key"].to_pylist()[1:], None], pa.string())})
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
