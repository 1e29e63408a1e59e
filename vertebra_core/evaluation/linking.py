"""Which study of a cohort a truth file belongs to, and what the cohort published for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from vertebra_core.errors import WrongUse
from vertebra_core.evaluation.evidence import Comparison, compare
from vertebra_core.evaluation.matching import NOTHING_FOUND, Found
from vertebra_core.evaluation.metrics import HEIGHTS
from vertebra_core.measure import KEYPOINT_NAMES
from vertebra_core.storage import Place
from vertebra_core.tables.parquet import read_table
from vertebra_core.truth import Truth, read_truth

MEASURED = ("ok", "partial")
"""Ends of a study that leave vertebrae to compare."""
STUDY_COLUMNS = ("study_key", "patient_key", "series_key", "status", "reason", "slice_spacing_mm")
"""Columns of `studies` that linking reads."""
STANDARD_ERRORS = ("ha_se_mm", "hm_se_mm", "hp_se_mm", "g_se")
"""Columns of `vertebrae`."""
NOT_IN_COHORT = "not in the cohort"
SEVERAL_STUDIES = "names more than one study"
OTHER_SERIES = "another series of the study was measured"


@dataclass(frozen=True)
class Linked:
    """A truth and the study it belongs to.

    Parameters
    ----------
    name : str
        Name of the truth file, without its suffix.
    patient : str
        Key of the patient, or the name where no study was found.
    study_key : str or None
        None where there is nothing to compare: every vertebra of the truth then counts as missed.
    state : str
        The status of the study with its reason, or why none was found.
    spacing_mm : float
        Distance of its slices; NaN where no study was found.
    """

    name: str
    truth: Truth
    patient: str
    study_key: str | None
    state: str
    spacing_mm: float = np.nan


def read_truths(folder: Path) -> dict[str, Truth]:
    """The truth files of a folder by name, its subfolders left out.

    Raises
    ------
    WrongUse
        No such folder, no truth in it, or a file that is not one.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise WrongUse(f"{folder}: no truth files (*.json) here")
    return {file.stem: read_truth(file) for file in files}


def names_series(image: str, series_uid: str, archive: str, path: str) -> bool:
    """Whether the `image` of a truth names this series.

    By SeriesInstanceUID, or by path: the folder or file of the series below the archive or below its parent, a
    folder above it, or a file in it.

    Examples
    --------
    >>> names_series("lidc/1", "1.2.3", "/scans", "lidc/1/CT"), names_series("lidc/1", "1.2.3", "/scans", "lidc/10")
    (True, False)
    """
    if image == series_uid:
        return True
    wanted = [part for part in PurePosixPath(image).parts if part != "."]
    below = [part for part in PurePosixPath(path).parts if part != "."]
    if not wanted:
        return False
    places = (below, [Path(archive).name, *below])
    return any(place[: len(wanted)] == wanted[: len(place)] for place in places if place)


def link(truths: dict[str, Truth], links: pa.Table, studies: pa.Table) -> list[Linked]:
    """Find the study of every truth.

    Parameters
    ----------
    links : pa.Table
        The cohort's private links.
    studies : pa.Table
        Table `studies` of a snapshot.
    """
    series = links.select(["study_key", "series_key", "series_uid", "archive", "path"]).to_pylist()
    by_key = {study["study_key"]: study for study in studies.select(STUDY_COLUMNS).to_pylist()}
    return [_link(name, truth, series, by_key) for name, truth in truths.items()]


def _link(name: str, truth: Truth, series: Iterable[dict], studies: dict[str, dict]) -> Linked:
    named = [
        one
        for one in series
        if truth.image == one["series_key"] or names_series(truth.image, one["series_uid"], one["archive"], one["path"])
    ]
    keys = sorted({one["study_key"] for one in named} & studies.keys())
    if len(keys) != 1:
        return Linked(name, truth, name, None, SEVERAL_STUDIES if keys else NOT_IN_COHORT)
    study = studies[keys[0]]
    spacing_mm = study["slice_spacing_mm"] or np.nan
    if study["status"] not in MEASURED:
        return Linked(name, truth, study["patient_key"], None, f"{study['status']}: {study['reason']}", spacing_mm)
    if study["series_key"] not in {one["series_key"] for one in named}:
        return Linked(name, truth, study["patient_key"], None, OTHER_SERIES)
    return Linked(name, truth, study["patient_key"], keys[0], study["status"], spacing_mm)


def found_in(vertebrae: pa.Table, study_key: str) -> Found:
    """What the table `vertebrae` holds of one study."""
    mine = vertebrae.filter(np.array(vertebrae["study_key"].to_pylist(), object) == study_key).sort_by("vertebra_index")
    names = [f"{point}_{axis}_mm" for point in KEYPOINT_NAMES for axis in "xyz"]
    return Found(
        points=_columns(mine, names).reshape(-1, 6, 3),
        complete=np.array(mine["complete"].to_pylist(), bool),
        heights=_columns(mine, HEIGHTS),
        g=_columns(mine, ["g"])[:, 0],
        levels=tuple(mine["level"].to_pylist()),
        standard_errors=_columns(mine, STANDARD_ERRORS),
        scores=_columns(mine, ["score"])[:, 0],
        level_confidence=_columns(mine, ["level_confidence"])[:, 0],
    )


def _columns(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Columns side by side as float64 [n, len(names)]; NULL as NaN."""
    return np.stack([table[name].to_numpy().astype(float) for name in names], axis=1)


def compare_snapshot(linked: Sequence[Linked], snapshot: Place, strict: bool = False) -> list[Comparison]:
    """Compare every truth with what a snapshot published for it; one without a study has nothing found."""
    keys = [one.study_key for one in linked if one.study_key is not None]
    vertebrae = read_table(snapshot / "vertebrae.parquet", filters=[("study_key", "in", keys)]) if keys else None
    return [
        compare(
            one.name,
            one.patient,
            one.truth,
            NOTHING_FOUND if one.study_key is None or vertebrae is None else found_in(vertebrae, one.study_key),
            strict,
            one.spacing_mm,
        )
        for one in linked
    ]
