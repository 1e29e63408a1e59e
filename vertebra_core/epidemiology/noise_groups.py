"""Prevalence corrected for the noise of the heights, in the same groups of patients as the counts."""

from dataclasses import dataclass

import numpy as np

from vertebra_core.epidemiology.analysis import Analysis
from vertebra_core.epidemiology.cases import Tables, of_age
from vertebra_core.epidemiology.noise import (
    DRAWS,
    THRESHOLDS,
    CorrectedPrevalence,
    NotCorrectable,
    corrected_prevalence,
)
from vertebra_core.epidemiology.noise_model import NoiseModel, check_noise
from vertebra_core.epidemiology.selection import index_studies
from vertebra_core.epidemiology.strata import ALL, cross, stratum_of
from vertebra_core.errors import WrongUse


@dataclass(frozen=True)
class CorrectedGroup:
    """One group.

    Parameters
    ----------
    name : str
        As in the counts.
    answer : CorrectedPrevalence or None
        None where the group cannot be corrected.
    not_corrected : str or None
        Why not.
    """

    name: str
    answer: CorrectedPrevalence | None
    not_corrected: str | None


def corrected_groups(
    tables: Tables, analysis: Analysis, noise: NoiseModel | None, model_digest: str, draws: int = DRAWS
) -> tuple[CorrectedGroup, ...]:
    """Each group of patients fitted alone, everybody last; a group that is too small says so.

    Parameters
    ----------
    tables : Tables
        With the heights of the vertebrae.
    analysis : Analysis
        Its index rule, ages, groups, bounds and smallest number of vertebrae hold here too.
    noise : NoiseModel, optional
    model_digest : str
        Of the networks that measured the cohort.
    draws : int
        Of each chain.

    Raises
    ------
    WrongUse
        No noise, noise of other networks, or an analysis that has no correction: by level, or by another ratio than G.
    """
    noise = check_noise(noise, model_digest)
    if analysis.definition != "genant" or "level" in analysis.by:
        raise WrongUse("the noise is corrected for by Genant's index only, and not by level")
    people = index_studies(tables.studies, tables.patients, analysis.index_rule)
    people = people.filter(of_age(people, analysis.youngest, analysis.oldest))
    members = {ALL: np.ones(len(people), bool)}
    if analysis.by:
        grouping = cross([stratum_of(people, name) for name in analysis.by])
        parts = {", ".join(labels): grouping.codes == i for i, labels in enumerate(grouping.names)}
        members = {**parts, ALL: members[ALL]}
    bounds = (*THRESHOLDS, analysis.grading.moderate, analysis.grading.mild)

    def corrected(name: str, of: np.ndarray) -> CorrectedGroup:
        """Of the patients that `of` marks."""
        try:
            answer = corrected_prevalence(
                tables.vertebrae, people.filter(of), noise, model_digest, analysis.min_vertebrae, bounds, draws=draws
            )
        except NotCorrectable as error:
            return CorrectedGroup(name, None, str(error))
        return CorrectedGroup(name, answer, None)

    return tuple(corrected(name, of) for name, of in members.items())
