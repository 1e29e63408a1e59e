"""Single readers corrected, beside the mean of three: the nearest thing to truth that real spines offer.

The readers' keypoints judge and calibrate only. The mean of three readers still holds a third of the noise, and with so
few patients a share of patients is known to some ten points: this can show a gross error, not rank two estimators.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vertebra_core.epidemiology.noise_fit import FittedNoise, Reads, fit_noise
from vertebra_core.epidemiology.noise_sampler import NoiseDraws, NoisyCases, Tally, sample_curves
from vertebra_core.evaluation.readings import find_spacing, join, read_series, read_spacings
from vertebra_core.measure import genant_index
from vertebra_core.tables.columns import LEVELS

THRESHOLDS = np.array([0.74, 0.80])
READERS = 3
DRAWS, BURN_IN = 800, 200


def read_by_three(folder: Path) -> tuple[Reads, np.ndarray]:
    """Vertebrae from T4 down that three readers marked, and their levels as positions in `LEVELS`."""
    readings = join(read_series(folder), read_spacings(find_spacing(folder)))
    first = [np.flatnonzero(readings.vertebra == v) for v in range(len(readings.n_of_vertebra))]
    rows = [own[np.argsort(readings.reader[own])] for own in first if len(own) >= READERS]
    names = [(readings.levels[own[0]] or "").replace("Th", "T") for own in rows]
    keep = [i for i, name in enumerate(names) if name in LEVELS and LEVELS.index(name) >= LEVELS.index("T4")]
    table = np.array([rows[i][:READERS] for i in keep])
    level = np.array([LEVELS.index(names[i]) for i in keep])
    series = readings.series[table[:, 0]]
    order = np.lexsort((level, series))
    patient = np.unique(series[order], return_inverse=True)[1]
    return Reads(readings.heights[table[order]], patient), level[order]


def readers_study(folder: Path, seed: int = 0) -> list[str]:
    """The tables of docs/noise.md."""
    reads, level = read_by_three(folder)
    rng = np.random.default_rng(seed)
    noises = {
        "normal": fit_noise(reads, rng, student=False, shared=False),
        "Student": fit_noise(reads, rng, shared=False),
        "Student + shared": fit_noise(reads, rng),
    }
    n_patients = int(reads.patient[-1]) + 1
    lines = [f"{len(level)} vertebrae of {n_patients} patients, read by three."]
    lines += ["", "| noise | C | Cp | nu | covariance of one read, mm2 |", "| --- | --- | --- | --- | --- |"]
    lines += [_noise_line(name, one) for name, one in noises.items()]
    lines += ["", "| read | noise | v80 | p80 | v74 | p74 |", "| --- | --- | --- | --- | --- | --- |"]
    whole = reads.heights.mean(1)
    singles = [_naive(_cases(reads.heights[:, k], level, reads.patient)) for k in range(READERS)]
    lines += [_line(f"reader {k + 1}", "as read", one) for k, one in enumerate(singles)]
    average = _naive(_cases(whole, level, reads.patient))
    lines += [_line("mean of three", "as read", average), _line("in the limit", "", _limit(reads, level, singles))]
    for name, noise in noises.items():
        for k in range(READERS):
            lines.append(
                _corrected(f"reader {k + 1}", name, reads.heights[:, k], level, reads.patient, noise.draws(), rng)
            )
        lines.append(
            _corrected("mean of three", name, whole, level, reads.patient, noise.draws().times(READERS**-0.5), rng)
        )
    return lines


def _cases(heights: np.ndarray, level: np.ndarray, patient: np.ndarray) -> NoisyCases:
    ratios, n = np.log(heights[:, :2] / heights[:, 2:]), len(heights)
    own = np.unique(level, return_inverse=True)[1]
    return NoisyCases(
        ratios, heights.mean(1), own, patient, np.ones(int(patient[-1]) + 1, bool), np.zeros(n, dtype=int)
    )


def _naive(cases: NoisyCases) -> np.ndarray:
    g = genant_index(np.exp(np.c_[cases.ratios, np.zeros(len(cases.level))]))
    return np.concatenate(Tally(cases, THRESHOLDS).shares(g))


def _limit(reads: Reads, level: np.ndarray, singles: Sequence[np.ndarray]) -> np.ndarray:
    """Straight line over 1/k through the shares of one, two and three readers, at infinitely many."""
    pairs = [
        _naive(_cases(reads.heights[:, [a, b]].mean(1), level, reads.patient)) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    three = _naive(_cases(reads.heights.mean(1), level, reads.patient))
    shares = np.stack([np.mean(singles, 0), np.mean(pairs, 0), three])
    return np.polyfit([1, 1 / 2, 1 / 3], shares, 1)[1]


def _corrected(
    who: str, name: str, heights: np.ndarray, level: np.ndarray, patient: np.ndarray, noise: NoiseDraws, rng
) -> str:
    curves = sample_curves(_cases(heights, level, patient), noise, THRESHOLDS, rng, DRAWS, BURN_IN)
    drawn = np.concatenate([curves.vertebrae, curves.patients], 1)
    own = np.concatenate([curves.sample_vertebrae, curves.sample_patients], 1).mean(0)
    return _line(who, f"corrected, {name}", own, np.quantile(drawn, [0.025, 0.975], axis=0))


def _line(who: str, how: str, shares: np.ndarray, interval: np.ndarray | None = None) -> str:
    v74, v80, p74, p80 = (
        f"{100 * share:.1f}" + ("" if interval is None else f" ({100 * interval[0][i]:.0f}-{100 * interval[1][i]:.0f})")
        for i, share in enumerate(shares)
    )
    return f"| {who} | {how} | {v80} | {p80} | {v74} | {p74} |"


def _noise_line(name: str, one: FittedNoise) -> str:
    times = one.freedom / (one.freedom - 2)
    whole = np.median(one.scale * times[:, None, None] + one.shared, 0)
    scale, shared = np.median(one.scale, 0), np.median(one.shared, 0)
    return f"| {name} | {_matrix(scale)} | {_matrix(shared)} | {np.median(one.freedom):.1f} | {_matrix(whole)} |"


def _matrix(values: np.ndarray) -> str:
    return f"{values[0, 0]:.2f} {values[0, 1]:.2f} {values[1, 1]:.2f}"
