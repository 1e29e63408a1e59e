"""Grade whole tables anew from the stored heights and G, so that other bounds never need new inference."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import GRADES, SHAPES
from vertebra_core.tables.grades import FLOATING_ERROR, reaches

HEIGHTS = ("ha_mm", "hm_mm", "hp_mm")


def regrade_vertebrae(table: pa.Table, grading: GradingSettings) -> pa.Table:
    """Table `vertebrae` with the grades and shapes of these bounds."""
    numbers = _grade_numbers(table["g"], grading)
    heights = np.stack([_floats(table[name]) for name in HEIGHTS], 1)
    smallest = heights.min(1, keepdims=True, initial=np.inf)  # NaN where any is
    first = (heights <= smallest + FLOATING_ERROR).argmax(1)
    shaped = (numbers > 0) & np.isfinite(smallest[:, 0])
    graded = _with_names(table, "grade", GRADES, numbers, numbers >= 0)
    return _with_names(graded, "shape", SHAPES, first, shaped)


def regrade_levels(table: pa.Table, grading: GradingSettings) -> pa.Table:
    """Table `levels_in_view` with the grades of these bounds."""
    numbers = _grade_numbers(table["g"], grading)
    return _with_names(table, "grade", GRADES, numbers, numbers >= 0)


def deformity_sums(vertebrae: pa.Table, key: str = "study_key") -> Counter[str]:
    """Spinal deformity index of each study (or ``key``) in a graded table `vertebrae`: the sum of its grades 0 to 3."""
    sums: Counter[str] = Counter()
    for one, name in zip(vertebrae[key].to_pylist(), vertebrae["grade"].to_pylist(), strict=True):
        sums[one] += 0 if name is None else GRADES.index(name)
    return sums


def regrade_studies(
    table: pa.Table, sums: Mapping[str, int], grading: GradingSettings, key: str = "study_key"
) -> pa.Table:
    """Table `studies` with worst grade and deformity index of these bounds.

    Parameters
    ----------
    sums : mapping
        Key -> deformity index, from `deformity_sums`.
    """
    numbers = _grade_numbers(table["min_g"], grading)
    graded = _with_names(table, "worst_grade", GRADES, numbers, numbers >= 0)
    measured = [worst is not None for worst in graded["worst_grade"].to_pylist()]
    indices = [sums.get(one, 0) if any_ else None for one, any_ in zip(table[key].to_pylist(), measured, strict=True)]
    return _replaced(graded, "spinal_deformity_index", indices)


def _grade_numbers(g: pa.ChunkedArray, grading: GradingSettings) -> np.ndarray:
    """Grade 0 to 3; -1 where G was not measured."""
    values = _floats(g)
    number = sum(reaches(values, bound).astype(int) for bound in (grading.mild, grading.moderate, grading.severe))
    return np.where(np.isnan(values), -1, number)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(float)


def _with_names(table: pa.Table, column: str, names: tuple[str, ...], index: np.ndarray, known: np.ndarray) -> pa.Table:
    values = [names[i] if there else None for i, there in zip(index.tolist(), known.tolist(), strict=True)]
    return _replaced(table, column, values)


def _replaced(table: pa.Table, column: str, values: list) -> pa.Table:
    field = table.schema.field(column)
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
