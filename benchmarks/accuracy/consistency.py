"""One patient, one height: what changes when a scan is made thicker, noisier, turned, mirrored or cropped.

    python -m benchmarks.accuracy.consistency --images CT --annotations CT/annotations

Every copy is measured end to end and set beside the same scan as it is: change of heights and of G (mean, SD, mean
absolute), vertebrae lost, and the distance of the line from the true one. `--weights` names other weights, so that the
copies of a patient are measured by networks that never saw that patient (`leave_out` makes them); `--work` of a
`leave_out` run chooses them by itself. Thickness is tried on scans with slices up to 1.6 mm only.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.copies import copies_of, spacing_of
from benchmarks.accuracy.leave_out import folds_of, line_row
from benchmarks.accuracy.scoring import line_distances
from vertebra_core.errors import NotEvaluable
from vertebra_core.geometry import apply_affine
from vertebra_core.models import WEIGHTS, Models, load_models
from vertebra_core.settings import Settings
from vertebra_core.study import StudyResult, measure_study
from vertebra_core.training.real import annotated_volumes
from vertebra_core.training.spines import true_line
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

SAME_MM = 10.0
"""Centres nearer than this are the same vertebra: half the distance of two thoracic ones (docs/numbers.md)."""
SHARP_MM = 1.6


def main() -> None:
    """Measure all copies of all scans and print one table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--images", type=Path, required=True)
    asked.add_argument("--annotations", type=Path, required=True)
    asked.add_argument("--weights", type=Path, default=WEIGHTS)
    asked.add_argument("--work", type=Path)
    asked.add_argument("--folds", type=int, default=15)
    asked.add_argument("--only", nargs="*", default=[], help="names of scans")
    asked.add_argument("--json", type=Path)
    args = asked.parse_args()
    rows: list[dict] = []
    for name, volume, truth in annotated_volumes(args.images, args.annotations):
        if not args.only or name in args.only:
            rows += rows_of(name, volume, truth, load_models(weights_for(name, args)))
            print(f"{name} done", flush=True)
            if args.json:
                args.json.write_text(json.dumps(rows))
    print_rows(rows)


def weights_for(name: str, args: argparse.Namespace) -> Path:
    """Weights of the fold that left this scan out, or those named."""
    if args.work is None:
        return args.weights
    names = [path.stem for path in args.annotations.glob("*.json")]
    number = next(i for i, fold in enumerate(folds_of(names, args.folds)) if name in fold)
    return args.work / f"fold-{args.folds}-{number}"


def rows_of(name: str, volume: Volume, truth: Truth, models: Models) -> list[dict]:
    """One row for each copy of a scan."""
    settings = Settings()
    plain = measure_study(volume, models, settings)
    rows = [{"scan": name, "copy": "as it is", "line_mm": line_distances(plain.curve, truth).tolist()}]
    for copy, make in copies_of(volume, true_line(truth.points)).items():
        if copy.startswith("slices") and spacing_of(volume)[0] > SHARP_MM:
            continue
        other, moved = make()
        row: dict = {"scan": name, "copy": copy}
        moved_truth = Truth(truth.image, truth.reader, apply_affine(moved, truth.points), truth.complete, truth.levels)
        try:
            result = measure_study(other, models, settings)
            row["line_mm"] = line_distances(result.curve, moved_truth).tolist()
            row |= changes(plain, result, moved)
        except NotEvaluable as reason:
            row["reason"] = str(reason)
        rows.append(row)
    return rows


def changes(plain: StudyResult, other: StudyResult, moved: np.ndarray) -> dict:
    """Changes of heights [n, 3] and G [n] of the vertebrae that both measure, and how many are lost."""
    centres = apply_affine(moved, plain.points.mean(1))
    apart = np.linalg.norm(centres[:, None] - other.points.mean(1)[None], axis=-1)
    partner = apart.argmin(1)
    same = (apart.min(1) < SAME_MM) & plain.complete & other.complete[partner]
    first, second = (np.stack([s.ha_mm, s.hm_mm, s.hp_mm], 1) for s in (plain.sizes, other.sizes))
    return {
        "heights": (second[partner[same]] - first[same]).tolist(),
        "g": (other.sizes.g[partner[same]] - plain.sizes.g[same]).tolist(),
        "lost": int((plain.complete & (apart.min(1) >= SAME_MM)).sum()),
    }


def print_rows(rows: Sequence[dict]) -> None:
    """All copies, pooled over scans."""
    print(
        f"{'copy':22s} {'n':>4s} lost  mean of ha hm hp    SD of ha hm hp     MAE    G mean  SD    MAE"
        "   line: mean, 95th, worst, missing"
    )
    for copy in dict.fromkeys(row["copy"] for row in rows):
        own = [row for row in rows if row["copy"] == copy]
        line = np.concatenate([np.array(row.get("line_mm", []), float) for row in own])
        heights = np.concatenate([np.array(row.get("heights", []), float).reshape(-1, 3) for row in own])
        g = np.concatenate([np.array(row.get("g", []), float) for row in own])
        failed = [row["scan"] for row in own if "reason" in row]
        text = " " * 71
        if len(g):
            mean, sd = heights.mean(0), heights.std(0)
            text = (
                f"{len(g):4d} {sum(row.get('lost', 0) for row in own):4d} "
                f"{mean[0]:+6.2f}{mean[1]:+6.2f}{mean[2]:+6.2f}  {sd[0]:6.2f}{sd[1]:6.2f}{sd[2]:6.2f} "
                f"{np.abs(heights).mean():7.2f} {g.mean():+7.3f} {g.std():.3f} {np.abs(g).mean():.3f}"
            )
        print(f"{copy:22s} {text}   {line_row(line)} {' '.join(failed)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
