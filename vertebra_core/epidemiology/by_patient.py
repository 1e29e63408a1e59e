"""Prevalence by patient: the smallest ratio of the index study against the bounds."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from vertebra_core.epidemiology.analysis import BOUNDS, Analysis, Group
from vertebra_core.epidemiology.intervals import Estimate, share_of
from vertebra_core.epidemiology.misclassification import Corrected, lang_reiczigel, rogan_gladen
from vertebra_core.epidemiology.standard_populations import StandardPopulation
from vertebra_core.epidemiology.standardise import AgeBands, Standardised, standardise, studied_bands
from vertebra_core.epidemiology.strata import ALL, ages_of, cross, stratum_of
from vertebra_core.tables.grades import reaches


def patient_groups(
    people: pa.Table, worst: Float[np.ndarray, "people"], analysis: Analysis, bands: AgeBands | None
) -> tuple[Group, ...]:
    """A group for each that occurs, and everybody last.

    Parameters
    ----------
    people : pa.Table
        Index studies of the patients that count.
    worst : array
        Smallest ratio of each.
    bands : AgeBands, optional
        From `standard_bands`.
    """
    codes = None if bands is None else band_codes(people, analysis, bands)
    reached = {bound: reaches(worst, getattr(analysis.grading, bound)) for bound in BOUNDS}

    def group(name: str, strata: dict[str, str], of: Bool[np.ndarray, "people"]) -> Group:
        """The patients that `of` marks."""
        n = int(of.sum())
        shares = {bound: share_of(int(reached[bound][of].sum()), n, analysis.interval) for bound in BOUNDS}
        standardised = {}
        if bands is not None and codes is not None:
            for bound in BOUNDS:
                one = _standardised(reached[bound][of], codes[of], bands, analysis)
                standardised |= {} if one is None else {bound: one}
        corrected = _corrected(shares["moderate"], analysis)
        return Group(name, strata, n, **shares, standardised=standardised, corrected=corrected)

    everybody = group(ALL, {}, np.ones(len(worst), bool))
    if not analysis.by:
        return (everybody,)
    grouping = cross([stratum_of(people, name) for name in analysis.by])
    groups = [
        group(", ".join(labels), dict(zip(analysis.by, labels, strict=True)), grouping.codes == number)
        for number, labels in enumerate(grouping.names)
    ]
    return (*groups, everybody)


def standard_bands(people: pa.Table, analysis: Analysis) -> AgeBands | None:
    """Age bands that all groups are standardised over; None where no standard is asked for.

    Raises
    ------
    EmptyBand
        A band is empty in a group and they may not be joined, or nobody has an age.
    """
    standard = analysis.standard
    if standard is None:
        return None
    codes, n_bands = _codes_of_standard(people, standard), len(standard.starts)
    groups = cross([stratum_of(people, name) for name in analysis.by]) if analysis.by else None
    group = np.zeros(len(codes), int) if groups is None else groups.codes
    n_groups = 1 if groups is None else max(len(groups.names), 1)
    aged = codes >= 0
    ns = np.bincount(group[aged] * n_bands + codes[aged], minlength=n_groups * n_bands)
    return studied_bands(standard, ns.reshape(n_groups, n_bands), analysis.collapse)


def band_codes(people: pa.Table, analysis: Analysis, bands: AgeBands) -> Int[np.ndarray, "people"]:
    """Band in force of each patient; -1 without age or outside the ages of the standard."""
    if analysis.standard is None:
        raise ValueError("bands without a standard population")
    codes = _codes_of_standard(people, analysis.standard)
    return np.where(codes < 0, -1, np.array(bands.band_of)[codes])


def _codes_of_standard(people: pa.Table, standard: StandardPopulation) -> np.ndarray:
    """Band of the standard, by completed years; -1 without age or below the first band."""
    ages = np.floor(ages_of(people))
    return np.where(np.isnan(ages), -1, np.searchsorted(standard.starts, ages, side="right") - 1)


def _standardised(reached: np.ndarray, codes: np.ndarray, bands: AgeBands, analysis: Analysis) -> Standardised | None:
    """None for a group of which nobody has an age within the standard."""
    aged, size = codes >= 0, len(bands.names)
    ns = np.bincount(codes[aged], minlength=size)
    if not ns.any():
        return None
    counts = np.bincount(codes[aged], reached[aged], minlength=size)
    return standardise(counts, ns, np.array(bands.weights), analysis.standard_interval)


def _corrected(apparent: Estimate, analysis: Analysis) -> Corrected | None:
    accuracy = analysis.accuracy
    if accuracy is None or not apparent.n or apparent.count is None or apparent.share is None:
        return None
    if accuracy.n_se is None or accuracy.n_sp is None:
        return rogan_gladen(apparent.count, apparent.n, accuracy.se, accuracy.sp, analysis.interval)
    return lang_reiczigel(apparent.share, apparent.n, accuracy.se, accuracy.n_se, accuracy.sp, accuracy.n_sp)
