"""``vertebra tables``: where the published Parquet is and what its columns mean."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.printing import print_json, print_table

PUBLISHED = ("vertebrae", "studies", "patients", "levels_in_view")

EXAMPLE_QUERY = """SELECT sex, count(*) AS patients, count(*) FILTER (worst_grade IN ('moderate', 'severe')) AS moderate
FROM '{folder}/patients.parquet' WHERE worst_grade IS NOT NULL GROUP BY sex"""


def tables(
    cohort: Path, *, table: str | None = None, as_json: Annotated[bool, Parameter(name="--json")] = False
) -> None:
    """Where the published Parquet is, how many rows it has, and what its columns mean.

    Example: vertebra tables spines --table vertebrae

    Parameters
    ----------
    cohort
        The cohort, already screened.
    table
        Show the columns of this table: vertebrae, studies, patients, levels_in_view or inventory.
    as_json
        Print paths, row counts and the whole dictionary as one JSON document.
    """
    import pyarrow.parquet as pq

    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.errors import WrongUse
    from vertebra_core.tables.dictionary import dictionary

    known = dictionary()["tables"]
    if table is not None and table not in known:
        raise WrongUse(f"no table {table!r}; there are {', '.join(known)}")
    layout = open_layout(cohort)
    snapshot = latest_snapshot(layout)
    paths = {name: [snapshot / f"{name}.parquet"] for name in PUBLISHED} | {"inventory": layout.inventories()}
    rows = {name: sum(pq.read_metadata(path).num_rows for path in files) for name, files in paths.items()}
    if as_json:
        files = {name: [str(path) for path in some] for name, some in paths.items()}
        print_json({"snapshot": snapshot.name, "files": files, "rows": rows, "dictionary": dictionary()})
    elif table is not None:
        _print_columns(table, known[table])
    else:
        _print_overview(snapshot, rows, known)


def _print_overview(snapshot: Path, rows: dict[str, int], known: dict) -> None:
    print(f"Snapshot {snapshot.name} in {snapshot}")
    lines = [[name, str(n), str(len(known[name]["columns"])), known[name]["description"]] for name, n in rows.items()]
    print_table("Tables", ["table", "rows", "columns", "what a row is"], lines, text=("what a row is",))
    print("Columns of one: --table NAME. The dictionary: dictionary.json beside the tables, docs/tables.md.")
    print(f"For example, in DuckDB:\n\n{EXAMPLE_QUERY.format(folder=snapshot)};\n")


def _print_columns(name: str, table: dict) -> None:
    lines = [[column[part] for part in ("name", "type", "unit", "description")] for column in table["columns"]]
    columns = ["column", "type", "unit", "what it is"]
    print_table(f"{name}: {table['description']}", columns, lines, text=columns)
