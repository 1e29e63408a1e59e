"""Enhanced and legacy-converted CT: frames in any order, several stacks, phases and kinds in one file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import save
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, JPEGLSLossless, LegacyConvertedEnhancedCTImageStorage
from reading_cases import SETTINGS, SMALL

from vertebra_core.errors import Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series

DERIVED = ("DERIVED", "PRIMARY", "VOLUME")
Groups = dict[str, Dataset]
N = SMALL.shape[0]
Z = SMALL.axes()[2]
AFFINE = np.diag([2.0, 2, 2, 1]) + [[0, 0, 0, o] for o in (-49, -47, -39, 0)]


def item(**values) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def place(index: int, z: np.ndarray = Z) -> Groups:
    return {"PlanePositionSequence": item(ImagePositionPatient=[-49, -47, float(z[index])])}


def enhanced(folder: Path, small: Path, frames: Sequence[tuple[np.ndarray, Groups]], **shared: Dataset) -> Path:
    """One Enhanced CT file: the HU of each frame, and the functional groups of its own."""
    ds = dcmread(small / "slice_0000.dcm")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(ds, keyword)
    del ds.RescaleIntercept
    ds.NumberOfFrames = len(frames)
    ds.PixelData = (np.stack([hu for hu, _ in frames]).astype(int) + 1024).astype("<u2").tobytes()
    common = {
        "PlaneOrientationSequence": item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        "PixelMeasuresSequence": item(PixelSpacing=[2, 2], SliceThickness=2),
        "PixelValueTransformationSequence": item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU"),
        **shared,
    }
    ds.SharedFunctionalGroupsSequence = [item(**{name: [group] for name, group in common.items()})]
    ds.PerFrameFunctionalGroupsSequence = [item(**{name: [group] for name, group in own.items()}) for _, own in frames]
    return save(ds, folder / "enhanced.dcm")


def ends(folder: Path) -> list[tuple[int, Reason | None]]:
    rows = choose_index_series(find_series([folder], SETTINGS).series)
    assert sum(row.n_files for row in rows) == 1
    return sorted(((row.n_slices, row.decision) for row in rows), key=lambda end: (end[0], end[1] is not None))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("sop_class", [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage])
def test_frames_are_sorted_by_position(compressed, sop_class, small, tmp_path, small_hu):
    order = np.random.default_rng(3).permutation(N)
    path = enhanced(tmp_path, small, [(small_hu[i], place(i)) for i in order])
    ds = dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    if compressed:
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
    save(ds, path)
    (series,) = find_series([tmp_path], SETTINGS).series
    assert (series.decision, series.n_slices, series.n_files) == (None, N, 1)
    volume = read_volume(series, SETTINGS)
    assert (volume.hu == small_hu).all()
    np.testing.assert_allclose(volume.patient_from_voxel, AFFINE)


TOLD_APART: dict[str, Callable[[int], Groups]] = {
    "temporal position": lambda phase: {"FrameContentSequence": item(TemporalPositionIndex=phase + 1)},
    "stack": lambda phase: {"FrameContentSequence": item(StackID=f"{phase + 1}")},
    "acquisition": lambda phase: {"FrameContentSequence": item(FrameAcquisitionNumber=phase + 1)},
    "time": lambda phase: {"FrameContentSequence": item(FrameAcquisitionDateTime=f"2020022910{phase}000")},
    "cardiac phase": lambda phase: {"CardiacSynchronizationSequence": item(NominalPercentageOfCardiacPhase=40 * phase)},
    "kernel": lambda phase: {"CTReconstructionSequence": item(ConvolutionKernel=("Br40d", "Br69d")[phase])},
}


@pytest.mark.parametrize("attribute", TOLD_APART)
def test_two_phases_in_one_file_are_two_stacks(attribute, small, tmp_path, small_hu):
    frames = [
        (small_hu[i] + 200 * phase, place(i) | TOLD_APART[attribute](phase)) for i in range(N) for phase in (0, 1)
    ]
    frames = [frames[i] for i in np.random.default_rng(1).permutation(2 * N)]
    enhanced(tmp_path, small, frames)
    assert ends(tmp_path) == [(N, None), (N, Reason.OTHER_STACK)]
    (chosen,) = [row for row in choose_index_series(find_series([tmp_path], SETTINGS).series) if row.decision is None]
    volume = read_volume(chosen, SETTINGS)
    offset = int((volume.hu.astype(int) - small_hu)[20, 20, 20])
    assert offset in (0, 200)
    assert (volume.hu.astype(int) == small_hu.astype(int) + offset).all()


def test_a_scout_stack_beside_the_axial_one_is_split_off(small, tmp_path, small_hu):
    scout = {
        "PlanePositionSequence": item(ImagePositionPatient=[0, -47, 39]),
        "PlaneOrientationSequence": item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        "CTImageFrameTypeSequence": item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]),
    }
    enhanced(tmp_path, small, [(small_hu[0], scout), *((small_hu[i], place(i)) for i in range(N))])
    assert ends(tmp_path) == [(1, Reason.LOCALIZER), (N, None)]


@pytest.mark.parametrize(
    ("shared", "reason"),
    [
        ({"CTImageFrameTypeSequence": item(FrameType=[*DERIVED, "MAXIMUM"])}, Reason.PROJECTION),
        (
            {"CTImageFrameTypeSequence": item(FrameType=[*DERIVED, "QUANTITY"])},
            Reason.DERIVED_MAP,
        ),
        ({"CTImageFrameTypeSequence": item(VolumeBasedCalculationTechnique="MIN_IP")}, Reason.PROJECTION),
        (
            {"PixelValueTransformationSequence": item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="MGML")},
            Reason.NOT_HOUNSFIELD,
        ),
    ],
    ids=["MIP", "map", "MinIP", "mg/ml"],
)
def test_what_the_frames_say_of_themselves_counts(shared, reason, small, tmp_path, small_hu):
    enhanced(tmp_path, small, [(small_hu[i], place(i)) for i in range(N)], **shared)
    assert ends(tmp_path) == [(N, reason)]
