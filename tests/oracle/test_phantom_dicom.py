"""DICOM written from phantoms, read back by pydicom and SimpleITK: same HU, same place, valid headers, no surprises."""

import hashlib
from datetime import date

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.dicom import (
    TRANSFER_SYNTAXES,
    PhantomStudy,
    archive_plan,
    write_dicom_series,
    write_phantom_archive,
)
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import Scan, axial_scan, render
from vertebra_core.truth import read_truth
from vertebra_core.volume import Volume

TYPE_1_AND_2 = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType",
    "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleIntercept",
    "RescaleSlope", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "AcquisitionNumber", "KVP",
    "SliceThickness", "Manufacturer", "PositionReferenceIndicator", "PatientPosition",
)  # fmt: skip
"""Attributes of type 1 and 2 of the CT Image IOD (DICOM PS3.3 A.3)."""
IDENTITY = {"patient_id": "P1", "study_uid": "1.2.826.0.1.1", "series_uid": "1.2.826.0.1.2"}


@pytest.fixture(scope="module")
def volume():
    phantom = random_patient(np.random.default_rng(2))
    return render(
        phantom, axial_scan(np.array([-40.5, -60.25, -12]), np.array([80, 90, 24]), np.array([0.9, 1.1, 2.5]))
    )


def _sitk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_pydicom_reads_the_same_hu_in_every_transfer_syntax(volume, tmp_path, syntax):
    for k, path in enumerate(write_dicom_series(volume, tmp_path, transfer_syntax=syntax, **IDENTITY)):
        d = pydicom.dcmread(path)
        assert d.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[syntax]
        hu = d.pixel_array.astype(int) * int(d.RescaleSlope) + int(d.RescaleIntercept)
        assert np.array_equal(hu, volume.hu[k])
        corner = np.array(d.ImagePositionPatient, float)
        assert np.allclose(corner, volume.patient_from_voxel[:3, 3] + k * volume.patient_from_voxel[:3, 2], atol=1e-6)


def test_simpleitk_reads_the_same_hu_and_geometry(volume, tmp_path):
    write_dicom_series(volume, tmp_path, transfer_syntax="jpegls", **IDENTITY)
    image = _sitk(tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.hu)
    assert image.GetSpacing() == pytest.approx(tuple(volume.spacing))
    assert image.GetOrigin() == pytest.approx(tuple(volume.patient_from_voxel[:3, 3]))
    for index in ((0, 0, 0), (10, 20, 3), (70, 5, 6)):
        mine = volume.patient_from_voxel @ [*index, 1]
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(tuple(mine[:3]), abs=1e-5)


def test_an_oblique_volume_keeps_its_place(tmp_path):
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [0.7, 0.8, 1.5], [-20, -30, 5]
    phantom = random_patient(np.random.default_rng(2))
    volume = render(phantom, Scan((6, 40, 50), affine, noise_hu=0))
    write_dicom_series(volume, tmp_path, **IDENTITY)
    image = _sitk(tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.hu)
    assert image.TransformIndexToPhysicalPoint((30, 20, 4)) == pytest.approx(
        tuple((affine @ [30, 20, 4, 1])[:3]), abs=1e-4
    )
    assert np.allclose(image.GetDirection(), turn.ravel(), atol=1e-6)


def test_padding_below_twelve_bits_is_kept(tmp_path):
    volume = Volume(np.array([[[-2000, 0], [3071, -3024]]] * 2, np.int16), np.diag([1.0, 1, 2, 1]))
    paths = write_dicom_series(volume, tmp_path, transfer_syntax="rle", **IDENTITY)
    d = pydicom.dcmread(paths[0])
    assert d.PixelRepresentation == 1
    assert np.array_equal(d.pixel_array * int(d.RescaleSlope) + int(d.RescaleIntercept), volume.hu[0])


def test_hu_that_are_not_whole_are_refused(tmp_path):
    with pytest.raises(ValueError, match="whole"):
        write_dicom_series(Volume(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)), tmp_path, **IDENTITY)


def test_headers_have_every_attribute_of_type_1_and_2(volume, tmp_path):
    paths = write_dicom_series(volume, tmp_path, age_years=71.9, sex="F", study_date=date(2021, 3, 4), **IDENTITY)
    d = pydicom.dcmread(paths[0])
    missing = [name for name in TYPE_1_AND_2 if name not in d]
    assert not missing
    assert (d.PatientAge, d.PatientSex, d.StudyDate) == ("071Y", "F", "20210304")
    assert len({pydicom.dcmread(p).SOPInstanceUID for p in paths}) == len(paths)


def _digest(folder):
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def test_an_archive_is_written_alike_twice_and_its_truth_names_the_series(tmp_path):
    plan = [PhantomStudy("lumbar", (4.0, 4.0, 5.0), PatientOptions(fracture_probability=1.0), "rle")]
    truth = write_phantom_archive(tmp_path / "a", 1, 7, truth_folder=tmp_path / "ta", plan=plan)[0]
    write_phantom_archive(tmp_path / "b", 1, 7, truth_folder=tmp_path / "tb", plan=plan)
    again = next((tmp_path / "b").iterdir())
    assert _digest(again) == _digest(tmp_path / "a" / again.name)
    one, other = (tmp_path / folder / f"{again.name}.json" for folder in ("ta", "tb"))
    assert one.read_bytes() == other.read_bytes()
    assert not list((tmp_path / "a").rglob("*.json"))
    first = pydicom.dcmread(next((tmp_path / "a").rglob("*.dcm")), stop_before_pixels=True)
    written = read_truth(one)
    assert first.SeriesInstanceUID == written.image == truth.image
    assert np.allclose(written.points, truth.points, atol=0.006)
    assert len(truth.levels) >= 5


def test_an_archive_plan_ends_with_a_study_without_a_spine():
    plan = archive_plan(8)
    assert len(plan) == 8
    assert plan[-1].view == "legs"
    assert len({p.transfer_syntax for p in plan}) >= 4
    assert all(p.view != "legs" for p in archive_plan(8, without_spine=False))
