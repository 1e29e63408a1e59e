"""Case R9 and its kin: padding, rescale and transfer syntaxes give the same HU, or a reason."""

import numpy as np
import pytest
from dicom_cases import (
    measured_heights,
    set_pixels,
    stored_pixels,
)
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from reading_cases import SETTINGS, changed, copy_of, end_of, read_only, without

from vertebra_core.errors import Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.volume import AIR_HU

# -- R9: padding outside the circle -------------------------------------------------------------------------------


def outside_the_circle(ds) -> np.ndarray:
    y, x = np.indices((ds.Rows, ds.Columns))
    return np.hypot((x - 49.5) / 50.0, (y - 47.5) / 48.0) > 1.0


def padded(value: int, tag: int | None = None, limit: int | None = None):
    def edit(ds, _):
        stored = stored_pixels(ds).astype(int) - 1024  # HU, stored signed
        outside = outside_the_circle(ds)
        stored[outside] = value
        if limit is not None:
            stored[outside & (np.indices(outside.shape)[0] % 2 == 0)] = limit
        set_pixels(ds, stored, signed=True)
        ds.RescaleIntercept = 0
        for keyword, pad in (("PixelPaddingValue", tag), ("PixelPaddingRangeLimit", limit)):
            if pad is not None:
                ds.add_new(keyword, "SS", pad)
        return ds

    return edit


def zero_corners(ds, _):
    stored = stored_pixels(ds)
    stored[outside_the_circle(ds)] = 0
    set_pixels(ds, stored, signed=False)
    return ds


def rescaled_padding(ds, _):
    """Padding -2000 with intercept -1024: -3024 once it was rescaled with the rest."""
    stored = stored_pixels(ds).astype(int)
    stored[outside_the_circle(ds)] = -2000
    set_pixels(ds, stored, signed=True)
    return ds


def unsigned_tag(ds, index):
    """PixelPaddingValue written as US 63536 for signed pixels of -2000, as scanners do."""
    ds = rescaled_padding(ds, index)
    ds.add_new("PixelPaddingValue", "US", 63536)
    return ds


def padded_with_water(ds, index):
    """Padding of 0 HU: tissue lies at the same value, so only what touches the border is padding."""
    return padded(0, 0)(ds, index)


@pytest.mark.parametrize(
    "edit",
    [
        padded(-2000, -2000),
        padded(-2000),
        zero_corners,
        padded(-2000, -2000, -1990),
        padded(-1050, -1050, -1040),
        rescaled_padding,
        unsigned_tag,
        padded_with_water,
    ],
    ids=["tag", "no tag", "zero", "range", "range near air", "rescaled", "unsigned tag", "padding of water"],
)
def test_r9_padding_becomes_air_and_nothing_else_changes(edit, clean, b0, b0_heights, tmp_path):
    copy_of(clean, tmp_path, edit)
    _, volume = read_only(tmp_path)
    assert volume.hu.dtype == np.int16
    outside = outside_the_circle(dcmread(next(iter(tmp_path.iterdir()))))
    assert (volume.hu[:, outside] == AIR_HU).all()
    assert (volume.hu[:, ~outside] == b0.hu[:, ~outside]).all()
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


def test_hounsfield_units_without_a_rescale_are_taken(small, tmp_path):
    """HU stored as they are, tags absent: fat and air show the unit."""

    def edit(ds, _):
        set_pixels(ds, stored_pixels(ds).astype(int) - 1024, signed=True)
        return without("RescaleSlope", "RescaleIntercept")(ds)

    assert end_of(changed(small, tmp_path, edit)) == [None]


# -- transfer syntaxes --------------------------------------------------------------------------------------------

SYNTAXES = [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
COMPRESSED = [DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]


def in_syntax(syntax):
    def edit(ds, _):
        if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
            ds.compress(syntax, generate_instance_uid=False)
        else:
            ds.file_meta.TransferSyntaxUID = syntax
        return ds

    return edit


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_every_transfer_syntax_gives_the_same_voxels(syntax, small, tmp_path, small_hu):
    changed(small, tmp_path, in_syntax(syntax))
    (series,) = find_series([tmp_path], SETTINGS).series
    assert series.transfer_syntax_uid == syntax
    assert (read_volume(series, SETTINGS).hu == small_hu).all()


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_a_compressed_file_cut_short_is_never_half_a_picture(syntax, share, small, tmp_path, small_hu):
    changed(small, tmp_path, in_syntax(syntax))
    victim = tmp_path / "slice_0020.dcm"
    victim.write_bytes(victim.read_bytes()[: int(share * victim.stat().st_size)])
    inventory = find_series([tmp_path], SETTINGS)
    (series,) = inventory.series
    if inventory.left_alone:  # a deflated file that is cut has no header either: the slice is missing, and filled in
        assert inventory.left_alone == {Reason.UNREADABLE: 1}
        assert read_volume(series, SETTINGS).filled_slices == (20,)
    else:
        assert end_of(tmp_path) == [Reason.PIXELS_DAMAGED]


def test_rescale_may_differ_from_slice_to_slice(small, tmp_path, small_hu):
    def edit(ds, index):
        set_pixels(ds, stored_pixels(ds).astype(int) - 1024 + 10 * index, signed=True)
        ds.RescaleIntercept = -10 * index
        return ds

    changed(small, tmp_path, edit)
    (series,) = find_series([tmp_path], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.hu.dtype == np.int16
    assert (volume.hu == small_hu).all()


def test_a_broken_slope_gives_float32(small, tmp_path, small_hu):
    def edit(ds, index):
        if index == 30:
            set_pixels(ds, stored_pixels(ds).astype(int) * 2 + 1, signed=False)
            ds.RescaleSlope = 0.5
        return ds

    changed(small, tmp_path, edit)
    (series,) = find_series([tmp_path], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.hu.dtype == np.float32
    assert (np.delete(volume.hu, 30, 0) == np.delete(small_hu, 30, 0)).all()
    np.testing.assert_allclose(volume.hu[30], small_hu[30] + 0.5, atol=1e-3)
