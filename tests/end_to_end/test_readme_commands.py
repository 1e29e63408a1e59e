"""The commands of the README and of docs/ run, as they are written, on two synthetic patients."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs import PAGES, blocks, name

from vertebra_core.phantom.anatomy import PatientOptions
from vertebra_core.phantom.dicom import PhantomStudy, write_phantom_archive

ROOT = Path(__file__).resolve().parents[2]
LUMBAR = PhantomStudy("lumbar", (0.9, 0.9, 1.5), PatientOptions(), "jpegls")
PROMPT = "$ "


def commands(page: Path) -> list[str]:
    """Lines of the console blocks of a page, without the prompt."""
    lines = [line for block in blocks(page) if block.kind == "console" for line in block.text.splitlines()]
    assert all(line.startswith(PROMPT) for line in lines), f"{name(page)}: console blocks hold commands, text is output"
    return [line.removeprefix(PROMPT) for line in lines]


OF_A_COHORT = {"prevalence.md"}
"""Pages whose commands need hundreds of patients: tests of their own run them."""
WRITTEN = [page for page in PAGES if commands(page) and page.name not in OF_A_COHORT]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `scans`, as the README takes it for granted."""
    folder = tmp_path_factory.mktemp("readme")
    write_phantom_archive(folder / "written", 2, 3, plan=[LUMBAR, LUMBAR])
    for number, study in enumerate(sorted((folder / "written").iterdir()), 1):
        study.rename(folder / "written" / f"patient{number}")
    (folder / "written").rename(folder / "scans")
    return folder


def run(command: str, place: Path) -> subprocess.CompletedProcess:
    """Run a command as a user would: `vertebra` on the path, a home of one's own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(place / "home"), "VERTEBRA_RUN__WORKERS": "1"}
    (place / "home").mkdir(exist_ok=True)
    return subprocess.run(command, shell=True, cwd=place, env=environment, capture_output=True, text=True, timeout=600)


def test_the_readme_has_commands_to_run():
    assert ROOT / "README.md" in WRITTEN


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_commands_of_make_are_targets_whose_recipes_can_be_read(page):
    """`make` itself would install and test again; that its recipe can be made is asked of make."""
    for command in commands(page):
        if command.startswith("make "):
            done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            assert "Traceback" not in done.stdout


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_commands_run_as_they_are_written(page, place):
    for command in commands(page):
        if not command.startswith("make "):
            assert command.startswith("vertebra "), f"{name(page)}: what is {command!r}?"
            done = run(command, place)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stdout + done.stderr
    if page == ROOT / "README.md":
        left_as_promised(place)


def left_as_promised(place: Path) -> None:
    """A published cohort with a picture of each study, the picture of one scan, and nothing in the archive."""
    assert (place / "spines" / "latest.json").is_file()
    assert len(list((place / "spines" / "pictures").glob("*.png"))) == 2
    assert (place / "spine.png").stat().st_size > 50_000
    assert {path.suffix for path in (place / "scans").rglob("*") if path.is_file()} == {".dcm"}
