"""The frame header of a JPEG image is held against the DICOM attributes before anything is decoded."""

import numpy as np
import pytest
from engine_archive import slice_dataset
from pydicom.uid import JPEGLSLossless

from vertebra_core.reading.jpeg_header import frame_header, refuse_odd_frame_header


@pytest.fixture
def image():
    """A slice of 40 x 24 pixels as JPEG-LS, and where its frame header lies in the pixel data."""
    hu = np.random.default_rng(0).normal(0, 200, (40, 24))
    ds = slice_dataset("1.2.3", 0, hu, "P", "F", "060Y", "20200101", "CT")
    ds.Rows, ds.Columns = hu.shape
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    return ds, bytes(ds.PixelData).index(b"\xff\xf7")


def spoilt(ds, at: int, value: int):
    data = bytearray(ds.PixelData)
    data[at] = value
    ds.PixelData = bytes(data)
    return ds


def test_a_sound_header_agrees(image):
    ds, _ = image
    start = bytes(ds.PixelData).index(b"\xff\xd8")
    assert frame_header(bytes(ds.PixelData)[start:]) == (ds.BitsStored, 40, 24)
    refuse_odd_frame_header(ds, [0])


@pytest.mark.parametrize(("offset", "value"), [(4, 255), (4, 0), (6, 41), (8, 25)])
def test_a_wrong_precision_or_size_is_refused(image, offset, value):
    ds, at = image
    with pytest.raises(ValueError, match="differs from Rows and Columns"):
        refuse_odd_frame_header(spoilt(ds, at + offset, value), [0])


@pytest.mark.parametrize("codestream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xfe\xff\xff" + bytes(20), bytes(40)])
def test_what_has_no_frame_header_is_refused(codestream):
    with pytest.raises(ValueError, match="no "):
        frame_header(codestream)
