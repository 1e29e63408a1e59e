"""Grading whole tables gives what grading vertebra by vertebra gives."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from vertebra_core.settings import GradingSettings
from vertebra_core.tables.grades import grade, grade_number, shape
from vertebra_core.tables.regrade import deformity_sums, regrade_vertebrae

height = st.one_of(st.none(), st.sampled_from([15.0, 18.5, 20.0, 25.0]), st.floats(5.0, 40.0))
vertebra = st.tuples(st.sampled_from(["st1", "st2"]), height, height, height)
bounds = st.lists(st.floats(0.3, 1.0), min_size=3, max_size=3).map(sorted)


@given(st.lists(vertebra, max_size=8), bounds)
def test_a_table_is_graded_as_its_vertebrae_are(vertebrae, three):
    severe, moderate, mild = three
    grading = GradingSettings(mild, moderate, severe)
    heights = [(a, m, p) for _, a, m, p in vertebrae]
    g = [None if None in one else min(one) / max(one) for one in heights]
    columns = {name: [one[i] for one in heights] for i, name in enumerate(("ha_mm", "hm_mm", "hp_mm"))}
    table = pa.table(
        {
            "study_key": pa.array([key for key, *_ in vertebrae], pa.string()),
            **{name: pa.array(values, pa.float64()) for name, values in columns.items()},
            "g": pa.array(g, pa.float64()),
            "grade": pa.array([None] * len(g), pa.string()),
            "shape": pa.array([None] * len(g), pa.string()),
        }
    )
    graded = regrade_vertebrae(table, grading)
    names = [grade(one, grading) for one in g]
    assert graded["grade"].to_pylist() == names
    assert graded["shape"].to_pylist() == [
        None if value is None else shape(*three, name) for three, value, name in zip(heights, g, names, strict=True)
    ]
    sums = deformity_sums(graded)
    for key in set(table["study_key"].to_pylist()):
        of_study = [name for (own, *_), name in zip(vertebrae, names, strict=True) if own == key]
        assert sums[key] == sum(grade_number(name) for name in of_study)
