"""Does the noise correction tell the truth? Made cohorts with known true heights: ``make noise-study``.

    python -m benchmarks.noise --out build/noise-study.jsonl --seconds 280
    python -m benchmarks.noise --readers ../shared/reader_keypoints/anchorfree2023

Every data set of every situation (`SITUATIONS`) is one line of the file; a run goes on where the last one stopped and
ends with the table of docs/noise.md. Coverage is of the 95 % interval, over the share in the population that the data
set was drawn from. `--readers` corrects single readers and compares them with the mean of three, on the public
annotations, which are judged and calibrated with here and never shipped.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.noise_cases import RARE, USUAL, WIDE, Reading, Spines, World, make_spines, read_heights, shares_below
from vertebra_core.epidemiology.noise_fit import Reads, fit_noise
from vertebra_core.epidemiology.noise_sampler import NEARLY_NORMAL, NoiseDraws, NoisyCases, sample_curves

THRESHOLDS = np.array([0.74, 0.80])
NAMES = ("v74", "v80", "p74", "p80")
BURN_IN, DRAWS = 150, 300
REPLICATED, NOISE_DRAWS = 40, 100
TRUTH_PATIENTS, TRUTH_SEED = 200_000, 20_000_001
T4 = Reading(freedom=4)
OUTLIERS = Reading(outliers=0.03)
LIKE_READERS = Reading(sd_mm=0.68, correlation=0.42, freedom=5, shared=0.15)
"""Errors as of the readers of the public annotations: heavy tails, heights of a vertebra and vertebrae of a patient err
together."""


@dataclass(frozen=True)
class Situation:
    """One row of the table.

    Parameters
    ----------
    reading : Reading
        How heights are read.
    sets : int
        Data sets of a whole study.
    world : World
    n : int
        Patients.
    noise : str
        What the correction is told: "known" (the true covariance as normal noise), "normal" (fitted to 40 patients
        read twice, as normal noise), "student" (the same with Student tails), "full" (with what a patient shares too).
    times : float
        Its standard deviations are multiplied by this.
    """

    reading: Reading
    sets: int = 20
    world: World = USUAL
    n: int = 500
    noise: str = "known"
    times: float = 1.0


BASE = Situation(Reading(), sets=200)
SITUATIONS = {
    "noise 0.7 mm": BASE,
    "noise 0.5 mm": Situation(Reading(sd_mm=0.5)),
    "noise 1.0 mm": Situation(Reading(sd_mm=1.0)),
    "no noise": Situation(Reading(sd_mm=0.0), sets=10),
    "wide healthy spread": Situation(Reading(), world=WIDE),
    "rare fractures": Situation(Reading(), sets=100, world=RARE),
    "noise from 40 patients read twice": Situation(Reading(), sets=100, noise="full"),
    "2000 patients": Situation(Reading(), sets=10, n=2000),
    "150 patients": Situation(Reading(), sets=60, n=150),
    "noise told 20 % too small": Situation(Reading(), times=0.8),
    "noise told 20 % too large": Situation(Reading(), times=1.2),
    "t4 tails, taken as normal": Situation(T4, noise="normal"),
    "3 % outliers, taken as normal": Situation(OUTLIERS, noise="normal"),
    "t4 tails, fitted": Situation(T4, sets=100, noise="full"),
    "3 % outliers, fitted": Situation(OUTLIERS, sets=100, noise="full"),
    "like readers, taken as normal": Situation(LIKE_READERS, noise="normal"),
    "like readers, without the shared part": Situation(LIKE_READERS, noise="student"),
    "like readers, fitted": Situation(LIKE_READERS, sets=200, noise="full"),
    "middle height 0.5 mm too small": Situation(replace(Reading(), bias_mm=(0.0, -0.5, 0.0))),
    "heights shrunk 10 % to the mean, noise 0.5 mm": Situation(Reading(sd_mm=0.5, shrink=0.1)),
}


def cases_of(spines: Spines, heights: np.ndarray) -> NoisyCases:
    """What the sampler takes; every patient counts."""
    ratios = np.log(heights[:, :2] / heights[:, 2:])
    n = len(heights)
    return NoisyCases(
        ratios, heights.mean(1), spines.level, spines.patient, np.ones(spines.n, bool), np.zeros(n, dtype=int)
    )


def known_noise(covariance: np.ndarray) -> NoiseDraws:
    """Normal noise of exactly this covariance, mm2."""
    return NoiseDraws(np.array([[covariance]]), np.zeros((1, 1, 2, 2)), np.array([[NEARLY_NORMAL]]))


def noise_of(one: Situation, rng: np.random.Generator) -> NoiseDraws:
    """What the correction is told of the noise."""
    if one.noise == "known":
        return known_noise(one.reading.covariance()).times(one.times)
    spines = make_spines(REPLICATED, rng, one.world)
    twice = np.stack([read_heights(spines, rng, one.reading) for _ in range(2)], 1)
    return fit_noise(Reads(twice, spines.patient), rng, one.noise != "normal", one.noise == "full", NOISE_DRAWS).draws()


def run_one(name: str, seed: int) -> dict:
    """One data set of a situation: shares in the sample without noise, as read, and corrected with its interval."""
    one = SITUATIONS[name]
    rng = np.random.default_rng([seed, list(SITUATIONS).index(name)])
    spines = make_spines(one.n, rng, one.world)
    heights = read_heights(spines, rng, one.reading)
    cases = cases_of(spines, heights)
    naive = sample_curves(cases, known_noise(np.zeros((2, 2))), THRESHOLDS, rng, DRAWS, 0)
    curves = sample_curves(cases, noise_of(one, rng), THRESHOLDS, rng, DRAWS, BURN_IN)
    row = {"situation": name, "seed": seed, "free": _flat(shares_below(spines, spines.heights, THRESHOLDS))}
    for label, drawn in (("naive", naive), ("corrected", curves)):
        values = np.concatenate([drawn.vertebrae, drawn.patients], 1)
        own = np.concatenate([drawn.sample_vertebrae, drawn.sample_patients], 1).mean(0)
        row[label] = own.round(6).tolist()
        row[f"{label}_interval"] = np.quantile(values, [0.025, 0.975], axis=0).round(6).tolist()
    return row


def truths() -> dict[World, np.ndarray]:
    """Shares in the population of each world: v74, v80, p74, p80."""
    found = {}
    for world in {one.world for one in SITUATIONS.values()}:
        spines = make_spines(TRUTH_PATIENTS, np.random.default_rng(TRUTH_SEED), world)
        found[world] = np.array(_flat(shares_below(spines, spines.heights, THRESHOLDS)))
    return found


def summary(rows: Sequence[dict]) -> list[str]:
    """The table of docs/noise.md."""
    truth = truths()
    lines = [
        "| situation | sets | true p80 | naive | corrected | bias | RMSE | sample RMSE | p80 covered | v80 covered "
        "| true p74 | naive | corrected | p74 covered |",
        "|" + " --- |" * 14,
    ]
    for name, one in SITUATIONS.items():
        own = [row for row in rows if row["situation"] == name]
        if own:
            lines.append(_line(name, own, truth[one.world]))
    return lines


def _line(name: str, rows: Sequence[dict], truth: np.ndarray) -> str:
    free, naive, corrected = (100 * np.array([row[key] for row in rows]) for key in ("free", "naive", "corrected"))
    low, high = (100 * np.array([row["corrected_interval"][end] for row in rows]) for end in (0, 1))
    truth = 100 * truth
    covered = ((low <= truth) & (truth <= high)).mean(0)
    error = corrected - truth
    rmse, sample = (np.sqrt(((values - truth) ** 2).mean(0)) for values in (corrected, free))
    p74, p80, v80 = NAMES.index("p74"), NAMES.index("p80"), NAMES.index("v80")
    cells = [
        name,
        f"{len(rows)}",
        *(f"{values[p80]:.1f}" for values in (truth, naive.mean(0), corrected.mean(0))),
        f"{error.mean(0)[p80]:+.1f}",
        f"{rmse[p80]:.1f}",
        f"{sample[p80]:.1f}",
        f"{100 * covered[p80]:.0f} %",
        f"{100 * covered[v80]:.0f} %",
        *(f"{values[p74]:.1f}" for values in (truth, naive.mean(0), corrected.mean(0))),
        f"{100 * covered[p74]:.0f} %",
    ]
    return f"| {' | '.join(cells)} |"


def planned(sets: int | None) -> list[tuple[str, int]]:
    """Situation and seed of every data set, in an order that leaves no situation behind."""
    jobs = [(name, seed, sets or one.sets) for name, one in SITUATIONS.items() for seed in range(sets or one.sets)]
    return [(name, seed) for name, seed, count in sorted(jobs, key=lambda job: (job[1] + 1) / job[2])]


def study(out: Path, seconds: float, sets: int | None) -> None:
    """Run what is not in the file yet, all situations at the same pace, for this long; then print the table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(row["situation"], row["seed"]) for row in rows}
    start = time.monotonic()
    with out.open("a") as stream:
        for name, seed in planned(sets):
            if (name, seed) in done:
                continue
            if time.monotonic() - start > seconds:
                break
            rows.append(run_one(name, seed))
            stream.write(json.dumps(rows[-1]) + "\n")
            stream.flush()
    print("\n".join(summary(rows)))


def _flat(shares: tuple[np.ndarray, ...]) -> list[float]:
    return [float(value) for part in shares for value in part]


def main() -> None:
    """Run the study, or the readers."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, default=Path("build/noise-study.jsonl"))
    asked.add_argument("--seconds", type=float, default=1e9)
    asked.add_argument("--sets", type=int, help="data sets of every situation, instead of its own number")
    asked.add_argument(
        "--readers", type=Path, help="folder of readers' files: single readers against the mean of three"
    )
    args = asked.parse_args()
    if args.readers:
        from benchmarks.noise_readers import readers_study

        print("\n".join(readers_study(args.readers)))
        return
    study(args.out, args.seconds, args.sets)


if __name__ == "__main__":
    main()
