"""A volume knows its voxel size and its corners, whatever its axes."""

import numpy as np
from numpy.testing import assert_allclose

from vertebra_core.volume import Volume


def oblique() -> Volume:
    angle = np.deg2rad(30.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, -1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 0.8, 2.5])
    affine[:3, 3] = 10.0, 20.0, 30.0
    return Volume(np.zeros((4, 3, 2), np.int16), affine)


def test_spacing_is_along_the_volumes_own_axes():
    assert_allclose(oblique().spacing, [0.7, 0.8, 2.5])


def test_corners_are_the_centres_of_the_corner_voxels():
    volume = oblique()
    ends = [[i, j, k, 1.0] for i in (0, 1) for j in (0, 2) for k in (0, 3)]
    expected = {tuple(np.round((volume.patient_from_voxel @ end)[:3], 9)) for end in ends}
    assert {tuple(corner) for corner in np.round(volume.corners, 9)} == expected
    assert len(expected) == 8


def test_where_a_volume_came_from_is_no_part_of_what_it_is():
    volume = oblique()
    same = Volume(volume.hu, volume.patient_from_voxel, source="elsewhere")
    assert volume == same
