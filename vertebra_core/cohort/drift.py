"""Whether a scanner measures today as it did before: the median of G of the newest studies beside all earlier ones.

Each study counts once, by the median of its vertebrae, as vertebrae of one person are alike. A shift is called drift
where it is large enough to matter and larger than chance makes it.
"""

import math
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vertebra_core.storage import Place

DRIFT_OF_G = 0.01
"""Shift of the median of G that matters. Intact vertebrae have G 0.857 +- 0.032 (readers of the paper's data), so 3.7 %
of them lie at or below 0.80; 0.01 less makes that 7.1 %: the apparent prevalence of mild deformities doubles."""
FEWEST_STUDIES = 20
"""On either side; with fewer, chance alone moves the median by more than `DRIFT_OF_G`."""
STANDARD_ERRORS = 3.0
"""By which a shift must exceed chance: one false alarm in 370 comparisons."""
SE_OF_MEDIAN = math.sqrt(math.pi / 2)
"""Standard error of a median in units of SD / sqrt(n), for a normal sample (asymptotic)."""
SD_OF_MAD = 1.4826
"""SD in units of the median absolute deviation, for a normal sample."""
NOT_TOLD = "not told"
STEADY, DRIFT, FEW = "steady", "drift", "too few studies"


@dataclass(frozen=True)
class Side:
    """Median G of studies of one scanner.

    Parameters
    ----------
    studies : int
        With at least one measured vertebra.
    median : float
        Over studies, of each study's median of G; NaN without any.
    sd : float
        Between studies, robust (from the median absolute deviation).
    """

    studies: int
    median: float
    sd: float


@dataclass(frozen=True)
class ScannerDrift:
    """One scanner, before and now."""

    scanner: str
    before: Side
    now: Side

    @property
    def shift(self) -> float:
        """Median G now minus before."""
        return self.now.median - self.before.median

    @property
    def standard_error(self) -> float:
        """Of `shift`."""
        return SE_OF_MEDIAN * math.sqrt(sum(side.sd**2 / max(side.studies, 1) for side in (self.before, self.now)))

    @property
    def verdict(self) -> str:
        """`STEADY`, `DRIFT` or `FEW`."""
        if min(self.before.studies, self.now.studies) < FEWEST_STUDIES:
            return FEW
        drifted = abs(self.shift) > max(DRIFT_OF_G, STANDARD_ERRORS * self.standard_error)
        return DRIFT if drifted else STEADY


def scanner_drift(snapshot: Place, new: Set[str]) -> list[ScannerDrift]:
    """Compare the new studies of a snapshot with its earlier ones, scanner by scanner.

    Parameters
    ----------
    snapshot : Place
    new : set of str
        Study keys.

    Returns
    -------
    list of ScannerDrift
        Scanners with a new study, in order of their names.
    """
    studies = study_medians(snapshot)
    studies["new"] = studies["study_key"].isin(list(new))
    drifts = []
    for scanner, group in studies.groupby("scanner", sort=True):
        is_new, g = group["new"].to_numpy(), group["g"].to_numpy()
        if is_new.any():
            drifts.append(ScannerDrift(str(scanner), side_of(g[~is_new]), side_of(g[is_new])))
    return drifts


def study_medians(snapshot: Place) -> pd.DataFrame:
    """Scanner ("maker model") and median of G of every study with a measured vertebra."""
    with (snapshot / "studies.parquet").open("rb") as file:
        table = pq.ParquetFile(file).read(["study_key", "manufacturer", "scanner"])
    known, codes, values = pd.Index(table["study_key"].to_pandas()), [], []
    with (snapshot / "vertebrae.parquet").open("rb") as file:
        for part in pq.ParquetFile(file).iter_batches(columns=["study_key", "g"]):
            part = part.filter(pc.field("g").is_valid())
            codes.append(known.get_indexer(part["study_key"].to_pandas()))
            values.append(part["g"].to_numpy())
    measured = pd.DataFrame({"study": np.concatenate([[], *codes]), "g": np.concatenate([[], *values])})
    medians = measured.groupby("study")["g"].median()
    frame = table.to_pandas().loc[medians.index.astype(int)]
    names = frame["manufacturer"].fillna("") + " " + frame["scanner"].fillna("")
    return pd.DataFrame(
        {"study_key": frame["study_key"], "scanner": names.str.strip().replace("", NOT_TOLD), "g": medians.to_numpy()}
    )


def side_of(medians: np.ndarray) -> Side:
    """What studies with these medians of G say together.

    Examples
    --------
    >>> side_of(np.array([0.85, 0.86, 0.90]))
    Side(studies=3, median=0.86, sd=0.0148...)
    """
    if not len(medians):
        return Side(0, math.nan, 0.0)
    median = float(np.median(medians))
    return Side(len(medians), median, SD_OF_MAD * float(np.median(np.abs(medians - median))))
