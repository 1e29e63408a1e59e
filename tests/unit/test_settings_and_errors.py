"""Thresholds and reasons: every one counts in the digest, every code is one of its kind."""

import pickle
import re
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from vertebra_core.errors import CouldNotRun, NotEvaluable, Reason, VertebraError, WrongUse
from vertebra_core.settings import GradingSettings, Settings

PARTS = [part.name for part in fields(Settings)]
VALUES = [(part, value.name) for part in PARTS for value in fields(getattr(Settings(), part))]


def changed(part: str, name: str) -> Settings:
    whole = Settings()
    value = getattr(getattr(whole, part), name)
    other = tuple(2 * v for v in value) if isinstance(value, tuple) else "none" if name == "dates" else value + 1
    return replace(whole, **{part: replace(getattr(whole, part), **{name: other})})


@pytest.mark.parametrize(("part", "name"), VALUES)
def test_every_setting_but_grades_and_privacy_makes_a_study_due_again(part, name):
    assert (changed(part, name).digest() == Settings().digest()) == (part in ("grading", "privacy"))


def test_the_digest_is_sixteen_hex_digits_and_no_accident_of_the_process():
    code = "from vertebra_core.settings import Settings; print(Settings().digest())"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert re.fullmatch("[0-9a-f]{16}", elsewhere)
    assert Settings().digest() == elsewhere


def test_grades_have_the_bounds_of_the_paper_and_of_genant():
    grading = GradingSettings()
    assert (grading.mild, grading.moderate, grading.severe) == (0.80, 0.74, 0.60)


def test_reasons_have_codes_of_their_own_and_a_sentence():
    codes = [reason.code for reason in Reason]
    assert len(set(codes)) == len(codes)
    for reason in Reason:
        assert re.fullmatch("[a-z][a-z_]*", reason.code)
        assert reason.code == reason.name.lower()
        assert reason.sentence.endswith(".")
        assert reason.sentence[0].isupper()


def test_a_refusal_keeps_its_reason_through_a_worker():
    """Results and errors travel between processes by pickle."""
    error = pickle.loads(pickle.dumps(NotEvaluable(Reason.TOO_FEW_SLICES, "2 slices, at least 8 expected")))
    assert (error.reason, error.detail) == (Reason.TOO_FEW_SLICES, "2 slices, at least 8 expected")
    assert str(error) == "too_few_slices: 2 slices, at least 8 expected"


def test_a_refusal_without_detail_says_what_the_reason_says():
    assert NotEvaluable(Reason.NO_SPINE).detail == Reason.NO_SPINE.sentence


@pytest.mark.parametrize("kind", [WrongUse, CouldNotRun])
def test_errors_for_people_are_one_family(kind):
    assert issubclass(kind, VertebraError)
    assert issubclass(NotEvaluable, VertebraError)
