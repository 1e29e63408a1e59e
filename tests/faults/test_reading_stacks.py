"""Cases R1 and R5: two acquisitions, duplicates and scouts in one series."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import (
    Study,
    ct_slice,
    measured_heights,
    save,
    set_pixels,
    stored_pixels,
)
from pydicom.uid import generate_uid
from reading_cases import (
    SETTINGS,
    N,
    copy_of,
    read_only,
    set_value,
    take,
    without,
)

from vertebra_core.errors import Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.select import choose_index_series

# -- R1: two acquisitions in one series ---------------------------------------------------------------------------


def brighter(ds, _):
    """A second acquisition: +300 HU in bone, other instances, AcquisitionNumber 2."""
    stored = stored_pixels(ds)
    set_pixels(ds, stored + 300 * (stored > 1024 + 200), signed=False)
    ds.AcquisitionNumber, ds.InstanceNumber = 2, ds.InstanceNumber + N
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["second", str(ds.InstanceNumber)])
    return ds


R1_VARIANTS = {
    "acquisition numbers": (lambda ds, i: ds, brighter),
    "contrast agent only": (
        lambda ds, i: without("AcquisitionNumber")(ds),
        lambda ds, i: set_value(without("AcquisitionNumber")(brighter(ds, i)), "ContrastBolusAgent", "IODINE"),
    ),
    "times only": (
        lambda ds, i: set_value(without("AcquisitionNumber")(ds), "AcquisitionTime", f"1000{i // 3:02d}"),
        lambda ds, i: set_value(without("AcquisitionNumber")(brighter(ds, i)), "AcquisitionTime", f"1100{i // 3:02d}"),
    ),
    "instance numbers only": (
        lambda ds, i: without("AcquisitionNumber")(ds),
        lambda ds, i: without("AcquisitionNumber")(brighter(ds, i)),
    ),
    "two kernels": (lambda ds, i: ds, lambda ds, i: set_value(brighter(ds, i), "ConvolutionKernel", "BONE")),
}


@pytest.mark.parametrize("variant", R1_VARIANTS)
def test_r1_two_acquisitions_are_two_stacks_and_one_is_chosen(variant, clean, b0_heights, tmp_path):
    first, second = R1_VARIANTS[variant]
    copy_of(clean, tmp_path / "one", first)
    copy_of(clean, tmp_path / "two", second)
    chosen = choose_index_series(take(tmp_path).series)
    assert [series.n_slices for series in chosen] == [N, N]
    assert [series.decision for series in chosen].count(None) == 1
    (other,) = [series for series in chosen if series.decision is not None]
    assert other.decision is Reason.OTHER_STACK
    assert "chosen" in other.decision_detail
    assert {series.stack for series in chosen} == {0, 1}
    (index,) = [series for series in chosen if series.decision is None]
    volume = read_volume(index, SETTINGS)
    assert len({Path(name).parent for name in index.files}) == 1, "slices of two acquisitions are mixed"
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=0.2 if volume.hu.max() > 600 else 1e-9)


def test_r1_acquisitions_between_each_other_are_not_mixed(clean, b0_heights, tmp_path):
    """The second acquisition lies half a step higher: no position comes twice, but contrast would alternate."""

    def shifted(ds, index):
        ds = brighter(ds, index)
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], float(ds.ImagePositionPatient[2]) + 1.0]
        return ds

    copy_of(clean, tmp_path / "one")
    copy_of(clean, tmp_path / "two", shifted)
    index, volume = read_only(tmp_path)
    assert index.slice_spacing_mm == pytest.approx(2.0)
    assert len({Path(name).parent for name in index.files}) == 1
    assert len(take(tmp_path).series) == 2
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=0.3)


def test_r1_an_acquisition_in_pieces_stays_one_stack(clean, b0_heights, tmp_path):
    """GE numbers each turn of the gantry; pieces that follow each other are one volume."""
    copy_of(clean, tmp_path, lambda ds, index: set_value(ds, "AcquisitionNumber", index // 2 + 1))
    _, volume = read_only(tmp_path)
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


@pytest.mark.parametrize("new_uids", [True, False], ids=["b: other instances", "c: same instances, other names"])
def test_r1_duplicates_are_dropped_and_counted(new_uids, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path / "one")
    renew = (lambda ds, i: set_value(ds, "SOPInstanceUID", generate_uid())) if new_uids else None
    copy_of(clean, tmp_path / "two", renew)
    index, volume = read_only(tmp_path)
    assert index.repairs == (f"duplicates_dropped:{N}",)
    assert volume.repairs == index.repairs
    assert index.n_files == 2 * N
    assert len(take(tmp_path).series) == 1
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


def test_r1_the_whole_one_of_a_slice_and_its_damaged_copy_is_kept(clean, b0_heights, tmp_path):
    files = copy_of(clean, tmp_path)
    (tmp_path / "a_damaged_copy").write_bytes(files[20].read_bytes()[:9000])
    index, volume = read_only(tmp_path)
    assert index.repairs == ("duplicates_dropped:1",)
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


def test_r1_images_that_nothing_tells_apart_are_refused(clean, tmp_path):
    def alike(number):
        def edit(ds, index):
            ds = brighter(ds, index) if number else ds
            ds.InstanceNumber = 2 * index + number  # alternating: the order proves nothing
            return without("AcquisitionNumber")(ds)

        return edit

    copy_of(clean, tmp_path / "one", alike(0))
    copy_of(clean, tmp_path / "two", alike(1))
    (series,) = take(tmp_path).series
    assert series.decision is Reason.AMBIGUOUS_STACK
    assert series.n_files == 2 * N


# -- R5: a scout inside the series --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_type", "rows", "reason"),
    [
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], 96, Reason.LOCALIZER),
        (["ORIGINAL", "PRIMARY", "AXIAL"], 96, Reason.NOT_A_VOLUME),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], 132, Reason.LOCALIZER),
    ],
    ids=["localizer", "says axial", "other rows"],
)
def test_r5_a_scout_is_split_off(image_type, rows, reason, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    picture = np.random.default_rng(1).integers(-200, 800, (rows, 100))
    scout = ct_slice(picture, [0.0, -50.0, 131.0], (1.0, 1.0, 2.0), replace(Study(), uid_salt="scout"), 1)
    scout.ImageOrientationPatient, scout.ImageType = [0, 1, 0, 0, 0, -1], image_type
    save(scout, tmp_path / "a_scout.dcm")
    axial, split_off = sorted(take(tmp_path).series, key=lambda series: -series.n_slices)
    assert (split_off.n_slices, split_off.decision, split_off.orientation) == (1, reason, "sagittal")
    assert (axial.n_slices, axial.decision) == (N, None)
    np.testing.assert_allclose(measured_heights(read_volume(axial, SETTINGS)), b0_heights, atol=1e-9)
