"""One declaration of every table: it makes the Arrow schema, the checks, the dictionary and docs/tables.md.

A column without unit, description and source cannot be declared. An unmeasured value is NULL; no float holds NaN;
keys and sites are strings; no column is nested.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vertebra_core.tables.columns import INVENTORY, LEVELS_IN_VIEW, PATIENTS, STUDIES, VERTEBRAE, Column

SCHEMA_VERSION = "2"
"""Part of the identity of every result: raise it when a column changes its name, type or meaning."""


@dataclass(frozen=True)
class Table:
    """The declaration of one table.

    Parameters
    ----------
    name : str
    description : str
        What one row is.
    key : tuple of str
        Columns whose values together are unique.
    columns : tuple of Column
    """

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


TABLES = {
    table.name: table
    for table in (
        Table(
            "vertebrae",
            "One row per vertebra found in a measured study, from the top down.",
            ("study_key", "vertebra_index"),
            VERTEBRAE,
        ),
        Table(
            "studies",
            "One row per study that was due, measured or not; none is left out.",
            ("study_key",),
            STUDIES,
        ),
        Table(
            "patients",
            "One row per patient, with the values of the index study: the earliest study with a measured vertebra.",
            ("patient_key",),
            PATIENTS,
        ),
        Table(
            "levels_in_view",
            "One row per study and level that could be assessed: the denominators of prevalence by level.",
            ("study_key", "level"),
            LEVELS_IN_VIEW,
        ),
        Table(
            "other_series",
            "One row per further series of a study, measured beside its index series with `--all-series`; else empty. "
            "The columns of `studies`; none of it is counted in any other table.",
            ("series_key",),
            STUDIES,
        ),
        Table(
            "other_vertebrae",
            "One row per vertebra found in a further series; the columns of `vertebrae`.",
            ("series_key", "vertebra_index"),
            VERTEBRAE,
        ),
        Table(
            "inventory",
            "One row per series met in the archive, with the decision and its reason.",
            ("series_key",),
            INVENTORY,
        ),
    )
}


def arrow_schema(name: str) -> pa.Schema:
    """Arrow schema of a table; unit, description and source are the metadata of each field.

    Examples
    --------
    >>> arrow_schema("vertebrae").field("ha_mm").metadata[b"unit"]
    b'mm'
    """
    table = TABLES[name]
    fields = [
        pa.field(
            column.name,
            column.type,
            nullable=column.nullable,
            metadata={"unit": column.unit, "description": column.description, "source": column.source},
        )
        for column in table.columns
    ]
    return pa.schema(
        fields, metadata={"table": name, "description": table.description, "schema_version": SCHEMA_VERSION}
    )


def data_columns(name: str) -> list[str]:
    """Columns that are equal whenever the same input is measured again (all but timings and the device)."""
    return [column.name for column in TABLES[name].columns if column.reproducible]


def check_table(name: str, table: pa.Table) -> pa.Table:
    """Return `table` unchanged if it is a sound table of that name.

    Raises
    ------
    ValueError
        Another schema, a NULL where none is allowed, NaN or infinity in a float, a value that is not among the
        allowed ones, or a key that occurs twice.

    Examples
    --------
    >>> check_table("inventory", arrow_schema("inventory").empty_table()).num_rows
    0
    """
    expected = arrow_schema(name)
    # Only the metadata of the fields is compared: a file adds keys of its own to those of the schema.
    if not table.schema.remove_metadata().equals(expected.remove_metadata(), check_metadata=True):
        raise ValueError(f"{name}: the schema differs from the declaration of version {SCHEMA_VERSION}")
    for column in TABLES[name].columns:
        _check_column(name, column, table[column.name])
    _check_key(name, table)
    return table


def _check_column(name: str, column: Column, values: pa.ChunkedArray) -> None:
    if not column.nullable and values.null_count:
        raise ValueError(f"{name}.{column.name}: {values.null_count} NULL, but the column is never NULL")
    if pa.types.is_floating(column.type) and not np.isfinite(values.drop_null().to_numpy()).all():
        raise ValueError(f"{name}.{column.name}: NaN or infinite; an unmeasured value is NULL")
    if column.values:
        strange = set(_parts(values, column)) - set(column.values)
        if strange:
            raise ValueError(f"{name}.{column.name}: {sorted(strange)[0]!r} is not one of {', '.join(column.values)}")


def _parts(values: pa.ChunkedArray, column: Column) -> Iterable[str]:
    distinct = [value for value in values.unique().to_pylist() if value is not None]
    return {part for value in distinct for part in value.split(";")} if column.is_list else distinct


def _check_key(name: str, table: pa.Table) -> None:
    key = list(TABLES[name].key)
    counts = table.select(key).group_by(key).aggregate([([], "count_all")])
    repeated = int(np.count_nonzero(counts["count_all"].to_numpy() > 1))
    if repeated:
        raise ValueError(f"{name}: {repeated} values of the key ({', '.join(key)}) occur more than once")
