"""Every block of docs/analysts.md runs, and its three tools agree."""

import re
from pathlib import Path

from made_studies import NORMAL, WEDGE, column, make_cohort, patient_series, result_of

from vertebra_core.errors import Reason

PAGE = Path(__file__).parents[2] / "docs" / "analysts.md"


def test_the_examples_run_and_agree(tmp_path, monkeypatch):
    fractured, normal = result_of(column([NORMAL] * 6 + [WEDGE])), result_of(column([NORMAL] * 7))
    ends = [
        ("F", fractured),
        ("F", normal),
        ("M", normal),
        (None, fractured),
        ("M", result_of(column([WEDGE] * 2))),
        ("F", Reason.NO_SPINE),
    ]
    make_cohort(tmp_path / "spines", [(patient_series(i, sex=sex), end) for i, (sex, end) in enumerate(ends)])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert len(blocks) == 5
    expected = [("F", 2, 1), ("M", 1, 0), (None, 1, 1)]
    assert names["by_sex_duckdb"] == expected
    assert names["by_sex_polars"].rows() == expected
    by_sex = names["by_sex_pandas"].reset_index().astype(object)
    in_pandas = [tuple(row) for row in by_sex.where(by_sex.notna(), None).itertuples(index=False)]
    assert in_pandas == expected
    assert names["vertebrae_duckdb"] == [(4 * 7 + 2, 4)]
