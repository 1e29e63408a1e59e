"""``vertebra show``: one CT measured now, one study of a cohort, and every wrong use in one line."""

import io
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_studies import NORMAL, WEDGE, column, make_cohort, patient_series, result_of
from numpy.testing import assert_allclose
from PIL import Image

from flows.cli import COULD_NOT_RUN, DONE, WRONG_USE, main
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.snapshot import latest_snapshot
from vertebra_core.errors import Reason
from vertebra_core.phantom.anatomy import PatientOptions
from vertebra_core.phantom.dicom import PhantomStudy, write_phantom_archive
from vertebra_core.tables.columns import LEVELS
from vertebra_core.truth import Truth, read_truth

LUMBAR = PhantomStudy("lumbar", (0.9, 0.9, 1.5), PatientOptions(), "explicit")
WITHIN_MM = 6.0
"""A found vertebra belongs to a true one: far less than half of the distance of two."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> tuple[Path, Truth]:
    """Two folders, each with one synthetic lumbar spine, and the truth of the first."""
    folder = tmp_path_factory.mktemp("show") / "scans"
    truths = write_phantom_archive(folder, 2, 5, plan=[LUMBAR, LUMBAR])
    return folder, truths[0]


@pytest.fixture(scope="module")
def shown(scans, tmp_path_factory) -> tuple[Path, Path]:
    """Picture and exported keypoints of the first."""
    out = tmp_path_factory.mktemp("shown")
    first = sorted(scans[0].iterdir())[0]
    code = main(["show", str(first), "--out", str(out / "a.png"), "--export", str(out / "a.json"), "--title", "k7"])
    assert code == DONE
    return out / "a.png", out / "a.json"


def test_a_ct_becomes_a_picture(shown):
    picture = Image.open(io.BytesIO(shown[0].read_bytes()))
    assert picture.format == "PNG"
    assert picture.size[1] > 800


def test_the_exported_keypoints_are_the_vertebrae_of_the_ct(shown, scans):
    found, truth = read_truth(shown[1]), scans[1]
    assert found.image == truth.image
    assert found.reader == "vertebra"
    whole = truth.points[truth.complete].mean(1)
    away = np.linalg.norm(found.points.mean(1)[:, None] - whole[None], axis=-1).min(0)
    assert len(whole) >= 4
    assert (away < WITHIN_MM).all()


def test_what_was_found_is_printed_from_the_top_down(scans, tmp_path, capsys):
    first = sorted(scans[0].iterdir())[0]
    assert main(["show", str(first), "--out", str(tmp_path / "a.png")]) == DONE
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if re.match(r"\s*(#\d+|[CTL]\d+)\s", line)]
    assert len(rows) >= 4
    named = [row[0] for row in rows if not row[0].startswith("#")]
    assert named == [level for level in LEVELS if level in named]
    assert all(row[0] in (f"#{i + 1}", *named) for i, row in enumerate(rows))
    for row in rows:
        if row[1] != "n/a":
            heights = [float(value) for value in row[1:4]]
            assert_allclose(float(row[4]), min(heights) / max(heights), atol=0.012)
    assert lines[-1].endswith("a.png")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent"], WRONG_USE, "absent"),
        (["empty"], WRONG_USE, "no image series"),
        (["scans"], WRONG_USE, "2 studies"),
        (["note.dcm"], WRONG_USE, "no image series"),
        (["slices"], COULD_NOT_RUN, Reason.TOO_FEW_SLICES.code),
        (["scans", "st0a"], WRONG_USE, "not a cohort"),
        (["scans", "--out", "a.jpg"], WRONG_USE, ".png"),
        (["scans", "--export", "a.txt"], WRONG_USE, ".json"),
        (["scans", "--set", "curve.presense=0.5"], WRONG_USE, "presense"),
    ],
)
def test_wrong_use_is_one_line(scans, tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.dcm").write_text("no DICOM")
    (tmp_path / "scans").symlink_to(scans[0])
    (tmp_path / "slices").mkdir()
    for slice_file in sorted(next(scans[0].glob("*/CT")).iterdir())[:3]:
        (tmp_path / "slices" / slice_file.name).symlink_to(slice_file)
    assert main(["show", *words]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert not (tmp_path / "vertebra.png").exists()


@pytest.fixture
def cohort(tmp_path) -> tuple[Path, dict[str, str]]:
    """A published cohort of a measured study with a picture and a refused one, and their keys."""
    points = column([NORMAL, WEDGE, NORMAL])
    ends = [(patient_series(1), result_of(points)), (patient_series(2), Reason.NO_SPINE)]
    layout = make_cohort(tmp_path / "spines", ends)
    rows = pq.read_table(latest_snapshot(layout) / "studies.parquet", columns=["study_key", "status"]).to_pylist()
    keys = {row["status"]: row["study_key"] for row in rows}
    layout.pictures.mkdir(exist_ok=True)
    layout.picture(keys["ok"]).write_bytes(b"a picture")
    return tmp_path / "spines", keys


def test_a_stored_picture_is_named_and_copied(cohort, tmp_path, capsys):
    folder, keys = cohort
    assert main(["show", str(folder), keys["ok"]]) == DONE
    assert capsys.readouterr().out.split()[-1] == str(folder / "pictures" / f"{keys['ok']}.png")
    assert main(["show", str(folder), keys["ok"], "--out", str(tmp_path / "copy.png")]) == DONE
    assert (tmp_path / "copy.png").read_bytes() == b"a picture"


def stored_series(folder: Path, study: str) -> str:
    """The key of the series that was measured."""
    studies = pq.read_table(latest_snapshot(Layout(folder)) / "studies.parquet").to_pylist()
    return next(row["series_key"] for row in studies if row["study_key"] == study)


def test_stored_keypoints_are_exported_as_they_were_measured(cohort, tmp_path):
    folder, keys = cohort
    assert main(["show", str(folder), keys["ok"], "--export", str(tmp_path / "k.json")]) == DONE
    truth = read_truth(tmp_path / "k.json")
    assert_allclose(truth.points, column([NORMAL, WEDGE, NORMAL]), atol=0.006)
    assert truth.image == stored_series(folder, keys["ok"])  # a pseudonym: the file may leave the house


@pytest.mark.parametrize(
    ("which", "code", "message"),
    [(None, WRONG_USE, "which study"), ("st00", WRONG_USE, "no study st00"), ("refused", COULD_NOT_RUN, "no_spine")],
)
def test_a_study_without_a_picture_says_why(cohort, capsys, which, code, message):
    folder, keys = cohort
    words = [] if which is None else [keys["not_evaluable"] if which == "refused" else which]
    assert main(["show", str(folder), *words]) == code
    assert message in capsys.readouterr().err
