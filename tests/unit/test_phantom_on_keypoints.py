"""Phantoms on given keypoints have exactly these keypoints, on the voxel grid that a reader's numbers count in."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from flows.cli import main
from vertebra_core.errors import WrongUse
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.body import Body
from vertebra_core.phantom.keypoint_scan import read_keypoints
from vertebra_core.phantom.on_keypoints import complete_levels, fit_vertebra, phantom_on_keypoints
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.reader_file import read_reader_file, read_spacing_table
from vertebra_core.truth import Truth, read_truth, write_truth

READERS = Path(__file__).resolve().parents[3] / "shared" / "reader_keypoints"
LIKE = Body(20.0, 18.0, 21.0, 24.0, 25.0, 0.5, 1.1, 1.1)
PLAIN = PatientOptions(ossification_probability=0.0, scoliosis_probability=0.0)
DOTTED_UID = "1.2.643.5.1.13.99.7."


def some_points(seed: int = 3) -> tuple[np.ndarray, tuple[str, ...]]:
    """T6 to T9 of a random patient, moved as a reader's hand moves them and laid elsewhere in space."""
    patient = random_patient(np.random.default_rng(seed), replace(PLAIN, fracture_probability=1.0))
    first = patient.truth.levels.index("T6")
    points = patient.truth.points[first : first + 4]
    moved = np.random.default_rng(seed).normal(0, 0.7, points.shape) * [0.2, 1, 1]
    return points + moved + [120.0, -70.0, 900.0], patient.truth.levels[first : first + 4]


def drawn_keypoints(fit, points):
    """Where the six points lie in the frame that the body is drawn in."""
    own = (points - fit.pose.centre) @ fit.pose.rotation
    return np.stack(fit.warp.drawn_from_own(*own.astype(np.float32).T), 1)


def test_the_bent_body_has_the_given_keypoints():
    for six in some_points()[0]:
        fit = fit_vertebra(six, LIKE)
        assert np.abs(drawn_keypoints(fit, six) - fit.body.keypoints()).max() < 0.01


@pytest.mark.skipif(not READERS.exists(), reason="readers' keypoints are not at hand")
@pytest.mark.parametrize("kind", ["severity2020", "anchorfree2023"])
def test_every_vertebra_of_every_reader_can_be_built(kind):
    worst = 0.0
    for file in sorted((READERS / kind / "annotation").glob("*.json")):
        pixel, step = read_spacing_table(READERS / "spacing_recovered.csv", file.name)
        for reading in read_reader_file(file).readings.values():
            points = reading.voxels * [pixel, pixel, -step]
            assert len(complete_levels(points, reading.levels)) == len(points)
            fits = [fit_vertebra(six, LIKE) for six in points]
            away = [
                np.abs(drawn_keypoints(fit, six) - fit.body.keypoints()).max()
                for fit, six in zip(fits, points, strict=True)
            ]
            worst = max(worst, *away)
    assert worst < 0.01


def test_the_phantom_has_the_given_points_and_bone_ends_there():
    points, levels = some_points()
    phantom = phantom_on_keypoints(points, levels, np.random.default_rng(0), PLAIN)
    truth = phantom.truth
    first = truth.levels.index(levels[0])
    assert truth.levels[first : first + 4] == levels
    assert np.abs(truth.points[first : first + 4] - points).max() < 0.01
    # Independent of all bookkeeping: walk along each height and see where the bone ends.
    ends = points.reshape(-1, 2, 3)
    outward = ends - ends[:, ::-1]
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    s = np.arange(-0.6, 0.4, 0.01)
    hu = phantom.hu(ends[:, :, None] + s[:, None] * outward[:, :, None], 0.0).reshape(-1, len(s))
    shell = phantom.column.vertebrae[first].shell.shell_hu
    border = np.array([s[np.flatnonzero(row > 0.9 * shell).max()] for row in hu])
    assert np.abs(border).max() < 0.15
    assert np.abs(border).mean() < 0.03


def test_vertebrae_above_and_below_go_on_downward_and_a_gap_is_filled():
    points, levels = some_points()
    phantom = phantom_on_keypoints(points[[0, 3]], (levels[0], levels[3]), np.random.default_rng(1), PLAIN)
    truth = phantom.truth
    assert truth.levels[0] == "C3"
    assert truth.levels[-1] == "L5"
    assert (np.diff(truth.points.mean(1)[:, 2]) < 0).all()
    known = [truth.levels.index(name) for name in (levels[0], levels[3])]
    assert np.abs(truth.points[known] - points[[0, 3]]).max() < 0.01
    steps = np.linalg.norm(np.diff(truth.points.mean(1), axis=0), axis=1)
    assert steps.min() / np.median(steps) > 0.4


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((None, "T7", None), ("T6", "T7", "T8")),
        (("T11", None, "L1"), ("T11", "T12", "L1")),
        (("T12", "T13", None), ("T12", "T13", "L1")),
        (("T11", "L1", None), ("T11", "L1", "L2")),
        (("T6", "T8", None), ("T6", "T8", "T9")),
    ],
)
def test_missing_names_are_counted(levels, expected):
    assert complete_levels(np.zeros((3, 6, 3)), levels) == expected


@pytest.mark.parametrize("levels", [("T7", "T6", "T5"), ("T7", "X1", None), (None, None, "C3"), ("T1", "T2")])
def test_names_that_do_not_run_downward_are_refused(levels):
    with pytest.raises(WrongUse):
        complete_levels(np.zeros((3, 6, 3)), levels)


def test_a_run_without_names_is_placed_near_where_its_sizes_fit():
    patient = random_patient(
        np.random.default_rng(8), replace(PLAIN, fracture_probability=0.0, variant_probability=0.0)
    )
    run = slice(patient.truth.levels.index("T3"), patient.truth.levels.index("L2") + 1)
    guessed = complete_levels(patient.truth.points[run], [None] * (run.stop - run.start))
    assert guessed[0] in ("T2", "T3", "T4")


@pytest.mark.parametrize("spoil", [lambda p: p[::-1], lambda p: p[[1, 0, 3, 2, 5, 4]], lambda p: p * 0])
def test_points_that_are_no_vertebra_are_refused(spoil):
    with pytest.raises(WrongUse, match="no vertebra"):
        fit_vertebra(spoil(some_points()[0][0]), LIKE)


def readers_json(folder: Path, named: bool) -> tuple[Path, np.ndarray]:
    """A small readers' file of one of the two formats, and its points as column, row, slice."""
    points, levels = some_points()
    pixel, step = 1.2, 2.0
    voxels = (points - points.mean((0, 1))) * [1 / pixel, 1 / pixel, -1 / step] + [62.0, 70.0, 30.0]
    voxels[..., 0] = np.rint(voxels[..., 0])
    stored = voxels[..., [1, 0, 2]]
    if named:
        marked = [
            {"segments": six.reshape(3, 2, 3).tolist(), "type": level.replace("T", "Th")}
            for six, level in zip(stored, levels, strict=True)
        ]
    else:
        marked = stored.tolist()
    document = {
        "Folder": "f",
        "SeriesInstanceUID": DOTTED_UID,
        "Annotation": {"expert1": marked[:2], "expert2": marked},
    }
    path = folder / "series.json"
    path.write_text(json.dumps(document))
    return path, voxels


@pytest.mark.parametrize("named", [True, False])
def test_both_formats_of_readers_give_the_same_voxels(tmp_path, named):
    path, voxels = readers_json(tmp_path, named)
    file = read_reader_file(path)
    name, reading = file.reading()
    assert (file.series_uid, name) == (DOTTED_UID, "expert2")
    assert np.allclose(reading.voxels, voxels)
    assert reading.levels == (("T6", "T7", "T8", "T9") if named else (None,) * 4)
    assert len(file.reading("expert1")[1].voxels) == 2
    with pytest.raises(WrongUse, match="expert1, expert2"):
        file.reading("expert7")


def test_the_readers_voxels_hit_the_same_points_in_the_written_series(tmp_path, capsys):
    path, voxels = readers_json(tmp_path, named=True)
    command = ["phantom", str(tmp_path / "out"), "--keypoints", str(path), "--pixel-mm", "1.2", "--slice-mm", "2"]
    assert main([*command, "--field-mm", "80", "--truth", str(tmp_path / "truth"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["studies"] == 1
    truth = read_truth(tmp_path / "truth" / "series.json")
    assert truth.image == DOTTED_UID
    files = sorted((tmp_path / "out").rglob("*.dcm"), key=lambda p: int(pydicom.dcmread(p).InstanceNumber))
    assert pydicom.dcmread(files[0]).SeriesInstanceUID == DOTTED_UID
    # The stack as the readers had it: pixel arrays in the order of InstanceNumber.
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(f) for f in files])
    image = reader.Execute()
    given = truth.points[[truth.levels.index(n) for n in ("T6", "T7", "T8", "T9")]]
    for voxel, point in zip(voxels.reshape(-1, 3), given.reshape(-1, 3), strict=True):
        assert image.TransformContinuousIndexToPhysicalPoint(voxel.tolist()) == pytest.approx(point, abs=0.01)
    # There is bone in the stack where the middles of the bodies are marked.
    hu = sitk.GetArrayFromImage(image)
    x, y, z = np.rint(voxels.mean(1)).astype(int).T
    assert (hu[z, y, x] > 0).all()
    assert hu[0, 0, 0] == -1000


def test_a_truth_file_is_rendered_in_its_own_place(tmp_path, capsys):
    points, levels = some_points()
    write_truth(Truth("1.2.3", "me", points, np.ones(4, bool), levels), tmp_path / "one.json")
    command = ["phantom", str(tmp_path / "out"), "--keypoints", str(tmp_path / "one.json"), "--pixel-mm", "2"]
    assert main([*command, "--slice-mm", "3", "--field-mm", "100", "--truth", str(tmp_path / "truth")]) == 0
    assert "1 study with" in capsys.readouterr().out
    truth = read_truth(tmp_path / "truth" / "one.json")
    given = truth.points[[truth.levels.index(n) for n in levels]]
    assert truth.image == "1.2.3"
    assert np.abs(given - points).max() < 0.01
    d = pydicom.dcmread(next((tmp_path / "out").rglob("0001.dcm")), stop_before_pixels=True)
    assert float(d.ImagePositionPatient[2]) > points[..., 2].max()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--keypoints", "none.json"], "not a JSON file"),
        (["--keypoints", "{reader}"], "--pixel-mm or --spacing"),
        (["--keypoints", "{reader}", "--pixel-mm", "0"], "positive"),
        (["--keypoints", "{reader}", "--pixel-mm", "1", "--reader", "nobody"], "no reader nobody"),
        (["--keypoints", "{reader}", "--spacing", "{reader}"], "series.json is not in it"),
        (["--pixel-mm", "1"], "belong to --keypoints"),
        (["--keypoints", "{broken}", "--pixel-mm", "1"], "not a readers' file"),
        (["--keypoints", "{truth}", "--reader", "a"], "one reader"),
        (["--keypoints", "{empty}"], "no vertebrae"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, capsys, extra, said):
    reader, _ = readers_json(tmp_path, named=True)
    places = {name: tmp_path / f"{name}.json" for name in ("broken", "truth", "empty")}
    places["broken"].write_text('{"SeriesInstanceUID": "1", "Annotation": {"a": [[1, 2]]}}')
    points, levels = some_points()
    write_truth(Truth("1.2.3", "me", points, np.ones(4, bool), levels), places["truth"])
    write_truth(Truth("1.2.3", "me", np.zeros((0, 6, 3)), np.zeros(0, bool), ()), places["empty"])
    filled = [word.format(reader=reader, **places) for word in extra]
    assert main(["phantom", str(tmp_path / "out"), *filled]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_field_cuts_the_painted_window_only(tmp_path):
    path, voxels = readers_json(tmp_path, named=False)
    whole = read_keypoints(path, 1.2, 2.0)
    part = read_keypoints(path, 1.2, 2.0, field_mm=60.0)
    assert whole.scan.shape == part.scan.shape
    assert np.array_equal(whole.points, part.points)
    assert part.window.shape == (whole.scan.shape[0], 50, 50)
    corner = np.array(part.corner)
    assert (voxels[..., :2].mean((0, 1)) > corner).all()
    assert (voxels[..., :2].mean((0, 1)) < corner + 50).all()
