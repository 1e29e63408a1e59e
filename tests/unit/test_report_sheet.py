"""Contact sheets: every study of a grade or reason once, the lowest G first, and no picture where none was drawn."""

import re
from pathlib import Path

import duckdb
import pytest
from made_report import SNAPSHOT, write_report_cohort
from PIL import Image

from flows.cli import main
from vertebra_core.cohort.layout import Layout


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("made"))
    write_report_cohort(layout.root, 300)
    layout.pictures.mkdir()
    return layout


def keys_of(cohort: Layout, where: str) -> list[str]:
    table = cohort.snapshot(SNAPSHOT) / "studies.parquet"
    rows = duckdb.sql(f"SELECT study_key FROM '{table}' WHERE {where} ORDER BY min_g, study_key").fetchall()
    return [key for (key,) in rows]


def shown(path: Path) -> list[str]:
    return re.findall(r"<code>(st\d+)</code>", path.read_text())


def test_a_grade_fills_as_many_pages_as_it_needs_and_shows_every_study_once(cohort, tmp_path, capsys):
    severe = keys_of(cohort, "worst_grade = 'severe'")
    assert len(severe) > 25
    Image.new("RGB", (1700, 1200), (200, 20, 20)).save(cohort.picture(severe[0]))
    out = tmp_path / "sheet.html"
    assert main(["show", str(cohort.root), "--contact-sheet", "severe", "--per-page", "25", "--out", str(out)]) == 0
    pages = [out, *(tmp_path / f"sheet-{i}.html" for i in range(2, -(-len(severe) // 25) + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(pages)
    assert [key for page in pages for key in shown(page)] == severe
    assert capsys.readouterr().out.startswith(f"{out}: 25 studies, 1 with a picture\n")
    first = out.read_text()
    assert first.count("data:image/png;base64,") == 1
    assert "24 of them have no picture" in re.sub(r"\s+", " ", first)
    assert not re.search(r"https?://|<script", first)


def test_refused_studies_have_their_keys_and_why_but_no_picture(cohort, tmp_path):
    out = tmp_path / "refused.html"
    assert main(["show", str(cohort.root), "--contact-sheet", "no_spine", "--out", str(out)]) == 0
    assert sorted(shown(out)) == sorted(keys_of(cohort, "reason = 'no_spine'"))
    text = re.sub(r"\s+", " ", out.read_text())
    assert "No pictures: one is drawn of every measured study" in text
    assert "No vertebral column in view." in text
    assert "<img" not in text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--contact-sheet", "grave"], "no study is grave (there are: deadline, "),
        (["--contact-sheet", "severe", "--per-page", "0"], "at least 1"),
        (["--contact-sheet", "severe", "--out", "sheet.png"], "ends in .html"),
        (["st0000001", "--contact-sheet", "severe"], "without a study key"),
    ],
)
def test_wrong_use_is_one_line(cohort, capsys, words, complaint):
    assert main(["show", str(cohort.root), *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
