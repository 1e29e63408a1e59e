"""Studies of many series, as scanners send them: one is measured, and every other says why it is not."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import Grid, Study, b0_hu, ct_slice, save, write_b0
from reading_cases import SETTINGS, SMALL

from vertebra_core.errors import Reason
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.reading.series import Series

ORIGINAL, DERIVED = ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]
THICK = Grid((16, 48, 50), (2.0, 2.0, 5.0), (-49.0, -47.0, -39.0))
SECRET = "MUSTERMANN"
"""Technicians write names into descriptions."""


@dataclass(frozen=True)
class Made:
    """A series of a study: what is written, and the reason it ends with."""

    reason: Reason | None
    description: str = "Chest"
    image_type: tuple[str, ...] = tuple(ORIGINAL)
    kernel: str = "Br40d"
    grid: Grid = SMALL
    thickness: float | None = None
    count: int | None = None
    same_place: bool = False


def write(folder: Path, number: int, made: Made) -> None:
    study = replace(Study(), series_uid=f"{Study().study_uid}.{number}", thickness=made.thickness)

    def edit(ds, index):
        if made.count is not None and index >= made.count:
            return None
        ds.SeriesDescription, ds.ConvolutionKernel = f"{made.description} {SECRET}", made.kernel
        ds.ImageType, ds.SeriesNumber = list(made.image_type), number
        if made.same_place:
            ds.ImagePositionPatient = [-49, -47, 0]
        return ds

    write_b0(folder / str(number), grid=made.grid, study=study, edit=edit)


def decided(folder: Path, made: list[Made]) -> list[Series]:
    for number, one in enumerate(made, 1):
        write(folder, number, one)
    rows = choose_index_series(find_series([folder], SETTINGS).series, SETTINGS)
    rows.sort(key=lambda row: int(row.series_uid.rpartition(".")[2]))
    assert [row.decision for row in rows] == [one.reason for one in made]
    for row in rows:
        assert SECRET not in f"{row}", "a description was kept"
        assert row.decision_detail or row.decision in (Reason.LOCALIZER, Reason.PROJECTION, Reason.DERIVED_MAP)
    return rows


def test_a_chest_study_with_all_that_belongs_to_it(tmp_path):
    decided(
        tmp_path,
        [
            Made(Reason.LOCALIZER, "Topogram 0.6 T20s", ("ORIGINAL", "PRIMARY", "LOCALIZER"), count=1),
            Made(Reason.LOCALIZER, "Scout", count=2),
            Made(Reason.TIME_SERIES, "PreMonitoring 10.0 B30s", count=12, same_place=True),
            Made(Reason.NOT_INDEX_SERIES, "Chest 5.0", grid=THICK),
            Made(Reason.NOT_INDEX_SERIES, "Lung 2.0 Br69", kernel="Br69d"),
            Made(None, "Chest 2.0 Br40"),
            Made(Reason.PROJECTION, "MIP 10 x 5 mm", tuple(DERIVED), thickness=10.0),
            Made(Reason.PROJECTION, "Lung", ("DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP")),
            Made(Reason.SLICES_TOO_THICK, "Slabs", tuple(DERIVED), thickness=10.0),
            Made(Reason.REPORT_PAGE, "Patient Protocol", tuple(DERIVED), count=1),
        ],
    )


def test_a_dual_energy_study(tmp_path):
    rows = decided(
        tmp_path,
        [
            Made(Reason.NOT_INDEX_SERIES, "DE_Abd 1.0 A_80kV"),
            Made(Reason.NOT_INDEX_SERIES, "DE_Abd 1.0 B_Sn140kV"),
            Made(None, "DE_Abd 1.0 F_0.5"),
            Made(Reason.NOT_INDEX_SERIES, "MonoE 40keV[HU]", ("DERIVED", "PRIMARY", "AXIAL")),
            Made(Reason.NOT_INDEX_SERIES, "VNC", tuple(DERIVED)),
            Made(Reason.DERIVED_MAP, "IODINE(WATER)", tuple(DERIVED)),
            Made(Reason.DERIVED_MAP, "Calcium Suppression 50 Index[HU*]"),
            Made(Reason.DERIVED_MAP, "Subtraction", tuple(DERIVED)),
        ],
    )
    assert rows[0].decision_detail.startswith("content decided")
    assert "(virtual)" in rows[4].decision_detail


def test_breathing_phases_stand_behind_the_plain_scan(tmp_path):
    phases = [Made(Reason.NOT_INDEX_SERIES, f"T={10 * i}%, 4D CT") for i in range(3)]
    decided(tmp_path, [*phases, Made(None, "Planning")])


def test_of_phases_alone_one_is_measured(tmp_path):
    phases = [Made(Reason.OTHER_PHASE if i else None, f"Thorax, Gated, {10 * i}.0%") for i in range(3)]
    decided(tmp_path, phases)


@pytest.mark.parametrize("with_original", [True, False])
def test_a_reformat_is_measured_only_where_nothing_better_is_there(with_original, tmp_path):
    """Sagittal reformats every 2 mm of slices every 5 mm."""
    hu, (x, y, z) = b0_hu(SMALL), SMALL.axes()
    study = replace(Study(), orientation=(0, 1, 0, 0, 0, -1), series_uid=f"{Study().study_uid}.2")
    for index, left in enumerate(x):
        place = [float(left), float(y[0]), float(z[-1])]
        ds = ct_slice(hu[::-1, :, index], place, (2.0, 2.0, 2.0), study, index + 1)
        ds.ImageType, ds.SeriesDescription = ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"], "SAG"
        save(ds, tmp_path / "2" / f"{index}.dcm")
    made = [Made(None, "Chest 5.0", grid=THICK)] if with_original else []
    for one in made:
        write(tmp_path, 1, one)
    rows = choose_index_series(find_series([tmp_path], SETTINGS).series, SETTINGS)
    ends = {row.orientation: row.decision for row in rows}
    expected = {"axial": None, "sagittal": Reason.NOT_INDEX_SERIES} if with_original else {"sagittal": None}
    assert ends == expected


def test_overlapping_slices_are_as_thick_as_they_are(tmp_path):
    """5 mm slices every 2 mm lose against 3 mm slices every 3 mm, and their blur is that of 5 mm."""
    from vertebra_core.reading.formats import read_volume

    three = Grid((27, 48, 50), (2.0, 2.0, 3.0), (-49.0, -47.0, -39.0))
    rows = decided(tmp_path, [Made(Reason.NOT_INDEX_SERIES, thickness=5.0), Made(None, grid=three)])
    assert rows[0].decision_detail.startswith("slice thickness decided")
    assert read_volume(rows[0], SETTINGS).head_foot_spacing == 5.0
    assert read_volume(rows[1], SETTINGS).head_foot_spacing == pytest.approx(3.0)
    assert np.linalg.det(read_volume(rows[1], SETTINGS).patient_from_voxel[:3, :3]) > 0
