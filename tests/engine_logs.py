"""What the logs of a cohort may hold, checked line by line: declared events, declared fields, values of their kind."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.events import EVENTS
from vertebra_core.errors import Reason

KEY = re.compile(r"(st|se)[0-9a-f]{8,}")
WORD = re.compile(r"[\w.<>:/+-]+")
CODES = {reason.code for reason in Reason} | {None, "ok"}
MATCHES = {
    "study_key": lambda value: KEY.fullmatch(value),
    "series_key": lambda value: KEY.fullmatch(value),
    "reason": lambda value: value in CODES,
    "reasons": lambda value: set(value) <= CODES,
    "new": lambda value: set(value) <= CODES,
    "failures": lambda value: all(KEY.fullmatch(key) and code in CODES for key, code in value),
    "status": lambda value: value in ("ok", "partial", "not_evaluable", "failed"),
    "frames": lambda value: all(WORD.fullmatch(frame) for frame in value),
    "error": lambda value: WORD.fullmatch(value),
    "worker": lambda value: WORD.fullmatch(value),
    "shard": lambda value: WORD.fullmatch(value),
}


def lines_of(logs: Path) -> Iterator[dict]:
    """Every line of every log below a folder."""
    for path in sorted(logs.rglob("*.jsonl")):
        yield from map(json.loads, path.read_text().splitlines())


def undeclared_in(logs: Path) -> list[dict]:
    """Lines that hold what is not declared, or a value that is not of its kind."""
    return [line for line in lines_of(logs) if not is_declared(line)]


def is_declared(line: dict) -> bool:
    """Whether a line keeps to its declaration."""
    fields = {name: value for name, value in line.items() if name not in ("time", "event")}
    known = line["event"] in EVENTS and set(fields) <= set(EVENTS[line["event"]].fields)
    return known and all(MATCHES[name](value) for name, value in fields.items() if name in MATCHES)
