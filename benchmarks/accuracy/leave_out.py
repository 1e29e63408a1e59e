"""Every annotated patient measured by networks that have never seen that patient.

    python -m benchmarks.accuracy.leave_out --images CT --annotations CT/annotations --work W --folds 15

Trains curve, detector and refiner anew for each fold with the commands' own functions and measures what was left out
end to end. A run that was stopped goes on; `--only curve`, `--only keypoints` and `--only measure` part the work
between processes. With as many folds as patients this is leave-one-patient-out.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.records import kept
from benchmarks.accuracy.scoring import print_scores, read_scores, score
from vertebra_core.evaluation.evidence import Comparison, gather
from vertebra_core.models import WEIGHTS, load_models
from vertebra_core.settings import Settings
from vertebra_core.training import curve, keypoints
from vertebra_core.training.real import annotated_volumes

SPARE = ("levels.safetensors",)
"""Weights that these figures do not depend on: taken as they ship where a fold has none of its own."""


SPACINGS = (("<= 1.6 mm", 0.0, 1.6), ("<= 3.3 mm", 1.6, 3.3), ("> 3.3 mm", 3.3, np.inf), ("all", 0.0, np.inf))


def folds_of(names: Sequence[str], folds: int) -> list[list[str]]:
    """Names left out in each fold: every `folds`-th of the sorted names.

    Examples
    --------
    >>> folds_of(["c", "a", "b"], 2)
    [['a', 'c'], ['b']]
    """
    return [sorted(names)[i::folds] for i in range(folds)]


def main() -> None:
    """Train, measure, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--images", type=Path, required=True)
    asked.add_argument("--annotations", type=Path, required=True)
    asked.add_argument("--work", type=Path, required=True)
    asked.add_argument("--folds", type=int, default=15)
    asked.add_argument("--only", choices=["curve", "keypoints", "measure", "print"])
    asked.add_argument("--curve-steps", type=int, default=2300)
    asked.add_argument("--detector-steps", type=int, default=850)
    asked.add_argument("--refiner-steps", type=int, default=2600)
    args = asked.parse_args()
    names = sorted(path.stem for path in args.annotations.glob("*.json"))
    for number, left_out in enumerate(folds_of(names, args.folds)):
        weights = args.work / f"fold-{args.folds}-{number}"
        if args.only in (None, "curve"):
            train_curve(args, weights, left_out)
        if args.only in (None, "keypoints"):
            train_keypoints(args, weights, left_out)
        if args.only in (None, "measure"):
            measure(args, weights, left_out)
    if args.only in (None, "measure", "print"):
        report(args.work / f"scores-{args.folds}")


def train_curve(args: argparse.Namespace, weights: Path, left_out: Sequence[str]) -> None:
    """The first network of a fold."""
    if not (weights / "curve.safetensors").exists():
        curve.train(args.images, args.annotations, args.work, weights, leave_out=left_out, steps=args.curve_steps)


def train_keypoints(args: argparse.Namespace, weights: Path, left_out: Sequence[str]) -> None:
    """Detector and refiner of a fold."""
    if not (weights / "detector.safetensors").exists():
        keypoints.train(
            args.images,
            args.annotations,
            args.work,
            weights,
            leave_out=left_out,
            detector_steps=args.detector_steps,
            refiner_steps=args.refiner_steps,
        )


def measure(args: argparse.Namespace, weights: Path, left_out: Sequence[str]) -> None:
    """What was left out, end to end."""
    for name in SPARE:
        if (WEIGHTS / name).exists() and not (weights / name).exists():
            shutil.copy(WEIGHTS / name, weights / name)
    models = load_models(weights)
    for name, volume, truth in annotated_volumes(args.images, args.annotations):
        if name in left_out:
            path = args.work / f"scores-{args.folds}" / f"{name}.json"
            record = kept(path, lambda volume=volume, truth=truth: score(volume, truth, models, Settings()))
            print(f"{name}: {len(record['g'])} vertebrae, {record['reason'] or 'measured'}", flush=True)


def report(folder: Path) -> None:
    """All tables, and the line's distances."""
    scores = read_scores(folder)
    print_scores(scores)
    print_calibration(scores)
    print("\nCentre line, mm: mean, 95th percentile, worst, slices of the spine it does not reach")
    everything = []
    for record, one in scores:
        away = np.array(record["line_mm"], float)
        everything.append(away)
        print(f"  {one.name:26s} {line_row(away)}")
    print(f"  {'all':26s} {line_row(np.concatenate(everything))}")
    false, known = np.sum([record["false_slices"] for record, _ in scores], axis=0)
    print(f"Slices known to show no vertebral body that are called spine: {false} of {known}")


def print_calibration(scores: Sequence[tuple[dict, Comparison]]) -> None:
    """By what the standard errors would have to be multiplied for 1.96 of them to hold 95 % of the truths."""
    vertebrae = gather([comparison for _, comparison in scores]).vertebrae
    ratio = np.abs(vertebrae.difference) / (1.96 * vertebrae.standard_errors)
    print("Standard errors of ha, hm, hp, G: share of truths inside 1.96 of them, and the factor that makes it 95 %")
    for name, low, high in SPACINGS:
        own = ratio[(vertebrae.spacing_mm > low) & (vertebrae.spacing_mm <= high)]
        own = own[np.isfinite(own).all(1)]
        if len(own):
            inside, factor = (own <= 1).mean(0), np.percentile(own, 95, axis=0)
            numbers = " ".join(f"{share:.2f} (x {f:.2f})" for share, f in zip(inside, factor, strict=True))
            print(f"  {name:14s} {len(own):4d} vertebrae  {numbers}")


def line_row(away: np.ndarray) -> str:
    """Mean, 95th percentile, worst, and how many are missing."""
    known = away[np.isfinite(away)]
    if not known.size:
        return "no line"
    return f"{known.mean():.2f} {np.percentile(known, 95):.2f} {known.max():.2f} {np.isnan(away).sum()} of {away.size}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
