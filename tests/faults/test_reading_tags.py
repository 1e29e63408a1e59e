"""Wrong, missing and odd attributes: what can be understood is read, what cannot is refused."""

import tracemalloc

import numpy as np
import pytest
from dicom_cases import save, set_pixels, stored_pixels
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.tag import Tag
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
)
from reading_cases import SETTINGS, changed, end_of, with_value, without

from vertebra_core.errors import Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series


def as_bytes(keyword: str, vr: str):
    """Write an attribute with another value representation, as the bytes of its text."""

    def edit(ds, _):
        words = "\\".join(str(value) for value in ds[keyword].value)
        words += " " * (len(words) % 2)
        ds[keyword] = DataElement(Tag(keyword), vr, words.encode() if vr in ("OB", "UN") else words)
        return ds

    return edit


def with_commas(*keywords: str):
    """Write numbers with decimal commas: pydicom refuses to, so the bytes are changed on the way to the disk."""

    def edit(ds, _):
        for keyword in keywords:
            words = "\\".join(f"{float(value):.3f}".replace(".", ",") for value in ds[keyword].value)
            ds[keyword] = DataElement(Tag(keyword), "LO", words)
        return ds

    return edit


def imager_spacing(ds, _):
    ds.ImagerPixelSpacing = ds.PixelSpacing
    del ds.PixelSpacing
    return ds


HARMLESS = {
    "orientation as LO": as_bytes("ImageOrientationPatient", "LO"),
    "orientation as UN": as_bytes("ImageOrientationPatient", "UN"),
    "spacing as long text": as_bytes("PixelSpacing", "LT"),
    "spacing as bytes": as_bytes("PixelSpacing", "OB"),
    "thickness of zero": with_value("SliceThickness", 0),
    "thickness absent": lambda ds, _: without("SliceThickness")(ds),
    "spacing between slices negative": with_value("SpacingBetweenSlices", -2),
    "spacing between slices wrong": with_value("SpacingBetweenSlices", 5),
    "slice location wrong": lambda ds, index: with_value("SliceLocation", -3.0 * index)(ds, index),
    "gantry tilt without a shear": with_value("GantryDetectorTilt", 18.5),
    "private elements before the pixels": lambda ds, _: ds.add(DataElement(0x00091010, "UN", b"x" * 5000)) or ds,
}


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.filterwarnings("ignore:.*")
def test_an_odd_attribute_changes_nothing(case, small, tmp_path, small_hu):
    (series,) = find_series([changed(small, tmp_path, HARMLESS[case])], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert (volume.hu == small_hu).all()
    assert volume.repairs == ()
    np.testing.assert_allclose(volume.patient_from_voxel, np.diag([2.0, 2, 2, 1]) + SHIFT)


SHIFT = np.array([[0, 0, 0, -49], [0, 0, 0, -47], [0, 0, 0, -39], [0, 0, 0, 0]])

MENDED = {
    "decimal commas": (with_commas("PixelSpacing", "ImagePositionPatient"), "decimal_comma:40"),
    "modality OT": (with_value("Modality", "OT"), "modality_from_sop_class:40"),
    "modality absent": (lambda ds, _: without("Modality")(ds), "modality_from_sop_class:40"),
}


@pytest.mark.parametrize("case", MENDED)
@pytest.mark.filterwarnings("ignore:.*")
def test_what_is_mended_in_a_header_is_said(case, small, tmp_path, small_hu):
    edit, repair = MENDED[case]
    (series,) = find_series([changed(small, tmp_path, edit)], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.repairs == (repair,)
    assert (volume.hu == small_hu).all()
    np.testing.assert_allclose(volume.patient_from_voxel, np.diag([2.0, 2, 2, 1]) + SHIFT, atol=1e-9)


def stored_by(sop_class, modality: str):
    def edit(ds, _):
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
        ds.Modality = modality
        return ds

    return edit


REFUSED = {
    "MR stored as MR": (stored_by(MRImageStorage, "MR"), Reason.OTHER_MODALITY),
    "MR stored by one who says CT": (stored_by(MRImageStorage, "CT"), Reason.OTHER_MODALITY),
    "PET stored by one who says CT": (stored_by(PositronEmissionTomographyImageStorage, "CT"), Reason.OTHER_MODALITY),
    "X-ray stored by one who says CT": (stored_by(DigitalXRayImageStorageForPresentation, "CT"), Reason.OTHER_MODALITY),
    "CT stored by one who says MR": (with_value("Modality", "MR"), Reason.OTHER_MODALITY),
    "raw data of a CT": (stored_by(RawDataStorage, "CT"), Reason.NOT_AN_IMAGE),
    "pixel spacing of the detector alone": (imager_spacing, Reason.NO_GEOMETRY),
    "orientation absent": (lambda ds, _: without("ImageOrientationPatient")(ds), Reason.NO_GEOMETRY),
    "negative pixel spacing": (with_value("PixelSpacing", [-2, -2]), Reason.NO_GEOMETRY),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:.*")
def test_a_contradiction_is_refused(case, small, tmp_path):
    edit, reason = REFUSED[case]
    assert end_of(changed(small, tmp_path, edit)) == [reason]


def test_a_capture_with_geometry_is_a_ct(small, tmp_path):
    """Workstations store reformats of a CT as secondary captures."""
    edit = stored_by(SecondaryCaptureImageStorage, "CT")
    assert end_of(changed(small, tmp_path, edit)) == [None]


def test_big_endian_is_read(small, tmp_path, small_hu):
    for path in sorted(small.iterdir()):
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds["PixelData"].VR = "OW"
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        dcmwrite(tmp_path / path.name, ds, implicit_vr=False, little_endian=False, force_encoding=True)
    (series,) = find_series([tmp_path], SETTINGS).series
    assert series.transfer_syntax_uid == ExplicitVRBigEndian
    assert (read_volume(series, SETTINGS).hu == small_hu).all()


def test_the_bits_above_bits_stored_are_no_pixels(small, tmp_path, small_hu):
    """Old scanners kept overlays in the four bits that 12-bit pixels leave free."""

    def overlay(ds, _):
        stored = stored_pixels(ds)
        stored[10:20, 10:20] |= 0x8000
        set_pixels(ds, stored, signed=False)
        ds.BitsStored, ds.HighBit = 12, 11
        return ds

    (series,) = find_series([changed(small, tmp_path, overlay)], SETTINGS).series
    assert (read_volume(series, SETTINGS).hu == small_hu).all()


def test_rows_and_columns_exchanged_are_seen(small, tmp_path):
    def exchange(ds, _):
        ds.Rows, ds.Columns = ds.Columns, ds.Rows
        return ds

    assert end_of(changed(small, tmp_path, exchange)) == [Reason.PIXELS_DAMAGED]


def test_huge_private_elements_are_passed_over(small, tmp_path, small_hu):
    """The largest of them stands before the pixels of one slice; reading must not hold it in memory."""
    huge = 64 * 2**20

    def private(ds, index):
        if index == 20:
            ds.add(DataElement(0x00091010, "OB", bytes(huge)))
        return ds

    changed(small, tmp_path, private)
    tracemalloc.start()
    (series,) = find_series([tmp_path], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (volume.hu == small_hu).all()
    assert peak < huge / 4


def test_a_zero_byte_file_among_the_slices_is_counted_and_filled_in(small, tmp_path):
    changed(small, tmp_path, lambda ds, _: ds)
    (tmp_path / "slice_0020.dcm").write_bytes(b"")
    inventory = find_series([tmp_path], SETTINGS)
    assert inventory.left_alone == {Reason.EMPTY_FILE: 1}
    assert read_volume(inventory.series[0], SETTINGS).repairs == ("missing_slice_interpolated:1",)


def test_save_writes_what_the_tests_say(small, tmp_path):
    """The commas of these tests are in the file, not an artefact of writing."""
    path = save(with_commas("PixelSpacing")(dcmread(small / "slice_0000.dcm"), 0), tmp_path / "a")
    assert b"2,000\\2,000" in path.read_bytes()
