"""What an analysis is asked and what it answers: every choice with its default, groups, flow of patients."""

from dataclasses import dataclass, field

from vertebra_core.epidemiology.clusters import ClusteredMethod
from vertebra_core.epidemiology.coverage import Coverage
from vertebra_core.epidemiology.definitions import DefinitionName, ReferenceRatio
from vertebra_core.epidemiology.intervals import BinomialMethod, Estimate
from vertebra_core.epidemiology.misclassification import Corrected, check_test
from vertebra_core.epidemiology.selection import IndexRule
from vertebra_core.epidemiology.standard_populations import StandardPopulation
from vertebra_core.epidemiology.standardise import AgeBands, Standardised, StandardisedMethod
from vertebra_core.epidemiology.strata import StratumName
from vertebra_core.epidemiology.trends import CochranArmitage, Slope
from vertebra_core.settings import GradingSettings

MIN_VERTEBRAE = 7
"""A patient counts with at least this many measured vertebrae: more than half of T4 to L4. With fewer, a fracture
has less chance to be seen; the choice is a convention, so the command prints it and takes another."""
BOUNDS = ("moderate", "severe", "mild")


@dataclass(frozen=True)
class Accuracy:
    """Sensitivity and specificity for "at least moderate" in a patient, and how many people each was estimated on.

    Without these numbers both are taken as known.

    Raises
    ------
    ValueError
        A test no better than chance, or one sample size without the other.
    """

    se: float
    sp: float
    n_se: int | None = None
    n_sp: int | None = None

    def __post_init__(self) -> None:
        check_test(self.se, self.sp)
        sizes = [n for n in (self.n_se, self.n_sp) if n is not None]
        if len(sizes) == 1 or any(n <= 0 for n in sizes):
            raise ValueError("give the sizes of both validation samples, each at least 1, or neither")


@dataclass(frozen=True)
class Analysis:
    """Every choice of an analysis; none of them needs new inference.

    Parameters
    ----------
    grading : GradingSettings
        Bounds on the ratio of the definition.
    definition : str
        `vertebra_core.epidemiology.definitions.MEANING`.
    by : tuple of str
        Strata to cross.
    min_vertebrae : int
        Judged vertebrae that a patient needs in the index study.
    index_rule : str
        `vertebra_core.epidemiology.selection.RULE_SENTENCES`.
    youngest, oldest : float, optional
        Ages studied, completed years, both included; patients without age are then left out.
    interval : str
        Of shares of patients.
    vertebra_interval : str
        Of shares of vertebrae, with patients as clusters.
    standard : StandardPopulation, optional
        Standardise the shares of patients to it.
    standard_interval : str
        Of standardised shares.
    collapse : bool
        Join empty age bands of the standard with their neighbours rather than refuse.
    accuracy : Accuracy, optional
        Correct the share of patients that are at least moderate.
    """

    grading: GradingSettings = field(default_factory=GradingSettings)
    definition: DefinitionName = "genant"
    by: tuple[StratumName, ...] = ()
    min_vertebrae: int = MIN_VERTEBRAE
    index_rule: IndexRule = "earliest"
    youngest: float | None = None
    oldest: float | None = None
    interval: BinomialMethod = "wilson"
    vertebra_interval: ClusteredMethod = "auto"
    standard: StandardPopulation | None = None
    standard_interval: StandardisedMethod = "wilson"
    collapse: bool = True
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class Group:
    """Prevalence in one group.

    Parameters
    ----------
    name : str
        Labels of the strata, joined; "all" for everybody.
    strata : dict
        Stratum -> label; empty for everybody.
    n_patients : int
        Patients; for vertebrae those who have one in the group.
    moderate : Estimate
        Ratio <= 0.74: the headline.
    severe : Estimate
        Ratio <= 0.60.
    mild : Estimate
        Ratio <= 0.80, not corrected for measurement noise, which at this bound multiplies the count: 18 % of all
        vertebrae that readers measured lie below it.
    standardised : dict
        Bound -> standardised share; empty where not asked for, or for vertebrae.
    corrected : Corrected or None
        `moderate` corrected for sensitivity and specificity.
    """

    name: str
    strata: dict[str, str]
    n_patients: int | None
    moderate: Estimate
    severe: Estimate
    mild: Estimate
    standardised: dict[str, Standardised] = field(default_factory=dict)
    corrected: Corrected | None = None


@dataclass(frozen=True)
class Flow:
    """Who was counted; patients who are left at each step, and vertebrae.

    Parameters
    ----------
    patients, with_measurement, of_age : int
        Patients met; with an index study; within the ages studied.
    age_unknown : int
        Patients with an index study who are left out because ages are asked for and theirs is not known.
    analysed : int
        Patients of the ages studied with enough judged vertebrae.
    vertebrae : int
        Judged vertebrae of all index studies of patients within the ages studied.
    not_judged : int
        Measured vertebrae that the definition cannot judge (no level, or too few of its level for a reference).
    without_age, without_sex : int
        Of the analysed patients.
    outside_standard : int
        Analysed patients without age, or outside the ages of the standard population: not in standardised shares.
    """

    patients: int
    with_measurement: int
    of_age: int
    age_unknown: int
    analysed: int
    vertebrae: int
    not_judged: int
    without_age: int
    without_sex: int
    outside_standard: int | None


@dataclass(frozen=True)
class Trend:
    """Trend of "at least moderate" over an ordered stratum, people in groups that are not known left out.

    Parameters
    ----------
    over, step : str
    patients_test : CochranArmitage or None
    patients, vertebrae : Slope or None
        Log odds per step; None where it cannot be estimated.
    """

    over: str
    step: str
    patients_test: CochranArmitage | None
    patients: Slope | None
    vertebrae: Slope | None


@dataclass(frozen=True)
class Prevalence:
    """The answer: the flow of patients and the groups of both units, the last one of each being everybody."""

    flow: Flow
    min_vertebrae: int
    by: tuple[str, ...]
    patients: tuple[Group, ...]
    vertebrae: tuple[Group, ...]
    standard: AgeBands | None = None
    trend: Trend | None = None
    coverage: Coverage | None = None
    references: tuple[ReferenceRatio, ...] = ()
