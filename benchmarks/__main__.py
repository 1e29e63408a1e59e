"""``make bench``: how long each stage takes here, beside the figures on record (benchmarks/record.json).

Every figure is the best of a few runs of the real thing: a phantom chest written as DICOM, read back, measured with
the shipped weights on one thread, and drawn. ``python -m benchmarks --record`` puts today's figures on record.
A ratio above 1 means slower than on record; only figures of the same machine can be compared.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RECORD = Path(__file__).parent / "record.json"
REPEATS = 3
VERSIONS = ("vertebra", "numpy", "scipy", "torch", "pydicom", "matplotlib")
SLOWER = 1.25
"""Ratio above which a stage is marked: three times the scatter of the best of three runs on a quiet machine."""


def best_of(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds of the quickest of a few runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def stage_seconds() -> dict[str, float]:
    """Seconds by stage of one phantom chest, from files to picture."""
    import torch

    from vertebra_core.curve.find import find_curve
    from vertebra_core.keypoints.find import find_keypoints
    from vertebra_core.levels.find import name_levels
    from vertebra_core.measure import measure_vertebrae
    from vertebra_core.models import load_models
    from vertebra_core.phantom.dicom import write_phantom_archive
    from vertebra_core.reading.formats import read_volume
    from vertebra_core.reading.inventory import find_series
    from vertebra_core.report.picture import draw_study
    from vertebra_core.settings import Settings
    from vertebra_core.straighten import straighten
    from vertebra_core.study import measure_study

    torch.set_num_threads(1)
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_phantom_archive(Path(folder) / "scans", 1, 0)
        seconds = {"phantom, rendered and written": time.perf_counter() - start}

        def scan():
            return find_series([Path(folder) / "scans"], settings.reading).series

        (series,) = [one for one in scan() if one.decision is None]
        seconds["inventory, per 1000 files"] = best_of(scan) / len(series.files) * 1000
        seconds["read"] = best_of(lambda: read_volume(series, settings.reading))
        volume = read_volume(series, settings.reading)
    seconds["weights"] = best_of(load_models)
    models = load_models()
    seconds["curve"] = best_of(lambda: find_curve(volume, models.curve, settings.curve))
    curve = find_curve(volume, models.curve, settings.curve)
    seconds["straighten"] = best_of(lambda: straighten(volume, curve, settings.straighten))
    spine = straighten(volume, curve, settings.straighten)
    seconds["keypoints"] = best_of(lambda: find_keypoints(spine, models.keypoints, settings.keypoints))
    found = find_keypoints(spine, models.keypoints, settings.keypoints)
    points = spine.patient_from_straight(found.points)
    seconds["levels"] = best_of(
        lambda: name_levels(volume, curve, points, found.complete, models.levels, settings.levels)
    )
    seconds["measure"] = best_of(lambda: measure_vertebrae(points))
    result = measure_study(volume, models, settings)
    seconds["picture"] = best_of(lambda: draw_study(result, volume, settings.grading))
    return seconds


def circumstances() -> dict[str, str]:
    """Machine, versions and date."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    return {
        "machine": machine,
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python -m benchmarks",
    }


def table(now: dict[str, float], record: dict[str, float]) -> list[str]:
    """Lines: stage, seconds now, seconds on record, ratio."""
    lines = [f"{'stage':<32}{'s now':>9}{'s on record':>13}{'ratio':>8}"]
    for stage, seconds in now.items():
        old = record.get(stage)
        ratio = f"{seconds / old:8.2f}{'  slower' if seconds / old > SLOWER else ''}" if old else "     new"
        lines.append(f"{stage:<32}{seconds:9.3f}{f'{old:13.3f}' if old else f'{chr(45):>13}'}{ratio}")
    return lines


def main() -> int:
    """Measure, compare, and record if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--record", action="store_true", help="put these figures on record")
    wanted = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    here, now = circumstances(), stage_seconds()
    print("\n".join(f"{key:<10}{value}" for key, value in here.items()))
    print("\n".join(table(now, record.get("seconds", {}))))
    if record:
        print(f"on record: {record['date']}, {record['machine']}")
    if wanted.record:
        figures = {stage: round(seconds, 4) for stage, seconds in now.items()}
        RECORD.write_text(json.dumps({**here, "seconds": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
