"""The dictionary says what the schema says, and docs/tables.md is current."""

import json
from pathlib import Path

from vertebra_core.tables.dictionary import dictionary, markdown
from vertebra_core.tables.schema import TABLES, arrow_schema

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"


def test_the_page_is_current():
    current = "run: python -m vertebra_core.tables.dictionary > docs/tables.md"
    assert PAGE.read_text() == markdown(), current


def test_the_dictionary_agrees_with_the_arrow_schema():
    tables = json.loads(json.dumps(dictionary()))["tables"]
    assert list(tables) == list(TABLES)
    for name, table in tables.items():
        for column, field in zip(table["columns"], arrow_schema(name), strict=True):
            assert (column["name"], column["type"], column["nullable"]) == (field.name, str(field.type), field.nullable)
            assert column["unit"].encode() == field.metadata[b"unit"]
            assert column["description"].encode() == field.metadata[b"description"]


def test_every_column_has_its_line_on_the_page():
    lines = markdown().splitlines()
    for table in TABLES.values():
        for column in table.columns:
            assert any(line.startswith(f"| `{column.name}` | {column.type} |") for line in lines), column.name
