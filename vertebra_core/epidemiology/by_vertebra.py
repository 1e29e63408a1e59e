"""Prevalence by vertebra, with patients as clusters; by level also weighted by inverse coverage."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from vertebra_core.epidemiology.analysis import BOUNDS, Analysis, Group
from vertebra_core.epidemiology.cases import Cases
from vertebra_core.epidemiology.clusters import clustered_estimate
from vertebra_core.epidemiology.coverage import Coverage, LevelCoverage, hajek, level_weights, mean_over_levels
from vertebra_core.epidemiology.strata import (
    ALL,
    NOT_KNOWN,
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
    grouping = cross([_stratum_of_vertebrae(cases, name) for name in analysis.by])
    rows, ends = by_code(grouping.codes, len(grouping.names))
    groups = []
    for number, (name, strata) in enumerate(_named(grouping, analysis)):
        of = rows[ends[number] : ends[number + 1]]
        part = replace(cases, patient=cases.patient[of], level=cases.level[of], ratio=cases.ratio[of])
        # A study has one vertebra of a level, so that rows are patients, but for those without a level.
        known = strata["level"] != NOT_KNOWN
        people = np.arange(len(of)) if known else np.unique(part.patient, return_inverse=True)[1]
        counts = cluster_counts(part, people, int(people.max(initial=-1)) + 1, analysis)
        groups.append(counts.group(name, strata, slice(None), analysis))
    return groups


def by_code(codes: Int[np.ndarray, "rows"], size: int) -> tuple[Int[np.ndarray, "rows"], Int[np.ndarray, "ends"]]:
    """Rows in order of their code, and where each code begins (and the last one ends).

    Examples
    --------
    >>> rows, ends = by_code(np.array([1, 0, 1, 2]), 3)
    >>> rows.tolist(), ends.tolist()
    ([1, 0, 2, 3], [0, 1, 3, 4])
    """
    small = codes.astype(np.int16) if size <= np.iinfo(np.int16).max else codes  # 16 bits are sorted in one pass
    return np.argsort(small, kind="stable"), np.r_[0, np.cumsum(np.bincount(codes, minlength=size))]


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
    shown = level_codes(levels_in_view["level"])[of_index]
    in_view = np.bincount(shown[shown >= 0], minlength=len(LEVELS))
    of = np.isfinite(cases.ratio) & (cases.level >= 0)
    level, patient = cases.level[of], cases.patient[of]
    positive = reaches(cases.ratio[of], grading.moderate)
    mix = cross([stratum_of(cases.people, name) for name in COVERAGE_STRATA]).codes  # type: ignore[arg-type]
    weighted = level_weights(level, mix[patient], mix, len(LEVELS))
    judged, fractured = weighted.count(), weighted.count(positive)  # a patient has one vertebra of a level
    rows = []
    for number in np.flatnonzero(in_view + judged.sum(0)).tolist():
        n, k, weights = judged[:, number], fractured[:, number], weighted.by_cell[:, number]
        is_fractured = np.repeat([1.0, 0.0], len(n))
        share = hajek(is_fractured, np.tile(weights, 2), times=np.r_[k, n - k]) if n.any() else None
        never = float(weighted.never_seen[number])
        rows.append(LevelCoverage(LEVELS[number], int(in_view[number]), int(n.sum()), int(k.sum()), share, never))
    whole = np.isin(np.arange(len(LEVELS)), [LEVELS.index(name) for name in SPINE])[level]
    mean = None
    if whole.any():
        mean = mean_over_levels(positive[whole], weighted.weights[whole], level[whole], patient[whole])
    present = tuple(name for name in SPINE if judged[:, LEVELS.index(name)].any())
    return Coverage(tuple(rows), len(cases.people), COVERAGE_STRATA, weighted.capped, mean, present)
