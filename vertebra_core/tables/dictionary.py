"""The data dictionary, as JSON for a snapshot and as the page docs/tables.md.

``python -m vertebra_core.tables.dictionary`` prints the page.
"""

from vertebra_core.tables.columns import Column
from vertebra_core.tables.schema import SCHEMA_VERSION, TABLES, Table

INTRODUCTION = f"""# Tables

Made from `vertebra_core/tables/schema.py` by `python -m vertebra_core.tables.dictionary`; a test holds the two equal.
Schema version {SCHEMA_VERSION}.

An unmeasured value is NULL, never NaN and never a default: a NULL grade is not a normal vertebra. Keys and sites are
strings. Every file of a table has the same schema, also with no rows. Unit, description and source of a column are
the metadata of its Arrow field, too.
"""


def dictionary() -> dict:
    """Every table with its key and columns, ready for JSON.

    Examples
    --------
    >>> vertebrae = dictionary()["tables"]["vertebrae"]
    >>> vertebrae["key"], vertebrae["columns"][0]["name"]
    (['study_key', 'vertebra_index'], 'study_key')
    """
    return {"schema_version": SCHEMA_VERSION, "tables": {name: _table(table) for name, table in TABLES.items()}}


def _table(table: Table) -> dict:
    columns = [_column(column) for column in table.columns]
    return {"description": table.description, "key": list(table.key), "columns": columns}


def _column(column: Column) -> dict:
    return {
        "name": column.name,
        "type": str(column.type),
        "unit": column.unit,
        "description": column.description,
        "source": column.source,
        "nullable": column.nullable,
        "values": list(column.values),
        "separator": ";" if column.is_list else None,
        "reproducible": column.reproducible,
    }


def markdown() -> str:
    """The dictionary as a page."""
    return "\n".join([INTRODUCTION, *(_section(name, table) for name, table in dictionary()["tables"].items())])


def _section(name: str, table: dict) -> str:
    head = [
        f"## {name}\n",
        f"{table['description']} Key: {', '.join(f'`{column}`' for column in table['key'])}.\n",
        "| column | type | unit | NULL | what it is | source |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(_line(column) for column in table["columns"])]) + "\n"


def _line(column: dict) -> str:
    cells = (
        f"`{column['name']}`",
        column["type"],
        column["unit"],
        "yes" if column["nullable"] else "never",
        column["description"] + _allowed(column),
        column["source"],
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _allowed(column: dict) -> str:
    few = 0 < len(column["values"]) <= 6
    return f" One of: {', '.join(column['values'])}." if few else ""


if __name__ == "__main__":
    print(markdown(), end="")
