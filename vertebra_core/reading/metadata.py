"""What a table beside the archive knows of its studies: age, sex, date, patient, site; for what headers do not say.

The table is a CSV or Parquet file. One column says what a row is about: ``path`` (a file or folder below the archive),
``StudyInstanceUID`` or ``SeriesInstanceUID``. **The header wins**: a value of the table is taken only where the header
has none; where both speak and differ the header stays and the difference is counted. Which values a series took is
written to its `repairs`, as "metadata:age_years+sex".
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from vertebra_core.errors import WrongUse
from vertebra_core.reading.attributes import iso_date
from vertebra_core.reading.series import Series

KEYS = {
    "path": "path",
    "StudyInstanceUID": "study_uid",
    "study_uid": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "series_uid": "series_uid",
}
"""Columns that say what a row is about, and the attribute of a series they are compared with."""
OLDEST_YEARS = 130.0


def _age(text: str) -> float:
    age = float(text)
    if not 0.0 <= age <= OLDEST_YEARS:
        raise ValueError
    return age


def _sex(text: str) -> str:
    sex = {"FEMALE": "F", "MALE": "M", "OTHER": "O"}.get(text.upper(), text.upper())
    if sex not in ("F", "M", "O"):
        raise ValueError
    return sex


def _date(text: str) -> str:
    day = iso_date(text)
    if day is None:
        raise ValueError
    return day


VALUES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "age_years": ("age_years", _age, f"a number from 0 to {OLDEST_YEARS:g}"),
    "sex": ("sex", _sex, "F, M or O"),
    "study_date": ("study_date", _date, "YYYY-MM-DD"),
    "patient_id": ("patient_id", str, "text"),
    "patient_key": ("patient_id", str, "text"),
    "site": ("site", str, "text"),
}
"""Columns that hold values: the attribute of a series they fill, how they are read, and what was expected."""


@dataclass(frozen=True)
class Metadata:
    """A table of metadata, read and checked.

    Parameters
    ----------
    key : str
        Attribute of a series by which rows are found: "path", "study_uid" or "series_uid".
    rows : mapping
        Values by key; absent ones are left out.
    """

    key: str
    rows: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Joined:
    """Series with what a table knows of them.

    Parameters
    ----------
    series : tuple of Series
    rows, rows_used : int
        Of the table, and of these the ones that some series was found for.
    filled : dict
        How many series took a value, by attribute.
    kept : dict
        How many series have a header that says otherwise, which was kept, by attribute.
    """

    series: tuple[Series, ...]
    rows: int
    rows_used: int
    filled: dict[str, int]
    kept: dict[str, int]


def read_metadata(path: Path) -> Metadata:
    """Read a table of metadata.

    Raises
    ------
    WrongUse
        Not a table, no or two key columns, a column that is not known, a key twice, a value that cannot be one: one
        line that says where.
    """
    table = _read_table(path)
    keys = [name for name in table.column_names if name in KEYS]
    unknown = [name for name in table.column_names if name not in KEYS and name not in VALUES]
    if unknown:
        raise WrongUse(f"{path}: column {unknown[0]!r} is not known (known: {', '.join([*KEYS, *VALUES])})")
    if len(keys) != 1:
        found = "none" if not keys else " and ".join(keys)
        raise WrongUse(f"{path}: one column must say what a row is about ({', '.join(KEYS)}); found {found}")
    fills = [VALUES[name][0] for name in table.column_names if name in VALUES]
    if len(set(fills)) < len(fills) or len(set(table.column_names)) < table.num_columns:
        raise WrongUse(f"{path}: two columns for the same thing")
    if not fills:
        raise WrongUse(f"{path}: no column with values ({', '.join(VALUES)})")
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(table.to_pylist(), 1):
        key = _key(row.pop(keys[0]), KEYS[keys[0]])
        if not key:
            raise WrongUse(f"{path}: row {number}: no {keys[0]}")
        if key in rows:
            raise WrongUse(f"{path}: row {number}: this {keys[0]} has a row already")
        rows[key] = dict(_values(row, f"{path}: row {number}"))
    return Metadata(KEYS[keys[0]], rows)


def _read_table(path: Path) -> pa.Table:
    try:
        with open(path, "rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            return pq.ParquetFile(path).read()
        # Everything as text: an identifier of digits is no number, and "007" is not 7.
        options = pyarrow.csv.ReadOptions(use_threads=False)
        names = pyarrow.csv.open_csv(path, options).schema.names
        as_text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        return pyarrow.csv.read_csv(path, options, convert_options=as_text)
    except FileNotFoundError:
        raise WrongUse(f"no such file: {path}") from None
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise WrongUse(f"{path}: neither CSV nor Parquet ({str(error).splitlines()[0][:120]})") from error


def _key(value: Any, kind: str) -> str:
    text = "" if value is None else str(value).strip()
    return text.removeprefix("./").rstrip("/") if kind == "path" else text


def _values(row: Mapping[str, Any], where: str) -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        attribute, read, expected = VALUES[name]
        text = "" if value is None else str(value).strip()
        if text in ("", "nan", "None", "NULL", "NA"):
            continue
        try:
            yield attribute, read(text)
        except ValueError:
            raise WrongUse(f"{where}: {name} is not {expected}") from None


def join_metadata(series: Iterable[Series], metadata: Metadata) -> Joined:
    """Fill what headers do not say. Of rows by path, the one for the deepest folder that holds a series counts."""
    used: set[str] = set()
    filled: dict[str, int] = {}
    kept: dict[str, int] = {}
    joined = []
    for one in series:
        key = _row_key(one, metadata)
        if key is None:
            joined.append(one)
            continue
        used.add(key)
        known = metadata.rows[key]
        new = {name: value for name, value in known.items() if getattr(one, name) in (None, "")}
        for name in known:
            counts = filled if name in new else kept
            if name in new or getattr(one, name) != known[name]:
                counts[name] = counts.get(name, 0) + 1
        note = (f"metadata:{'+'.join(sorted(new))}",) if new else ()
        joined.append(replace(one, **new, repairs=(*one.repairs, *note)))
    return Joined(tuple(joined), len(metadata.rows), len(used), filled, kept)


def _row_key(series: Series, metadata: Metadata) -> str | None:
    if metadata.key != "path":
        key = getattr(series, metadata.key)
        return key if key in metadata.rows else None
    whole = series.path if series.path not in ("", ".") else ""
    candidates = [series.files[0]] if len(set(series.files)) == 1 else []
    parts = whole.split("/") if whole else []
    candidates += ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((one for one in [*candidates, "."] if one in metadata.rows), None)
