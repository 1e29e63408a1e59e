"""Who was counted, from the studies of the archive to the patients of the analysis; every step must add up.

After item 13 of STROBE and items 6 and 13 of RECORD: at each step how many go on and how many leave, each with the
first reason that applies.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.epidemiology.analysis import Prevalence
from vertebra_core.epidemiology.cases import Tables
from vertebra_core.epidemiology.strata import place_in
from vertebra_core.errors import CouldNotRun
from vertebra_core.tables.outcome import Status


@dataclass(frozen=True)
class Step:
    """How many are there, and how many of them leave before the next step, by reason."""

    what: str
    n: int
    leaving: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Participants:
    """Steps from studies to patients, and from vertebrae found to vertebrae measured.

    Parameters
    ----------
    studies : tuple of Step
    vertebrae : tuple of Step
        Of the index studies.
    patients_met : int
        Also those of whom no study was measured.
    without_age, without_sex : int
        Of the patients analysed.
    """

    studies: tuple[Step, ...]
    vertebrae: tuple[Step, ...]
    patients_met: int
    without_age: int
    without_sex: int

    def __post_init__(self) -> None:
        for steps in (self.studies, self.vertebrae):
            check_steps(steps)


def check_steps(steps: tuple[Step, ...]) -> None:
    """Make sure that whoever does not leave arrives.

    Raises
    ------
    CouldNotRun
        Counts that do not add up: no report is made of them.

    Examples
    --------
    >>> check_steps((Step("seen", 5, (("too thick", 2),)), Step("measured", 3)))
    >>> check_steps((Step("seen", 5, (("too thick", 1),)), Step("measured", 3)))
    Traceback (most recent call last):
    vertebra_core.errors.CouldNotRun: the counts do not add up: 5 seen, 1 leave, 3 measured
    """
    for before, after in pairwise(steps):
        leave = sum(n for _, n in before.leaving)
        if before.n - leave != after.n or min(n for _, n in (*before.leaving, ("", after.n))) < 0:
            raise CouldNotRun(
                f"the counts do not add up: {before.n} {before.what}, {leave} leave, {after.n} {after.what}"
            )


def participants(tables: Tables, answer: Prevalence) -> Participants:
    """Count every step by itself, none as the difference of its neighbours.

    Parameters
    ----------
    tables : Tables
        With `complete` of the vertebrae, `n_evaluable_studies` of the patients.
    answer : Prevalence
        Of everybody, with the same tables.

    Raises
    ------
    CouldNotRun
        The counts do not add up.
    """
    flow, studies = answer.flow, tables.studies.select(["study_key", "status", "n_vertebrae"])
    ended = {status: _count(studies, pc.field("status") == status.value) for status in Status}
    measured = pc.field("status").isin([Status.OK.value, Status.PARTIAL.value])
    none_in_view = _count(studies, measured & (pc.field("n_vertebrae") == 0))
    of_patient = tables.patients.filter(pc.field("index_study_key").is_valid())["n_evaluable_studies"].to_numpy()
    few = f"fewer than {answer.min_vertebrae} measured vertebrae"
    return Participants(
        studies=(
            Step(
                "studies in the snapshot",
                studies.num_rows,
                (
                    ("not evaluable", ended[Status.NOT_EVALUABLE]),
                    ("failed", ended[Status.FAILED]),
                    ("without a measurable vertebra", none_in_view),
                ),
            ),
            Step(
                "studies with a measured vertebra",
                _count(studies, pc.field("n_vertebrae") > 0),
                (("further studies of the same patient", int((of_patient - 1).sum())),),
            ),
            Step("patients, one index study each", flow.with_measurement, ((few, _with_few(tables, answer)),)),
            Step("patients analysed", flow.analysed),
        ),
        vertebrae=_vertebrae(tables, answer),
        patients_met=flow.patients,
        without_age=flow.without_age,
        without_sex=flow.without_sex,
    )


def _with_few(tables: Tables, answer: Prevalence) -> int:
    """Index studies with too few vertebrae, by the number that the table of studies holds."""
    index = tables.patients["index_study_key"].drop_null().combine_chunks()
    few = pc.field("n_vertebrae") < max(answer.min_vertebrae, 1)
    return _count(tables.studies.select(["study_key", "n_vertebrae"]), pc.field("study_key").isin(index) & few)


def _vertebrae(tables: Tables, answer: Prevalence) -> tuple[Step, ...]:
    """Vertebrae of the index studies; cut ones and those without three heights were not measured."""
    bones = tables.vertebrae
    of_index = place_in(bones["study_key"], tables.patients["index_study_key"].drop_null().combine_chunks()) >= 0
    whole, measured = bones["complete"].to_numpy(), bones["g"].is_valid().to_numpy()
    cut = int(np.count_nonzero(of_index & ~whole & ~measured))
    lacking = int(np.count_nonzero(of_index & whole & ~measured))
    return (
        Step(
            "vertebrae in the index studies",
            int(np.count_nonzero(of_index)),
            (("cut by the edge of the scan", cut), ("without three heights", lacking)),
        ),
        Step("vertebrae measured", answer.flow.vertebrae),
    )


def _count(table: pa.Table, rows: pc.Expression) -> int:
    return table.filter(rows).num_rows
