"""A CT volume: voxels in HU and the one affine that says where they lie in the patient."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped

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

    @property
    def corners(self) -> np.ndarray:
        """LPS coordinates [8, 3] of the centres of the eight corner voxels, mm."""
        last = np.array(self.hu.shape[::-1], float) - 1
        unit = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1).reshape(8, 3)
        return apply_affine(self.patient_from_voxel, unit * last)
