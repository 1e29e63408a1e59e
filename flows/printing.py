"""How a command prints: rich tables on a terminal, aligned plain text in a pipe or log, JSON for programs."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

ABSENT = "n/a"
"""What is printed where a number is not defined."""


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    text: Sequence[str] | None = None,
    last_is_total: bool = False,
) -> None:
    """Print a table; numbers stand to the right.

    Parameters
    ----------
    text : sequence of str, optional
        Columns that stand to the left; the first one always does.
    last_is_total : bool
        Set the last row apart.
    """
    left = [i == 0 or column in (text or ()) for i, column in enumerate(columns)]
    if sys.stdout.isatty():
        _print_rich(title, columns, rows, left, last_is_total)
    else:
        print(plain_table(title, columns, rows, left), end="\n\n")


def plain_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[bool] | None = None
) -> str:
    """The table as aligned text without any control characters.

    Examples
    --------
    >>> print(plain_table("Counts", ["sex", "n"], [["F", "12"], ["M", "7"]]))
    Counts
      sex   n
      F    12
      M     7
    """
    left = left or [i == 0 for i in range(len(columns))]
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    aligned = ["  ".join(map(_align, line, widths, left)).rstrip() for line in lines]
    return "\n".join([title, *(f"  {line}" for line in aligned)])


def _align(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def _print_rich(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[bool], last_is_total: bool
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, header_style="dim")
    table.padding, table.pad_edge, table.collapse_padding = (0, 1), False, True
    for column, to_the_left, stays in zip(columns, left, _unbroken(left), strict=True):
        table.add_column(column, justify="left" if to_the_left else "right", no_wrap=stays)
    for i, row in enumerate(rows):
        total = last_is_total and i == len(rows) - 1
        table.add_row(*row, style="bold" if total else None, end_section=last_is_total and i == len(rows) - 2)
    console = Console(highlight=False)
    unbroken = [
        max(map(len, cells))
        for cells, stays in zip(zip(columns, *rows, strict=True), _unbroken(left), strict=True)
        if stays
    ]
    if sum(unbroken) + 2 * len(columns) > console.width:
        console.print(plain_table(title, columns, rows, left), soft_wrap=True)  # rather wrapped lines than cut numbers
    else:
        console.print(table)


def _unbroken(left: Sequence[bool]) -> list[bool]:
    """Columns whose cells are never broken into lines: the first one and all numbers."""
    return [i == 0 or not to_the_left for i, to_the_left in enumerate(left)]


def print_json(document: Any) -> None:
    """Print one JSON document; dataclasses become objects, a number that is not defined null."""
    print(json.dumps(document, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {**fields, "value": value.value} if hasattr(value, "value") else fields
    return str(value)


def number(value: float | None, digits: int = 2) -> str:
    """A number, or "n/a" where it is not defined.

    Examples
    --------
    >>> number(0.976, 2), number(None)
    ('0.98', 'n/a')
    """
    return ABSENT if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as per cent with one decimal.

    Examples
    --------
    >>> percent(0.0693)
    '6.9'
    """
    return number(None if value is None else 100 * value, 1)
