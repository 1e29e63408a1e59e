"""What logs may say is declared once, and the code, the page and the log keep to it."""

import ast
import importlib
import json
from pathlib import Path

import pytest

from tasks.events import EVENTS, FIELDS, UNDECLARED, tables
from tasks.log import Log

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("flows", "tasks") for path in (ROOT / package).rglob("*.py"))
LOGS = {"log", "run_log", "shard_log"}


def value_of(node: ast.expr, module: str) -> object:
    """A constant, written out or by its name."""
    if isinstance(node, ast.Constant):
        return node.value
    return getattr(importlib.import_module(module), node.id, None) if isinstance(node, ast.Name) else None


def said_in(path: Path) -> list[tuple[str, set[str]]]:
    """Event and fields of every call of a log and every note for it in a source file."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.func if isinstance(node.func, ast.Call) else node.func
            if isinstance(called, ast.Name) and called.id in LOGS:
                fields = {word.arg for word in node.keywords if word.arg}
                found.append((value_of(node.args[0], module), fields))
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if "event" in keys and "time" not in keys:
                name = value_of(dict(zip(keys, node.values, strict=False))["event"], module)
                found.append((name, set(keys) - {"event"}))
    return [(event, fields) for event, fields in found if isinstance(event, str)]


def test_all_that_the_code_says_to_a_log_is_declared():
    said = [(path.name, event, fields) for path in SOURCES for event, fields in said_in(path)]
    assert len(said) >= 8  # the search still finds them
    wrong = [
        (path, event, sorted(fields - set(EVENTS[event].fields)) if event in EVENTS else "unknown event")
        for path, event, fields in said
        if event not in EVENTS or fields - set(EVENTS[event].fields)
    ]
    assert wrong == []


def test_every_field_means_something_and_is_used():
    used = {field for event in EVENTS.values() for field in event.fields}
    assert used == set(FIELDS) - {UNDECLARED}


@pytest.mark.parametrize(
    ("event", "fields", "kept"),
    [
        ("shard_lost", {"shard": "00003", "error": "KilledWorker"}, {"shard": "00003", "error": "KilledWorker"}),
        ("shard_lost", {"shard": "00003", "name": "Doe^Jane"}, {"shard": "00003", "undeclared": ["name"]}),
        ("thought_of_yesterday", {"path": "doe/jane"}, {"undeclared": ["path"]}),
    ],
)
def test_a_field_that_nobody_declared_is_not_written(tmp_path, event, fields, kept):
    Log(tmp_path / "run.jsonl")(event, **fields)
    line = json.loads((tmp_path / "run.jsonl").read_text())
    assert {name: value for name, value in line.items() if name not in ("time", "event")} == kept


def test_the_page_shows_the_declaration():
    page = (ROOT / "docs" / "observability.md").read_text()
    assert tables() in page, "put what `python -m tasks.events` prints into docs/observability.md"
