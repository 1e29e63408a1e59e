"""Rules of the house that no linter knows: pins, packaging, quick start, size of files, places of our own machines."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import flows
import tasks
import vertebra_core

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
CODE = sorted(
    path for package in ("flows", "tasks", "vertebra_core", "benchmarks") for path in (ROOT / package).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES, MOST_TEST_LINES = 420, 650
MOST_WEIGHTS_MB = 30
QUICK_MODULES = {"torch", "prefect", "dask", "distributed", "matplotlib", "statsmodels", "pandas", "scipy", "SimpleITK"}
"""What `vertebra --help` must not import: each costs between a tenth of a second and four."""


def canonical(name: str) -> str:
    """Name of a distribution as PEP 503 writes it, without extras."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;!~ ]", name)[0]).lower()


def closure(names: list[str]) -> set[str]:
    """Every distribution that is installed because of `names`, as the metadata of this environment says."""
    from packaging.requirements import Requirement

    todo, seen = [(Requirement(name).name, frozenset(Requirement(name).extras)) for name in names], set()
    while todo:
        name, extras = todo.pop()
        if (canonical(name), extras) in seen:
            continue
        seen.add((canonical(name), extras))
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((need.name, frozenset(need.extras)))
    return {name for name, _ in seen}


def test_every_distribution_that_is_installed_has_its_pin():
    project = PROJECT["project"]
    needed = closure(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert needed - {canonical(name) for name in PINS} == set()


def test_the_environment_is_what_the_pins_say():
    pinned = {canonical(name): version for name, version in PINS.items()}
    project = PROJECT["project"]
    for name in closure(project["dependencies"] + project["optional-dependencies"]["dev"]):
        assert metadata.version(name).partition("+")[0] == pinned[name], name


def test_no_pin_is_given_twice_and_all_are_exact():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert len({canonical(line) for line in lines}) == len(lines)


@pytest.mark.parametrize("package", [flows, tasks, vertebra_core])
def test_our_packages_are_the_ones_that_are_imported(package):
    """`flows` and `tasks` are common names; another project's would be found in silence."""
    assert Path(package.__file__).resolve().is_relative_to(ROOT)


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from flows.cli import build_app; build_app(); print(*{m.partition('.')[0] for m in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not QUICK_MODULES & set(loaded.split())


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= (MOST_TEST_LINES if path in TESTS else MOST_LINES)


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_place_on_our_machines_is_written_down(path):
    if path == Path(__file__):
        return
    assert not re.search(r"""(?<![\w.}/])/(work|tmp|root)/""", path.read_text())


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_importing_a_module_does_nothing(path):
    """At the top of a module stand definitions, not calls for their effect."""
    effects = [
        node.lineno
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert not effects


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_that_is_cited_exists(path):
    for page in re.findall(r"[\w/]+\.md", path.read_text()):
        assert (ROOT / page).is_file(), page


def test_test_files_have_names_of_their_own():
    """pytest imports them by their base names."""
    names = [path.name for path in TESTS if path.name != "__init__.py"]
    assert len(names) == len(set(names))


def test_the_weights_fit_in_the_repository():
    weights = list((ROOT / "vertebra_core" / "weights").glob("*.safetensors"))
    assert {path.stem for path in weights} >= {"curve", "detector"}
    assert sum(path.stat().st_size for path in weights) < MOST_WEIGHTS_MB * 1e6


def test_the_installed_version_is_the_projects_and_the_changelog_knows_it():
    version = PROJECT["project"]["version"]
    assert metadata.version("vertebra") == version
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {version}" in changelog or "## Unreleased" in changelog


def test_the_console_script_is_installed():
    (script,) = [entry for entry in metadata.entry_points(group="console_scripts") if entry.name == "vertebra"]
    assert script.load() is flows_main()


def flows_main():
    from flows.cli import main

    return main


def test_make_targets_of_the_readme_exist():
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^\$ make ([\w-]+)", readme, re.MULTILINE))
    assert {"demo", "test", "install"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_continuous_integration_runs_what_a_developer_runs():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()
