"""One row per patient, by one index study."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from vertebra_core.tables.schema import TABLES, arrow_schema, check_table

INDEX_RULE = (
    "The index study is the patient's earliest study with at least one measured vertebra; of several on one day, or "
    "without a date, the one with the thinnest slices, then the most measured vertebrae, then the first study key."
)
"""Why the earliest: prevalence is a state at entry. The worst study, any positive one, or the one with most levels
in view would make prevalence grow with the number of scans of a patient, and the ill are scanned more often."""

_ORDER = [
    ("patient_key", "ascending"),
    ("when", "ascending"),
    ("slice_spacing_mm", "ascending"),
    ("n_vertebrae", "descending"),
    ("study_key", "ascending"),
]


def patient_table(studies: pa.Table, dates: Sequence[str | None] | None = None) -> pa.Table:
    """Table `patients` from the whole table `studies`.

    A patient without any measured vertebra keeps a row, with a NULL index study: not evaluable is not normal.
    Studies without a date come after dated ones.

    Parameters
    ----------
    studies : pa.Table
    dates : sequence of str or None, optional
        True dates of the studies, ISO 8601, by which they are put in order and which are told nowhere; default:
        column ``study_date``, which the privacy rule may have emptied.
    """
    when = studies["study_date"].cast(pa.string()) if dates is None else pa.array(dates, pa.string())
    dated = studies.append_column("when", when)
    ordered = dated.sort_by([(name, way, "at_end") for name, way in _ORDER]).drop_columns(["when"])
    evaluable = pa.array(ordered["n_vertebrae"].to_numpy() > 0)
    counts = _counts(ordered, evaluable)
    at_index = _first_rows(ordered.filter(evaluable), counts["patient_key"])
    own = {"patient_key", "n_studies", "n_evaluable_studies", "index_study_key"}
    arrays = {
        "patient_key": counts["patient_key"],
        "n_studies": counts["n_studies"],
        "n_evaluable_studies": counts["n_evaluable_studies"],
        "index_study_key": at_index["study_key"],
        **{c.name: at_index[c.name] for c in TABLES["patients"].columns if c.name not in own},
    }
    # A patient who was never measured has zero vertebrae, which is known; everything else about the index is not.
    arrays["n_vertebrae"] = arrays["n_vertebrae"].fill_null(0)
    schema = arrow_schema("patients")
    columns = [arrays[field.name].cast(field.type) for field in schema]
    return check_table("patients", pa.Table.from_arrays(columns, schema=schema))


def _counts(ordered: pa.Table, evaluable: pa.BooleanArray) -> pa.Table:
    """Studies and evaluable studies of every patient, in order of the patient key."""
    narrow = ordered.select(["patient_key"]).append_column("evaluable", evaluable.cast(pa.int32()))
    counted = narrow.group_by("patient_key").aggregate([("evaluable", "count"), ("evaluable", "sum")])
    named = counted.select(["patient_key", "evaluable_count", "evaluable_sum"])
    return named.rename_columns(["patient_key", "n_studies", "n_evaluable_studies"]).sort_by("patient_key")


def _first_rows(ordered: pa.Table, patients: pa.ChunkedArray) -> pa.Table:
    """The first row of each patient, in the order of `patients`; a row of NULL where there is none."""
    keys = ordered["patient_key"].to_numpy(zero_copy_only=False)
    first = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    first = np.r_[0, first] if len(keys) else first
    row_of = dict(zip(keys[first], first.tolist(), strict=True))
    return ordered.take(pa.array([row_of.get(patient) for patient in patients.to_pylist()], pa.int64()))
