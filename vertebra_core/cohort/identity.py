"""Pseudonyms: who a study belongs to, without saying who that is.

A key is the first 80 bits of an HMAC-SHA256 of the identifier, with a secret of the cohort that never leaves its
``private`` folder: the same identifier gives the same key, and nobody without the secret can go back or try names.
Keys begin with letters, so that no reader of a table takes one for a number.

**Who is the same patient.** Studies belong to one patient when they share PatientID and IssuerOfPatientID, and the
PatientID can be an identifier. It cannot

- when it is empty, zeros ("0000") or a word that stands where a name was taken out ("ANON", "unknown");
- without an issuer, also when it has no digit at all, or is a number typed to fill a form ("123456", "9999");
- when its studies contradict each other on sex or, by more than `BIRTH_YEAR_TOLERANCE`, on the year of birth: those
  of this run, and those of all runs before (from the private links).

Otherwise each study is taken for a patient of its own: two patients merged would be a wrong count that nobody sees,
one patient counted twice is a known upper bound. Names are never looked at. A StudyInstanceUID under two PatientIDs is
two studies; the one that was met first keeps its key.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from vertebra_core.cohort.commit import create, private_folder
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import WrongUse
from vertebra_core.reading.series import Series

KEY_HEX_DIGITS = 20
"""80 bits: among ten million studies the chance of any collision is below 1e-10 (birthday bound)."""
FILLER_IDS = frozenset({"1", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789"})
"""Numbers typed by hand where a form wanted one; never an identifier without an issuer."""
ONE_DIGIT_REPEATED = re.compile(r"(\d)\1{2,}")
"""So are 111, 9999 and their like."""
FILLER_WORDS = re.compile(
    r"\W*(((anonym|de-?identif|redact|unknown|unbekannt|removed)[^\W\d]*|anon|none|null|n/?a|test|phantom|patient"
    r"|no.?(name|id|number))\W*)+",
    re.IGNORECASE,
)
"""What is written where an identifier was taken out or never was; no identifier, with an issuer or without."""
DAYS_OF_SHIFT = 36525
"""A patient's days are shifted by up to a hundred years, so that a shifted day does not even tell the decade."""
BIRTH_YEAR_TOLERANCE = 2.0
"""Years: an age in whole years and a study date give the birth date to one year each."""
UID = re.compile(r"[0-9]+(\.[0-9]+)+")
"""A DICOM unique identifier (PS3.5 section 9); anything else names a path, unique only within its archive."""


class Identifiers(Protocol):
    """What keys are made from: a `Series`, or a row of the private links."""

    @property
    def patient_id(self) -> str:
        """PatientID."""
        ...

    @property
    def patient_id_issuer(self) -> str:
        """IssuerOfPatientID."""
        ...

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID, or what stands for it."""
        ...

    @property
    def archive(self) -> str:
        """Where it was met."""
        ...

    @property
    def sex(self) -> str | None:
        """PatientSex."""
        ...

    @property
    def age_years(self) -> float | None:
        """Age at the study."""
        ...

    @property
    def study_date(self) -> str | None:
        """StudyDate, ISO 8601."""
        ...


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
        return kind + self._digest(message)[:KEY_HEX_DIGITS]

    def _digest(self, message: bytes) -> str:
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()

    def archive_key(self, archive: str) -> str:
        """The pseudonym of an archive, from its URL or its real path."""
        return self.key("ar", home_of(archive))

    def shift_days(self, patient_key: str) -> int:
        """How many days a patient's dates are shifted by, 0 to `DAYS_OF_SHIFT` - 1; the same for all studies."""
        return int(self._digest(b"shift\0" + patient_key.encode()), 16) % DAYS_OF_SHIFT

    def fingerprint(self) -> str:
        """Tells two secrets apart without giving either away."""
        return self.key("fp", "fingerprint")


@dataclass(frozen=True)
class SeriesKeys:
    """The keys of series that were met together.

    Parameters
    ----------
    pseudonyms : Pseudonyms
    contradicted : frozenset of (str, str)
        Issuers and PatientIDs that are no identifiers, from `contradicted_ids`.
    reused : frozenset of str
        StudyInstanceUIDs that occur under several PatientIDs; such studies are told apart by both.
    first_owners : mapping
        Of such UIDs, the PatientID that an earlier run met alone: its study keeps the key it has.
    shared : frozenset of str
        Series keys that several rows would have: a SeriesInstanceUID under two studies, or on images and reports.
    """

    pseudonyms: Pseudonyms
    contradicted: frozenset[tuple[str, str]] = frozenset()
    reused: frozenset[str] = frozenset()
    first_owners: Mapping[str, str] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    def study_key(self, series: Identifiers) -> str:
        """The pseudonym of the study a series belongs to."""
        return self.pseudonyms.key("st", *self._study(series))

    def series_key(self, series: Series) -> str:
        """The pseudonym of a series; two stacks of one series have two."""
        own = () if UID.fullmatch(series.series_uid) else (home_of(series.archive),)
        owner = (series.patient_id,) if self._needs_owner(series) else ()
        key = self.pseudonyms.key("se", *own, series.series_uid, str(series.stack), *owner)
        if key not in self.shared:
            return key
        kind = (series.sop_class_uid or "", series.modality or "")
        return self.pseudonyms.key("se", key, series.patient_id, series.study_uid, *kind)

    def patient_key(self, series: Identifiers) -> str:
        """The key of the patient, by the rule at the top of this module."""
        issuer, identifier = person_of(series)
        if can_identify(identifier, issuer) and (issuer, identifier) not in self.contradicted:
            return self.pseudonyms.key("pt", issuer, identifier)
        return self.pseudonyms.key("pt", "study", *self._study(series))

    def of(self, series: Series) -> dict[str, str]:
        """All three keys, by the name of their column."""
        return {
            "series_key": self.series_key(series),
            "study_key": self.study_key(series),
            "patient_key": self.patient_key(series),
        }

    def input_key(self, digest: str) -> str:
        """An input digest as tables show it: made from UIDs and paths, it must not let anybody check a guess."""
        return self.pseudonyms.key("in", digest)

    def _study(self, series: Identifiers) -> tuple[str, ...]:
        if not UID.fullmatch(series.study_uid):
            return home_of(series.archive), series.study_uid
        return (series.study_uid, series.patient_id) if self._needs_owner(series) else (series.study_uid,)

    def _needs_owner(self, series: Identifiers) -> bool:
        first = self.first_owners.get(series.study_uid)
        return series.study_uid in self.reused and first != series.patient_id.strip()


def keys_of(
    series: Sequence[Series],
    pseudonyms: Pseudonyms,
    before: Sequence[Identifiers] = (),
    keys_before: Sequence[str] = (),
) -> SeriesKeys:
    """Keys for series of the same archives, which may show that an identifier is none.

    Parameters
    ----------
    series : sequence of Series
        Of this run.
    pseudonyms : Pseudonyms
    before : sequence of Identifiers
        Of all earlier runs, from the private links.
    keys_before : sequence of str
        Their study keys.
    """
    everything = [*before, *series]
    reused = reused_study_uids(everything)
    alone = SeriesKeys(pseudonyms)
    first_owners = {
        one.study_uid: one.patient_id.strip()
        for one, key in zip(before, keys_before, strict=True)
        if one.study_uid in reused and key == alone.study_key(one)
    }
    keys = SeriesKeys(pseudonyms, contradicted_ids(everything), reused, first_owners)
    times = Counter(keys.series_key(one) for one in series)
    return replace(keys, shared=frozenset(key for key, count in times.items() if count > 1))


def home_of(archive: str) -> str:
    """One name for an archive, wherever the program is called from: its URL, or its real path."""
    return archive.rstrip("/") if "://" in archive else os.path.realpath(archive)


def person_of(series: Identifiers) -> tuple[str, str]:
    """Issuer and PatientID without the spaces around them."""
    return series.patient_id_issuer.strip(), series.patient_id.strip()


def can_identify(patient_id: str, issuer: str = "") -> bool:
    """Whether a PatientID can be an identifier at all.

    Examples
    --------
    >>> [can_identify(text) for text in ("", "ANON", "000000", "123456", "SMITHJ", "MR-00417")]
    [False, False, False, False, False, True]
    >>> [can_identify(text, "Hospital A") for text in ("", "ANON", "000000", "123456", "SMITHJ", "MR-00417")]
    [False, False, False, True, True, True]
    """
    if not patient_id.strip("0 \t\r\n-_./") or FILLER_WORDS.fullmatch(patient_id):
        return False
    digits = re.sub(r"\D", "", patient_id)
    typed = patient_id in FILLER_IDS or ONE_DIGIT_REPEATED.fullmatch(patient_id)
    return bool(issuer) or (bool(digits.strip("0")) and not typed)


def contradicted_ids(series: Iterable[Identifiers]) -> frozenset[tuple[str, str]]:
    """Issuers and PatientIDs whose studies cannot be of one person: two sexes, or birth years too far apart."""
    sexes: dict[tuple[str, str], set[str]] = defaultdict(set)
    births: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in series:
        person = person_of(one)
        if one.sex in ("F", "M"):
            sexes[person].add(one.sex)
        if one.age_years is not None and one.study_date:
            births[person].append(int(one.study_date[:4]) - one.age_years)
    two_sexes = {person for person, seen in sexes.items() if len(seen) > 1}
    apart = {person for person, years in births.items() if max(years) - min(years) > BIRTH_YEAR_TOLERANCE}
    return frozenset(two_sexes | apart)


def reused_study_uids(series: Iterable[Identifiers]) -> frozenset[str]:
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
