"""Who is analysed: one index study of each patient, with what is known of patient and scan."""

from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.epidemiology.strata import place_in
from vertebra_core.errors import WrongUse
from vertebra_core.tables.patients import INDEX_RULE as EARLIEST_RULE

IndexRule = Literal["earliest", "latest", "most-vertebrae", "thinnest"]
INDEX_RULES: tuple[IndexRule, ...] = get_args(IndexRule)

_TIES = "of several, the one with the thinnest slices, then the most measured vertebrae, then the first study key."
RULE_SENTENCES: dict[str, str] = {
    "earliest": EARLIEST_RULE,
    "latest": "The index study is the patient's latest study with a measured vertebra, as far as dates are told; "
    + _TIES,
    "most-vertebrae": "The index study is the patient's study with the most measured vertebrae; of several, the one "
    "with the thinnest slices, then the first study key.",
    "thinnest": f"The index study is the patient's study with the thinnest slices and a measured vertebra; {_TIES}",
}
"""There is no rule "worst study" or "any positive study": prevalence would then grow with the number of scans."""

STUDY_COLUMNS = (
    "study_key", "patient_key", "status", "n_vertebrae", "slice_spacing_mm", "age_years", "sex", "site", "scanner",
    "study_year", "study_day", "study_date",
)  # fmt: skip
"""Columns of `studies` that an analysis reads."""

_TIE_ORDER = [("slice_spacing_mm", "ascending"), ("n_vertebrae", "descending"), ("study_key", "ascending")]


def index_studies(studies: pa.Table, patients: pa.Table, rule: IndexRule = "earliest") -> pa.Table:
    """The rows of `studies` that are index studies: one for each patient with a measured vertebra.

    Parameters
    ----------
    studies, patients : pa.Table
        Of one snapshot; of `patients` only ``index_study_key`` is read, which was chosen by true dates.
    rule : str
        "earliest" takes that choice; the others choose anew among the patient's studies.

    Raises
    ------
    WrongUse
        "latest" where the snapshot tells no dates at all.
    """
    if rule == "earliest":
        chosen = place_in(patients["index_study_key"].drop_null(), studies["study_key"].combine_chunks())
        return studies.take(pa.array(chosen))
    order = {
        "latest": [("when", "descending"), *_TIE_ORDER],
        "most-vertebrae": [("n_vertebrae", "descending"), _TIE_ORDER[0], _TIE_ORDER[2]],
        "thinnest": _TIE_ORDER,
    }[rule]
    if rule == "latest":
        studies = studies.append_column("when", _when(studies))
    measured = studies.filter(pc.field("n_vertebrae") > 0)
    ordered = measured.sort_by([("patient_key", "ascending", "at_end"), *((*by, "at_end") for by in order)])
    keys = ordered["patient_key"].to_numpy(zero_copy_only=False)
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, int)
    return ordered.take(pa.array(first))


def _when(studies: pa.Table) -> pa.ChunkedArray:
    """Whatever tells the order of a patient's studies best."""
    for name in ("study_date", "study_day", "study_year"):
        if studies[name].null_count < studies.num_rows:
            return studies[name].cast(pa.int32())
    raise WrongUse("this snapshot tells no dates (privacy.dates is none): there is no latest study")
