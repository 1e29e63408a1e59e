"""``python -m benchmarks.accuracy.robustness``: each disease, scanner setting and field of view alone, as a table.

Every row scans the same few patients; only what the row names differs from the first row. A row whose recall or
precision stays below 0.98, or in which a study is refused, says so.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy.phantoms import loaded, narrowed, not_evaluable, parser
from benchmarks.accuracy.records import comparison, kept, measured
from vertebra_core.evaluation.evidence import gather
from vertebra_core.evaluation.summary import summarise
from vertebra_core.models import Models
from vertebra_core.phantom.anatomy import Phantom, random_patient
from vertebra_core.phantom.dicom import write_dicom_series
from vertebra_core.phantom.patient import PLAIN
from vertebra_core.phantom.scanner import Scan, random_scan, render, shoulders, tilted, truth_in_view
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import Settings
from vertebra_core.volume import Volume

SEED = (20, 2601)
LEAST = 0.98
"""Recall and precision below this fail."""
FIELD_MM = 320.0
"""Width of the field where the row does not say another, mm."""
PIXEL_MM, SLICE_MM = 0.85, 1.5


def as_it_is(scan: Scan, phantom: Phantom) -> Scan:
    """No other scan."""
    return scan


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Parameters
    ----------
    name : str
    options : dict
        Fields of `PatientOptions` that differ from a plain patient.
    scan : callable
        Makes the row's scan of the plain one.
    view : str
    slice_mm, pixel_mm : float
    whole_field : bool
        Whether the field of view stays as wide as the view has it.
    through_files : bool
        Whether the scan is written as DICOM and read again, which mends it.
    """

    name: str
    options: dict = field(default_factory=dict)
    scan: Callable[[Scan, Phantom], Scan] = as_it_is
    view: str = "chest"
    slice_mm: float = SLICE_MM
    pixel_mm: float = PIXEL_MM
    whole_field: bool = False
    through_files: bool = False


def _with(**changes) -> Callable[[Scan, Phantom], Scan]:
    return lambda scan, phantom: replace(scan, **changes)


def _streaks(scan: Scan, phantom: Phantom) -> Scan:
    return replace(scan, shoulder_streak_hu=120.0, shoulder_z=shoulders(phantom))


def _tilted(scan: Scan, phantom: Phantom) -> Scan:
    return tilted(scan, 15.0)


def _oblique(scan: Scan, phantom: Phantom) -> Scan:
    """The whole grid turned by 15 degrees about the left-right axis."""
    c, s = np.cos(np.deg2rad(15)), np.sin(np.deg2rad(15))
    turn = np.eye(4)
    turn[:3, :3] = [[1, 0, 0], [0, c, -s], [0, s, c]]
    middle = scan.patient_from_voxel @ [*((np.array(scan.shape[::-1]) - 1) / 2), 1.0]
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = middle[:3], -middle[:3]
    return replace(scan, patient_from_voxel=there @ turn @ back @ scan.patient_from_voxel)


BROKEN = {"fracture_probability": 1.0, "age_years": 70.0}
ROWS = (
    Row("plain"),
    Row("fractures, G 0.65 to 0.80", {**BROKEN, "min_g": 0.65}),
    Row("fractures, G 0.35 to 0.80", {**BROKEN, "min_g": 0.35, "max_fractures": 6}),
    Row("kyphosis +30 degrees", {"kyphosis_degrees": 30.0}),
    Row("scoliosis to 60 degrees", {"scoliosis_probability": 1.0}),
    Row("one vertebra more or less", {"variant_probability": 1.0}),
    Row("osteoporotic, thin cortex", {"density_hu": 25.0, "cortex_mm": 0.15}),
    Row("sclerotic", {"density_hu": 480.0}),
    Row("worn: age 88, osteophytes", {"age_years": 88.0, "spur_probability": 0.8}),
    Row("Schmorl nodes", {"node_probability": 0.8}),
    Row("vacuum discs", {"vacuum_probability": 0.8}),
    Row("dense plates", {"sclerosis_probability": 0.8}),
    Row("flowing ossification, 4.5 mm", {"ossification_probability": 1.0, "ossification_mm": 4.5}),
    Row("metastases", {"metastasis_probability": 1.0}),
    Row("cement in fractures", {**BROKEN, "cement_probability": 1.0}),
    Row("screws and streaks", {"screw_probability": 1.0}, _with(metal_streak_hu=300.0)),
    Row("port, wires, electrodes", {"device_probability": 1.0}),
    Row("contrast", {"contrast_probability": 1.0}),
    Row("obese", {"fat": 1.0}),
    Row("arms down, shoulder streaks", {"arms_up": False}, _streaks),
    Row("gas in every bowel loop", {"bowel_gas": 1.0}, view="abdomen"),
    Row("no table", {"table": False}),
    Row("soft kernel", scan=_with(kernel_sigma_mm=0.85)),
    Row("sharp kernel, 40 HU noise", scan=_with(kernel_sigma_mm=0.4, noise_hu=40.0, noise_grain_mm=0.35)),
    Row("60 HU noise", scan=_with(noise_hu=60.0)),
    Row("slices 0.7 mm", slice_mm=0.7),
    Row("slices 2.5 mm", slice_mm=2.5),
    Row("slices 3.3 mm", slice_mm=3.3),
    Row("slices 5 mm", slice_mm=5.0),
    Row("padding -2000 outside a circle", scan=_with(circle=True, padding_hu=-2000)),
    Row("gantry tilt 15 degrees", scan=_tilted, through_files=True),
    Row("turned by 15 degrees", scan=_oblique),
    Row("cone of 12 cm", view="cone", slice_mm=1.0, whole_field=True),
    Row("lumbar", view="lumbar"),
    Row("abdomen", view="abdomen"),
    Row("neck", view="neck"),
    Row("whole spine", view="spine", whole_field=True),
    Row("whole body", view="whole", slice_mm=3.0, pixel_mm=1.3, whole_field=True),
)


def one_record(row: Row, i: int, models: Models) -> dict:
    """Draw, scan and measure patient ``i`` of a row."""
    rng = np.random.default_rng([*SEED, i])
    phantom = random_patient(rng, replace(PLAIN, **row.options))
    spacing = row.pixel_mm, row.pixel_mm, row.slice_mm
    plain = random_scan(np.random.default_rng([*SEED, i, 1]), phantom, row.view, spacing)
    plain = replace(
        plain, kernel_sigma_mm=0.6, noise_hu=12.0, noise_grain_mm=0.55, shoulder_streak_hu=0.0,
        circle=row.view == "cone", slice_thickness_mm=row.slice_mm,
    )  # fmt: skip
    scan = row.scan(plain if row.whole_field else narrowed(plain, FIELD_MM), phantom)
    volume = render(phantom, scan)
    truth = truth_in_view(phantom, scan)
    return measured(read_again(volume) if row.through_files else volume, truth, models)


def read_again(volume: Volume) -> Volume:
    """A volume written as DICOM and read with all repairs."""
    with tempfile.TemporaryDirectory() as folder:
        write_dicom_series(volume, Path(folder) / "CT", patient_id="P", study_uid="1.2.3", series_uid="1.2.3.4")
        settings = Settings().reading
        (series,) = find_series([Path(folder)], settings).series
        return read_volume(series, settings)


def line(row: Row, records: list[dict]) -> dict:
    """The figures of a row."""
    summary = summarise(gather([comparison(f"{i}", record) for i, record in enumerate(records)]))
    whole, detection = summary.groups["all"]["all"], summary.detection
    figures = {
        "n": detection.recall.n, "recall": detection.recall.value, "precision": detection.precision.value,
        "centre_mm": whole.centre_mm.mean, "height_mae_mm": whole.heights_mm.mae,
        "height_bias_mm": whole.heights_mm.bias, "g_mae": whole.g.mae, "g_bias": whole.g.bias,
        "refused": not_evaluable(records),
    }  # fmt: skip
    return {"row": row.name, **figures, "fails": failures(figures)}


def failures(figures: dict) -> list[str]:
    """What of a row fails."""
    low = [name for name in ("recall", "precision") if (figures[name] or 0.0) < LEAST]
    return low + (["refused"] if figures["refused"] else [])


def table(lines: list[dict]) -> str:
    """Markdown table of all rows."""
    names = ("recall", "precision", "centre_mm", "height_mae_mm", "height_bias_mm", "g_mae", "g_bias")
    head = "| alone | n | recall | precision | centre mm | height MAE mm | height bias mm | G MAE | G bias | fails |"
    text = [head, "| --- |" + " --- |" * 9]
    for one in lines:
        figures = " | ".join("n/a" if one[name] is None else f"{one[name]:.3f}" for name in names)
        text.append(f"| {one['row']} | {one['n']} | {figures} | {', '.join(one['fails']) or '-'} |")
    return "\n".join(text)


def main(words: list[str] | None = None) -> int:
    """Measure what is not on record yet, and print the table."""
    options = parser("Each disease, scanner setting and field of view alone.", 3)
    options.add_argument("--rows", nargs="*", help="names of rows (default: all)")
    wanted = options.parse_args(words)
    models = loaded(wanted.weights)
    folder = wanted.work / "robustness" / models.digest
    lines = []
    for row in ROWS:
        if wanted.rows and row.name not in wanted.rows:
            continue
        stem = "".join(c if c.isalnum() else "-" for c in row.name)
        records = [
            kept(folder / f"{stem}-{i}.json", lambda row=row, i=i: one_record(row, i, models))
            for i in range(wanted.count)
        ]
        lines.append(line(row, records))
        print(f"{row.name:<40}", end="\r", file=sys.stderr, flush=True)
    print(json.dumps(lines, indent=1) if wanted.json else table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
