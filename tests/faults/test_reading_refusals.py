"""A bad series ends in its own reason: never in a traceback, never in a number that is silently off."""

import numpy as np
import pytest
from dicom_cases import (
    set_pixels,
    stored_pixels,
)
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, MRImageStorage
from reading_cases import changed, end_of, with_value

from vertebra_core.errors import Reason


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_few_slices_are_refused(count, small, tmp_path):
    changed(small, tmp_path, lambda ds, index: ds if index < count else None)
    assert end_of(tmp_path) == [Reason.TOO_FEW_SLICES]


def mr(ds: Dataset, _) -> Dataset:
    ds.SOPClassUID, ds.Modality = MRImageStorage, "MR"
    return ds


def no_rescale(ds: Dataset, _) -> Dataset:
    del ds.RescaleSlope, ds.RescaleIntercept
    return ds


def no_rescale_no_air(ds: Dataset, _) -> Dataset:
    stored = stored_pixels(ds)
    set_pixels(ds, np.where(stored < 500, 1064, stored), signed=False)
    return no_rescale(ds, _)


def window_burnt_in(ds: Dataset, _) -> Dataset:
    """A soft-tissue window of 400 HU at 40 HU, as a secondary reconstruction writes it."""
    hu = np.clip(stored_pixels(ds).astype(int) - 1024, -160, 240)
    set_pixels(ds, hu, signed=True)
    ds.RescaleIntercept = 0
    return ds


def eight_bits(ds: Dataset, _) -> Dataset:
    grey = np.clip((stored_pixels(ds).astype(int) - 1024 + 160) * 255 / 400, 0, 255)
    set_pixels(ds, grey, signed=False)
    ds.BitsStored, ds.HighBit = 8, 7
    return ds


def geometry_gone(ds: Dataset, _) -> Dataset:
    del ds.ImagePositionPatient
    return ds


def whole_millimetres(ds: Dataset, index: int) -> Dataset:
    ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], 7.0 * index]
    return ds


def at(place):
    """Slices at other heights, each an instance of its own with pixels of its own."""

    def edit(ds: Dataset, index: int) -> Dataset:
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], place(index)]
        return ds

    return edit


def sheared(ds: Dataset, index: int) -> Dataset:
    x, y, z = map(float, ds.ImagePositionPatient)
    ds.ImagePositionPatient = [x, y + 2.0 * index, z]
    return ds


def twins(ds: Dataset, index: int) -> Dataset:
    """Two different images at each place, of alternating numbers; nothing else tells them apart."""
    del ds.AcquisitionNumber
    return at(lambda index: 2.0 * (index // 2))(ds, index)


def as_floats(ds: Dataset, index: int) -> Dataset:
    """Float pixels (PS3.3 C.7.6.24), one of them not a number."""
    hu = stored_pixels(ds).astype("<f4") - 1024
    hu[0, 0] = np.nan
    del ds.PixelData
    ds.FloatPixelData, ds.BitsAllocated, ds.RescaleIntercept = hu.tobytes(), 32, 0
    return ds


def in_syntax_of_mpeg(ds: Dataset, _) -> Dataset:
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    ds.PixelData = encapsulate([bytes(100)])
    ds["PixelData"].VR = "OB"
    return ds


BAD_SERIES = {
    "an MR": (mr, Reason.OTHER_MODALITY),
    "modality MR alone": (with_value("Modality", "MR"), Reason.OTHER_MODALITY),
    "no rescale and no air in view": (no_rescale_no_air, Reason.NOT_HOUNSFIELD),
    "a window burnt in": (window_burnt_in, Reason.NOT_HOUNSFIELD),
    "eight bits": (eight_bits, Reason.NOT_HOUNSFIELD),
    "an iodine map": (with_value("RescaleType", "MGML"), Reason.NOT_HOUNSFIELD),
    "one constant": (
        lambda ds, _: set_pixels(ds, np.full((48, 50), 1064), signed=False) or ds,
        Reason.CONSTANT_IMAGE,
    ),
    "no positions": (geometry_gone, Reason.NO_GEOMETRY),
    "spacing of zero": (with_value("PixelSpacing", [0, 0]), Reason.NO_GEOMETRY),
    "skew axes": (with_value("ImageOrientationPatient", [1, 0, 0, 0.5, 0.866, 0]), Reason.NO_GEOMETRY),
    "spacing that is text": (with_value("PixelSpacing", None), Reason.NO_GEOMETRY),
    "slices 7 mm apart": (whole_millimetres, Reason.SLICES_TOO_THICK),
    "colour": (with_value("SamplesPerPixel", 3), Reason.REPORT_PAGE),
    "huge": (lambda ds, _: with_value("Rows", 60000)(with_value("Columns", 60000)(ds, 0), 0), Reason.TOO_LARGE),
    "more rows than pixels": (with_value("Rows", 480), Reason.PIXELS_DAMAGED),
    "all padding": (
        lambda ds, _: set_pixels(with_value("RescaleIntercept", 0)(ds, 0), np.full((48, 50), -2000), signed=True) or ds,
        Reason.CONSTANT_IMAGE,
    ),
    "a scout": (with_value("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), Reason.LOCALIZER),
    "a MIP": (with_value("ImageType", ["DERIVED", "SECONDARY", "AXIAL", "MIP"]), Reason.PROJECTION),
    "a subtraction": (with_value("ImageType", ["DERIVED", "SECONDARY", "SUBTRACTION"]), Reason.DERIVED_MAP),
    "a curved reformat": (with_value("ImageType", ["DERIVED", "SECONDARY", "CURVED"]), Reason.NOT_A_VOLUME),
    "a dose report": (with_value("ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"]), Reason.REPORT_PAGE),
    "an RT dose": (with_value("Modality", "RTDOSE"), Reason.NOT_AN_IMAGE),
    "bolus tracking": (at(lambda index: 0.0), Reason.TIME_SERIES),
    "every fourth slice missing": (lambda ds, index: ds if index % 4 else None, Reason.MISSING_SLICES),
    "uneven all along": (at(lambda index: 2.0 * index + 0.7 * (index % 3 > 0)), Reason.UNEVEN_SPACING),
    "sheared by 45 degrees": (sheared, Reason.GANTRY_TILT),
    "pixels not a number": (as_floats, Reason.NOT_FINITE),
    "a codec nobody has": (in_syntax_of_mpeg, Reason.DECODER_MISSING),
    "7 slices": (lambda ds, index: ds if index < 7 else None, Reason.TOO_FEW_SLICES),
    "a dog": (with_value("PatientSpeciesDescription", "Canis lupus familiaris"), Reason.NOT_A_PATIENT),
    "alike, alternating": (twins, Reason.AMBIGUOUS_STACK),
}


@pytest.mark.parametrize("case", BAD_SERIES)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_bad_series_has_its_own_reason(case, small, tmp_path):
    edit, reason = BAD_SERIES[case]
    assert end_of(changed(small, tmp_path, edit)) == [reason]


TESTED_ELSEWHERE = {
    # Of files that belong to no series: test_reading_files.
    Reason.NOT_DICOM,
    Reason.UNREADABLE,
    Reason.EMPTY_FILE,
    Reason.ALREADY_SEEN,
    # Of zip and tar files (test_reading_packed), and of studies that still arrive.
    Reason.ENCRYPTED_ARCHIVE,
    Reason.DAMAGED_ARCHIVE,
    Reason.NESTED_ARCHIVE,
    Reason.ARCHIVE_TOO_LARGE,
    Reason.ARRIVING,
    # Of series beside a better one: test_reading_selection and test_reading_stacks.
    Reason.NOT_INDEX_SERIES,
    Reason.OTHER_STACK,
    Reason.OTHER_PHASE,
}


def test_every_reason_of_reading_is_produced_by_a_made_case():
    reasons = list(Reason)
    of_reading = set(reasons[: reasons.index(Reason.NO_SPINE)])
    made = {reason for _, reason in BAD_SERIES.values()}
    assert of_reading - made == TESTED_ELSEWHERE
    assert len({reason.code for reason in reasons}) == len(reasons)
