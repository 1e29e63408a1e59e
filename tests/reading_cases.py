"""What the tests of reading share: clean copies of B0 to spoil, and the ways of reading them."""

import shutil
from pathlib import Path

from dicom_cases import WEDGE, Grid, save
from pydicom import dcmread

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import Inventory, find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.reading.series import Series
from vertebra_core.settings import ReadingSettings
from vertebra_core.volume import Volume

SETTINGS = ReadingSettings()
MIDDLE = Grid((51, 96, 100), (1.0, 1.0, 2.0), (-49.5, -47.5, -65.0))
"""The three middle vertebrae of B0, the wedge among them: what most variants are written on, to save time."""
SHOWN = [WEDGE - 1, WEDGE, WEDGE + 1]
N = MIDDLE.shape[0]
SMALL = Grid((40, 48, 50), (2.0, 2.0, 2.0), (-49.0, -47.0, -39.0))
"""A coarse grid for what is refused, or compared voxel by voxel."""


def read_only(*archives: Path) -> tuple[Series, Volume]:
    """The one series that is measured, and its volume."""
    measured = [series for series in choose_index_series(take(*archives).series) if series.decision is None]
    assert len(measured) == 1
    return measured[0], read_volume(measured[0], SETTINGS)


def take(*archives: Path) -> Inventory:
    inventory = find_series(archives, SETTINGS)
    met = sum(series.n_files for series in inventory.series) + sum(inventory.left_alone.values())
    assert inventory.files_seen == met
    return inventory


def copy_of(clean: Path, folder: Path, edit=None) -> list[Path]:
    """Copy the clean series, each file changed by `edit(dataset, index)` where given."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(sorted(clean.iterdir())):
        if edit is None:
            shutil.copy(path, folder / path.name)
        else:
            changed = edit(dcmread(path), index)
            if changed is not None:
                save(changed, folder / path.name)
    return sorted(folder.iterdir())


def without(*keywords: str):
    def edit(ds):
        for keyword in keywords:
            if keyword in ds:
                delattr(ds, keyword)
        return ds

    return edit


def set_value(ds, keyword, value):
    setattr(ds, keyword, value)
    return ds


def end_of(*archives: Path) -> list[Reason | None]:
    """Reason of every series, judged by its header and, where that is sound, by its pixels."""
    ends, details = [], []
    for series in choose_index_series(find_series(archives, SETTINGS).series):
        try:
            if series.decision is None:
                read_volume(series, SETTINGS)
            ends.append(series.decision)
        except NotEvaluable as refusal:
            details.append(refusal.detail)
            ends.append(refusal.reason)
    assert not any(str(archive) in detail for archive in archives for detail in details), "a detail holds a path"
    return ends


def changed(clean: Path, folder: Path, edit) -> Path:
    folder.mkdir(exist_ok=True)
    for index, path in enumerate(sorted(clean.iterdir())):
        result = edit(dcmread(path), index)
        if result is not None:
            save(result, folder / path.name)
    return folder


def with_value(keyword: str, value):
    def edit(ds, _):
        setattr(ds, keyword, value)
        return ds

    return edit
