"""Values that lost their sign, intercept or scale: put right where air and tissue prove it, else refused."""

import numpy as np
import pytest
from dicom_cases import set_pixels, stored_pixels
from reading_cases import SETTINGS, changed

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.hounsfield import ValueCounts, mend_units, refuse_odd_values
from vertebra_core.reading.inventory import find_series

RESTORED = ("intercept_restored:-1024",)


def hu_of(ds, index: int) -> np.ndarray:
    """HU of a slice of the coarse series, with noise in air too, as scanners have it."""
    hu = stored_pixels(ds).astype(int) - 1024
    return hu + np.rint(np.random.default_rng(index).normal(0, 8, hu.shape)).astype(int) * (hu < -900)


def stored_as(make, signed: bool, slope: float | None, intercept: float | None):
    """Store `make(HU)` with a rescale, or without one where it is None."""

    def edit(ds, index):
        set_pixels(ds, np.rint(make(hu_of(ds, index))), signed)
        for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        return ds

    return edit


def raw(hu: np.ndarray) -> np.ndarray:
    return np.clip(hu + 1024, 0, 4095)


def with_metal(hu: np.ndarray) -> np.ndarray:
    hu = hu.copy()
    hu[20:24, 20:24] = 20000
    return hu


MENDED = {
    "12 bits, no rescale": (stored_as(raw, False, None, None), RESTORED, 0),
    "12 bits, rescale of 1 and 0": (stored_as(raw, False, 1, 0), RESTORED, 0),
    "offset of 1000": (stored_as(lambda hu: np.clip(hu + 1000, 0, 4095), False, 1, 0), RESTORED, -24),
    "signed pixels said to be unsigned": (stored_as(lambda hu: hu % 2**16, False, 1, 0), ("sign_restored",), 0),
    "signed HU without a rescale": (stored_as(lambda hu: hu, True, None, None), (), 0),
    "metal above 12 bits": (stored_as(with_metal, True, 1, 0), (), 0),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_air_and_tissue_prove_is_mended(case, small, tmp_path, small_hu):
    edit, repairs, shift = MENDED[case]
    (series,) = find_series([changed(small, tmp_path, edit)], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.repairs == repairs
    assert volume.hu.dtype == np.int16
    body = (small_hu > -900) & (volume.hu < 5000)
    assert (volume.hu[body] == small_hu[body] + shift).all()
    assert (volume.hu.max() == 20000) == (case == "metal above 12 bits")


REFUSED = {
    "doubled": stored_as(lambda hu: 2 * hu, True, 1, 0),
    "halved": stored_as(lambda hu: hu / 2, True, 1, 0),
    "a slope of 2": stored_as(raw, False, 2, -2048),
    "a tenth": stored_as(lambda hu: hu / 10, True, 1, 0),
    "a tenth by its slope": stored_as(raw, False, 0.1, -102.4),
    "the intercept twice": stored_as(raw, False, 1, -2048),
    "attenuation, 1/cm x 10000": stored_as(lambda hu: 2000 + 2 * hu.clip(-1000), False, None, None),
    "12 bits without air": stored_as(lambda hu: np.where(hu < -500, 1064, raw(hu)), False, None, None),
    "a window, 0 to 255": stored_as(lambda hu: np.clip((hu + 160) * 255 / 400, 0, 255), False, None, None),
    "a window, rescaled": stored_as(lambda hu: np.clip(hu, -160, 240) + 1024, False, 1, -1024),
    "clipped above 300": stored_as(lambda hu: np.clip(hu, -1000, 300) + 1024, False, 1, -1024),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_nothing_proves_is_refused(case, small, tmp_path):
    (series,) = find_series([changed(small, tmp_path, REFUSED[case])], SETTINGS).series
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(series, SETTINGS)
    assert refusal.value.reason is Reason.NOT_HOUNSFIELD


@pytest.mark.parametrize("contrast", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("cut", ["whole", "12 cm round the spine", "no air in view"])
def test_a_true_ct_is_never_refused(contrast, cut, phantom_hu):
    half = {"whole": 99, "12 cm round the spine": 20, "no air in view": 8}[cut]  # voxels of 3 mm
    y, x = SPINE_YX
    hu = phantom_hu[:, max(0, y - half) : y + half, max(0, x - half) : x + half]
    assert (hu.min() > -900) == (cut == "no air in view")
    hu = np.rint(np.where(hu > 0, hu * contrast, hu)).astype(np.int16)
    counts = ValueCounts()
    counts.add(hu)
    same, mended = mend_units(hu, counts, False, SETTINGS.air_below_hu)
    assert mended == ()
    refuse_odd_values(same, counts, 0, trusted=False)


SPINE_YX = 71, 60
"""Voxel of the spine in a slice of `phantom_hu`."""


@pytest.fixture(scope="module")
def phantom_hu() -> np.ndarray:
    from vertebra_core.phantom.anatomy import random_patient
    from vertebra_core.phantom.scanner import axial_scan, render

    corner, size, spacing = np.array([-180.0, -210.0, -210.0]), np.array([360.0, 360.0, 120.0]), np.full(3, 3.0)
    return render(random_patient(np.random.default_rng(5)), axial_scan(corner, size, spacing, noise_hu=20.0)).hu


def test_counts_are_those_of_numpy():
    values = np.random.default_rng(0).normal(0, 3000, 10_000).astype(np.float32)
    counts = ValueCounts()
    for part in np.split(values, 10):
        counts.add(part)
    clipped = np.clip(np.rint(values), -4096, 8191)
    np.testing.assert_array_equal(counts.counts, np.histogram(clipped, np.arange(-4096.5, 8192.5))[0])
    assert counts.share(-100, 100) == ((clipped >= -100) & (clipped <= 100)).mean()
