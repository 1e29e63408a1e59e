"""The grid of a stack follows from its slice positions, whatever the orientation, order, tilt or rounding."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.geometry import apply_affine
from vertebra_core.reading.attributes import StudyAttributes
from vertebra_core.reading.files import ArchiveFile
from vertebra_core.reading.grid import slice_grid
from vertebra_core.reading.headers import IN_ORDER, TELL_APART, SliceHeader
from vertebra_core.reading.stacks import split_stacks
from vertebra_core.settings import ReadingSettings

SETTINGS = ReadingSettings()
STUDY = StudyAttributes(
    patient_id="", patient_id_issuer="", study_uid="1", series_uid="1.1", series_uid_in_header=True, modality="CT",
    sop_class_uid="", transfer_syntax_uid="", image_type=("ORIGINAL", "PRIMARY", "AXIAL"), manufacturer=None,
    scanner_model=None, kernel=None, contrast=None, rows=512, columns=512, frames=1, samples_per_pixel=1,
    bits_allocated=16, bits_stored=16, rescale_type="HU", age_years=None, sex=None, study_date=None,
)  # fmt: skip


def header(position, orientation=(1, 0, 0, 0, 1, 0), name="x", acquisition="1", spacing=(0.7, 0.8)) -> SliceHeader:
    return SliceHeader(
        file=ArchiveFile("/archive", name, 1, ""),
        frame=None,
        study=STUDY,
        sop_instance_uid=name,
        position=tuple(map(float, position)),
        orientation=tuple(map(float, orientation)),
        pixel_spacing=spacing,
        slice_thickness=None,
        rescale=(1.0, -1024.0),
        tell_apart=(acquisition, *[""] * (len(TELL_APART) - 1)),
        in_order=("",) * len(IN_ORDER),
        instance_number=None,
        complete=True,
    )


@st.composite
def stacks(draw):
    """Row and column directions, a step (perhaps tilted against the normal), an origin and a number of slices."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    row, column = q[:, 0], q[:, 1]
    normal = np.cross(row, column)
    tilt = np.radians(draw(st.floats(0.0, 28.0)))
    step = draw(st.floats(0.5, 5.0)) * (np.cos(tilt) * normal + np.sin(tilt) * (row if rng.random() < 0.5 else column))
    n = draw(st.integers(int(40 / np.linalg.norm(step)) + 9, 150))
    origin = rng.uniform(-500, 500, 3)
    return row, column, step, origin, n, rng


@given(stacks())
@settings(max_examples=25, deadline=None)
def test_every_slice_lies_where_the_affine_says(stack):
    row, column, step, origin, n, rng = stack
    order = rng.permutation(n)
    headers = [header(origin + k * step, (*row, *column)) for k in order]
    grid = slice_grid(headers, SETTINGS)
    assert np.linalg.det(grid.patient_from_voxel[:3, :3]) > 0
    assert not grid.missing
    placed = apply_affine(grid.patient_from_voxel, np.array([[0.0, 0.0, i] for i in grid.index]))
    given_positions = np.array([headers[i].position for i in grid.order])
    np.testing.assert_allclose(placed, given_positions, atol=1e-8)
    # The second index runs along a column, the first along a row: rows are 0.7 mm apart, columns 0.8 mm.
    corner = apply_affine(grid.patient_from_voxel, np.array([3.0, 5.0, 0.0]))
    np.testing.assert_allclose(corner, placed[0] + 3 * 0.8 * row + 5 * 0.7 * column, atol=1e-8)


@given(stacks(), st.sampled_from([2, 3, 4]))
@settings(max_examples=25, deadline=None)
def test_rounding_of_positions_moves_no_slice_further_than_the_rounding(stack, decimals):
    row, column, step, origin, n, _ = stack
    headers = [header(np.round(origin + k * step, decimals), (*row, *column)) for k in range(n)]
    grid = slice_grid(headers, SETTINGS)
    fitted = apply_affine(grid.patient_from_voxel, np.array([[0.0, 0.0, i] for i in range(n)]))
    true = origin + np.arange(n)[:, None] * step
    assert np.abs(fitted - true).max() <= 10.0**-decimals
    assert not grid.missing


@given(stacks(), st.data())
@settings(max_examples=25, deadline=None)
def test_one_missing_slice_leaves_the_affine_as_it_was(stack, data):
    row, column, step, origin, n, _ = stack
    gone = data.draw(st.integers(1, n - 2))
    headers = [header(origin + k * step, (*row, *column)) for k in range(n)]
    whole = slice_grid(headers, SETTINGS)
    holed = slice_grid(headers[:gone] + headers[gone + 1 :], SETTINGS)
    np.testing.assert_allclose(holed.patient_from_voxel, whole.patient_from_voxel, atol=1e-8)
    assert holed.missing == (gone,)
    assert holed.n_slices == n


@given(stacks(), st.floats(0.15, 0.85), st.data())
@settings(max_examples=25, deadline=None)
def test_a_slice_out_of_place_is_refused(stack, fraction, data):
    row, column, step, origin, n, _ = stack
    wrong = data.draw(st.integers(1, n - 2))
    headers = [header(origin + (k + fraction * (k == wrong)) * step, (*row, *column)) for k in range(n)]
    with pytest.raises(NotEvaluable) as refusal:
        slice_grid(headers, SETTINGS)
    assert refusal.value.reason is Reason.UNEVEN_SPACING


@given(stacks(), st.floats(31.0, 80.0))
@settings(max_examples=20, deadline=None)
def test_a_tilt_beyond_the_limit_is_refused(stack, degrees):
    row, column, step, origin, n, _ = stack
    normal, angle = np.cross(row, column), np.radians(degrees)
    # 2 mm from slice to slice along the normal, whatever the shear.
    sheared = 2.0 * (normal + np.tan(angle) * row)
    assume(np.linalg.norm(step) > 0)
    headers = [header(origin + k * sheared, (*row, *column)) for k in range(n)]
    with pytest.raises(NotEvaluable) as refusal:
        slice_grid(headers, SETTINGS)
    assert refusal.value.reason is Reason.GANTRY_TILT


@given(stacks(), st.integers(2, 4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_acquisitions_are_parted_and_nothing_is_lost(stack, acquisitions, in_pieces):
    """Acquisitions at the same places are parted; acquisitions one above the other stay one stack."""
    row, column, step, origin, n, rng = stack
    headers = []
    for a in range(acquisitions):
        for k in range(n):
            place = k + (a * n if in_pieces else 0)
            headers.append(header(origin + place * step, (*row, *column), f"{a}-{k}", str(a + 1)))
    rng.shuffle(headers)
    found = split_stacks(headers, ReadingSettings())
    assert len(found) == (1 if in_pieces else acquisitions)
    assert sorted(one.file.path for stack in found for one in stack.slices) == sorted(one.file.path for one in headers)
    for stack in found:
        assert not stack.collides
        assert in_pieces or len({one.tell_apart for one in stack.slices}) == 1


@pytest.mark.timeout(20)
def test_many_images_are_parted_in_no_time():
    """Grouping is not quadratic: each of ten thousand acquisitions of two images costs the same."""
    n_images = 20_000
    headers = [header((0, 0, k), name=f"{k:06d}", acquisition=str(k // 2)) for k in range(n_images)]
    (stack,) = split_stacks(headers, ReadingSettings())
    assert [one.position[2] for one in stack.slices] == list(range(n_images))
