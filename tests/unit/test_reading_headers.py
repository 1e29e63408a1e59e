"""Attributes of a header survive every malformed value; files are recognised by their first bytes."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from vertebra_core.errors import Reason
from vertebra_core.reading.attributes import age_in_years, has_contrast, iso_date, number, numbers, text, texts
from vertebra_core.reading.files import ArchiveFile, LeftAlone
from vertebra_core.reading.headers import read_headers, sniff_dicom, sniff_volume


def malformed(keyword: str, vr: str, value: bytes) -> Dataset:
    """A dataset read from bytes, so that the value is converted as late as in a real file."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_dataset

    tag = tag_for_keyword(keyword)
    assert tag is not None
    value += b" " * (len(value) % 2)
    element = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
    return read_dataset(io.BytesIO(element), is_implicit_VR=False, is_little_endian=True)


@pytest.mark.filterwarnings("ignore")
@given(st.binary(max_size=40))
@settings(max_examples=150, deadline=None)
def test_no_value_of_a_number_raises(value):
    ds = malformed("PixelSpacing", "DS", value)
    found = numbers(ds, "PixelSpacing", 2)
    assert found is None or len(found) == 2
    assert number(ds, "PixelSpacing") is None or isinstance(number(ds, "PixelSpacing"), float)
    assert isinstance(text(malformed("PatientID", "LO", value), "PatientID"), str)
    assert isinstance(texts(malformed("ImageType", "CS", value), "ImageType"), tuple)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [b"0.7", b"0.7\\0.7\\0.7", b"0.7\\nan", b"inf\\1", b"a\\b", b""])
def test_a_pixel_spacing_is_two_finite_numbers_or_nothing(value):
    assert numbers(malformed("PixelSpacing", "DS", value), "PixelSpacing", 2) is None


def test_attributes_of_an_empty_header_are_absent():
    ds = Dataset()
    assert (text(ds, "PatientID"), texts(ds, "ImageType"), number(ds, "SliceThickness")) == ("", (), None)


@pytest.mark.parametrize(
    ("age", "birth", "study", "expected"),
    [
        ("067Y", None, None, 67.0),
        ("006M", None, None, 0.5),
        ("", "1950-06-01", "2020-06-01", 70.0),
        ("", "1950-06-02", "2020-06-01", 69.0),
        ("", "2021-01-01", "2020-06-01", None),
        ("67", None, None, None),
        ("", None, "2020-06-01", None),
    ],
)
def test_an_age_is_read_or_absent_never_made_up(age, birth, study, expected):
    assert age_in_years(age, birth, study) == expected


@pytest.mark.parametrize(("value", "expected"), [("20200229", "2020-02-29"), ("2020.02.29", "2020-02-29"), ("0", None)])
def test_a_date_is_one_or_absent(value, expected):
    assert iso_date(value) == expected


@pytest.mark.parametrize(("agent", "expected"), [("OMNIPAQUE", True), ("", None), ("NONE", False)])
def test_silence_about_contrast_is_not_its_absence(agent, expected):
    assert has_contrast(agent) is expected


@pytest.mark.parametrize(
    ("start", "dicom", "volume"),
    [
        (bytes(128) + b"DICM" + bytes(100), True, None),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(50), True, None),
        (b"\x08\x00\x16\x00\x1a\x00\x00\x001.2.840.10008" + bytes(50), True, None),
        (b"\x00\x08\x00\x05CS\x00\x0aISO_IR 100" + bytes(50), True, None),
        (b"%PDF-1.7" + bytes(200), False, None),
        (b"any text at all, long enough to be peeked into", False, None),
        (bytes(344) + b"n+1\0", False, "nifti"),
        (b"\x1c\x02\0\0n+2\0" + bytes(400), False, "nifti"),
        (b"NRRD0004\n# Complete", False, "nrrd"),
        (b"ObjectType = Image\nNDims = 3\n", False, "metaimage"),
        (b"", False, None),
    ],
)
def test_files_are_known_by_their_first_bytes(start, dicom, volume):
    assert sniff_dicom(start) is dicom
    assert sniff_volume(start) == volume


@given(st.binary(min_size=1, max_size=400), st.sampled_from([b"", bytes(128) + b"DICM", b"\x08\x00\x05\x00CS\x0a\x00"]))
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_the_reader(tmp_path_factory, rest, start):
    path = tmp_path_factory.getbasetemp() / "any_bytes"
    path.write_bytes(start + rest)
    found = read_headers(ArchiveFile(str(path.parent), path.name, len(start + rest), ""), {})
    assert len(found) >= 1


def test_a_file_that_is_gone_is_unreadable(tmp_path):
    (found,) = read_headers(ArchiveFile(str(tmp_path), "gone", 1, ""), {})
    assert isinstance(found, LeftAlone)
    assert found.reason is Reason.UNREADABLE
