"""Prevalence by vertebra, with patients as clusters; by level also weighted by inverse coverage."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from vertebra_core.epidemiology.analysis import BOUNDS, Analysis, Group
from vertebra_core.epidemiology.cases import Cases
from vertebra_core.epidemiology.clusters import clustered_estimate
from vertebra_core.epidemiology.coverage import Coverage, LevelCoverage, hajek, level_weights, mean_over_levels
from vertebra_core.epidemiology.strata import (
    ALL,
    Grouping,
    Stratum,
    cross,
    level_codes,
    level_stratum,
    place_in,
    stratum_of,
)
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import LEVELS
from vertebra_core.tables.grades import reaches

COVERAGE_STRATA = ("sex", "age_band")
"""Who shows a level is taken to depend on these; both also carry the risk of fracture."""
SPINE = (*(f"T{i}" for i in range(4, 13)), *(f"L{i}" for i in range(1, 5)))
"""The thirteen levels of the spinal deformity index (Kerkeni 2009)."""


@dataclass(frozen=True)
class ClusterCounts:
    """Vertebrae added up by patient: judged ones `n` and those that reach each bound `k`, both [clusters]."""

    n: Int[np.ndarray, "clusters"]
    k: dict[str, Int[np.ndarray, "clusters"]]

    def group(self, name: str, strata: dict[str, str], of: np.ndarray | slice, analysis: Analysis) -> Group:
        """The group that some of the clusters make."""
        n = self.n[of]
        there = n > 0
        shares = {
            bound: clustered_estimate(self.k[bound][of][there], n[there], analysis.vertebra_interval)
            for bound in BOUNDS
        }
        return Group(name, strata, int(there.sum()), **shares, standardised={}, corrected=None)


def cluster_counts(cases: Cases, cluster: Int[np.ndarray, "vertebrae"], size: int, analysis: Analysis) -> ClusterCounts:
    """Add up the judged vertebrae of `cases` by `cluster`, of which there are `size`."""
    judged = np.isfinite(cases.ratio)
    cluster, ratio = cluster[judged], cases.ratio[judged]
    return ClusterCounts(
        np.bincount(cluster, minlength=size),
        {
            bound: np.bincount(cluster[reaches(ratio, getattr(analysis.grading, bound))], minlength=size)
            for bound in BOUNDS
        },
    )


def vertebra_groups(cases: Cases, analysis: Analysis) -> tuple[Group, ...]:
    """A group for each that occurs, and all vertebrae last."""
    by_patient = cluster_counts(cases, cases.patient, len(cases.people), analysis)
    everybody = by_patient.group(ALL, {}, slice(None), analysis)
    if not analysis.by:
        return (everybody,)
    if "level" in analysis.by:
        groups = _groups_by_level(cases, analysis)
    else:
        grouping = cross([stratum_of(cases.people, name) for name in analysis.by])
        groups = [
            by_patient.group(name, strata, grouping.codes == number, analysis)
            for number, (name, strata) in enumerate(_named(grouping, analysis))
        ]
    return (*(group for group in groups if group.mild.n), everybody)


def _groups_by_level(cases: Cases, analysis: Analysis) -> list[Group]:
    """A patient is a cluster of its own in every group it has a vertebra in."""
    strata = [_stratum_of_vertebrae(cases, name) for name in analysis.by]
    grouping, n_people = cross(strata), max(len(cases.people), 1)
    pairs, cluster = np.unique(grouping.codes * n_people + cases.patient, return_inverse=True)
    counts = cluster_counts(cases, cluster, len(pairs), analysis)
    ends = np.searchsorted(pairs, np.arange(len(grouping.names) + 1) * n_people)  # pairs are sorted by group
    return [
        counts.group(name, strata, slice(ends[number], ends[number + 1]), analysis)
        for number, (name, strata) in enumerate(_named(grouping, analysis))
    ]


def _named(grouping: Grouping, analysis: Analysis) -> list[tuple[str, dict[str, str]]]:
    return [(", ".join(labels), dict(zip(analysis.by, labels, strict=True))) for labels in grouping.names]


def _stratum_of_vertebrae(cases: Cases, name: str) -> Stratum:
    if name == "level":
        return level_stratum(cases.level)
    own = stratum_of(cases.people, name)  # type: ignore[arg-type]
    return Stratum(own.labels, own.codes[cases.patient])


def coverage_by_level(cases: Cases, levels_in_view: pa.Table, grading: GradingSettings) -> Coverage:
    """How many show each level, how many of these could be judged, and the weighted share of at least moderate.

    Parameters
    ----------
    levels_in_view : pa.Table
        Rows of other studies than index studies are left out.
    """
    of_index = place_in(levels_in_view["study_key"], cases.people["study_key"].combine_chunks()) >= 0
    shown = level_codes(levels_in_view["level"].filter(pa.array(of_index)))
    in_view = np.bincount(shown[shown >= 0], minlength=len(LEVELS))
    of = np.isfinite(cases.ratio) & (cases.level >= 0)
    level, patient = cases.level[of].astype(int), cases.patient[of]
    positive = reaches(cases.ratio[of], grading.moderate)
    mix = cross([stratum_of(cases.people, name) for name in COVERAGE_STRATA]).codes  # type: ignore[arg-type]
    weighted = level_weights(level, mix[patient], mix, len(LEVELS))
    rows = []
    for number in np.flatnonzero(in_view + np.bincount(level, minlength=len(LEVELS))).tolist():
        here = level == number
        n = int(here.sum())
        share = hajek(positive[here], weighted.weights[here], patient[here]) if n else None
        never = float(weighted.never_seen[number])
        rows.append(LevelCoverage(LEVELS[number], int(in_view[number]), n, int(positive[here].sum()), share, never))
    whole = np.isin(level, [LEVELS.index(name) for name in SPINE])
    mean = None
    if whole.any():
        mean = mean_over_levels(positive[whole], weighted.weights[whole], level[whole], patient[whole])
    present = tuple(name for name in SPINE if (level[whole] == LEVELS.index(name)).any())
    return Coverage(tuple(rows), len(cases.people), COVERAGE_STRATA, weighted.capped, mean, present)
