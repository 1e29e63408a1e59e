"""The page of a report: whole, escaped, the same bytes, every figure with its table, no address but its own."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made_cohorts import MadeCohort
from made_report import SNAPSHOT, make_report_tables, write_report_cohort
from PIL import Image

from flows.cli import main
from tasks.cohort_report import REPORT_FILE, add_report, write_report
from vertebra_core.cohort.layout import Layout
from vertebra_core.epidemiology.cases import Tables
from vertebra_core.epidemiology.noise import CorrectedPrevalence, CorrectedShare, Interval, NoiseUsed
from vertebra_core.epidemiology.noise_groups import CorrectedGroup
from vertebra_core.errors import CouldNotRun, WrongUse
from vertebra_core.report.contents import Choices, gather
from vertebra_core.report.gallery import WIDTH_PX, small_png
from vertebra_core.report.methods import LIMITS, bibtex, method_of
from vertebra_core.report.page import figures_of, render_report
from vertebra_core.report.words import percent, whole

ROOT = Path(__file__).resolve().parents[2]
PATIENTS = 400


class Outline(HTMLParser):
    """Headings, addresses, identifiers and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.addresses: list[str] = []
        self.identifiers: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[name] or "" for name in ("href", "src", "action", "data") if name in given]
        self.identifiers += [given["id"] or ""] if "id" in given else []
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return plain("".join(self.words))


def plain(text: str) -> str:
    """Every kind of space as one space, as in `Outline.text`."""
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Layout:
    root = tmp_path_factory.mktemp("made")
    write_report_cohort(root, PATIENTS)
    return Layout(root)


@pytest.fixture(scope="module")
def contents(cohort):
    return gather(cohort.snapshot(SNAPSHOT), Choices())


@pytest.fixture(scope="module")
def page(contents) -> str:
    return render_report(contents, {})


def test_the_headline_is_on_the_page_as_it_was_counted(contents, page):
    text, moderate = Outline(page).text, contents.everybody.patients[-1].moderate
    assert f"{plain(percent(moderate.share))} of patients have a vertebra with G ≤ 0.74" in text
    assert f"{plain(whole(moderate.count))} of {plain(whole(moderate.n))}" in text


def test_headings_go_down_one_step_at_a_time_from_a_single_first_one(page):
    levels = Outline(page).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_asks_nothing_of_anybody(page):
    outline = Outline(page)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in outline.addresses)
    assert not {"script", "link", "iframe", "object", "form"} & set(outline.tags)
    assert not re.search(r"url\(|@import|https?://", page)


def test_identifiers_are_unique_and_every_link_leads_somewhere(page):
    outline = Outline(page)
    assert len(set(outline.identifiers)) == len(outline.identifiers)
    assert {one[1:] for one in outline.addresses if one.startswith("#")} <= set(outline.identifiers)
    named = {name for names in re.findall(r'aria-labelledby="([^"]+)"', page) for name in names.split()}
    assert named
    assert named <= set(outline.identifiers)


def test_every_figure_says_in_words_and_in_a_table_what_it_draws(contents):
    drawn = figures_of(contents)
    assert set(drawn) == {
        "studies", "bones", "age_sex", "levels", "spread", "shapes", "endings", "standardised", "definitions",
        "curve_patients", "curve_vertebrae",
    } | ({"drift"} if "drift" in drawn else set())  # fmt: skip
    for figure in drawn.values():
        assert figure.title
        assert figure.description
        assert figure.table.rows
        assert all(len(row) == len(figure.table.columns) for row in figure.table.rows)


def test_the_drawn_flow_shows_the_numbers_of_its_table(contents):
    figure = figures_of(contents)["studies"]
    written = [mark.text for mark in figure.marks if mark.tag == "text"]
    for step in contents.participants.studies:
        assert whole(step.n) in written
        assert all(f"{whole(n)} {reason}" in written for reason, n in step.leaving)


def test_mild_never_stands_without_its_words(page):
    """Every mention of G <= 0.80 has "not corrected" in the same sentence, cell or caption."""
    text = Outline(page).text
    assert "G ≤ 0.80" in text
    for place in re.finditer(r"G ≤ 0\.80 in|mild, ", text):
        assert "not corrected" in text[place.start() : place.start() + 90], text[place.start() : place.start() + 90]
    assert "G ≤ 0.80, not corrected" in text


def corrected_group(share: float = 0.11) -> CorrectedGroup:
    read, corrected = Interval(0.3, 0.28, 0.32), Interval(share, 0.09, 0.13)
    at = tuple(CorrectedShare(t, read, corrected, 0.14, 0.10) for t in (0.74, 0.80))
    noise = NoiseUsed("2026-01-02", "digest", "two scans <within> a month", 60, (((0.61, 0.27), (0.27, 0.58)),))
    answer = CorrectedPrevalence(noise, at, at, 400, 390, 4000, 400, 0, 7, 1.01, ("A remark.",))
    return CorrectedGroup("all", answer, None)


def test_with_noise_the_corrected_share_stands_first(contents):
    text = Outline(render_report(replace(contents, corrected=corrected_group()), {})).text
    assert "G ≤ 0.80 in 11.0 % (9.0 to 13.0) of patients, corrected for the noise of the heights; as read" in text
    assert "as read, in the same 390 patients, 30.0 % (28.0 to 32.0)." in text
    assert "two scans <within> a month" in text
    assert "G ≤ 0.80 would be 14.0 % or 10.0 % of patients" in text


def test_where_the_correction_does_not_hold_the_page_says_why(contents):
    group = CorrectedGroup("all", None, "12 patients with known noise; 150 are needed")
    text = Outline(render_report(replace(contents, corrected=group), {})).text
    assert "not corrected (12 patients with known noise; 150 are needed)" in text


def test_names_from_headers_are_text_and_never_markup(tmp_path):
    made = make_report_tables(60)
    studies = made.tables.studies
    i = studies.schema.get_field_index("scanner")
    evil = '<script>alert("1")</script>'
    studies = studies.set_column(i, studies.schema.field(i), [[evil] * studies.num_rows])
    write_report_cohort(tmp_path, 60, made=MadeCohort(replace(made.tables, studies=studies), 60, studies.num_rows))
    page = render_report(gather(tmp_path / "snapshots" / SNAPSHOT, Choices()), {})
    assert "<script" not in page
    assert evil in Outline(page).text


def test_the_same_snapshot_gives_the_same_bytes_and_an_older_page_is_replaced(cohort):
    first = write_report(cohort)
    before = first.place.read_bytes()
    assert first.place == cohort.snapshot(SNAPSHOT) / REPORT_FILE
    assert write_report(cohort, SNAPSHOT).place.read_bytes() == before
    assert len(before) == first.n_bytes < 250_000
    write_report(cohort, choices=Choices(gallery=0))
    assert first.place.read_bytes() != before
    assert sorted(path.name for path in first.place.parent.iterdir() if path.suffix != ".parquet") == [
        "provenance.json",
        "report.html",
    ]


def test_pictures_are_carried_inside_and_named_by_their_key(tmp_path):
    layout = Layout(tmp_path)
    write_report_cohort(tmp_path, PATIENTS)
    layout.pictures.mkdir()
    gallery = gather(layout.snapshot(SNAPSHOT), Choices(gallery=1)).gallery
    assert gallery is not None
    grey = np.random.default_rng(0).integers(0, 255, (1200, 1600), np.uint8)
    Image.fromarray(grey).save(layout.picture(gallery.worst[0].study_key))
    page = write_report(layout, choices=Choices(gallery=1)).place.read_text()
    assert page.count("data:image/png;base64,") == 1
    assert f'alt="Study {gallery.worst[0].study_key}:' in page
    assert "No picture was drawn" in page  # of the random one
    without = write_report(layout, choices=Choices(gallery=1, pictures=False)).place.read_text()
    assert "data:image" not in without
    assert gallery.worst[0].study_key in without


def test_a_picture_is_made_small_the_same_way_each_time():
    sheet = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (900, 1900, 3), np.uint8)).save(sheet, "PNG")
    small = small_png(sheet.getvalue())
    assert small == small_png(sheet.getvalue())
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (WIDTH_PX, round(900 * WIDTH_PX / 1900))


def test_hidden_small_cells_leave_no_key_no_curve_and_no_definition(cohort):
    contents = gather(cohort.snapshot(SNAPSHOT), Choices(hide_small=True))
    page = render_report(contents, {})
    assert not re.search(r"\bst\d{7}\b", page)
    assert not {"curve_patients", "definitions"} & set(figures_of(contents))
    assert "hidden" in page
    cells = [cell for cell in re.findall(r"<td>(\d+)</td>", page) if 0 < int(cell) < 5]
    assert cells == []


def test_a_snapshot_without_any_study_gives_a_page_that_says_so(tmp_path):
    made = make_report_tables(5)
    tables = (made.tables.patients, made.tables.studies, made.tables.vertebrae, made.tables.levels_in_view)
    write_report_cohort(tmp_path, 0, made=MadeCohort(Tables(*(table.slice(0, 0) for table in tables)), 0, 0))
    text = Outline(render_report(gather(tmp_path / "snapshots" / SNAPSHOT, Choices()), {})).text
    assert "Not standardised: no patient analysed has an age" in text
    assert "nobody" in text


def test_limits_are_those_of_the_model_card():
    card = (ROOT / "docs" / "model_card.md").read_text().replace("**", "")
    card = plain(re.sub(r"\s*\(\[[^)]*\)\)", "", card))  # without links to other pages
    for what, why in LIMITS:
        assert f"{what} {why}" in card


def test_methods_are_written_from_the_settings_in_force(contents):
    method = method_of(contents)
    text = Outline(render_report(contents, {})).text
    for value in (method.model, method.settings, method.software, f"on a grid of {method.grid_mm} mm", method.run):
        assert value in text
    assert method.grid_mm == str(contents.provenance["settings"]["curve"]["grid_mm"])
    assert f"{{{method.software}}}" in bibtex(method)


def test_what_an_old_snapshot_does_not_tell_is_not_recorded(cohort, contents):
    bare = replace(contents, provenance={"grading": contents.provenance["grading"]})
    assert "not recorded" in Outline(render_report(bare, {})).text


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_says_where_the_page_lies_and_prints_its_numbers(cohort, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(cohort.root), "--out", str(out), "--gallery", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["bytes"]) == (str(out), out.stat().st_size)
    assert document["participants"]["studies"][-1]["n"] == document["everybody"]["flow"]["analysed"]
    assert len(document["gallery"]["worst"]) == 2


def test_every_command_of_the_page_prints_numbers_again(cohort, contents, capsys):
    for command in method_of(contents).commands:
        words = command.line.replace("COHORT", str(cohort.root)).split()[1:]
        assert main(words) == 0, command
        assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--out", "page.pdf"], "ends in .html"),
        (["--gallery", "-1"], "at least 0"),
        (["--min-vertebrae", "0"], "at least 1"),
        (["--snapshot", "nosuch"], f"no snapshot nosuch (there are: {SNAPSHOT})"),
        (["--noise"], "no measured noise"),
        (["--noise", "--hide-small"], "cannot be hidden"),
    ],
)
def test_wrong_use_is_one_line(cohort, capsys, words, complaint):
    assert main(["report", str(cohort.root), *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_a_page_that_cannot_be_made_is_told_and_leaves_the_night_alone(cohort, monkeypatch):
    said: list[str] = []

    def fail(*_, **__):
        raise CouldNotRun("the counts do not add up")

    (cohort.snapshot(SNAPSHOT) / REPORT_FILE).unlink(missing_ok=True)
    monkeypatch.setattr("tasks.cohort_report.gather", fail)
    add_report(cohort, SNAPSHOT, said.append)
    assert said == [f"report    not written (the counts do not add up); try again: vertebra report {cohort.root}"]
    with pytest.raises(WrongUse):
        write_report(cohort, "nosuch")
    monkeypatch.undo()
    add_report(cohort, SNAPSHOT, said.append)
    assert said[1] == f"report    {cohort.snapshot(SNAPSHOT) / REPORT_FILE}"
    add_report(cohort, SNAPSHOT, said.append)  # it is there: nothing is done
    assert len(said) == 2
