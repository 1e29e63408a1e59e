"""Who a study belongs to, without saying who that is."""

import json
import re
import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_studies import SERIES

from vertebra_core.cohort.identity import Pseudonyms, keys_of, open_pseudonyms
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import WrongUse

PSEUDONYMS = Pseudonyms(b"a secret of a test, long enough")


def study(number: int, patient_id: str, issuer: str = "", sex: str | None = "F", age: float | None = 70.0, year=2020):
    uid = f"1.2.3.{number}"
    return replace(
        SERIES,
        patient_id=patient_id,
        patient_id_issuer=issuer,
        study_uid=uid,
        series_uid=f"{uid}.1",
        sex=sex,
        age_years=age,
        study_date=f"{year}-05-01",
    )


def patients(*series) -> int:
    keys = keys_of(series, PSEUDONYMS)
    return len({keys.patient_key(one) for one in series})


@pytest.mark.parametrize("identifier", ["4711", "SMITHJ", "123456", "9999", "ANON-17"])
def test_same_id_and_issuer_is_one_patient(identifier):
    assert patients(study(1, identifier, "Hospital A"), study(2, identifier, "Hospital A ")) == 1


@pytest.mark.parametrize(
    "filler", ["", " ", "0000", "0-0", "ANON", "Anonymous^", "anon anon", "unknown", "Test", "N/A"]
)
def test_an_issuer_does_not_make_an_identifier_of_a_filler(filler):
    assert patients(study(1, filler, "Hospital A"), study(2, filler, "Hospital A")) == 2


@pytest.mark.parametrize("contradiction", [{"sex": "M"}, {"age": 30}])
def test_an_issuer_does_not_merge_what_cannot_be_one_person(contradiction):
    assert patients(study(1, "4711", "Hospital A"), study(2, "4711", "Hospital A", **contradiction)) == 2
    assert patients(study(1, "4711", "Hospital A"), study(2, "4711", "Hospital B", **contradiction)) == 2


def test_same_id_of_two_issuers_is_two_patients():
    assert patients(study(1, "4711", "Hospital A"), study(2, "4711", "Hospital B")) == 2


def test_an_id_that_can_identify_is_one_patient_without_an_issuer():
    assert patients(study(1, "MR-00417"), study(2, "MR-00417 ")) == 1


@pytest.mark.parametrize(
    "filler", ["", " ", "ANON", "anonymous", "0000", "unknown", "123456", "99999", "1111", "Пациент", "/\n"]
)
def test_two_patients_called_anon_are_not_merged(filler):
    assert patients(study(1, filler), study(2, filler)) == 2


def test_an_id_of_two_sexes_is_no_identifier():
    assert patients(study(1, "4711", sex="F"), study(2, "4711", sex="M")) == 2


def test_an_id_of_two_birth_years_is_no_identifier():
    assert patients(study(1, "4711", age=70, year=2020), study(2, "4711", age=40, year=2020)) == 2


def test_growing_older_is_no_contradiction():
    assert patients(study(1, "4711", age=70, year=2020), study(2, "4711", age=74, year=2025)) == 1


def test_unknown_sex_and_age_contradict_nothing():
    assert patients(study(1, "4711", sex=None, age=None), study(2, "4711", sex="M")) == 1


def test_a_study_uid_under_two_patients_is_two_studies():
    first, second = study(1, "A1"), study(1, "B2")
    keys = keys_of([first, second], PSEUDONYMS)
    assert keys.study_key(first) != keys.study_key(second)
    assert keys.series_key(first) != keys.series_key(second)


@pytest.mark.parametrize(
    "other",
    [
        {"study_uid": "1.2.3.9"},
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.67", "modality": "SR"},
        {"modality": "MR"},
        {"patient_id": "B2"},
    ],
)
def test_a_series_uid_used_twice_is_two_series(other):
    """In two studies, or for images and a dose report: two rows of one inventory never have one key."""
    first = study(1, "A1")
    keys = keys_of([first, replace(first, **other)], PSEUDONYMS)
    assert keys.series_key(first) != keys.series_key(replace(first, **other))


def test_a_path_is_unique_only_within_its_archive():
    first = replace(SERIES, study_uid="scan.nii.gz", series_uid="scan.nii.gz", archive="/north")
    second = replace(first, archive="/south")
    keys = keys_of([first, second], PSEUDONYMS)
    assert keys.study_key(first) != keys.study_key(second)
    assert keys.series_key(first) != keys.series_key(second)


def test_an_archive_has_one_key_from_wherever_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    assert PSEUDONYMS.archive_key("scans") == PSEUDONYMS.archive_key(str(tmp_path / "scans"))
    bucket = PSEUDONYMS.archive_key("s3://bucket/scans/")
    monkeypatch.chdir(tmp_path / "scans")
    assert PSEUDONYMS.archive_key("s3://bucket/scans") == bucket


def test_a_uid_keeps_its_key_when_the_archive_moves():
    moved = replace(study(1, "4711"), archive="/elsewhere", path="deeper/down")
    assert PSEUDONYMS.key("st", "1.2.3.1") == keys_of([moved], PSEUDONYMS).study_key(moved)


def test_two_stacks_of_a_series_have_two_keys():
    first = study(1, "4711")
    keys = keys_of([first], PSEUDONYMS)
    assert keys.series_key(first) != keys.series_key(replace(first, stack=1))


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_keys_differ_exactly_when_identifiers_do(first, second):
    """Also where only the border between two parts moves: ("ab", "c") and ("a", "bc")."""
    assert (PSEUDONYMS.key("pt", *first) == PSEUDONYMS.key("pt", *second)) == (first == second)


@given(st.text())
def test_a_key_is_plain_text_whatever_the_identifier_holds(identifier):
    assert re.fullmatch(r"pt[0-9a-f]{20}", PSEUDONYMS.key("pt", identifier))


def test_another_secret_gives_other_keys():
    assert Pseudonyms(b"one").key("pt", "4711") != Pseudonyms(b"two").key("pt", "4711")


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path):
    layout = Layout(tmp_path / "cohort")
    first = open_pseudonyms(layout)
    assert open_pseudonyms(layout) == first
    assert len(first.secret) == 64
    assert stat.S_IMODE(layout.secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.private.stat().st_mode) == 0o700


def test_a_shared_secret_is_not_stored(tmp_path):
    layout = Layout(tmp_path / "cohort")
    assert open_pseudonyms(layout, "a secret of two cohorts").secret == b"a secret of two cohorts"
    assert not layout.secret.exists()


def test_a_short_shared_secret_is_refused(tmp_path):
    with pytest.raises(WrongUse, match="at least 16"):
        open_pseudonyms(Layout(tmp_path), "short")


def test_the_fingerprint_gives_nothing_away():
    assert json.dumps(PSEUDONYMS.fingerprint()).find("secret") == -1
    assert PSEUDONYMS.fingerprint() != Pseudonyms(b"other").fingerprint()
