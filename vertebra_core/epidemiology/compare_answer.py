"""What a comparison of two cohorts answers: every difference, second minus first."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vertebra_core.statistics.bland_altman import Limits
from vertebra_core.statistics.kappa import Kappa
from vertebra_core.statistics.paired import PairedShares


@dataclass(frozen=True)
class StudyChanges:
    """How studies ended in both.

    Parameters
    ----------
    first, second, both : int
    only_first, only_second : tuple of str
        Study keys.
    ends : dict
        "end in the first -> end in the second" -> studies, of those that ended otherwise.
    changed : tuple of (study key, end, end)
        The same one by one.
    other_input, other_series : int
        Studies in both whose files have changed, or that another series stands for.
    """

    first: int
    second: int
    both: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    ends: dict[str, int]
    changed: tuple[tuple[str, str, str], ...]
    other_input: int
    other_series: int


@dataclass(frozen=True)
class VertebraChanges:
    """Vertebrae of studies that both have measured.

    Parameters
    ----------
    first, second, matched : int
    measured, measured_in_one : int
        Matched ones with heights in both, which differences are taken of, and with heights in one only.
    only_first, only_second : int
        Without a partner.
    same_level, other_level, one_level : int
        Matched ones with equal names, with two names, and with a name in one only.
    largest_apart_mm : float or None
        Distance of the centres of matched vertebrae.
    """

    first: int
    second: int
    matched: int
    measured: int
    measured_in_one: int
    only_first: int
    only_second: int
    same_level: int
    other_level: int
    one_level: int
    largest_apart_mm: float | None


@dataclass(frozen=True)
class GradeChanges:
    """Grades of the vertebrae measured in both, by the same bounds.

    Parameters
    ----------
    table : tuple of tuple of int
        Rows: grade in the first, normal to severe; columns: in the second.
    equal : float or None
        Share of equal grades.
    kappa : dict
        plain, linear, quadratic.
    """

    table: tuple[tuple[int, ...], ...]
    equal: float | None
    kappa: dict[str, Kappa]

    @property
    def changed(self) -> int:
        """Vertebrae with another grade."""
        return sum(map(sum, self.table)) - sum(row[i] for i, row in enumerate(self.table))


@dataclass(frozen=True)
class PairedVertebrae:
    """Shares of the vertebrae measured in both; the interval takes patients as clusters."""

    first: int
    second: int
    n: int
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PatientChanges:
    """Patients with enough measured vertebrae in their index study in both, and those with it in one only."""

    both: int
    only_first: int
    only_second: int
    other_index_study: int
    shares: dict[str, PairedShares]


@dataclass(frozen=True)
class Change:
    """One vertebra, to look at."""

    study_key: str
    patient_key: str
    level: str | None
    second_level: str | None
    vertebra_index: int
    second_vertebra_index: int
    g: float
    second_g: float
    grade: str
    second_grade: str
    largest_height_change_mm: float


@dataclass(frozen=True)
class GroupChange:
    """Differences within one group of the first cohort."""

    name: str
    g: Limits
    heights_mm: Limits
    grade_changed: int


@dataclass(frozen=True)
class CohortComparison:
    """Everything that differs.

    Parameters
    ----------
    differences : dict
        ha_mm, hm_mm, hp_mm, g: second minus first.
    vertebra_shares : dict
        Bound -> shares of the vertebrae measured in both.
    groups : tuple of GroupChange
        Empty where not asked for.
    largest : tuple of Change
        By change of G.
    values : array [n, 4, 2]
        ha, hm, hp (mm) and G of the vertebrae measured in both, in the first and the second.
    """

    studies: StudyChanges
    vertebrae: VertebraChanges
    differences: dict[str, Limits]
    grades: GradeChanges
    patients: PatientChanges
    vertebra_shares: dict[str, PairedVertebrae]
    groups: tuple[GroupChange, ...]
    largest: tuple[Change, ...]
    values: Float[np.ndarray, "n 4 2"]
