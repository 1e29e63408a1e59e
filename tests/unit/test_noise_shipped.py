"""The noise that is shipped with the networks: theirs, plausible, and told in the metadata of every snapshot."""

import json

import numpy as np
import pytest
from made_cohorts import make_cohort_tables, write_snapshot

from flows.cli import main
from vertebra_core.epidemiology.noise_model import SHIPPED, known_noise, read_noise
from vertebra_core.models import weights_digest


def test_it_is_of_the_shipped_networks_and_says_what_was_read_twice():
    noise = read_noise(SHIPPED)
    assert noise.model_digest == weights_digest()
    assert "replicate reads" in noise.source
    for one in noise.classes:
        assert one.fitted.n_patients >= 10
        assert (np.sqrt(np.diag(one.covariance)) < 1.5).all()
        assert (np.linalg.eigvalsh(one.covariance) > 0).all()


def test_metadata_name_it_for_its_networks_only():
    told = known_noise(weights_digest())
    assert told is not None
    assert told["classes"][0]["n_patients"] == read_noise(SHIPPED).classes[0].fitted.n_patients
    assert not any(name.startswith("draws") for one in told["classes"] for name in one)
    json.dumps(told, allow_nan=False)
    assert known_noise("0123456789abcdef") is None


@pytest.mark.parametrize(
    ("own", "code", "says"), [(True, 0, "and known noise; 150 are needed"), (False, 2, "measure it anew")]
)
def test_a_cohort_of_these_networks_may_use_it_and_one_of_others_may_not(tmp_path, capsys, own, code, says):
    """Sixty patients are too few for a correction, which is said after the noise was accepted."""
    write_snapshot(tmp_path / "spines", make_cohort_tables(60, seed=1))
    provenance = tmp_path / "spines" / "snapshots" / "snapshot-made" / "provenance.json"
    known = json.loads(provenance.read_text())
    provenance.write_text(json.dumps({**known, "model_digest": weights_digest() if own else "0123"}))
    assert main(["prevalence", str(tmp_path / "spines"), "--noise", "shipped"]) == code
    assert says in "".join(capsys.readouterr())
