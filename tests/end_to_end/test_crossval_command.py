"""`vertebra crossval` from DICOM and readers' files to both tables, on phantoms built on what the readers marked."""

import json
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from vertebra_core.models import WEIGHTS
from vertebra_core.phantom.keypoint_scan import read_keypoints, write_keypoint_study
from vertebra_core.truth import read_truth

PIXEL_MM, SLICE_MM = 0.9, 3.0
HEIGHTS = {"one": (26.0, 24.0, 27.0), "two": (18.0, 22.0, 27.0)}
SHORT = ("--folds", "2", "--curve-steps", "1", "--detector-steps", "1", "--refiner-steps", "0", "--device", "cpu")


def marked(heights: tuple[float, ...], behind_mm: float) -> list:
    """Four lumbar vertebrae as voxels (row, column, slice), 35 mm apart; the first reader's, or some way behind."""
    voxels = []
    for i in range(4):
        three = heights if i == 1 else (26.0, 24.0, 27.0)
        for j, height in enumerate(three):
            row = (250.0 + behind_mm + 15.0 * (j - 1)) / PIXEL_MM
            middle = 35.0 + 35.0 * i
            voxels.append([[row, 256.0, (middle + sign * height / 2) / SLICE_MM] for sign in (-1, 1)])
    return np.reshape(voxels, (4, 6, 3)).tolist()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Folders `scans` and `readers`: two readers of two patients, whose UIDs end with a dot."""
    folder = tmp_path_factory.mktemp("crossval")
    (folder / "readers").mkdir()
    for number, (name, heights) in enumerate(HEIGHTS.items(), 1):
        path = folder / "readers" / f"{name}.json"
        readers = {"expert1": marked(heights, 0.0), "expert2": marked(heights, 1.0)}
        document = {"Folder": name, "SeriesInstanceUID": f"1.2.3.{number}.", "Annotation": readers}
        path.write_text(json.dumps(document))
        planned = read_keypoints(path, PIXEL_MM, SLICE_MM, "expert1", field_mm=110.0)
        write_keypoint_study(planned, folder / "scans", name, seed=number)
    return folder


def crossval(capsys, place: Path, work: str, *options: str) -> tuple[int, dict, str]:
    words = ("crossval", "--images", str(place / "scans"), "--readers", str(place / "readers"))
    code = main([*words, "--work", str(place / work), "--json", *options])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_shipped_weights_find_what_the_readers_marked(capsys, place):
    """So the voxels of the readers lie where the scans show the vertebrae: truths and finds agree in the patient."""
    code, document, _ = crossval(capsys, place, "shipped", "--folds", "2", "--weights", str(WEIGHTS), "--device", "cpu")
    assert code == 0
    program = document["proposed"]["all"]
    assert program["detection"]["recall"]["value"] >= 0.75
    assert program["detection"]["in_plane_mm"]["mean"] < 1.5
    # the second reader lies 1 mm behind the first: each is 1 mm off the other, heights are equal
    experts = document["experts"]["all"]
    assert experts["detection"]["in_plane_mm"]["mean"] == pytest.approx(1.0, abs=0.01)
    assert experts["groups"]["all"]["all"]["g"]["mae"] == pytest.approx(0.0, abs=1e-6)
    assert document["experts"]["over_folds"]["detection.recall.value"] == [1.0, 0.0]


def test_a_run_trains_every_fold_and_goes_on_where_it_was(capsys, place):
    """One step teaches nothing; what counts is that a fold whose file exists is not done again."""
    code, document, said = crossval(capsys, place, "short", *SHORT, "--optimiser", "ours")
    assert code in (0, 1)
    assert said.count("training without 1 CTs") == 2
    (run,) = (place / "short").iterdir()
    truths = {path.stem: read_truth(path) for path in (run / "truth").glob("*.json")}
    assert set(truths) == set(HEIGHTS)
    for path in run.glob("fold-*.json"):
        (one,) = json.loads(path.read_text())
        true = truths[one["name"]]
        found = {"points": true.points.tolist(), "complete": true.complete.tolist(), "refused": None}
        path.write_text(json.dumps([{"name": one["name"], **found}]))
    code, document, said = crossval(capsys, place, "short", *SHORT, "--optimiser", "ours")
    assert (code, said.count("training")) == (0, 0)
    assert document["proposed"]["all"]["detection"]["recall"] == {"count": 8, "n": 8, "value": 1.0}
    assert document["proposed"]["all"]["detection"]["localization_mm"]["mean"] == pytest.approx(0.0, abs=1e-6)


def test_both_tables_stand_beside_the_paper(capsys, place):
    words = ["crossval", "--images", str(place / "scans"), "--readers", str(place / "readers"), "--folds", "2"]
    assert main([*words, "--work", str(place / "shipped"), "--weights", str(WEIGHTS), "--device", "cpu"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "paper 0.97 (0.64) 1.14 (0.69) 0.997 (0.003) 1.000 (0.000) 0.993 (0.002)" in lines
    assert "paper .98 (.01) .95 (.03) .97 (.01) .83 (.07) .79 (.06) .88 (.07)" in lines
    assert sum(line.startswith("moderate, ") for line in lines) == 2


def test_wrong_use_is_one_line(capsys, place, tmp_path):
    scans, readers = str(place / "scans"), str(place / "readers")
    (tmp_path / "other.json").write_text('{"SeriesInstanceUID": "9.9", "Annotation": {}}')
    for words in (
        ["--images", scans, "--readers", str(tmp_path)],
        ["--images", str(tmp_path / "missing"), "--readers", readers],
        ["--images", scans, "--readers", readers, "--folds", "3"],
        ["--images", scans, "--readers", readers, "--curve-steps", "0"],
    ):
        assert main(["crossval", *words, "--work", str(tmp_path / "work"), "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.splitlines()[-1].startswith("vertebra: ")
