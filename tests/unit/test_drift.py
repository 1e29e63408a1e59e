"""Drift of a scanner's median G, and the tables of a night, against numbers worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.night import (
    LEDGER_COLUMNS,
    SECONDS,
    adds_up,
    drift_lines,
    drift_sentence,
    failure_lines,
    flow_lines,
    throughput_lines,
)
from tasks.publish import Settled
from vertebra_core.cohort.drift import DRIFT, FEW, STEADY, ScannerDrift, Side, scanner_drift, side_of


def test_the_two_sides_of_a_shift():
    """Medians 0.86 and 0.84; absolute deviations 0.01, 0, 0.04 -> MAD 0.01 -> SD 0.014826."""
    side = side_of(np.array([0.85, 0.86, 0.90]))
    assert (side.studies, side.median, side.sd) == (3, 0.86, pytest.approx(0.014826))
    drift = ScannerDrift("a scanner", Side(50, 0.86, 0.03), Side(40, 0.84, 0.02))
    assert drift.shift == pytest.approx(-0.02)
    # 1.2533 x sqrt(0.0009 / 50 + 0.0004 / 40) = 1.2533 x 0.005292
    assert drift.standard_error == pytest.approx(0.006632, abs=1e-6)


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (Side(1000, 0.860, 0.03), Side(400, 0.845, 0.03), DRIFT),  # 0.015 against 3 x 0.0022
        (Side(1000, 0.860, 0.03), Side(400, 0.852, 0.03), STEADY),  # 0.008: does not matter
        (Side(1000, 0.860, 0.03), Side(25, 0.845, 0.03), STEADY),  # 0.015, but chance gives 3 x 0.0076
        (Side(19, 0.860, 0.0), Side(400, 0.700, 0.0), FEW),
        (Side(400, 0.860, 0.0), Side(19, 0.700, 0.0), FEW),
        (Side(0, math.nan, 0.0), Side(400, 0.700, 0.0), FEW),
    ],
)
def test_a_shift_is_drift_where_it_matters_and_exceeds_chance(before, now, verdict):
    assert ScannerDrift("a scanner", before, now).verdict == verdict


def write_snapshot(folder: Path, studies: list[tuple[str, str | None, str | None, list[float | None]]]) -> Path:
    keys, makers, models, values = zip(*studies, strict=True)
    pq.write_table(
        pa.table(
            {
                "study_key": pa.array(keys),
                "manufacturer": pa.array(makers, pa.string()),
                "scanner": pa.array(models, pa.string()),
            }
        ),
        folder / "studies.parquet",
    )
    rows = [(key, g) for key, some in zip(keys, values, strict=True) for g in some]
    table = pa.table({"study_key": pa.array([k for k, _ in rows]), "g": pa.array([g for _, g in rows], pa.float64())})
    pq.write_table(table, folder / "vertebrae.parquet", row_group_size=3)
    return folder


def test_each_study_counts_once_and_what_is_not_measured_not_at_all(tmp_path):
    """Study a has many vertebrae, of median 0.90; c has none measured; scanners without a new study are left out."""
    studies = [
        ("a", "Maker", "One", [0.90] * 7 + [0.5]),
        ("b", "Maker", "One", [0.80, 0.84, None]),
        ("c", "Maker", "One", [None]),
        ("d", "Maker", "One", [0.70]),
        ("e", "Maker", "Two", [0.60]),
        ("f", None, None, [0.95]),
        ("g", "Maker", None, []),
    ]
    found = scanner_drift(write_snapshot(tmp_path, studies), {"d", "f", "c", "g"})
    assert [(one.scanner, one.before.studies, one.now.studies) for one in found] == [
        ("Maker One", 2, 1),
        ("not told", 0, 1),
    ]
    assert (found[0].before.median, found[0].now.median) == (pytest.approx(0.86), 0.70)
    assert math.isnan(found[1].before.median)
    assert drift_lines(found)[1]["median G before"] is None
    assert drift_sentence(found).startswith("No scanner has 20 studies")


def test_a_snapshot_without_a_vertebra_has_no_drift(tmp_path):
    assert scanner_drift(write_snapshot(tmp_path, [("a", "Maker", "One", [])]), {"a"}) == []


def test_a_scanner_that_drifted_is_named():
    drifts = [ScannerDrift("Maker One", Side(100, 0.86, 0.0), Side(100, 0.80, 0.0))]
    assert "beyond chance: Maker One" in drift_sentence(drifts)


# -- the tables of a night ----------------------------------------------------------------------------------------


def rows_of(*studies: tuple[str, str, str | None, float | None]) -> pa.Table:
    """Rows of (key, status, reason, seconds of reading)."""
    columns: dict[str, list] = {name: [None] * len(studies) for name in (*LEDGER_COLUMNS, *SECONDS, "seconds_total")}
    for i, (key, status, reason, seconds) in enumerate(studies):
        columns["study_key"][i], columns["status"][i], columns["reason"][i] = key, status, reason
        columns["seconds_read"][i], columns["seconds_total"][i] = seconds, seconds and 2 * seconds
    kinds = {name: pa.float64() if name.startswith("seconds") else pa.string() for name in columns}
    return pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})


NIGHT = rows_of(
    ("st1", "ok", None, 1.0),
    ("st2", "ok", None, 3.0),
    ("st3", "partial", "some_not_measured", 2.0),
    ("st4", "not_evaluable", "no_spine", None),
    ("st5", "not_evaluable", "missing_slices", None),
    ("st7", "failed", "deadline", None),
    ("st6", "failed", "deadline", None),
)
SETTLED = Settled(20, 12, 4, 2, 2, {}, {}, (), {}, 0)


def test_the_steps_of_a_night_add_up():
    flow = {(line["step"], line["reason"]): line["studies"] for line in flow_lines(SETTLED, 3, 9, NIGHT)}
    assert flow["found in the archives", ""] == 23 == 3 + 12 + 4 + 2 + 2
    assert flow["done by earlier runs", ""] + flow["due in this run", ""] == 20
    ended = [flow[f"{step} in this run", ""] for step in ("measured", "measured in part", "refused", "failed")]
    assert ended == [2, 1, 2, 2]
    assert flow["due in this run", ""] == sum(ended) + flow["left for the next run", ""]
    assert flow["failed in this run", "deadline"] == 2
    assert adds_up(SETTLED, 9, NIGHT)
    assert not adds_up(SETTLED, 10, NIGHT)


def test_reasons_that_can_be_mended_are_told_with_keys_of_studies():
    lines = failure_lines(NIGHT)
    assert [(line["reason"], line["studies"], line["for example"]) for line in lines] == [
        ("deadline", 2, "st6, st7"),
        ("missing_slices", 1, "st5"),
    ]


def test_speed_is_told_by_stage():
    """Three studies in half an hour; totals 2, 6 and 4 s; reading is half of it."""
    whole, read = throughput_lines(NIGHT, "2026-11-28T22:00:00+00:00", "2026-11-28T22:30:00+00:00")
    assert whole == {"stage": "whole study", "studies": 3, "median s": 4.0, "p95 s": 5.8, "share": "6 studies an hour"}
    assert read == {"stage": "read", "studies": 3, "median s": 2.0, "p95 s": 2.9, "share": "50 %"}
