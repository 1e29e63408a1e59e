"""How noisy the product's own heights are: the same spines read twice. ``make replicate-noise`` writes what is shipped.

    python -m benchmarks.replicate_noise --work build/replicate-noise --images CT --annotations CT/annotations

Phantoms are scanned twice, each time anew: other position of the slices, kernel, dose and field of view. Of annotated
CT only one scan exists: the second read is of a copy, as the patient might have lain otherwise (turned by some 3
degrees and moved by some 3 mm, sampled anew by linear interpolation) with 15 HU of noise added. Both reads are cut to
24 cm about the spine. One JSON a patient is kept in the work folder, apart by weights: a run that was stopped goes on.
`--out` names the file: vertebra_core/weights/noise.json is what `vertebra prevalence --noise shipped` reads.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from benchmarks.accuracy.copies import Copy, cropped, noisy
from benchmarks.accuracy.phantoms import EVERYTHING, NARROW_MM, SLICES_MM, VIEWS, narrowed
from benchmarks.accuracy.records import attempt
from vertebra_core.epidemiology.noise_fit import Reads
from vertebra_core.epidemiology.noise_model import NOISE_FILE, NoiseModel, write_noise
from vertebra_core.epidemiology.noise_pairs import Pairs, fit_by_slices, near
from vertebra_core.geometry import apply_affine
from vertebra_core.models import WEIGHTS, Models, load_models
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.scanner import random_scan, render
from vertebra_core.training.real import annotated_volumes
from vertebra_core.training.spines import true_line
from vertebra_core.volume import Volume

SEED = (20, 2700)
"""Phantom i is drawn by the generator of (20, 2700, i): neither training nor the accuracy study uses it."""
PHANTOMS = 48
TURN_DEG, MOVE_MM, NOISE_HU, FIELD_MM = 3.0, 3.0, 15.0, 240.0
THICKEST_MM = 3.3
"""Beyond it heights are places rather than measures (docs/accuracy.md)."""
STAYS = np.eye(4)
SOURCE = (
    "the product's own replicate reads: {phantoms} phantoms scanned twice, and {ct} public CT read again as turned and "
    "moved copies with noise. The networks have learnt from phantoms and from these CT, and copies share what both "
    "reads misread alike: measure your own archive's noise where you can"
)


def main() -> None:
    """Read what has not been read twice yet, for so many minutes at most; fit when all is there."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--work", type=Path, default=Path("build") / "replicate-noise")
    asked.add_argument("--images", type=Path)
    asked.add_argument("--annotations", type=Path)
    asked.add_argument("--phantoms", type=int, default=PHANTOMS)
    asked.add_argument("--minutes", type=float, default=1e6)
    asked.add_argument("--out", type=Path, default=WEIGHTS / NOISE_FILE)
    args = asked.parse_args()
    start, models = time.monotonic(), load_models()
    work = args.work / models.digest
    work.mkdir(parents=True, exist_ok=True)
    for name, make in patients(args):
        if time.monotonic() - start > 60 * args.minutes:
            print("out of time; the same command goes on")
            return
        file = work / f"{name}.json"
        if not file.exists():
            record = read_twice(*make(), models)
            file.with_suffix(".part").write_text(json.dumps(record))
            file.with_suffix(".part").rename(file)
            print(f"{name}: {len(record['first'])} vertebrae in both", flush=True)
    records = {file.stem: json.loads(file.read_text()) for file in sorted(work.glob("*.json"))}
    noise = fitted(records, models.digest)
    write_noise(args.out, noise)
    for one in noise.classes:
        sd, own = np.sqrt(np.diag(one.covariance)).round(2), one.fitted
        print(f"{one.slices_up_to_mm} mm: {own.n_patients} patients, {own.n_vertebrae} vertebrae, SD {sd}")
    print(f"written to {args.out}")


Pair = tuple[Volume, Volume, np.ndarray]


def patients(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Name and maker of both volumes with the map from the first to the second."""
    if args.images is not None:
        for name, volume, truth in annotated_volumes(args.images, args.annotations):
            if volume.head_foot_spacing <= THICKEST_MM:
                small, _ = cropped(volume, true_line(truth.points), FIELD_MM)
                yield f"ct-{name}", lambda small=small, name=name: (small, *lain_otherwise(small, name))
    for i in range(args.phantoms):
        yield f"phantom-{i:03d}", lambda i=i: scanned_twice(i)


def scanned_twice(i: int) -> Pair:
    """Phantom ``i`` in two scans of one view and slice distance."""
    rng = np.random.default_rng([*SEED, i])
    phantom = random_patient(rng, EVERYTHING)
    view = str(rng.choice(list(VIEWS), p=list(VIEWS.values())))
    pixel, step = float(rng.uniform(0.65, 0.95)), float(rng.choice(list(SLICES_MM), p=list(SLICES_MM.values())))
    scans = [narrowed(random_scan(rng, phantom, view, (pixel, pixel, step)), NARROW_MM) for _ in range(2)]
    first, second = (render(phantom, scan) for scan in scans)
    return first, second, STAYS


def lain_otherwise(volume: Volume, name: str) -> Copy:
    """The patient turned and moved about the middle of the volume, on the same grid of voxels, with noise."""
    rng = np.random.default_rng(list(name.encode()))
    middle = apply_affine(volume.patient_from_voxel, (np.array(volume.hu.shape[::-1]) - 1)[None] / 2)[0]
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, TURN_DEG, 3), degrees=True).as_matrix()
    moved[:3, 3] = middle + rng.normal(0, MOVE_MM, 3) - moved[:3, :3] @ middle
    # of each voxel of the copy, the place in the volume; scipy counts axes as z, y, x
    back = np.linalg.inv(volume.patient_from_voxel) @ np.linalg.inv(moved) @ volume.patient_from_voxel
    turned, shift = back[:3, :3][::-1, ::-1], back[:3, 3][::-1]
    hu = affine_transform(volume.hu.astype(np.float32), turned, shift, order=1, mode="nearest")
    copy, _ = noisy(replace(volume, hu=hu), NOISE_HU, seed=int(rng.integers(2**31)))
    return copy, moved


def read_twice(first: Volume, second: Volume, moved: np.ndarray, models: Models) -> dict:
    """Heights (mm) of the vertebrae that both reads measure, paired by place."""
    (one, reason), (other, second_reason) = attempt(first, models), attempt(second, models)
    spacing = max(first.head_foot_spacing, second.head_foot_spacing)
    if one is None or other is None:
        return {"spacing_mm": spacing, "first": [], "second": [], "reason": reason or second_reason}
    a, b = near(apply_affine(moved, one.points.mean(1)), other.points.mean(1))
    heights = [np.stack([r.sizes.ha_mm, r.sizes.hm_mm, r.sizes.hp_mm], 1) for r in (one, other)]
    whole = one.complete[a] & other.complete[b]
    return {
        "spacing_mm": spacing,
        "first": heights[0][a[whole]].tolist(),
        "second": heights[1][b[whole]].tolist(),
        "reason": None,
    }


def fitted(records: dict[str, dict], digest: str) -> NoiseModel:
    """The noise of all patients with vertebrae in both reads."""
    kept = {name: one for name, one in records.items() if one["first"]}
    heights = [np.stack([np.array(one["first"]), np.array(one["second"])], 1) for one in kept.values()]
    patient = np.repeat(np.arange(len(kept)), [len(own) for own in heights])
    spacing = np.ceil(10 * np.array([one["spacing_mm"] for one in kept.values()]) - 1e-6) / 10  # 3.27 mm up to 3.3
    together = np.concatenate(heights)
    pairs = Pairs(Reads(together, patient), spacing[patient], len(together), len(together), 0)
    ct = sum(name.startswith("ct-") for name in kept)
    source = SOURCE.format(phantoms=len(kept) - ct, ct=ct)
    classes = fit_by_slices(pairs, np.random.default_rng(0))
    return NoiseModel(datetime.now(UTC).date().isoformat(), digest, source, classes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
