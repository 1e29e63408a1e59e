"""`vertebra inventory` and `--metadata`: what is there, what would be done, and ages for archives without headers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import SimpleITK as sitk
from engine_archive import write_study


def vertebra(place: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("inventory")
    write_study(root / "archive" / "p1", "MR-1")
    write_study(root / "archive" / "p2", "MR-2", modality="MR")
    hu = np.random.default_rng(0).normal(40, 20, (20, 24, 24)).astype(np.int16)
    hu[:, :4] = -1000
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((3.0, 3.0, 3.0))
    sitk.WriteImage(image, str(root / "archive" / "scan.nii.gz"))
    (root / "archive" / "notes.txt").write_text("text")
    columns, values = "path,age_years,sex,study_date,patient_id,site", "scan.nii.gz,44,M,2019-05-06,X77,north"
    (root / "meta.csv").write_text(f"{columns}\n{values}\n")
    return root


@pytest.fixture(scope="module")
def first(place) -> subprocess.CompletedProcess:
    return vertebra(place, "inventory", "archive", "--cohort", "c", "--metadata", "meta.csv", "--json")


def test_it_says_what_is_there_and_what_would_be_done(first):
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout)
    assert said["series"] == {"measure": 2, "other_modality": 1}
    assert said["left_alone"] == {"not_dicom": 1}
    assert (said["studies"], said["to_measure"], said["to_refuse"], said["studies_done"]) == (3, 2, 1, 0)
    assert (said["files_seen"], said["files_opened"]) == (34, 34)
    assert "metadata: 1 of 1 rows found their series; filled in: 1 age_years" in first.stderr


def test_the_inventory_table_tells_of_every_series(place, first):
    (path,) = (place / "c" / "inventory").iterdir()
    assert [path.name] == json.loads(first.stdout)["tables"]
    rows = {row["file_format"] + (row["modality"] or ""): row for row in pq.read_table(path).to_pylist()}
    ct, mr, volume = rows["dicomCT"], rows["dicomMR"], rows["nifti"]
    assert (ct["decision"], ct["n_slices"], ct["slice_spacing_mm"], ct["orientation"]) == ("measure", 16, 2.5, "axial")
    assert (ct["image_type"], ct["age_years"], ct["sex"]) == ("ORIGINAL\\PRIMARY\\AXIAL", 67.0, "F")
    assert (mr["decision"], mr["reason"]) == ("leave", "other_modality")
    assert (volume["age_years"], volume["sex"], volume["site"]) == (44.0, "M", "north")
    assert volume["repairs"] == "metadata:age_years+patient_id+sex+site+study_date"
    assert {"modality", "kernel", "scanner", "extent_mm", "n_files", "contrast", "decision_detail"} <= set(ct)


@pytest.mark.usefixtures("first")
def test_nothing_was_measured_and_a_second_look_opens_nothing(place):
    assert not (place / "c" / "results").exists()
    again = vertebra(place, "inventory", "archive", "--cohort", "c")
    assert again.returncode == 0
    assert "34 files (0 new or changed)" in again.stderr
    assert "to measure" in again.stdout
    assert "X77" not in again.stdout + again.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere", "--cohort", "c"], 2, "no such archive"),
        (["archive", "--cohort", "c", "--metadata", "nothing.csv"], 2, "no such file: nothing.csv"),
        (["archive", "--cohort", "archive/c"], 2, "may not lie inside"),
    ],
)
def test_wrong_use_is_one_line(place, words, code, said):
    done = vertebra(place, "inventory", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert said in done.stderr
