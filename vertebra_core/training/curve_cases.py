"""What the first network learns from: annotated CTs and phantoms on a fine grid, each with its line and its status."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Int16, UInt8

from vertebra_core.curve.grid import patient_grid
from vertebra_core.geometry import CentreLine, apply_affine
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.training.prepared import keep, prepared_scans
from vertebra_core.training.spines import true_line
from vertebra_core.truth import Truth
from vertebra_core.volume import AIR_HU, Volume

SOURCE_MM = 2.0
"""Grid of the stored CTs: finer than the network's 3 mm, so that turning and scaling them blurs little."""
LINE_STEP_MM = 2.0
"""Distance of the points of a true line."""
BEYOND_MM = 600.0
"""A line is prolonged straight this far, so that every slice of the scan has a place on it."""
NATURAL_END_MM = 10.0
"""What lies this close beyond C3 or L5 is not judged: the network may take it for spine or not."""
CUT_END_MM = 8.0
"""The same inside an end, and where the image ends: about half a vertebral body."""
PRESENT, ABSENT, UNKNOWN = 1, 0, -1
LABELLED = ("lidc_idri_0001",)
"""Cases whose label map has the classes that `vertebra_core.training.curve_appearance` paints."""
PHANTOM_Y_MM, PHANTOM_X_MM = (-270.0, 130.0), (-210.0, 210.0)
"""A trunk and its table round the phantom's origin in T8."""


@dataclass(frozen=True)
class CurveCase:
    """One annotated CT.

    Parameters
    ----------
    name : str
    hu : array [z, y, x], int16
        Patient-aligned (LPS, all indices ascending), cubes of `SOURCE_MM`.
    origin : array [3]
        LPS of voxel [0, 0, 0], mm.
    line : array [n, 3]
        Points of the true line from the top downward, LPS mm, prolonged straight at both ends.
    status : array [n], int16
        PRESENT, ABSENT or UNKNOWN: whether the axial slice through this point shows a body from C3 to L5.
    structures : array [z, y, x], uint8
        Labels of organs, vessels and bones (TotalSegmentator's classes); all zero where there are none.
    """

    name: str
    hu: Int16[np.ndarray, "z y x"]
    origin: Float[np.ndarray, "3"]
    line: Float[np.ndarray, "n 3"]
    status: Int16[np.ndarray, "n"]
    structures: UInt8[np.ndarray, "z y x"]


def labelled_line(truth: Truth, whole_spine: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Points of the true line and what the annotation says of the slices through them.

    Annotations list every vertebra between their first and last. Above a whole C3 and below a whole L5 no vertebra
    follows that is looked for; beyond any other first or last vertebra nothing is known, unless ``whole_spine`` says
    that all are listed, as a phantom's are.
    """
    line: CentreLine = true_line(truth.points, 40.0)
    middles = truth.points[:, 2:4].reshape(-1, 3)
    ends = line.straight_from_patient(middles[[0, -1]])[:, 2]
    s = np.arange(-BEYOND_MM, line.length + BEYOND_MM, LINE_STEP_MM)
    status = np.where((s >= ends[0]) & (s <= ends[1]), PRESENT, UNKNOWN).astype(np.int16)
    if whole_spine or (truth.levels[0] == "C3" and truth.complete[0]):
        status[np.abs(s - ends[0]) < CUT_END_MM / 2] = UNKNOWN
        status[s < ends[0] - NATURAL_END_MM] = ABSENT
    if whole_spine or (truth.levels[-1] == "L5" and truth.complete[-1]):
        status[np.abs(s - ends[1]) < CUT_END_MM / 2] = UNKNOWN
        status[s > ends[1] + NATURAL_END_MM] = ABSENT
    return line.position(s), status


def prepare_case(name: str, volume: Volume, truth: Truth, structures: Volume | None = None) -> CurveCase:
    """Bring an annotated CT, and its label map where there is one, to the grid of the training data."""
    grid = patient_grid(volume, SOURCE_MM)
    line, status = labelled_line(truth)
    hu = np.clip(np.rint(grid.hu), AIR_HU, 3000).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8) if structures is None else nearest_labels(structures, grid.origin, hu.shape)
    return CurveCase(name, hu, grid.origin, line, status, labels)


def nearest_labels(structures: Volume, origin: np.ndarray, shape: tuple[int, ...]) -> UInt8[np.ndarray, "z y x"]:
    """Labels of the nearest voxel at every point of the patient-aligned grid; 0 outside the label map."""
    z, y, x = (origin[2 - axis] + SOURCE_MM * np.arange(n) for axis, n in enumerate(shape))
    points = np.stack(np.broadcast_arrays(x[None, None], y[None, :, None], z[:, None, None]), -1)
    index = np.rint(apply_affine(np.linalg.inv(structures.patient_from_voxel), points)).astype(int)[..., ::-1]
    inside = ((index >= 0) & (index < structures.hu.shape)).all(-1)
    index[~inside] = 0
    return np.where(inside, structures.hu[tuple(np.moveaxis(index, -1, 0))], 0).astype(np.uint8)


def load_case(path: Path) -> CurveCase:
    """Read a case back."""
    with np.load(path) as stored:
        values = {name: stored[name] for name in stored.files}
    return CurveCase(**{**values, "name": str(values["name"])})


def read_label_map(path: Path) -> Volume:
    """A label map (NIfTI, NRRD, MHA) in the frame of its CT; labels instead of HU."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), affine)


def real_cases(
    images: Path | None, annotations: Path | None, work: Path, leave_out: Sequence[str], say: Callable[[str], None]
) -> list[CurveCase]:
    """All annotated CTs but those of ``leave_out``; brought to the grid once and kept in ``work``.

    A label map ``labels/NAME_structures.nii.gz`` below ``images`` with TotalSegmentator's classes is used where
    there is one: its organs and vessels are given random contrast.
    """

    def prepare(name: str, volume: Volume, truth: Truth) -> CurveCase:
        """On the grid, with its label map where it has one."""
        labels = Path(images or "") / "labels" / f"{name}_structures.nii.gz"
        structures = read_label_map(labels) if labels.exists() and name in LABELLED else None
        return prepare_case(name, volume, truth, structures)

    return prepared_scans(images, annotations, work / "curve_cases", leave_out, prepare, load_case, say)


def phantom_case(name: str, rng: np.random.Generator) -> CurveCase:
    """A random phantom from head or neck to pelvis or thighs; every one of its vertebrae is known."""
    patient = random_patient(rng)
    heights = patient.truth.points[..., 2]
    z = np.arange(heights.min() - rng.uniform(20, 330), heights.max() + rng.uniform(10, 240), SOURCE_MM)
    y, x = (np.arange(low, high, SOURCE_MM) for low, high in (PHANTOM_Y_MM, PHANTOM_X_MM))
    plane = np.stack(np.broadcast_arrays(x[None], y[:, None], 0.0), -1)
    hu = np.stack([patient.hu(plane + np.array([0.0, 0.0, height]), SOURCE_MM / 2) for height in z])
    line, status = labelled_line(patient.truth, whole_spine=True)
    hu = np.clip(np.rint(hu), AIR_HU, 3000).astype(np.int16)
    return CurveCase(name, hu, np.array([x[0], y[0], z[0]]), line, status, np.zeros(hu.shape, np.uint8))


def phantom_cases(count: int, seed: int, work: Path, say: Callable[[str], None]) -> Iterator[CurveCase]:
    """Phantoms, kept in ``work``; phantom i of a seed is always the same."""
    cache = work / "curve_phantoms"
    cache.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = cache / f"{seed}-{i}.npz"
        if not path.exists():
            say(f"phantom {i + 1} of {count}")
            keep(path, phantom_case(f"phantom-{i}", np.random.default_rng([seed, 2000, i])))
        yield load_case(path)
