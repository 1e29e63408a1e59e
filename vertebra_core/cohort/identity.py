"""Pseudonyms: who a study belongs to, without saying who that is.

A key is the first 80 bits of an HMAC-SHA256 of the identifier, with a secret of the cohort that never leaves its
``private`` folder: the same identifier gives the same key, and nobody without the secret can go back or try names.
Keys begin with letters, so that no reader of a table takes one for a number.

**Who is the same patient.** Studies belong to one patient when they share PatientID and IssuerOfPatientID. Without
an issuer they do when they share a PatientID that can be an identifier. It cannot

- when it is empty, has no digit but zeros ("ANON", "unknown", "0000") or is a known filler ("123456");
- when its studies contradict each other on sex or, by more than `BIRTH_YEAR_TOLERANCE`, on the year of birth.

Otherwise each study is taken for a patient of its own: two patients merged would be a wrong count that nobody sees,
one patient counted twice is a known upper bound. Names are never looked at. A StudyInstanceUID under two PatientIDs is
two studies.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vertebra_core.cohort.commit import create, private_folder
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import WrongUse
from vertebra_core.reading.series import Series

KEY_HEX_DIGITS = 20
"""80 bits: among ten million studies the chance of any collision is below 1e-10 (birthday bound)."""
FILLER_IDS = frozenset({"1", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "99999", "999999"})
"""Numbers typed by hand where a form wanted one; never an identifier without an issuer."""
BIRTH_YEAR_TOLERANCE = 2.0
"""Years: an age in whole years and a study date give the birth date to one year each."""
UID = re.compile(r"[0-9]+(\.[0-9]+)+")
"""A DICOM unique identifier (PS3.5 section 9); anything else names a path, unique only within its archive."""


@dataclass(frozen=True)
class Pseudonyms:
    """Makes the keys of one cohort, or of several that share a secret.

    Examples
    --------
    >>> keys = Pseudonyms(b"secret of the cohort")
    >>> keys.key("st", "1.2.840.1") == keys.key("st", "1.2.840.1"), len(keys.key("st", "1.2.840.1"))
    (True, 22)
    """

    secret: bytes

    def key(self, kind: str, *parts: str) -> str:
        """The key of an identifier: two letters for its kind and `KEY_HEX_DIGITS` hex digits."""
        message = "\0".join([kind, *(f"{len(part)}:{part}" for part in parts)]).encode("utf-8", "surrogatepass")
        return kind + hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:KEY_HEX_DIGITS]

    def archive_key(self, archive: str) -> str:
        """The pseudonym of an archive, from its real path."""
        return self.key("ar", os.path.realpath(archive))

    def fingerprint(self) -> str:
        """Tells two secrets apart without giving either away."""
        return self.key("fp", "fingerprint")


@dataclass(frozen=True)
class SeriesKeys:
    """The keys of series that were met together.

    Parameters
    ----------
    pseudonyms : Pseudonyms
    contradicted : frozenset of str
        PatientIDs that are no identifiers, from `contradicted_ids`.
    reused : frozenset of str
        StudyInstanceUIDs that occur under several PatientIDs; such studies are told apart by both.
    """

    pseudonyms: Pseudonyms
    contradicted: frozenset[str] = frozenset()
    reused: frozenset[str] = frozenset()

    def study_key(self, series: Series) -> str:
        """The pseudonym of the study a series belongs to."""
        return self.pseudonyms.key("st", *self._study(series))

    def series_key(self, series: Series) -> str:
        """The pseudonym of a series; two stacks of one series have two."""
        own = () if UID.fullmatch(series.series_uid) else (os.path.realpath(series.archive),)
        owner = (series.patient_id,) if series.study_uid in self.reused else ()
        return self.pseudonyms.key("se", *own, series.series_uid, str(series.stack), *owner)

    def patient_key(self, series: Series) -> str:
        """The key of the patient, by the rule at the top of this module."""
        identifier = series.patient_id.strip()
        issuer = series.patient_id_issuer.strip()
        if issuer and identifier:
            return self.pseudonyms.key("pt", issuer, identifier)
        if can_identify(identifier) and identifier not in self.contradicted:
            return self.pseudonyms.key("pt", "", identifier)
        return self.pseudonyms.key("pt", "study", *self._study(series))

    def of(self, series: Series) -> dict[str, str]:
        """All three keys, by the name of their column."""
        return {
            "series_key": self.series_key(series),
            "study_key": self.study_key(series),
            "patient_key": self.patient_key(series),
        }

    def _study(self, series: Series) -> tuple[str, ...]:
        if not UID.fullmatch(series.study_uid):
            return os.path.realpath(series.archive), series.study_uid
        return (series.study_uid, series.patient_id) if series.study_uid in self.reused else (series.study_uid,)


def keys_of(series: Sequence[Series], pseudonyms: Pseudonyms) -> SeriesKeys:
    """Keys for series of the same archives, which may show that an identifier is none."""
    return SeriesKeys(pseudonyms, contradicted_ids(series), reused_study_uids(series))


def can_identify(patient_id: str) -> bool:
    """Whether a PatientID without an issuer can be an identifier at all.

    Examples
    --------
    >>> [can_identify(text) for text in ("", "ANON", "000000", "123456", "MR-00417")]
    [False, False, False, False, True]
    """
    digits = re.sub(r"\D", "", patient_id)
    return bool(digits.strip("0")) and patient_id.strip() not in FILLER_IDS


def contradicted_ids(series: Iterable[Series]) -> frozenset[str]:
    """PatientIDs without an issuer whose studies cannot be of one person: two sexes, or birth years too far apart."""
    sexes: dict[str, set[str]] = defaultdict(set)
    births: dict[str, list[float]] = defaultdict(list)
    for one in series:
        identifier = one.patient_id.strip()
        if one.patient_id_issuer.strip():
            continue
        if one.sex in ("F", "M"):
            sexes[identifier].add(one.sex)
        if one.age_years is not None and one.study_date:
            births[identifier].append(int(one.study_date[:4]) - one.age_years)
    two_sexes = {identifier for identifier, seen in sexes.items() if len(seen) > 1}
    apart = {identifier for identifier, years in births.items() if max(years) - min(years) > BIRTH_YEAR_TOLERANCE}
    return frozenset(two_sexes | apart)


def reused_study_uids(series: Iterable[Series]) -> frozenset[str]:
    """StudyInstanceUIDs under which several PatientIDs were met."""
    owners: dict[str, set[str]] = defaultdict(set)
    for one in series:
        owners[one.study_uid].add(one.patient_id.strip())
    return frozenset(uid for uid, patients in owners.items() if len(patients) > 1)


def open_pseudonyms(layout: Layout, given: str | None = None) -> Pseudonyms:
    """The pseudonyms of a cohort; its random secret is made on first use.

    Parameters
    ----------
    given : str, optional
        A secret shared by several cohorts, so that their keys agree; it is not stored.

    Raises
    ------
    WrongUse
        The shared secret is too short to keep keys from being guessed.
    """
    if given is not None:
        if len(given) < 16:
            raise WrongUse("the shared pseudonym secret needs at least 16 characters")
        return Pseudonyms(given.encode())
    private_folder(layout.private)
    create(layout.secret, secrets.token_hex(32).encode(), mode=0o600)  # the first of two racers wins, both read it
    return Pseudonyms(layout.secret.read_bytes())
