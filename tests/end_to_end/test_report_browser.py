"""The page of a report in a real browser: offline, accessible, readable on a phone, printable."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_report import SNAPSHOT, write_report_cohort
from PIL import Image

from tasks.cohort_report import write_report
from vertebra_core.cohort.layout import Layout
from vertebra_core.report.contents import Choices, gather

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install '.[dev]'")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path, nor in the variable CHROMIUM")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
VIEWS = [(PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")]
VIEW_NAMES = ["phone-light", "phone-dark", "desk-light", "desk-dark"]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """A report with everything on it: pictures, drift, definitions, standardised shares."""
    layout = Layout(tmp_path_factory.mktemp("made"))
    write_report_cohort(layout.root, 900)
    layout.pictures.mkdir()
    gallery = gather(layout.snapshot(SNAPSHOT), Choices()).gallery
    assert gallery is not None
    for one in (*gallery.worst, *gallery.random):
        Image.new("RGB", (1700, 1300), (30, 30, 30)).save(layout.picture(one.study_key))
    return write_report(layout).place


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def opened(browser, page_file, request):
    """The page in one view, and every address that was asked for."""
    size, scheme = request.param
    tab = browser.new_page(viewport=size, color_scheme=scheme)
    asked: list[str] = []
    problems: list[str] = []
    tab.on("request", lambda one: asked.append(one.url))
    tab.on("console", lambda one: problems.append(one.text))
    tab.goto(page_file.as_uri(), wait_until="load")
    yield tab, asked, problems
    tab.close()


def everything_open(tab) -> None:
    """Open all tables, so that they are checked too."""
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


@pytest.mark.parametrize("opened", VIEWS, ids=VIEW_NAMES, indirect=True)
def test_axe_finds_no_violation_with_all_tables_open(opened):
    from axe_playwright_python.sync_playwright import Axe

    tab, _, _ = opened
    everything_open(tab)
    found = Axe().run(tab).response
    assert [(one["id"], one["nodes"][0]["html"][:160]) for one in found["violations"]] == []
    assert {"color-contrast", "svg-img-alt", "heading-order", "landmark-unique"} <= {
        one["id"] for one in found["passes"]
    }


@pytest.mark.parametrize("opened", VIEWS, ids=VIEW_NAMES, indirect=True)
def test_the_page_never_scrolls_sideways_and_asks_for_nothing_but_itself(opened, page_file):
    tab, asked, problems = opened
    everything_open(tab)
    width, window = tab.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= window
    assert {url for url in asked if not url.startswith("data:")} == {page_file.as_uri()}
    assert problems == []


@pytest.mark.parametrize("opened", [(PHONE, "light")], ids=["phone"], indirect=True)
def test_no_text_of_a_figure_is_cut_or_too_small_on_a_phone(opened):
    tab, _, _ = opened
    outside, smallest = tab.evaluate("""() => {
        let outside = [], smallest = 99;
        for (const svg of document.querySelectorAll('svg.drawing')) {
            const frame = svg.getBoundingClientRect();
            for (const text of svg.querySelectorAll('text')) {
                const box = text.getBoundingClientRect();
                if (box.left < frame.left - 2 || box.right > frame.right + 2) outside.push(text.textContent);
                smallest = Math.min(smallest, parseFloat(getComputedStyle(text).fontSize) * frame.width / 440);
            }
        }
        return [outside, smallest];
    }""")
    assert outside == []
    assert smallest >= 10


@pytest.mark.parametrize("opened", [(DESK, "light")], ids=["desk"], indirect=True)
def test_the_keyboard_reaches_the_numbers_first(opened):
    tab, _, _ = opened
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the numbers"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    tab.keyboard.press("Enter")
    assert tab.url.endswith("#content")


@pytest.mark.parametrize("opened", [(DESK, "dark")], ids=["desk"], indirect=True)
def test_it_prints_dark_on_white_with_every_table(opened):
    tab, _, _ = opened
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF-")
    tab.emulate_media(media="print")
    paper, heights = tab.evaluate("""() => [getComputedStyle(document.body).backgroundColor,
        [...document.querySelectorAll('details table')].map(one => one.getBoundingClientRect().height)]""")
    assert paper == "rgb(255, 255, 255)"
    assert heights
    assert min(heights) > 0
