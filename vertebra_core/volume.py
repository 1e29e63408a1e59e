"""A CT volume: voxels in HU and the one affine that says where they lie in the patient."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Shaped

from vertebra_core.geometry import apply_affine

AIR_HU = -1000.0
"""HU of air by definition of the Hounsfield scale; padding outside the scan circle is given this value."""


@dataclass(frozen=True)
class Volume:
    """A CT volume in HU.

    Parameters
    ----------
    hu : array [z, y, x], int16 or float32
        Hounsfield units after rescale; padding is already air. int16 where the rescale keeps integers,
        which halves the memory of a study. Index 0 is the centre of the first voxel.
    patient_from_voxel : array [4, 4], float64
        Affine from (i_x, i_y, i_z) to LPS millimetres (DICOM PS3.3 C.7.6.2.1.1).
    repairs : tuple of str
        What was mended while reading, as codes ("missing_slice_interpolated:1").
    source : str
        Where the volume came from, for messages; never stored in tables.
    filled_slices : tuple of int
        Indices along z of slices that were absent and are the mean of their neighbours (case R3).
    slice_thickness_mm : float or None
        What a slice shows across its plane; it blurs where it is larger than the spacing of the slices.
    """

    hu: Shaped[np.ndarray, "z y x"]
    patient_from_voxel: Float[np.ndarray, "4 4"]
    repairs: tuple[str, ...] = ()
    source: str = field(default="", compare=False)
    filled_slices: tuple[int, ...] = ()
    slice_thickness_mm: float | None = None

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size (x, y, z) along the volume's own axes, mm."""
        return np.linalg.norm(self.patient_from_voxel[:3, :3], axis=0)

    @property
    def head_foot_spacing(self) -> float:
        """What blurs endplates, mm: the voxel size nearest to head-foot, or the thickness of slices that overlap.

        Examples
        --------
        >>> sagittal = np.array([[0.0, 0, 3, 0], [1, 0, 0, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]])
        >>> float(Volume(np.zeros((2, 2, 2), np.int16), sagittal).head_foot_spacing)
        0.8
        """
        direction = self.patient_from_voxel[2, :3] / self.spacing
        axis = int(np.abs(direction).argmax())
        return max(float(self.spacing[axis]), (self.slice_thickness_mm or 0.0) if axis == 2 else 0.0)

    def in_gap(self, points: Float[np.ndarray, "k 6 3"], harmless_mm: float) -> Bool[np.ndarray, "k"]:
        """Whether vertebrae lie where slices are missing, so that their heights would be guessed.

        Parameters
        ----------
        points : array [k, 6, 3]
            LPS mm.
        harmless_mm : float
            Of a gap no wider than this, from slice to slice, only endplates beside it are lost; what touches a wider
            one is lost whole.

        Examples
        --------
        >>> body = np.array([[[0, 0, 10.0], [0, 0, 20.0]] * 3])
        >>> gaps = (15,), (9,), (13, 14, 15, 16), (4, 5, 6, 7)
        >>> scans = [Volume(np.zeros((30, 1, 1)), np.eye(4), filled_slices=gap) for gap in gaps]
        >>> [bool(scan.in_gap(body, 4.0)[0]) for scan in scans]
        [False, True, True, False]
        """
        along = apply_affine(np.linalg.inv(self.patient_from_voxel), np.asarray(points, float))[..., 2]
        lost = np.zeros(len(along), bool)
        if not self.filled_slices or np.abs(self.patient_from_voxel[:3, 2]).argmax() != 2:
            return lost  # slices that stand upright show an endplate on both sides of a gap
        filled = np.array(self.filled_slices)
        for gap in np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1):
            low, high = gap[0] - 1, gap[-1] + 1  # the slices on both sides
            if (high - low) * self.spacing[2] > harmless_mm:
                lost |= (along.max(1) > low - 0.5) & (along.min(1) < high + 0.5)
            else:
                lost |= ((along > low - 0.5) & (along < high + 0.5)).any(1)
        return lost

    @property
    def corners(self) -> np.ndarray:
        """LPS coordinates [8, 3] of the centres of the eight corner voxels, mm."""
        last = np.array(self.hu.shape[::-1], float) - 1
        unit = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1).reshape(8, 3)
        return apply_affine(self.patient_from_voxel, unit * last)
