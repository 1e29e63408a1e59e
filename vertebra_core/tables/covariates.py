"""What tables tell of patients besides measurements: one rule for every row, applied when tables are written.

Measurements never depend on these values, so results are stored without them; they stand in the cohort's private
links and come in when a table is published (`vertebra_core.cohort.people`). A change of the rule then needs no new
measurement, and no published table mixes two rules.
"""

from collections.abc import Callable, Mapping
from datetime import date

from vertebra_core.settings import PrivacySettings

COVARIATES = ("age_years", "sex", "study_year", "study_day", "study_date", "site", "manufacturer", "scanner")
"""Columns of `studies` and `inventory` that the rule decides on."""
OLDEST_YEARS = 90.0
"""Ages from here on are one category (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C): "90 or older")."""
DAY_ZERO = date(1900, 1, 1)
"""From here days are counted before the patient's shift is added; before any CT."""


def told(
    known: Mapping[str, object], patient_key: str, privacy: PrivacySettings, shift_days: Callable[[str], int]
) -> dict[str, object]:
    """The covariates of a study as its row may tell them.

    Parameters
    ----------
    known : mapping
        ``age_years``, ``sex``, ``study_date`` (ISO 8601 text), ``site``, ``manufacturer``, ``scanner``; None where
        unknown.
    patient_key : str
    privacy : PrivacySettings
    shift_days : callable
        Gives the shift of a patient's days from the key; the same for all studies of a patient.

    Returns
    -------
    dict
        A value for each of `COVARIATES`; None where unknown or not to be told.

    Examples
    --------
    >>> known = {"age_years": 93.0, "sex": "F", "study_date": "2024-03-05", "scanner": "Model"}
    >>> row = told(known, "pt01", PrivacySettings(dates="days", scanner=False), lambda patient: 1000)
    >>> row["age_years"], row["study_day"], row["study_year"], row["scanner"]
    (90.0, 46354, None, None)
    """
    row: dict[str, object] = {name: known.get(name) for name in COVARIATES}
    age, day = row["age_years"], row["study_date"]
    if isinstance(age, float) and privacy.pool_old_ages:
        row["age_years"] = min(age, OLDEST_YEARS)
    when = date.fromisoformat(day) if isinstance(day, str) else None
    row["study_year"] = when.year if when and privacy.dates == "year" else None
    row["study_date"] = when if privacy.dates == "full" else None
    row["study_day"] = (when - DAY_ZERO).days + shift_days(patient_key) if when and privacy.dates == "days" else None
    if not privacy.site:
        row["site"] = None
    if not privacy.scanner:
        row["manufacturer"] = row["scanner"] = None
    return row
