"""Every block of code in the README and in docs/ runs, or says that it is output."""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
ELSEWHERE = {
    "docs/analysts.md": "tests/end_to_end/test_tables_analysts_page.py",
    "docs/prevalence.md": "tests/end_to_end/test_prevalence_page.py",
    "docs/storage.md": "tests/faults/test_bucket_cohort.py",
}
"""Pages whose blocks need more than an empty folder, and the test that runs them."""
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    return [Block(m[1].strip(), m[2], text[: m.start()].count("\n") + 1) for m in FENCE.finditer(text)]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page):
    """python and console run; text is output; json and toml are data and parse. There is no other kind."""
    assert page.read_text().count("\n```") == 2 * len(blocks(page)), "a fence is not closed"
    for block in blocks(page):
        match block.kind:
            case "python" | "console" | "text":
                pass
            case "json":
                json.loads(block.text)
            case "toml":
                tomllib.loads(block.text)
            case "sql" if name(page) in ELSEWHERE:
                pass
            case _:
                pytest.fail(f"{name(page)}:{block.line}: block of kind {block.kind!r}")


@pytest.mark.parametrize("page", [page for page in PAGES if name(page) not in ELSEWHERE], ids=name)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    """The blocks of a page share one namespace, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "page"}
    for block in blocks(page):
        if block.kind == "python":
            exec(compile("\n" * block.line + block.text, name(page), "exec"), namespace)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_pages_tested_elsewhere_are(page):
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text()
    assert any(block.kind == "python" for block in blocks(ROOT / page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_free_of_places_on_our_machines(page):
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home)/", page.read_text())
