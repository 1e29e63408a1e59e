"""A table of metadata beside the archive: what it fills in, what it never overrides, and how a wrong one is told."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_studies import SERIES

from vertebra_core.errors import WrongUse
from vertebra_core.reading.metadata import join_metadata, read_metadata

BARE = replace(
    SERIES, patient_id="", age_years=None, sex=None, study_date=None, path="a/b/scan.nii", files=("a/b/scan.nii",)
)


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "meta.csv").write_text(text)
    return tmp_path / "meta.csv"


@pytest.mark.parametrize("key", ["a/b/scan.nii", "a/b", "a", "./a/b/", "."])
def test_a_row_by_path_is_of_a_file_or_of_all_below_a_folder(key, tmp_path):
    meta = read_metadata(table(tmp_path, f"path,age_years,sex\n{key},71.5,female\nother,40,M\n"))
    joined = join_metadata([BARE], meta)
    (one,) = joined.series
    assert (one.age_years, one.sex, one.study_date) == (71.5, "F", None)
    assert one.repairs == ("metadata:age_years+sex",)
    assert (joined.rows, joined.rows_used, joined.filled, joined.kept) == (2, 1, {"age_years": 1, "sex": 1}, {})


def test_the_deepest_row_counts_and_a_name_that_only_begins_alike_does_not(tmp_path):
    meta = read_metadata(table(tmp_path, "path,site\na,outer\na/b,inner\na/b/scan,wrong\n"))
    assert join_metadata([BARE], meta).series[0].site == "inner"
    beside = replace(BARE, path="ab/c/1.nii", files=("ab/c/1.nii",))
    assert join_metadata([beside], meta).series == (beside,)


@pytest.mark.parametrize(
    ("column", "key"),
    [("StudyInstanceUID", "1.2.3.1"), ("study_uid", "1.2.3.1"), ("SeriesInstanceUID", "1.2.3.1.1")],
)
def test_a_row_by_uid_and_the_header_wins(column, key, tmp_path):
    meta = read_metadata(table(tmp_path, f"{column},age_years,sex,patient_id,site\n{key},30,F,MR-0001,007\n"))
    joined = join_metadata([SERIES, replace(SERIES, age_years=None)], meta)
    assert [one.age_years for one in joined.series] == [67.0, 30.0]
    assert [one.site for one in joined.series] == ["007", "007"]
    assert joined.kept == {"age_years": 1}
    assert joined.filled == {"site": 2, "age_years": 1}


def test_parquet_says_the_same_as_csv(tmp_path):
    pq.write_table(
        pa.table({"path": ["a"], "age_years": [71.5], "study_date": ["2020-02-29"], "patient_key": [None]}),
        tmp_path / "anything",
    )
    csv = read_metadata(table(tmp_path, "path,age_years,study_date,patient_key\na,71.5,20200229,\n"))
    assert read_metadata(tmp_path / "anything") == csv
    assert csv.rows == {"a": {"age_years": 71.5, "study_date": "2020-02-29"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,age\na,1\n", "column 'age' is not known"),
        ("age_years\n1\n", "one column must say what a row is about"),
        ("path,study_uid,sex\na,1.2,F\n", "found path and study_uid"),
        ("path\na\n", "no column with values"),
        ("path,patient_id,patient_key\na,1,2\n", "two columns for the same thing"),
        ("path,sex\na,F\na/,M\n", "row 2: this path has a row already"),
        ("path,sex\n,F\n", "row 1: no path"),
        ("path,sex\na,W\n", "row 1: sex is not F, M or O"),
        ("path,age_years\na,old\n", "row 1: age_years is not a number"),
        ("path,age_years\na,140\n", "row 1: age_years is not a number"),
        ("path,age_years\na,nan1\n", "row 1: age_years"),
        ("path,study_date\na,30.02.2020\n", "row 1: study_date is not YYYY-MM-DD"),
        ("path,sex\na\n", "neither CSV nor Parquet"),
        ("", "neither CSV nor Parquet"),
    ],
)
def test_a_wrong_table_is_one_line_that_says_where(text, said, tmp_path):
    with pytest.raises(WrongUse) as error:
        read_metadata(table(tmp_path, text))
    assert said in str(error.value)
    assert str(error.value).startswith(str(tmp_path))


def test_a_table_that_is_not_there_or_not_a_table_is_wrong_use(tmp_path):
    with pytest.raises(WrongUse, match="no such file"):
        read_metadata(tmp_path / "absent.csv")
    (tmp_path / "bytes.csv").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(WrongUse):
        read_metadata(tmp_path / "bytes.csv")
