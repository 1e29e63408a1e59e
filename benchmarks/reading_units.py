"""Whether the check of units refuses a true CT, and which wrong scales it sees: ``python -m benchmarks.reading_units``.

Every real CT at hand is judged whole, cut to 12 and 6 cm round its spine, and with 0.7 and 1.3 times the contrast: all
must pass untouched. Then its values are spoilt in known ways, which must be mended or refused; one line a way.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vertebra_core.errors import NotEvaluable
from vertebra_core.geometry import apply_affine
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.hounsfield import ValueCounts, mend_units, refuse_odd_values
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings
from vertebra_core.volume import AIR_HU, Volume

SETTINGS = ReadingSettings()
Spoil = Callable[[np.ndarray], np.ndarray]
SPOILT: dict[str, Spoil] = {
    "intercept lost (+1024)": lambda hu: np.maximum(hu + 1024, 0),
    "offset of 1000 left in": lambda hu: np.maximum(hu + 1000, 0),
    "sign lost": lambda hu: np.where(hu < 0, hu + 65536, hu),
    "doubled": lambda hu: 2 * hu,
    "halved": lambda hu: hu // 2,
    "a tenth": lambda hu: hu // 10,
    "intercept twice": lambda hu: hu - 1024,
    "window of -160 to 240": lambda hu: np.clip(hu, -160, 240),
    "window as 0 to 255": lambda hu: (np.clip(hu, -160, 240) + 160) * 255 // 400,
    "attenuation, 1/cm": lambda hu: (hu / 1000 + 1) * 0.2,
    "attenuation x 10000": lambda hu: np.maximum(2000 + 2 * hu, 0),
}


def judged(values: np.ndarray) -> str:
    """What becomes of a volume: "taken", "mended" or "refused"."""
    fits = np.abs(values).max() < 2**15 and values.dtype.kind != "f"
    values = values.astype(np.int16 if fits else np.float32)
    counts, padded = ValueCounts(), 0
    for plane in values:
        counts.add(plane)
        outside = plane < SETTINGS.air_below_hu
        plane[outside] = AIR_HU
        padded += int(outside.sum())
    try:
        values, mended = mend_units(values, counts, False, SETTINGS.air_below_hu)
        refuse_odd_values(values, counts, padded, trusted=False)
    except NotEvaluable:
        return "refused"
    return "mended" if mended else "taken"


def cuts(volume: Volume, annotation: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The volume, and what remains of it 12 and 6 cm round its spine."""
    yield "whole", volume.hu
    vertebrae = json.loads(annotation.read_text())["vertebrae"] if annotation.is_file() else []
    points = np.array([one["keypoints"] for one in vertebrae if one["complete"]], float).reshape(-1, 3)
    if not len(points):
        return
    centre = apply_affine(np.linalg.inv(volume.patient_from_voxel), points.mean(0))
    long_axis = int(np.abs(volume.patient_from_voxel[2, :3]).argmax())
    for width_cm in (12, 6):
        half = 5 * width_cm / volume.spacing
        ranges = [slice(max(0, int(c - h)), int(c + h)) for c, h in zip(centre, half, strict=True)]
        ranges[long_axis] = slice(None)
        yield f"{width_cm} cm", volume.hu[tuple(reversed(ranges))]


def main() -> None:
    """Judge, and print what became of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of real CTs, with their annotations in annotations/")
    arguments = parser.parse_args()
    ends: dict[str, list[str]] = defaultdict(list)
    for series in find_series([arguments.images], SETTINGS).series:
        if series.decision is not None or series.path.startswith("labels"):
            continue
        volume = read_volume(series, SETTINGS)
        for name, hu in cuts(volume, arguments.images / "annotations" / f"{series.path.split('/')[0]}.json"):
            ends[f"true, {name}"].append(judged(hu.copy()))
        few = volume.hu[::2, ::2, ::2].astype(np.int32)
        for factor in (0.7, 1.3):
            ends[f"true, contrast x {factor}"].append(judged(np.rint(np.where(few > 0, few * factor, few)).astype(int)))
        for name, spoil in SPOILT.items():
            ends[name].append(judged(spoil(few)))
    print("| values | CTs | taken | mended | refused |\n|---|---|---|---|---|")
    for name, each in ends.items():
        print(f"| {name} | {len(each)} | {each.count('taken')} | {each.count('mended')} | {each.count('refused')} |")


if __name__ == "__main__":
    main()
