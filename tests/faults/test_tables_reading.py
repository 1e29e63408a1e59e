"""Files of a table can be read together by what analysts use, without options (cases T1 and T3)."""

from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_studies import NORMAL, SERIES, column, outcome_of, result_of

from vertebra_core.errors import Reason
from vertebra_core.settings import GradingSettings
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.rows import outcome_rows, to_arrow
from vertebra_core.tables.schema import TABLES, arrow_schema


def write(folder: Path, name: str, *outcomes, site=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for outcome in outcomes for row in outcome_rows(outcome, GradingSettings(), site)["studies"]]
    pq.write_table(to_arrow("studies", rows), folder / name)


@pytest.fixture
def nights(tmp_path) -> Path:
    """Night 1 has no failure and no sex, night 2 both, night 3 no rows."""
    measured, bare = result_of(column([NORMAL])), replace(SERIES, sex=None, age_years=None)
    write(tmp_path, "night1.parquet", outcome_of("st1", result=measured, series=bare))
    write(tmp_path, "night2.parquet", outcome_of("st2", reason=Reason.NO_SPINE), outcome_of("st3", result=measured))
    write(tmp_path, "night3.parquet")
    return tmp_path


def test_t1_a_column_empty_in_one_file(nights):
    in_duckdb = duckdb.sql(f"SELECT study_key, reason, sex FROM '{nights}/*.parquet' ORDER BY study_key").fetchall()
    assert in_duckdb == [("st1", None, None), ("st2", "no_spine", "F"), ("st3", None, "F")]
    in_pandas = pd.read_parquet(nights).sort_values("study_key")
    assert in_pandas["reason"].isna().tolist() == [True, False, True]
    in_polars = pl.read_parquet(f"{nights}/*.parquet").sort("study_key")
    assert in_polars["sex"].to_list() == [None, "F", "F"]
    assert in_polars["n_vertebrae"].to_list() == [1, 0, 1]


def test_t1_every_file_has_the_same_schema(nights):
    for path in nights.glob("*.parquet"):
        assert pq.read_schema(path).equals(arrow_schema("studies"), check_metadata=True)


@pytest.mark.parametrize("name", TABLES)
def test_units_and_descriptions_survive_parquet(tmp_path, name):
    pq.write_table(to_arrow(name, []), tmp_path / "empty.parquet")
    back = pq.read_table(tmp_path / "empty.parquet").schema
    for column_ in TABLES[name].columns:
        assert back.field(column_.name).metadata[b"unit"].decode() == column_.unit
        assert back.field(column_.name).nullable == column_.nullable


def test_t3_sites_and_keys_of_digits_stay_text(tmp_path):
    for i, site in enumerate(("007", "012", "north")):
        outcome = outcome_of(f"00{i}", f"0{i}", result_of(column([NORMAL])))
        write(tmp_path / f"site={site}", "part.parquet", outcome, site=site)
    files = sorted(tmp_path.glob("*/*.parquet"))
    expected = [("000", "007"), ("001", "012"), ("002", "north")]
    for partitioned in (True, False):
        query = f"FROM read_parquet('{tmp_path}/*/*.parquet', hive_partitioning={partitioned})"
        assert duckdb.sql(f"SELECT study_key, site {query} ORDER BY study_key").fetchall() == expected
    each = pa.concat_tables([pq.ParquetFile(path).read(["study_key", "site"]) for path in files])
    assert [tuple(row.values()) for row in each.to_pylist()] == expected
    frames = pd.concat([pd.read_parquet(path, partitioning=None) for path in files])
    assert list(zip(frames["study_key"], frames["site"], strict=True)) == expected


def test_t5_a_study_written_twice_is_refused():
    rows = outcome_rows(outcome_of(result=result_of(column([NORMAL] * 2))), GradingSettings())
    for name in ("vertebrae", "studies"):
        with pytest.raises(ValueError, match="occur more than once"):
            to_arrow(name, rows[name] * 2)


def test_t3_a_cohort_below_a_folder_that_looks_like_a_partition(tmp_path):
    """DuckDB takes "site=007" of a path for a column, in place of the file's own, unless it is told not to."""
    write(tmp_path / "site=007", "studies.parquet", outcome_of("001", "02", result_of(column([NORMAL]))), site="north")
    path = tmp_path / "site=007" / "studies.parquet"
    query = f"SELECT study_key, site FROM read_parquet('{path}', hive_partitioning = false)"
    assert duckdb.sql(query).fetchall() == [("001", "north")]
    assert read_table(path, columns=["site"])["site"].to_pylist() == ["north"]
