"""Cases R3, R7 and R14: a fault in the positions of slices changes no height, or is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from dicom_cases import (
    AXIAL,
    WEDGE,
    Grid,
    Study,
    b0_hu,
    ct_slice,
    genant_index,
    measured_heights,
    save,
    set_pixels,
    true_points,
    write_b0,
)
from reading_cases import MIDDLE, SETTINGS, SHOWN, N, copy_of, read_only, set_value, take, without

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.settings import MeasureSettings
from vertebra_core.straighten import sample_volume
from vertebra_core.volume import Volume


def test_b0_as_dicom_has_the_heights_it_was_made_with(b0_heights, tmp_path):
    write_b0(tmp_path)
    _, whole = read_only(tmp_path)
    heights = measured_heights(whole)
    assert genant_index(heights)[WEDGE] == pytest.approx(18.6 / 23.4, abs=0.01)
    np.testing.assert_allclose(np.delete(heights, WEDGE, axis=0), 24.0, atol=0.05)
    np.testing.assert_allclose(b0_heights[SHOWN], heights[SHOWN], atol=0.03)  # the noise differs
    assert np.isnan(np.delete(b0_heights, SHOWN, axis=0)).all()


# -- R3: a slice is missing ---------------------------------------------------------------------------------------

WEDGE_SLICE = 25  # z = -15 mm, the middle of the wedge


@pytest.mark.parametrize(
    "gone", [WEDGE_SLICE, WEDGE_SLICE - 5, 1, N - 2], ids=["wedge", "its plate", "second", "last but one"]
)
def test_r3_a_missing_slice_is_interpolated_and_recorded(gone, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    (tmp_path / f"slice_{gone:04d}.dcm").unlink()
    _, volume = read_only(tmp_path)
    assert volume.repairs == ("missing_slice_interpolated:1",)
    assert volume.filled_slices == (gone,)
    assert volume.spacing[2] == pytest.approx(2.0)
    heights = measured_heights(volume)
    others = [i for i in SHOWN if i != WEDGE]
    np.testing.assert_allclose(genant_index(heights)[others], genant_index(b0_heights)[others], atol=1e-3)
    if gone != WEDGE_SLICE - 5:
        assert genant_index(heights)[WEDGE] == pytest.approx(genant_index(b0_heights)[WEDGE], abs=1e-3)


@pytest.mark.parametrize("gone", [0, N - 1], ids=["first", "last"])
def test_r3_the_first_or_last_slice_missing_is_no_fault(gone, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    (tmp_path / f"slice_{gone:04d}.dcm").unlink()
    _, volume = read_only(tmp_path)
    assert volume.repairs == ()
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-9)


@pytest.mark.parametrize(
    ("gone", "lost"),
    [((24, 25), [WEDGE]), ((10, 25, 40), []), ((3, 26, 27, 28), [WEDGE]), ((30, 31, 47), [WEDGE])],
    ids=["two in a row", "three single ones", "three in a row", "a disc and a plate"],
)
def test_r3_small_gaps_are_filled_and_only_the_vertebrae_in_them_are_lost(gone, lost, clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    for index in gone:
        (tmp_path / f"slice_{index:04d}.dcm").unlink()
    _, volume = read_only(tmp_path)
    assert volume.repairs == (f"missing_slice_interpolated:{len(gone)}",)
    assert volume.filled_slices == tuple(gone)
    marked = np.flatnonzero(volume.in_gap(true_points(), MeasureSettings().harmless_gap_mm)).tolist()
    assert set(lost) <= set(marked)
    sound = [i for i in SHOWN if i not in marked]
    assert sound
    np.testing.assert_allclose(measured_heights(volume)[sound], b0_heights[sound], atol=1e-3)


def test_r3_beside_a_hole_the_longer_range_is_measured(clean, b0_heights, tmp_path):
    copy_of(clean, tmp_path)
    for index in range(10, 20):
        (tmp_path / f"slice_{index:04d}.dcm").unlink()
    rows = sorted(take(tmp_path).series, key=lambda series: series.n_slices)
    assert [(series.n_slices, series.decision) for series in rows] == [(10, Reason.TOO_FEW_SLICES), (31, None)]
    volume = read_volume(rows[1], SETTINGS)
    assert volume.repairs == ("parted_where_spacing_changes:2",)
    heights = measured_heights(volume)
    np.testing.assert_allclose(heights[WEDGE - 1], b0_heights[WEDGE - 1], atol=1e-3)
    assert np.isnan(heights[WEDGE + 1]).all()


def test_r3_more_than_may_be_filled_is_refused(clean, tmp_path):
    copy_of(clean, tmp_path)
    for index in range(3, N - 2, 4):
        (tmp_path / f"slice_{index:04d}.dcm").unlink()
    (series,) = take(tmp_path).series
    assert series.decision is Reason.MISSING_SLICES
    with pytest.raises(NotEvaluable) as refusal:
        read_volume(replace(series, decision=None), SETTINGS)
    assert refusal.value.reason is Reason.MISSING_SLICES


def test_r3_a_blank_slice_inside_counts_as_missing(clean, b0_heights, tmp_path):
    def blank(ds, index):
        return set_pixels(ds, np.zeros((ds.Rows, ds.Columns)), signed=False) or ds if index == WEDGE_SLICE else ds

    copy_of(clean, tmp_path, blank)
    _, volume = read_only(tmp_path)
    assert volume.repairs == ("blank_slice_interpolated:1",)
    np.testing.assert_allclose(genant_index(measured_heights(volume)), genant_index(b0_heights), atol=1e-3)


def test_r3_two_ranges_of_different_spacing_are_two_stacks(tmp_path):
    """The lower part every 2 mm, the upper every 3 mm, as a protocol for chest and abdomen sends it."""
    lower = Grid((45, 96, 100), (1.0, 1.0, 2.0), (-49.5, -47.5, -65.0))
    upper = Grid((15, 96, 100), (1.0, 1.0, 3.0), (-49.5, -47.5, 26.0))
    write_b0(tmp_path / "lower", grid=lower)
    write_b0(tmp_path / "upper", grid=upper, study=replace(Study(), first_instance=100))
    index, volume = read_only(tmp_path)
    assert (index.n_slices, index.slice_spacing_mm) == (45, pytest.approx(2.0))
    assert volume.repairs == ("parted_where_spacing_changes:2",)
    assert sorted(series.n_slices for series in take(tmp_path).series) == [15, 45]
    alone = Volume(b0_hu(lower), read_grid(lower))
    np.testing.assert_allclose(measured_heights(volume), measured_heights(alone), atol=1e-9)


def test_r3_steps_that_change_all_along_are_refused(clean, tmp_path):
    def uneven(ds, index):
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], 2.0 * index + (0.7 if index % 3 else 0.0)]
        return ds

    copy_of(clean, tmp_path, uneven)
    (series,) = take(tmp_path).series
    assert series.decision is Reason.UNEVEN_SPACING


# -- R7: order and orientation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", ["absent", "reversed", "shuffled"])
def test_r7_instance_numbers_and_names_do_not_matter(numbers, clean, b0, tmp_path):
    shuffled = np.random.default_rng(7).permutation(N)

    def edit(ds, index):
        if numbers == "absent":
            return without("InstanceNumber")(ds)
        return set_value(ds, "InstanceNumber", int(N - index if numbers == "reversed" else shuffled[index]))

    for index, path in enumerate(copy_of(clean, tmp_path, edit)):
        path.rename(tmp_path / f"{shuffled[index]:x}_{index * 7919 % 131:04d}")
    _, volume = read_only(tmp_path)
    assert (volume.hu == b0.hu).all()
    np.testing.assert_allclose(volume.patient_from_voxel, b0.patient_from_voxel, atol=1e-9)
    assert volume.repairs == ()


@pytest.mark.parametrize(
    "orientation",
    [(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)],
    ids=["prone", "feet first", "feet first prone"],
)
def test_r7_the_patient_is_the_same_in_every_orientation(orientation, b0, b0_heights, tmp_path):
    write_b0(tmp_path, grid=MIDDLE, study=replace(Study(), orientation=orientation))
    _, volume = read_only(tmp_path)
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-6)
    same = sorted(map(tuple, np.round(volume.corners, 6).tolist()))
    assert same == sorted(map(tuple, np.round(b0.corners, 6).tolist()))
    assert np.linalg.det(volume.patient_from_voxel[:3, :3]) > 0


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_r7_other_planes_that_form_a_volume_are_read(plane, b0_heights, tmp_path):
    hu, (x, y, z) = b0_hu(MIDDLE), MIDDLE.axes()
    down = replace(Study(), orientation=(0, 1, 0, 0, 0, -1) if plane == "sagittal" else (1, 0, 0, 0, 0, -1))
    for index in range(len(x) if plane == "sagittal" else len(y)):
        pixels = hu[::-1, :, index] if plane == "sagittal" else hu[::-1, index]
        position = [x[index], y[0], z[-1]] if plane == "sagittal" else [x[0], y[index], z[-1]]
        # Rows are 2 mm apart, columns 1 mm: swapped spacings would show at once.
        ds = ct_slice(pixels, list(map(float, position)), (1.0, 2.0, 1.0), down, index + 1)
        save(ds, tmp_path / f"{index}.dcm")
    series, volume = read_only(tmp_path)
    assert series.orientation == plane
    np.testing.assert_allclose(measured_heights(volume), b0_heights, atol=1e-6)


@pytest.mark.parametrize("says", [None, -11.0], ids=["no tag", "another tilt in the tag"])
@pytest.mark.parametrize("degrees", [8.0, 25.0])
def test_r7_a_tilted_gantry_is_kept_as_it_lies(degrees, says, tmp_path):
    """Each slice is tilted about x; the table still moves along z: the affine is sheared, the heights are not."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    tilted = replace(Study(), orientation=(1, 0, 0, 0, float(cosine), float(-sine)))
    grid = Grid((90, 96, 100), (1.0, 1.0, 1.6), (-49.5, -47.5, -86.0))
    volume = Volume(b0_hu(), read_grid(Grid()))
    x, y, z = grid.axes()
    for index, height in enumerate(z):
        points = np.stack(np.broadcast_arrays(x[None], (y * cosine)[:, None], (height - y * sine)[:, None]), -1)
        hu = np.nan_to_num(sample_volume(volume, points), nan=-1000)
        position = [x[0], float(y[0] * cosine), float(height - y[0] * sine)]
        ds = ct_slice(hu, position, grid.spacing, tilted, index + 1)
        if says is not None:
            ds.GantryDetectorTilt = says
        save(ds, tmp_path / f"{index}.dcm")
    _, read = read_only(tmp_path)
    assert read.repairs == (f"gantry_tilt_degrees:{degrees:.1f}",)
    np.testing.assert_allclose(measured_heights(read)[SHOWN], measured_heights(volume)[SHOWN], atol=0.35)


@pytest.mark.parametrize("follows", ["the table", "the normal"])
def test_r7_slices_swivelled_to_the_side_show_the_same_heights(follows, tmp_path):
    """Turned by 12 degrees about the y axis: sheared where the table moves along z, else an oblique acquisition."""
    cosine, sine = np.cos(np.radians(12)), np.sin(np.radians(12))
    row, normal = np.array([cosine, 0, -sine]), np.array([sine, 0, cosine])
    step = np.array([0.0, 0, 1]) if follows == "the table" else normal
    study = replace(Study(), orientation=(*row.tolist(), 0.0, 1.0, 0.0))
    volume = Volume(b0_hu(), read_grid(Grid()))
    x, y = np.arange(100) - 49.5, np.arange(96) - 47.5
    for index, z in enumerate(np.arange(-80.0, 80.0, 2.0)):
        points = step * z + x[None, :, None] * row + y[:, None, None] * np.array([0.0, 1, 0])
        hu = np.nan_to_num(sample_volume(volume, points), nan=-1000)
        save(ct_slice(hu, list(points[0, 0]), (1.0, 1.0, 2.0), study, index + 1), tmp_path / f"{index}.dcm")
    _, read = read_only(tmp_path)
    assert read.repairs == (("gantry_tilt_degrees:12.0",) if follows == "the table" else ())
    np.testing.assert_allclose(measured_heights(read)[SHOWN], measured_heights(volume)[SHOWN], atol=0.35)


def test_r7_a_shear_that_the_positions_show_is_followed(clean, b0_heights, tmp_path):
    """Axial slices whose positions drift sideways by 10 degrees: heights along z are those of the positions."""

    def drifting(ds, index):
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x + 2.0 * index * np.tan(np.radians(10)), y, z]
        return ds

    copy_of(clean, tmp_path, drifting)
    _, volume = read_only(tmp_path)
    assert volume.repairs == ("gantry_tilt_degrees:10.0",)
    assert volume.patient_from_voxel[2, 2] == pytest.approx(2.0)


@pytest.mark.parametrize("spacing", [(1.0, 0.5), (0.7, 1.4)])
def test_r7_pixels_need_not_be_square(spacing, clean, tmp_path):
    copy_of(clean, tmp_path, lambda ds, index: set_value(ds, "PixelSpacing", list(spacing)))
    _, volume = read_only(tmp_path)
    np.testing.assert_allclose(volume.spacing, (spacing[1], spacing[0], 2.0))


def read_grid(grid: Grid) -> np.ndarray:
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = grid.origin
    return affine


def test_r7_a_tilt_beyond_any_gantry_is_refused(clean, tmp_path):
    def sheared(ds, index):
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 2.0 * index, z]
        return ds

    copy_of(clean, tmp_path, sheared)
    (series,) = take(tmp_path).series
    assert series.decision is Reason.GANTRY_TILT


# -- R14: noise in positions is not a gap -------------------------------------------------------------------------


FINE = Grid((110, 24, 25), (4.0, 4.0, 0.3), (-48.0, -46.0, -30.0))


def place(positions, orientation=AXIAL):
    def edit(ds, index):
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], positions(index)]
        ds.ImageOrientationPatient = list(orientation)
        return ds

    return edit


@pytest.mark.parametrize(
    ("positions", "step"),
    [
        (lambda i: round(0.3 * i + 0.004, 2), 0.3),
        (lambda i: round(0.295 * i, 2), 0.295),
        (lambda i: float(np.float32(-1234.567 + 0.625 * i)), 0.625),
        (lambda i: 5.0 * i + 0.01 * (i % 2), 5.0),
        (lambda i: 2.0 * i + 2.8e-15 * i, 2.0),
    ],
    ids=["0.3 mm in 2 decimals", "0.29/0.30 mm", "float32", "4.99/5.01", "2.8e-15"],
)
@pytest.mark.filterwarnings("error")
def test_r14_rounded_positions_are_no_gap(positions, step, tmp_path, capfd):
    write_b0(tmp_path, grid=FINE, edit=place(positions, (0.9999997, 3e-7, 0, -3e-7, 0.9999997, 3e-7)))
    series, volume = read_only(tmp_path)
    assert series.repairs == volume.repairs == ()
    assert volume.filled_slices == ()
    assert volume.spacing[2] == pytest.approx(step, rel=2e-3)
    assert capfd.readouterr() == ("", "")


def test_b0_on_the_coarse_grid_is_measured_rightly(tmp_path):
    """The oracle of these tests is no blind one: a step that is off by 2 % shows in every height."""
    grid = Grid()
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = grid.origin
    right = measured_heights(Volume(b0_hu(), affine))
    affine[2, 2] *= 1.02
    wrong = measured_heights(Volume(b0_hu(), affine))
    assert np.nanmax(np.abs(wrong - right)) > 0.2
