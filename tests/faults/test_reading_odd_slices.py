"""A slice that decodes to garbage, or lost its rescale, is mended or refused: its neighbours show what it is not."""

import numpy as np
import pytest
from dicom_cases import set_pixels, stored_pixels
from hypothesis import given
from hypothesis import strategies as st
from reading_cases import SETTINGS, SMALL, changed, end_of, read_only, without

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.odd_slices import find_odd_slices

N = SMALL.shape[0]
LOST = without("RescaleSlope", "RescaleIntercept")


def some(indices, edit):
    """Edit the slices of these indices only."""
    return lambda ds, index: edit(ds) if index in indices else ds


def value(keyword, number):
    def edit(ds):
        setattr(ds, keyword, number)
        return ds

    return edit


def shuffled(ds):
    set_pixels(ds, np.random.default_rng(0).permutation(stored_pixels(ds).ravel()).reshape(ds.Rows, -1), signed=False)
    return ds


def swapped_bytes(ds):
    set_pixels(ds, stored_pixels(ds).byteswap(), signed=False)
    return ds


# -- the rescale --------------------------------------------------------------------------------------------------

SPOILT_RESCALE = {
    "slope and intercept gone": LOST,
    "intercept gone": without("RescaleIntercept"),
    "slope gone": without("RescaleSlope"),
    "slope zero": value("RescaleSlope", 0),
    "slope negative": value("RescaleSlope", -1),
    "slope huge": value("RescaleSlope", "1e30"),
    "intercept huge": value("RescaleIntercept", "-1e9"),
}


LOST_WHERE = {"first": (0,), "three": (11, 12, 13), "half": range(0, N, 2)}


@pytest.mark.parametrize(
    ("fault", "indices"),
    [*((fault, (20,)) for fault in SPOILT_RESCALE), *(("intercept gone", where) for where in LOST_WHERE.values())],
    ids=[*SPOILT_RESCALE, *LOST_WHERE],
)
def test_a_lost_rescale_is_that_of_all_other_slices(fault, indices, small, tmp_path, small_hu):
    _, volume = read_only(changed(small, tmp_path, some(indices, SPOILT_RESCALE[fault])))
    assert (volume.hu == small_hu).all()
    assert volume.repairs == (f"rescale_supplied:{len(indices)}",)


def test_a_lost_rescale_among_different_ones_is_refused(small, tmp_path):
    def edit(ds, index):
        set_pixels(ds, stored_pixels(ds).astype(int) - 1024 + 10 * index, signed=True)
        ds.RescaleIntercept = -10 * index
        return LOST(ds) if index == 7 else ds

    assert end_of(changed(small, tmp_path, edit)) == [Reason.NOT_HOUNSFIELD]


def test_a_slice_that_holds_hounsfield_units_without_a_rescale_is_not_shifted_in_silence(small, tmp_path, small_hu):
    """The others' rescale would put it 1024 HU too low: then it is no slice between its neighbours."""

    def edit(ds):
        set_pixels(ds, stored_pixels(ds).astype(int) - 1024, signed=True)
        return LOST(ds)

    _, volume = read_only(changed(small, tmp_path, some((20,), edit)))
    assert set(volume.repairs) == {"rescale_supplied:1", "odd_slice_interpolated:1"}
    assert (np.delete(volume.hu, 20, 0) == np.delete(small_hu, 20, 0)).all()


# -- the pixels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [shuffled, swapped_bytes, value("RescaleIntercept", 0)])
def test_one_slice_of_garbage_is_interpolated_and_recorded(spoil, small, tmp_path, small_hu):
    _, volume = read_only(changed(small, tmp_path, some((20,), spoil)))
    assert volume.repairs == ("odd_slice_interpolated:1",)
    assert volume.filled_slices == (20,)
    assert (np.delete(volume.hu, 20, 0) == np.delete(small_hu, 20, 0)).all()
    mean = (small_hu[19].astype(float) + small_hu[21]) / 2
    assert np.abs(volume.hu[20] - mean).max() <= 1.0


@pytest.mark.parametrize("end", [0, N - 1])
def test_garbage_at_an_end_is_cut_off_and_the_rest_stays_in_place(end, small, tmp_path, small_hu):
    _, volume = read_only(changed(small, tmp_path, some((end,), swapped_bytes)))
    assert volume.repairs == ("odd_slice_dropped:1",)
    assert (volume.hu == np.delete(small_hu, end, 0)).all()
    first_z = SMALL.origin[2] + SMALL.spacing[2] * (end == 0)
    np.testing.assert_allclose(volume.patient_from_voxel[:3, 3], [*SMALL.origin[:2], first_z])


@pytest.mark.parametrize("indices", [range(10, 14), range(N // 2, N), range(3, N, 4)], ids=["4", "half", "each 4th"])
def test_more_garbage_than_may_be_mended_is_refused(indices, small, tmp_path):
    folder = changed(small, tmp_path, some(indices, value("RescaleIntercept", 300)))
    assert end_of(folder) == [Reason.PIXELS_DAMAGED]


# -- what is sound ------------------------------------------------------------------------------------------------


def odd_of(hu) -> tuple:
    odd = find_odd_slices(np.asarray(hu), np.arange(len(hu)))
    return odd.inner + odd.outer


@given(seed=st.integers(0, 1000), noise=st.sampled_from([0.0, 20.0, 200.0]), n=st.integers(4, 30))
def test_no_slice_of_noise_is_odd(seed, noise, n):
    rng = np.random.default_rng(seed)
    assert odd_of(rng.normal(40.0, noise, (n, 40, 40))) == ()


@pytest.mark.parametrize("thick", [1, 2, 3])
def test_a_disc_between_two_vertebrae_is_not_odd_however_few_slices_show_it(thick):
    """A crop as narrow as the spine, without noise: bone of 500 HU on two fifths of the image, a disc of 60."""
    hu = np.full((24, 40, 40), 40.0)
    hu[:, :16] = 500.0
    hu[10 : 10 + thick, :16] = 60.0
    assert odd_of(hu) == ()


def test_the_body_may_end_at_a_slice():
    """Air above the head, or a phantom that stops: one jump up to the height of the image's own."""
    hu = np.full((30, 40, 40), -1000.0)
    hu[:15, 5:20, 5:20] = 40.0
    assert odd_of(hu) == ()


def test_a_volume_file_with_a_spoilt_slice_is_refused(small_hu, tmp_path):
    import SimpleITK as sitk

    bad = small_hu.copy()
    bad[20] = np.random.default_rng(0).permutation(bad[20].ravel()).reshape(bad[20].shape)
    image = sitk.GetImageFromArray(bad)
    image.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(image, str(tmp_path / "v.nii.gz"))
    assert end_of(tmp_path) == [Reason.PIXELS_DAMAGED]


def test_a_jump_in_the_middle_is_refused_with_its_place():
    hu = np.random.default_rng(0).normal(40.0, 10.0, (30, 40, 40))
    hu[15:] += 600.0
    with pytest.raises(NotEvaluable, match="after slice 15") as refusal:
        odd_of(hu)
    assert refusal.value.reason is Reason.PIXELS_DAMAGED
    assert SETTINGS.min_slices < len(hu)


@pytest.mark.parametrize("shift", [6, 12, 20])
def test_two_patients_whose_slices_alternate_are_no_volume(shift, small_hu):
    """An anonymiser gave both the same UIDs, and their slices lie between each other."""
    mixed = small_hu.copy()
    mixed[1::2] = np.roll(small_hu, shift, axis=1)[1::2]
    with pytest.raises(NotEvaluable) as refusal:
        odd_of(mixed)
    assert refusal.value.reason is Reason.PIXELS_DAMAGED
