"""``vertebra tables``: where the published Parquet is and what its columns mean."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.printing import print_json, print_table

if TYPE_CHECKING:
    from vertebra_core.storage import Place

PUBLISHED = ("vertebrae", "studies", "patients", "levels_in_view", "other_series", "other_vertebrae")

EXAMPLE_QUERY = """SELECT sex, count(*) AS patients, count(*) FILTER (worst_grade IN ('moderate', 'severe')) AS moderate
FROM '{folder}/patients.parquet' WHERE worst_grade IS NOT NULL GROUP BY sex"""


REGISTER = """import duckdb, fsspec; duckdb.register_filesystem(fsspec.filesystem("s3"))"""
"""DuckDB reads a store through fsspec; its own extension for that would have to be fetched from the network."""


def tables(
    cohort: str, *, table: str | None = None, as_json: Annotated[bool, Parameter(name="--json")] = False
) -> None:
    """Where the published Parquet is, how many rows it has, and what its columns mean.

    Example: vertebra tables spines --table vertebrae

    Parameters
    ----------
    cohort
        The cohort, already screened: a folder or an s3:// URL.
    table
        Show the columns of this table: vertebrae, studies, patients, levels_in_view, other_series,
        other_vertebrae or inventory.
    as_json
        Print paths, row counts and the whole dictionary as one JSON document.
    """
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.errors import WrongUse
    from vertebra_core.tables.dictionary import dictionary
    from vertebra_core.tables.parquet import count_rows

    known = dictionary()["tables"]
    if table is not None and table not in known:
        raise WrongUse(f"no table {table!r}; there are {', '.join(known)}")
    layout = open_layout(cohort)
    snapshot = latest_snapshot(layout)
    paths = {name: [snapshot / f"{name}.parquet"] for name in PUBLISHED} | {"inventory": layout.inventories()}
    rows = {name: sum(map(count_rows, files)) for name, files in paths.items()}
    if as_json:
        files = {name: [str(path) for path in some] for name, some in paths.items()}
        print_json({"snapshot": snapshot.name, "files": files, "rows": rows, "dictionary": dictionary()})
    elif table is not None:
        _print_columns(table, known[table])
    else:
        _print_overview(snapshot, rows, known)


def _print_overview(snapshot: "Place", rows: dict[str, int], known: dict) -> None:
    from vertebra_core.storage import is_url

    print(f"Snapshot {snapshot.name} in {snapshot}")
    lines = [[name, str(n), str(len(known[name]["columns"])), known[name]["description"]] for name, n in rows.items()]
    print_table("Tables", ["table", "rows", "columns", "what a row is"], lines, text=("what a row is",))
    print("Columns of one: --table NAME. The dictionary: dictionary.json beside the tables, docs/tables.md.")
    if is_url(str(snapshot)):
        print(f"In Python, before a query: {REGISTER}")
    print(f"For example, in DuckDB:\n\n{EXAMPLE_QUERY.format(folder=snapshot)};\n")


def _print_columns(name: str, table: dict) -> None:
    lines = [[column[part] for part in ("name", "type", "unit", "description")] for column in table["columns"]]
    columns = ["column", "type", "unit", "what it is"]
    print_table(f"{name}: {table['description']}", columns, lines, text=columns)
