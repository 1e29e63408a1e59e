"""Index studies and their vertebrae as arrays, with the ratio that the definition holds against its bounds."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from vertebra_core.epidemiology.definitions import (
    DefinitionName,
    ReferenceRatio,
    height_loss_ratio,
    level_adjusted_ratio,
)
from vertebra_core.epidemiology.strata import ages_of, level_codes, place_in, stratum_of

REPEATED = ("study_key", "level")
"""Columns of text of which neighbouring rows have the same few values (`vertebra_core.tables.parquet.read_table`)."""
HEIGHTS = ("ha_mm", "hm_mm", "hp_mm")


@dataclass(frozen=True)
class Tables:
    """What an analysis reads of one snapshot.

    Parameters
    ----------
    patients, studies, vertebrae : pa.Table
        Of `vertebrae` the columns that `vertebra_columns` names.
    levels_in_view : pa.Table, optional
        Needed by level only.
    """

    patients: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    levels_in_view: pa.Table | None = None


@dataclass(frozen=True)
class Cases:
    """Patients with an index study, and the measured vertebrae of these studies.

    Parameters
    ----------
    people : pa.Table
        The rows of `studies` that are index studies.
    patient : array [vertebrae]
        Row of `people`.
    level : array [vertebrae]
        Position in `LEVELS`, -1 where not known.
    ratio : array [vertebrae]
        By the definition; NaN where it cannot judge this vertebra.
    references : tuple
        Of the level-adjusted definition.
    """

    people: pa.Table
    patient: Int[np.ndarray, "vertebrae"]
    level: Int[np.ndarray, "vertebrae"]
    ratio: Float[np.ndarray, "vertebrae"]
    references: tuple[ReferenceRatio, ...] = ()

    def per_patient(self) -> tuple[Int[np.ndarray, "people"], Float[np.ndarray, "people"]]:
        """Judged vertebrae of each patient and the smallest ratio among them (infinite without any)."""
        judged = np.isfinite(self.ratio)
        patient, ratio = self.patient[judged], self.ratio[judged]
        smallest = np.full(len(self.people), np.inf)
        np.minimum.at(smallest, patient, ratio)
        return np.bincount(patient, minlength=len(self.people)), smallest


def vertebra_columns(definition: DefinitionName) -> list[str]:
    """Columns of `vertebrae` that a definition needs; heights are left unread where G suffices."""
    return ["study_key", "level", "g", *(() if definition == "genant" else HEIGHTS)]


def cases_of(vertebrae: pa.Table, people: pa.Table, definition: DefinitionName = "genant") -> Cases:
    """Measured vertebrae of the index studies.

    Parameters
    ----------
    vertebrae : pa.Table
        A vertebra with a NULL ``g`` was not measured and is left out of everything.
    people : pa.Table
        From `vertebra_core.epidemiology.selection.index_studies`.
    definition : str
    """
    row = place_in(vertebrae["study_key"], people["study_key"].combine_chunks())
    kept = (row >= 0) & vertebrae["g"].is_valid().to_numpy()
    patient, level = row[kept].astype(np.int32), level_codes(vertebrae["level"])[kept]
    if definition == "genant":
        return Cases(people, patient, level, vertebrae["g"].to_numpy().astype(float)[kept])
    heights = np.stack([vertebrae[name].to_numpy().astype(float)[kept] for name in HEIGHTS], 1)
    if definition == "height-loss":
        return Cases(people, patient, level, height_loss_ratio(heights))
    sex = stratum_of(people, "sex")
    adjusted = level_adjusted_ratio(heights, level, sex.codes[patient], sex.labels)
    return Cases(people, patient, level, adjusted.ratio, adjusted.references)


def of_age(people: pa.Table, youngest: float | None, oldest: float | None) -> np.ndarray:
    """True [people] within the ages asked for, both included in completed years; unknown ages are outside of any."""
    if youngest is None and oldest is None:
        return np.ones(len(people), bool)
    age = np.floor(ages_of(people))
    low, high = -np.inf if youngest is None else youngest, np.inf if oldest is None else oldest
    return (age >= low) & (age <= high)
