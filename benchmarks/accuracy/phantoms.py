"""``python -m benchmarks.accuracy.phantoms``: a hundred phantoms that no training has seen, and how they are measured.

Every phantom is drawn by a fixed seed that training does not use, scanned as a hospital would, measured end to end
from its voxels, and scored against its exact truth. One JSON a phantom is kept in the work folder, apart by weights,
so that a run that was stopped goes on where it was.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy.records import comparison, kept, measured
from vertebra_core.evaluation.evidence import gather
from vertebra_core.evaluation.summary import Summary, summarise
from vertebra_core.models import Models
from vertebra_core.phantom.anatomy import Phantom, random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import Scan, random_scan, render, truth_in_view

WORK = Path("build") / "accuracy"
HELD_OUT_SEED = (20, 2600)
"""Phantom i is drawn by the generator of (20, 2600, i); training draws by (seed, 1000, i) and (seed, i)."""
EVERYTHING = PatientOptions(
    fracture_probability=0.6, scoliosis_probability=0.35, ossification_probability=0.15, variant_probability=0.1,
    metastasis_probability=0.1, cement_probability=0.06, screw_probability=0.06, device_probability=0.15,
)  # fmt: skip
VIEWS = {"chest": 0.5, "abdomen": 0.2, "spine": 0.15, "trunk": 0.05, "lumbar": 0.1}
"""Share of each field of view."""
SLICES_MM = {0.7: 0.1, 0.8: 0.15, 1.0: 0.35, 1.25: 0.15, 1.5: 0.1, 2.0: 0.05, 2.5: 0.05, 3.0: 0.05}
NARROW_SHARE, NARROW_MM = 0.7, 300.0
"""Most fields are cut to this width in front and at the sides, which saves half of the time."""


@dataclass(frozen=True)
class Bar:
    """A figure, what it should be, and whether lower or higher is better."""

    name: str
    value: float | None
    bound: float
    lower: bool = True

    @property
    def met(self) -> bool:
        """Whether the figure reaches the bound; one that is not defined does not."""
        return self.value is not None and (self.value <= self.bound if self.lower else self.value >= self.bound)

    def row(self) -> str:
        """A row of a Markdown table."""
        shown = "n/a" if self.value is None else f"{self.value:.4g}"
        return f"| {self.name} | {shown} | {'<=' if self.lower else '>='} {self.bound:g} | {verdict(self.met)} |"


def verdict(met: bool) -> str:
    """How a bar is reported."""
    return "met" if met else "not reached"


def held_out(i: int) -> tuple[Phantom, Scan]:
    """Held-out phantom ``i`` and its scan."""
    rng = np.random.default_rng([*HELD_OUT_SEED, i])
    phantom = random_patient(rng, EVERYTHING)
    view = str(rng.choice(list(VIEWS), p=list(VIEWS.values())))
    pixel = float(rng.uniform(0.65, 0.95))
    step = float(rng.choice(list(SLICES_MM), p=list(SLICES_MM.values())))
    scan = random_scan(rng, phantom, view, (pixel, pixel, step))
    return phantom, narrowed(scan, NARROW_MM) if rng.random() < NARROW_SHARE else scan


def narrowed(scan: Scan, field_mm: float) -> Scan:
    """The same scan at most so wide: cut alike at both sides, but in front only, for the spine lies behind."""
    nz, ny, nx = scan.shape
    dx, dy, _ = scan.spacing
    columns, rows = min(nx, int(field_mm / dx)), min(ny, int(field_mm / dy))
    affine = scan.patient_from_voxel.copy()
    affine[:3, 3] += affine[:3, 0] * ((nx - columns) // 2) + affine[:3, 1] * (ny - rows)
    return replace(scan, shape=(nz, rows, columns), patient_from_voxel=affine)


def one_record(i: int, models: Models) -> dict:
    """Draw, scan and measure held-out phantom ``i``."""
    phantom, scan = held_out(i)
    return measured(render(phantom, scan), truth_in_view(phantom, scan), models)


def not_evaluable(records: Iterable[dict]) -> float:
    """Share of studies that were refused."""
    refused = [record["reason"] is not None for record in records]
    return sum(refused) / len(refused)


def bars(summary: Summary, refused: float) -> list[Bar]:
    """The bars of the held-out phantoms."""
    everything, moderate = summary.detection, {c.unit: c.auc for c in summary.classification if c.bound < 0.8}
    found = [
        Bar("localisation, mean 3D mm", everything.localization_mm.mean, 0.6),
        Bar("localisation, G <= 0.74, mean 3D mm", everything.localization_moderate_mm.mean, 0.8),
        Bar("recall", everything.recall.value, 0.998, lower=False),
        Bar("precision", everything.precision.value, 0.995, lower=False),
        Bar("AUC at least moderate, vertebrae", moderate["vertebra"], 0.98, lower=False),
        Bar("AUC at least moderate, patients", moderate["patient"], 0.97, lower=False),
        Bar("G, mean absolute error", summary.groups["all"]["all"].g.mae, 0.015),
        Bar("not evaluable, share", refused, 0.005),
    ]
    for name, share in summary.coverage.items():
        if share.n:
            found += [
                Bar(f"{name}: truth within 1.96 standard errors, at least", share.value, 0.93, lower=False),
                Bar(f"{name}: truth within 1.96 standard errors, at most", share.value, 0.97),
            ]
    return found


def report(summary: Summary, refused: float, count: int, digest: str) -> str:
    """Markdown: the bars, then heights and G by group."""
    detection = summary.detection
    counts = f"{detection.recall.n} complete vertebrae, {detection.recall.n - detection.recall.count} missed, "
    counts += f"{detection.precision.n - detection.precision.count} false"
    lines = [f"{count} held-out phantoms, {counts}; weights {digest}.", "", "| figure | measured | bar | |"]
    lines += ["| --- | --- | --- | --- |", *(bar.row() for bar in bars(summary, refused)), ""]
    lines += ["| group | n | ha bias | hm bias | hp bias | heights MAE mm | G bias | G SD | G MAE |"]
    lines += ["| --- |" + " --- |" * 8]
    for kind in ("all", "deformity", "spacing"):
        for name, one in summary.groups.get(kind, {}).items():
            figures = (one.ha_mm.bias, one.hm_mm.bias, one.hp_mm.bias, one.heights_mm.mae, one.g.bias, one.g.sd)
            shown = " | ".join("n/a" if f is None else f"{f:+.3f}" for f in (*figures, one.g.mae))
            lines.append(f"| {name} | {one.g.n} | {shown} |")
    return "\n".join(lines)


def parser(what: str, count: int) -> argparse.ArgumentParser:
    """Options that the studies share."""
    found = argparse.ArgumentParser(description=what)
    found.add_argument("--count", type=int, default=count, help=f"how many phantoms (default {count})")
    found.add_argument("--weights", type=Path, help="folder of weights (default: those that ship)")
    found.add_argument("--work", type=Path, default=WORK, help=f"folder of records (default {WORK})")
    found.add_argument("--json", action="store_true", help="print one JSON document instead of Markdown")
    return found


def loaded(weights: Path | None) -> Models:
    """The networks, on one thread."""
    import torch

    from vertebra_core.models import WEIGHTS, load_models

    torch.set_num_threads(1)
    return load_models(weights or WEIGHTS)


def main(words: list[str] | None = None) -> int:
    """Measure what is not on record yet, and report."""
    wanted = parser("Held-out phantoms.", 100).parse_args(words)
    models = loaded(wanted.weights)
    folder = wanted.work / "phantoms" / models.digest
    records = []
    for i in range(wanted.count):
        records.append(kept(folder / f"{i:03d}.json", lambda i=i: one_record(i, models)))
        print(f"{i + 1}/{wanted.count}", end="\r", file=sys.stderr, flush=True)
    refused = not_evaluable(records)
    summary = summarise(gather([comparison(f"{i:03d}", record) for i, record in enumerate(records)]))
    if wanted.json:
        print(json.dumps({bar.name: {"value": bar.value, "bound": bar.bound, "met": bar.met} for bar in
                          bars(summary, refused)}, indent=1))  # fmt: skip
    else:
        print(report(summary, refused, len(records), models.digest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
