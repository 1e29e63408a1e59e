"""The wheel that the container file builds has in it what a run needs, and needs nothing of the checkout."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "deployments" / "container" / "Containerfile"


def copied() -> list[str]:
    """What the build stage of the container file copies."""
    build = CONTAINERFILE.read_text().split("\nFROM ")[1]
    lines = [line.split()[1:-1] for line in build.splitlines() if line.startswith("COPY ")]
    return [name for line in lines for name in line]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The wheel, built from a copy of that and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in copied():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(folder / "source")], check=True, capture_output=True)
    shutil.rmtree(folder / "source")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "unpacked")
    return folder / "unpacked"


def test_code_weights_profiles_and_templates_are_in_it(unpacked):
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    kinds = ("flows/**/*.py", "tasks/**/*.py", "vertebra_core/**/*.py", "vertebra_core/weights/*")
    kinds = (*kinds, "vertebra_core/report/templates/*", "deployments/profiles/*.toml")
    wanted = {path.relative_to(ROOT).as_posix() for kind in kinds for path in ROOT.glob(kind)}
    assert wanted - there == set()
    meta = {name for name in there if ".dist-info/" in name}
    assert there - wanted - meta == set()


def test_it_finds_its_profiles_and_weights_by_itself(unpacked, tmp_path):
    code = (
        f"import sys, json; sys.path.insert(0, {str(unpacked)!r})\n"
        "from flows.settings import PROFILES, load_settings\n"
        "from vertebra_core.models import weights_digest\n"
        "kinds = {path.stem: load_settings(path.stem).cluster.kind for path in PROFILES.glob('*.toml')}\n"
        "print(json.dumps([str(PROFILES), kinds, weights_digest()]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    where, kinds, digest = json.loads(ran.stdout)
    assert Path(where).is_relative_to(unpacked)
    assert kinds["slurm"] == "slurm"
    assert set(kinds) == {path.stem for path in (ROOT / "deployments" / "profiles").glob("*.toml")}
    assert len(digest) == 16


def test_the_image_is_not_run_by_root_and_takes_nothing_secret():
    text = CONTAINERFILE.read_text()
    assert text.rfind("\nUSER 10001") > text.rfind("\nFROM ")
    assert not any(word in text for word in ("ARG PREFECT", "AWS_", "SECRET", "TOKEN"))
    ignored = CONTAINERFILE.with_name("Containerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"  # nothing of the checkout but what is named
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == {*copied(), "constraints.txt"}
