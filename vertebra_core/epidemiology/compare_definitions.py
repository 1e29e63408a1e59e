"""The definitions of a deformed vertebra side by side on one cohort.

The choice moves prevalence by a factor of three to four within one cohort (14.2 % by morphometry and 4.0 % by the
algorithm-based qualitative method on the same films: Oei 2018), so that prevalences are compared like with like only.
"""

from dataclasses import dataclass, replace

import numpy as np

from vertebra_core.epidemiology.analysis import Analysis, Group
from vertebra_core.epidemiology.by_patient import patient_groups
from vertebra_core.epidemiology.by_vertebra import vertebra_groups
from vertebra_core.epidemiology.cases import Cases, Tables, cases_of, of_age
from vertebra_core.epidemiology.definitions import DEFINITIONS, ReferenceRatio
from vertebra_core.epidemiology.selection import index_studies
from vertebra_core.tables.grades import reaches


@dataclass(frozen=True)
class Agreement:
    """Vertebrae that are at least moderate by a definition and by Genant's index, among those both can judge.

    Parameters
    ----------
    both, only_this, only_genant, neither : int
    kappa : float or None
        Cohen's; None where all or none are positive by both.
    """

    both: int
    only_this: int
    only_genant: int
    neither: int
    kappa: float | None


@dataclass(frozen=True)
class DefinitionResult:
    """One definition.

    Parameters
    ----------
    patients, vertebrae : Group
        Of everybody.
    not_judged : int
        Measured vertebrae that the definition cannot judge.
    """

    name: str
    patients: Group
    vertebrae: Group
    not_judged: int
    agreement: Agreement
    references: tuple[ReferenceRatio, ...]


def compare_definitions(tables: Tables, analysis: Analysis) -> tuple[DefinitionResult, ...]:
    """All definitions with the same bounds, patients and intervals.

    Parameters
    ----------
    tables : Tables
        With the heights of the vertebrae.
    analysis : Analysis
        Its `definition`, `by`, `standard` and `accuracy` are not used.
    """
    analysis = replace(analysis, by=(), standard=None, accuracy=None)
    people = index_studies(tables.studies, tables.patients, analysis.index_rule)
    people = people.filter(of_age(people, analysis.youngest, analysis.oldest))
    genant = cases_of(tables.vertebrae, people)
    results = []
    for name in DEFINITIONS:
        cases = genant if name == "genant" else cases_of(tables.vertebrae, people, name)
        n_judged, worst = cases.per_patient()
        enough = n_judged >= max(analysis.min_vertebrae, 1)
        (patients,) = patient_groups(people.filter(enough), worst[enough], analysis, None)
        (vertebrae,) = vertebra_groups(cases, analysis)
        not_judged = int((~np.isfinite(cases.ratio)).sum())
        agreement = _agreement(cases, genant, analysis.grading.moderate)
        results.append(DefinitionResult(name, patients, vertebrae, not_judged, agreement, cases.references))
    return tuple(results)


def _agreement(cases: Cases, genant: Cases, bound: float) -> Agreement:
    from statsmodels.stats.inter_rater import cohens_kappa

    judged = np.isfinite(cases.ratio)
    this, other = reaches(cases.ratio[judged], bound), reaches(genant.ratio[judged], bound)
    both, only_this, only_genant = int((this & other).sum()), int((this & ~other).sum()), int((~this & other).sum())
    neither = len(this) - both - only_this - only_genant
    constant = {both, neither} == {0, len(this)} and not only_this + only_genant
    table = np.array([[both, only_this], [only_genant, neither]])
    kappa = None if constant or not len(this) else float(cohens_kappa(table).kappa)  # type: ignore[arg-type]
    return Agreement(both, only_this, only_genant, neither, kappa)
