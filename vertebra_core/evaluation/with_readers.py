"""Agreement of the program with readers beyond the paper's tables: limits, ICC, kappa, ROC, calibration.

Vertebrae of one patient resemble each other: every interval takes patients as the sampling unit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.evaluation.evidence import UNNAMED, Evidence, Vertebrae, rows
from vertebra_core.evaluation.metrics import HEIGHTS
from vertebra_core.settings import GradingSettings
from vertebra_core.statistics.bland_altman import Limits, limits_of_agreement
from vertebra_core.statistics.calibration import Calibration, ErrorCalibration, calibration, error_calibration
from vertebra_core.statistics.icc import IccForm, icc
from vertebra_core.statistics.influence import CONFIDENCE
from vertebra_core.statistics.kappa import WEIGHTS, Kappa, weighted_kappa
from vertebra_core.statistics.roc import RocArea, roc_area
from vertebra_core.tables.columns import GRADES
from vertebra_core.tables.grades import reaches

MEASURES = (*HEIGHTS, "g")
FORM: IccForm = "ICC(2,1)"
"""Absolute agreement of single values: a constant difference counts against the program."""


@dataclass(frozen=True)
class PatientIcc:
    """An intraclass correlation of program and truth with its interval from a bootstrap over patients.

    Parameters
    ----------
    form : str
    value, low, high : float or None
    n : int
        Vertebrae.
    """

    form: IccForm
    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class GradeAgreement:
    """Grades of found and measured vertebrae.

    Parameters
    ----------
    table : tuple of tuple of int
        Rows: true grade, normal to severe; columns: the program's.
    equal : float or None
    kappa : mapping
        plain, linear, quadratic, and by bound: "G <= 0.74".
    """

    table: tuple[tuple[int, ...], ...]
    equal: float | None
    kappa: Mapping[str, Kappa]


@dataclass(frozen=True)
class WithReaders:
    """How the program agrees with the truth.

    Parameters
    ----------
    limits : mapping
        ha_mm, hm_mm, hp_mm, g: found minus true, over found and measured vertebrae.
    icc : mapping
        The same.
    grades : GradeAgreement
    roc : mapping
        Unit (vertebra, patient) -> "G <= 0.74" -> area under the ROC curve of -G.
    score, level_confidence : Calibration
        That a find is a vertebra, and that a name is right.
    standard_errors : mapping
        ha_mm, hm_mm, hp_mm, g: stated beside real errors.
    """

    limits: Mapping[str, Limits]
    icc: Mapping[str, PatientIcc]
    grades: GradeAgreement
    roc: Mapping[str, Mapping[str, RocArea]]
    score: Calibration
    level_confidence: Calibration
    standard_errors: Mapping[str, ErrorCalibration]


def with_readers(
    evidence: Evidence, grading: GradingSettings | None = None, resamples: int = 1000, seed: int = 0
) -> WithReaders:
    """All figures of agreement of an evaluation.

    Parameters
    ----------
    evidence : Evidence
    grading : GradingSettings, optional
    resamples : int
        Of patients, behind the intervals of the ICC; 0 for none.
    seed : int
    """
    grading = grading or GradingSettings()
    measured = rows(evidence.vertebrae, np.isfinite(evidence.vertebrae.g))
    away, patient = measured.difference, measured.patient
    return WithReaders(
        {name: limits_of_agreement(away[:, i], patient) for i, name in enumerate(MEASURES)},
        {
            name: _icc(both, patient, resamples, seed)
            for name, both in zip(MEASURES, np.moveaxis(true_and_found(measured), 1, 0), strict=True)
        },
        _grade_agreement(measured, grading),
        _roc(evidence, measured, grading),
        _score_calibration(evidence),
        _level_calibration(evidence.vertebrae),
        {
            name: error_calibration(away[:, i], measured.standard_errors[:, i], patient)
            for i, name in enumerate(MEASURES)
        },
    )


def true_and_found(measured: Vertebrae) -> Float[np.ndarray, "n 4 2"]:
    """True and found ha, hm, hp (mm) and G of measured vertebrae."""
    true = np.c_[measured.true_heights, measured.true_g]
    return np.stack([true, np.c_[measured.heights, measured.g]], axis=-1)


def _icc(both: Float[np.ndarray, "n 2"], patient: Int[np.ndarray, "n"], resamples: int, seed: int) -> PatientIcc:
    own = icc(both, FORM)
    numbers = np.unique(patient)
    if own.value is None or len(numbers) < 2 or resamples < 1:
        return PatientIcc(FORM, own.value, None, None, own.n)
    rng = np.random.default_rng(seed)
    mine = [np.flatnonzero(patient == number) for number in numbers]
    drawn = []
    for _ in range(resamples):
        again = np.concatenate([mine[i] for i in rng.integers(len(mine), size=len(mine))])
        value = icc(both[again], FORM).value
        drawn += [] if value is None else [value]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist() if drawn else (None, None)
    return PatientIcc(FORM, own.value, low, high, own.n)


def _grade_agreement(measured: Vertebrae, grading: GradingSettings) -> GradeAgreement:
    bounds, size = (grading.mild, grading.moderate, grading.severe), len(GRADES)
    true, found = (
        np.sum([reaches(g, bound) for bound in bounds], axis=0, dtype=int) for g in (measured.true_g, measured.g)
    )
    table = np.bincount(true * size + found, minlength=size**2).reshape(size, size)
    kappa = {name: weighted_kappa(true, found, size, name, measured.patient) for name in WEIGHTS}
    at = {}
    for bound in bounds:
        case, called = (reaches(g, bound).astype(int) for g in (measured.true_g, measured.g))
        at[_name(bound)] = weighted_kappa(case, called, 2, "plain", measured.patient)
    equal = float((true == found).mean()) if len(true) else None
    return GradeAgreement(tuple(map(tuple, table.tolist())), equal, {**kappa, **at})


def _roc(evidence: Evidence, measured: Vertebrae, grading: GradingSettings) -> dict[str, dict[str, RocArea]]:
    people = evidence.patients
    units = {
        "vertebra": (measured.true_g, measured.g, measured.patient),
        "patient": (people.true_g, people.g, None),
    }
    bounds = (grading.mild, grading.moderate, grading.severe)
    return {
        unit: {_name(bound): roc_area(reaches(true, bound), -g, cluster) for bound in bounds}
        for unit, (true, g, cluster) in units.items()
    }


def _score_calibration(evidence: Evidence) -> Calibration:
    finds = evidence.finds
    of = np.isfinite(finds.score)
    return calibration(finds.score[of], finds.right[of], finds.patient[of])


def _level_calibration(vertebrae: Vertebrae) -> Calibration:
    named = (vertebrae.level != UNNAMED) & (vertebrae.found_level != UNNAMED) & np.isfinite(vertebrae.level_confidence)
    right = (vertebrae.level == vertebrae.found_level)[named]
    return calibration(vertebrae.level_confidence[named], right.astype(bool), vertebrae.patient[named])


def _name(bound: float) -> str:
    return f"G <= {bound:.2f}"
