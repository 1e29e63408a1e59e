"""The declaration of the tables and the check that a table keeps to it."""

import pyarrow as pa
import pytest
from made_studies import NORMAL, column, outcome_of, result_of

from vertebra_core.settings import GradingSettings
from vertebra_core.tables.columns import Column
from vertebra_core.tables.rows import outcome_rows, to_arrow
from vertebra_core.tables.schema import TABLES, arrow_schema, check_table, data_columns


@pytest.fixture(scope="module")
def vertebrae() -> pa.Table:
    rows = outcome_rows(outcome_of(result=result_of(column([NORMAL] * 3))), GradingSettings())
    return to_arrow("vertebrae", rows["vertebrae"])


@pytest.mark.parametrize("name", TABLES)
def test_every_column_says_unit_description_and_source(name):
    for field in arrow_schema(name):
        assert set(field.metadata) == {b"unit", b"description", b"source"}
        assert all(value.strip() for value in field.metadata.values())


def test_a_column_without_a_unit_cannot_be_declared():
    with pytest.raises(ValueError, match="lacks a unit"):
        Column("ha_mm", pa.float64(), "", "Anterior height.", "paper section 1")


@pytest.mark.parametrize("name", TABLES)
def test_keys_are_text_and_nothing_is_nested(name):
    for field in arrow_schema(name):
        assert not pa.types.is_nested(field.type)
        if field.name.endswith("_key") or field.name == "site":
            assert field.type == pa.string()


@pytest.mark.parametrize("name", TABLES)
def test_no_rows_have_the_whole_schema(name):
    empty = to_arrow(name, [])
    assert empty.num_rows == 0
    assert empty.schema.equals(arrow_schema(name), check_metadata=True)


def test_units_in_names_agree_with_units_declared():
    suffix_of = {"mm": "_mm", "degrees": "_deg", "years": "_years", "HU": "_hu"}
    for table in TABLES.values():
        for column_ in table.columns:
            for unit, suffix in suffix_of.items():
                assert (column_.unit == unit) == column_.name.endswith(suffix), (table.name, column_.name)


def test_a_key_may_occur_once(vertebrae):
    with pytest.raises(ValueError, match="occur more than once"):
        check_table("vertebrae", pa.concat_tables([vertebrae, vertebrae.slice(1, 1)]))


def test_no_float_is_nan(vertebrae):
    for value in (float("nan"), float("inf")):
        spoilt = pa.array([value] * 3, pa.float64())
        table = vertebrae.set_column(vertebrae.schema.get_field_index("g"), vertebrae.schema.field("g"), spoilt)
        with pytest.raises(ValueError, match=r"vertebrae\.g: NaN"):
            check_table("vertebrae", table)


def test_null_only_where_allowed(vertebrae):
    field = vertebrae.schema.field("study_key")
    table = vertebrae.set_column(0, field, pa.array(["st01", None, "st01"]))
    with pytest.raises(ValueError, match="never NULL"):
        check_table("vertebrae", table)


def test_only_declared_words(vertebrae):
    field = vertebrae.schema.field("grade")
    place = vertebrae.schema.get_field_index("grade")
    with pytest.raises(ValueError, match="'awful' is not one of"):
        check_table("vertebrae", vertebrae.set_column(place, field, pa.array(["mild", "awful", None])))


def test_another_schema_is_refused(vertebrae):
    with pytest.raises(ValueError, match="schema differs"):
        check_table("vertebrae", vertebrae.drop_columns(["g_se"]))
    with pytest.raises(ValueError, match="undeclared column 'extra'"):
        to_arrow("vertebrae", [{"extra": 1}])


def test_data_columns_leave_out_what_time_changes():
    left_out = set(arrow_schema("studies").names) - set(data_columns("studies"))
    assert left_out == {"device"} | {name for name in arrow_schema("studies").names if name.startswith("seconds_")}
    assert data_columns("vertebrae") == arrow_schema("vertebrae").names
