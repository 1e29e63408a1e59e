"""``python -m benchmarks.accuracy.mask_way``: heights read from keypoints beside heights read from masks.

The mask way is what TotalSegmentator's spine report does, written anew from its description: bodies as masks on a grid
of 1.5 mm, heights by marching along the vertebra's axis at 15, 50 and 85 % of the depth, in sagittal slices 5 mm apart
through the middle half of the body, of which the one with the largest spread is kept; a fracture where
1 - min / max > 0.20. It is given its best case: exact masks of phantoms, whatever the slices of the scan.

Three sections: the same phantoms for both ways at 1, 2.5 and 5 mm; the real example CT with its published heights; and
intact vertebrae of 20.0 to 30.0 mm in steps of 0.1 mm (``--steps``), where the steps of a mask show.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy.phantoms import loaded, parser
from benchmarks.accuracy.records import comparison, kept, measured
from vertebra_core.evaluation.evidence import gather
from vertebra_core.measure import genant_index
from vertebra_core.models import Models
from vertebra_core.phantom.anatomy import Phantom, random_patient
from vertebra_core.phantom.levels import level_size
from vertebra_core.phantom.on_keypoints import phantom_on_keypoints
from vertebra_core.phantom.patient import PLAIN, PatientOptions
from vertebra_core.phantom.scanner import Scan, axial_scan, random_scan, render, truth_in_view
from vertebra_core.phantom.vertebra import Vertebra
from vertebra_core.study import measure_study

SEED = (20, 2602)
GRID_MM = 1.5
DEPTHS = (0.15, 0.50, 0.85)
SLICE_STEP_MM = 5.0
MIDDLE_HALF = (0.25, 0.75)
THRESHOLD = 0.20
SLICES_MM = (1.0, 2.5, 5.0)
PIXEL_MM = 0.7
INTACT_G = 0.80
"""Above it a vertebra is intact."""
STEPS_MM = np.round(np.arange(20.0, 30.05, 0.1), 1)
STEP_LEVELS = ("T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1", "L2")
STEP_COLUMNS = 12
"""The heights are dealt out to so many columns of eight or nine vertebrae, growing downward as in a spine."""
STEP_MIDDLE = 0.93
"""Middle over end height of the intact vertebrae of `STEPS_MM`."""
REAL = Path(__file__).resolve().parents[3] / "shared" / "real_ct"


def body_mask(vertebra: Vertebra) -> np.ndarray:
    """Exact mask [x, y, z] of a body on a grid of 1.5 mm along the patient's axes."""
    low, high = vertebra.box
    start = np.floor(low / GRID_MM) * GRID_MM
    axes = [np.arange(a, b + GRID_MM, GRID_MM) for a, b in zip(start, high, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    inside = vertebra.body_depth(*np.ascontiguousarray(places.T)) >= 0
    return inside.reshape([len(axis) for axis in axes])


def mask_heights(mask: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Heights (front, middle, back) mm of the sagittal slice in which they differ most; NaN where there is no mask.

    Parameters
    ----------
    mask : array [x, y, z], bool
    axis : array [3]
        Upward along the spine, from the centres of the neighbours.
    """
    places = np.argwhere(mask)
    if not len(places):
        return np.full(3, np.nan)
    low, high = places[:, 0].min(), places[:, 0].max()
    middle_half = np.quantile([low, high], MIDDLE_HALF)
    columns = np.arange(middle_half[0], middle_half[1] + 1e-6, SLICE_STEP_MM / GRID_MM)
    across = np.array([axis[1], axis[2]]) / np.hypot(axis[1], axis[2])
    tried = [slice_heights(mask[round(x)], across) for x in columns]
    return max(tried, key=spread)


def spread(heights: np.ndarray) -> float:
    """1 - min / max of three heights; -1 where one is missing."""
    return float(1 - heights.min() / heights.max()) if np.isfinite(heights).all() and heights.min() > 0 else -1.0


def slice_heights(section: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Heights (front, middle, back) mm of a sagittal section [y, z] of a mask, marching along ``up``."""
    places = np.argwhere(section).astype(float)
    if not len(places):
        return np.full(3, np.nan)
    back = np.array([up[1], -up[0]])
    centre = places.mean(0)
    depth = (places - centre) @ back
    front, rear = depth.min(), depth.max()
    return np.array([march(section, centre + back * (front + share * (rear - front)), up) for share in DEPTHS])


def march(section: np.ndarray, place: np.ndarray, up: np.ndarray) -> float:
    """Length (mm) of the mask along a ray through a place, in whole steps of the grid, up and down."""
    steps = 0
    for direction, first in ((up, 0), (-up, 1)):
        k = first
        while True:
            at = np.rint(place + k * direction).astype(int)
            if (at < 0).any() or (at >= section.shape).any() or not section[tuple(at)]:
                break
            k += 1
        steps += k - first
    return steps * GRID_MM


def by_masks(phantom: Phantom) -> dict[str, np.ndarray]:
    """Heights of the mask way by level, all vertebrae from C3 down."""
    every = phantom.column.all
    found = {}
    for k in range(1, 1 + len(phantom.column.vertebrae)):
        axis = every[k - 1].pose.centre - every[k + 1].pose.centre
        found[every[k].level] = mask_heights(body_mask(every[k]), axis)
    return found


def errors_of(true: np.ndarray, found: np.ndarray) -> dict:
    """Bias and SD of heights and of G, and the share of intact vertebrae called fractured.

    Parameters
    ----------
    true, found : array [n, 3]
        ha, hm, hp, mm.
    """
    use = np.isfinite(found).all(1)
    true, found = true[use], found[use]
    true_g, g = genant_index(true), genant_index(found)
    away, intact = found - true, true_g > INTACT_G
    called = g[intact] < 1 - THRESHOLD
    names = ("ha", "hm", "hp")
    return {
        "n": len(true),
        **{f"{name} bias": float(away[:, i].mean()) for i, name in enumerate(names)},
        **{f"{name} sd": float(away[:, i].std(ddof=1)) for i, name in enumerate(names)},
        "g bias": float((g - true_g).mean()),
        "g sd": float((g - true_g).std(ddof=1)),
        "intact": int(intact.sum()),
        "intact called fractured": float(called.mean()) if intact.any() else None,
    }


def spine_scan(phantom: Phantom, slice_mm: float, i: int) -> Scan:
    """The same field of the whole spine with slices of any thickness."""
    plain = random_scan(np.random.default_rng([*SEED, i, 1]), phantom, "spine", (PIXEL_MM, PIXEL_MM, slice_mm))
    return replace(plain, kernel_sigma_mm=0.55, noise_hu=12.0, slice_thickness_mm=slice_mm, circle=False)


def head_to_head_record(i: int, models: Models) -> dict:
    """Phantom ``i`` by both ways."""
    options = PatientOptions(metastasis_probability=0.0, cement_probability=0.0, screw_probability=0.0)
    phantom = random_patient(np.random.default_rng([*SEED, i]), options)
    records = {}
    for slice_mm in SLICES_MM:
        scan = spine_scan(phantom, slice_mm, i)
        records[f"{slice_mm:g}"] = measured(render(phantom, scan), truth_in_view(phantom, scan), models)
    return {"masks": {level: h.tolist() for level, h in by_masks(phantom).items()}, "ours": records}


def head_to_head(records: list[dict]) -> list[dict]:
    """Rows: both ways at each slice distance, over the vertebrae that ours measured."""
    found = []
    for slice_mm in SLICES_MM:
        true, ours, masks = [], [], []
        for i, record in enumerate(records):
            vertebrae = gather([comparison(f"{i}", record["ours"][f"{slice_mm:g}"])]).vertebrae
            use = np.isfinite(vertebrae.g)
            true.append(vertebrae.true_heights[use])
            ours.append(vertebrae.heights[use])
            masks.append(np.array([record["masks"][level] for level in vertebrae.level[use]]).reshape(-1, 3))
        for name, way in (("keypoints (ours)", ours), ("exact masks at 1.5 mm", masks)):
            found.append({"way": name, "slices mm": slice_mm, **errors_of(np.concatenate(true), np.concatenate(way))})
    return found


def stepped_points(column: int, rng: np.random.Generator) -> np.ndarray:
    """Keypoints [8 or 9, 6, 3] of intact vertebrae whose heights are every twelfth of `STEPS_MM`, at a random place."""
    heights = STEPS_MM[column::STEP_COLUMNS]
    points, z = [], 0.0
    for level, h in zip(STEP_LEVELS, heights, strict=False):
        size = level_size(level)
        half = (size.cranial + size.caudal) / 4
        y = np.array([-half, -half, 0, 0, half, half])
        tall = np.array([h, h, STEP_MIDDLE * h, STEP_MIDDLE * h, h, h]) / 2
        six = np.stack([np.zeros(6), y, z - h / 2 + tall * np.array([1, -1] * 3)], 1)
        points.append(six)
        z -= h + (size.disc_front + size.disc_back) / 2
    points = np.array(points)
    return points - points.mean((0, 1)) + rng.uniform(-1, 1, 3)


def step_record(column: int, models: Models) -> dict:
    """One column of intact vertebrae at each slice distance."""
    rng = np.random.default_rng([*SEED, 99, column])
    points = stepped_points(column, rng)
    phantom = phantom_on_keypoints(points, STEP_LEVELS[: len(points)], rng, PLAIN)
    low, high = points[..., 2].min() - 45.0, points[..., 2].max() + 45.0
    records = {}
    for slice_mm in SLICES_MM:
        corner = np.array([-110.0, -150.0, low]) + rng.uniform(0, 1, 3) * [PIXEL_MM, PIXEL_MM, slice_mm]
        scan = axial_scan(
            corner, np.array([220.0, 220.0, high - low]), np.array([PIXEL_MM, PIXEL_MM, slice_mm]),
            kernel_sigma_mm=0.55, slice_thickness_mm=slice_mm, noise_hu=12.0, seed=column,
        )  # fmt: skip
        truth = truth_in_view(phantom, scan)
        # Only the vertebrae with the given heights count; the others are there so that the spine goes on.
        given = np.array([level in STEP_LEVELS[: len(points)] for level in truth.levels])
        records[f"{slice_mm:g}"] = measured(
            render(phantom, scan), replace(truth, complete=truth.complete & given), models
        )
    return records


def steps(records: list[dict]) -> list[dict]:
    """Rows: our errors on intact vertebrae by slice distance, and how many different heights were read."""
    found = []
    for slice_mm in SLICES_MM:
        parts = [comparison(f"{i}", record[f"{slice_mm:g}"]) for i, record in enumerate(records)]
        vertebrae = gather(parts).vertebrae
        use = np.isfinite(vertebrae.g)
        figures = errors_of(vertebrae.true_heights[use], vertebrae.heights[use])
        heights = np.unique(np.round(vertebrae.heights[use], 3))
        within = np.abs(vertebrae.difference[:, 3]) <= 1.96 * vertebrae.standard_errors[:, 3]
        known = np.isfinite(vertebrae.standard_errors[:, 3])
        covered = float(within[known].mean()) if known.any() else None
        found.append({
            "slices mm": slice_mm, **figures, "vertebrae": len(vertebrae.g), "distinct heights": len(heights),
            "g within 1.96 se": covered,
        })  # fmt: skip
    return found


def real_example(models: Models) -> list[dict]:
    """Heights of the real example CT: published by the mask way, ours, and a reader's."""
    from vertebra_core.evaluation.evidence import compare
    from vertebra_core.evaluation.summary import found_by
    from vertebra_core.reading.formats import read_volume
    from vertebra_core.reading.inventory import find_series
    from vertebra_core.settings import Settings
    from vertebra_core.truth import read_truth

    published = json.loads((REAL / "labels" / "totalseg_example_spine_report.json").read_text())["results"]
    truth = read_truth(REAL / "annotations" / "totalseg_example.json")
    settings = Settings()
    (series,) = find_series([REAL / "totalseg_example"], settings.reading).series
    result = measure_study(read_volume(series, settings.reading), models, settings)
    one = compare("example", "example", truth, found_by(result))
    vertebrae = gather([one]).vertebrae
    rows = []
    for k, level in enumerate(vertebrae.level):
        names = [f"vertebrae_{level}_height_{part}_mm" for part in ("anterior", "middle", "posterior")]
        theirs = np.array([published.get(name, np.nan) for name in names])
        three = {"published": theirs, "ours": vertebrae.heights[k], "reader": vertebrae.true_heights[k]}
        rows += [
            {"level": str(level), "by": name, "ha": h[0], "hm": h[1], "hp": h[2], "g": float(genant_index(h))}
            for name, h in three.items()
        ]
    return rows


def table(rows: Iterable[dict]) -> str:
    """Rows as a Markdown table."""
    rows = list(rows)
    if not rows:
        return "nothing to show"
    names = list(rows[0])
    shown = [[_shown(row[name]) for name in names] for row in rows]
    lines = [names, ["---"] * len(names), *shown]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "n/a" if np.isnan(value) else f"{value:.3f}"
    return "n/a" if value is None else str(value)


def main(words: list[str] | None = None) -> int:
    """Measure what is not on record yet, and print the sections."""
    options = parser("Heights from keypoints beside heights from masks.", 6)
    options.add_argument("--columns", type=int, default=STEP_COLUMNS, help="columns of intact vertebrae (of 12)")
    wanted = options.parse_args(words)
    models = loaded(wanted.weights)
    folder = wanted.work / "mask_way" / models.digest
    sections = {}
    both = [kept(folder / f"{i}.json", lambda i=i: head_to_head_record(i, models)) for i in range(wanted.count)]
    if both:
        sections["Head to head on phantoms"] = head_to_head(both)
    stepped = [kept(folder / f"steps-{i}.json", lambda i=i: step_record(i, models)) for i in range(wanted.columns)]
    if stepped:
        sections["Intact vertebrae of 20.0 to 30.0 mm (case N4)"] = steps(stepped)
    if REAL.exists():
        sections["The real example at 3 mm"] = real_example(models)
    if wanted.json:
        print(json.dumps(sections, indent=1))
    else:
        print("\n\n".join(f"## {name}\n\n{table(rows)}" for name, rows in sections.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
