"""Every real CT at hand is read as SimpleITK reads it: HU voxel for voxel, geometry to 1e-4 mm."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.geometry import apply_affine
from vertebra_core.reading.formats import read_volume, series_headers
from vertebra_core.reading.grid import slice_grid
from vertebra_core.reading.inventory import Inventory, find_series
from vertebra_core.reading.pixels import decode_slices
from vertebra_core.reading.select import choose_index_series
from vertebra_core.reading.series import Series
from vertebra_core.settings import ReadingSettings
from vertebra_core.volume import AIR_HU, Volume

SHARED = Path(__file__).parents[3] / "shared" / "real_ct"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real CTs (../shared/real_ct) are absent")
SETTINGS = ReadingSettings()

GOOD = {
    "acrin_nsclc_042": (135, 512, 512),
    "cptac_luad_c3n_00704": (226, 512, 512),
    "lctsc_test_s1_104": (131, 256, 256),
    "lidc_idri_0001": (133, 512, 512),
    "lidc_idri_0002": (261, 288, 288),
    "lidc_idri_0314": (275, 512, 512),
    "rider_lung_1129164940": (236, 336, 336),
    "sts_037_crop": (75, 203, 252),
    "totalseg_aorta_crop": (164, 126, 120),
    "verse012": (252, 194, 35),
    "verse014": (40, 186, 186),
    "acrin_flt_breast_001": (99, 512, 512),
    "crlm_ct_1006": (51, 512, 512),
    "cptac_pda_c3l_00189": (35, 512, 512),
    "totalseg_example": (112, 101, 122),
}
COMPARED = ("crlm_ct_1006", "lctsc_test_s1_104", "sts_037_crop")
"""Series whose every voxel is compared; of the others some slices are: decoding twice takes its time."""
FILES = ("totalseg_aorta_crop", "totalseg_example", "verse012", "verse014")


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return find_series([SHARED], SETTINGS)


@pytest.fixture(scope="module")
def by_folder(inventory) -> dict[str, Series]:
    return {series.path.split("/")[0]: series for series in inventory.series}


def by_simpleitk(series: Series) -> sitk.Image:
    if series.file_format != "dicom":
        return sitk.ReadImage(str(Path(series.archive) / series.path))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(Path(series.archive) / series.path))
    return sitk.ReadImage(names)


def corners_of(image: sitk.Image) -> np.ndarray:
    size = np.array(image.GetSize()) - 1
    ends = [[int(i) * int(n) for i, n in zip(corner, size, strict=True)] for corner in np.ndindex(2, 2, 2)]
    return np.array([image.TransformIndexToPhysicalPoint(corner) for corner in ends])


def corners_in_the_same_order(volume: Volume) -> np.ndarray:
    last = np.array(volume.hu.shape[::-1], float) - 1
    return apply_affine(volume.patient_from_voxel, np.array(list(np.ndindex(2, 2, 2)), float) * last)


def test_every_file_is_accounted_for(inventory):
    files = [path for path in SHARED.rglob("*") if path.is_file()]
    assert inventory.files_seen == len(files)
    assert sum(series.n_files for series in inventory.series) + sum(inventory.left_alone.values()) == len(files)
    assert set(inventory.left_alone) == {Reason.NOT_DICOM}


@pytest.mark.parametrize("folder", GOOD)
def test_the_header_of_a_real_series_is_enough_to_take_it(folder, by_folder):
    series = by_folder[folder]
    assert series.decision is None
    z, y, x = GOOD[folder]
    assert (series.n_slices, series.rows, series.columns) == (z, y, x)


def test_each_study_has_one_index_series(inventory):
    chosen = choose_index_series(inventory.series)
    measured = [series.study_uid for series in chosen if series.decision is None]
    assert len(measured) == len(set(measured))
    assert {series.path.split("/")[0] for series in chosen if series.decision is None} - {"labels"} == set(GOOD)


def test_single_sagittal_slices_are_no_volumes(inventory):
    singles = [series for series in inventory.series if series.path == "sagittal_2d"]
    assert sum(series.n_files for series in singles) == 20
    assert {series.decision for series in singles} == {Reason.NOT_A_VOLUME}


def test_masks_are_no_hounsfield_units(inventory):
    for series in inventory.series:
        if series.path.startswith("labels/"):
            reason = series.decision
            if reason is None:
                with pytest.raises(NotEvaluable) as refusal:
                    read_volume(series, SETTINGS)
                reason = refusal.value.reason
            assert reason is Reason.NOT_HOUNSFIELD


@pytest.mark.parametrize("folder", [*COMPARED, *FILES])
def test_a_real_series_equals_simpleitk_voxel_for_voxel(folder, by_folder):
    volume = read_volume(by_folder[folder], SETTINGS)
    image = by_simpleitk(by_folder[folder])
    expected = sitk.GetArrayViewFromImage(image)
    assert volume.hu.dtype == np.int16
    assert volume.hu.shape == GOOD[folder]
    np.testing.assert_allclose(corners_in_the_same_order(volume), corners_of(image), atol=1e-4)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing(), atol=1e-6)
    # Padding and nothing else may differ: what we set to air lies below air in the file.
    differ = volume.hu != expected
    assert (volume.hu[differ] == AIR_HU).all()
    assert (expected[differ] < AIR_HU).all()
    assert volume.repairs == ()


@pytest.mark.parametrize("folder", sorted(set(GOOD) - set(COMPARED) - set(FILES)))
def test_slices_of_a_real_series_equal_simpleitk(folder, by_folder):
    """Single slices read by SimpleITK lie where the affine of the whole series says, with the same HU."""
    series = by_folder[folder]
    headers = series_headers(series)
    grid = slice_grid(headers, SETTINGS)
    for index in (0, len(series.files) // 2, len(series.files) - 1):
        image = sitk.ReadImage(str(Path(series.archive) / series.files[index]))
        origin = apply_affine(grid.patient_from_voxel, np.array([0.0, 0.0, index]))
        np.testing.assert_allclose(origin, image.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(grid.spacing[:2], image.GetSpacing()[:2], atol=1e-6)
        ((hu, _),) = decode_slices([headers[grid.order[index]]], SETTINGS.air_below_hu)
        expected = sitk.GetArrayFromImage(image)[0]
        differ = hu != expected
        assert (hu[differ] == AIR_HU).all()
        assert (expected[differ] < AIR_HU).all()
