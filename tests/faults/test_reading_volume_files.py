"""NIfTI, NRRD and MetaImage: read whatever the name, or refused by name."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from reading_cases import (
    SETTINGS,
    end_of,
)

from vertebra_core.errors import Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series

# -- volume files -------------------------------------------------------------------------------------------------


def as_image(hu: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((-49.0, -47.0, -39.0))
    return image


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.nrrd", "v.mha"])
@pytest.mark.parametrize("rename", [None, "IM000001"])
def test_a_volume_file_is_read_whatever_its_name(name, rename, tmp_path, small_hu):
    sitk.WriteImage(as_image(small_hu), str(tmp_path / name))
    if rename:
        (tmp_path / name).rename(tmp_path / rename)
    (series,) = find_series([tmp_path], SETTINGS).series
    volume = read_volume(series, SETTINGS)
    assert volume.hu.dtype == np.int16
    assert (volume.hu == small_hu).all()
    np.testing.assert_allclose(volume.patient_from_voxel[:3, 3], [-49, -47, -39])
    assert (series.study_uid, series.series_uid) == (rename or name, rename or name)


def write_nan(folder: Path, hu: np.ndarray) -> None:
    bad = hu.astype(np.float32)
    bad[20, 20, 20] = np.nan
    sitk.WriteImage(as_image(bad), str(folder / "v.nii.gz"))


def write_infinite(folder: Path, hu: np.ndarray) -> None:
    bad = hu.astype(np.float32)
    bad[20, 20, 20] = np.inf
    sitk.WriteImage(as_image(bad), str(folder / "v.mha"))


def write_4d(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(sitk.JoinSeries([as_image(hu), as_image(hu)]), str(folder / "v.nii"))


def write_2d(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(hu[0]), str(folder / "v.nii"))


def write_constant(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(np.full_like(hu, 40)), str(folder / "v.nrrd"))


def write_mask(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image((hu > 200).astype(np.uint8)), str(folder / "v.nii.gz"))


def write_wide_mask(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image((hu > 200).astype(np.int16) * 20), str(folder / "v.nii.gz"))


def write_unit_variance(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(((hu - hu.mean()) / hu.std()).astype(np.float32)), str(folder / "v.nii.gz"))


def write_colour(folder: Path, hu: np.ndarray) -> None:
    grey = sitk.Cast(as_image(hu), sitk.sitkUInt8)
    sitk.WriteImage(sitk.Compose([grey] * 3), str(folder / "v.mha"))


def write_without_frame(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(hu), str(folder / "v.nii"))
    content = bytearray((folder / "v.nii").read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    (folder / "v.nii").write_bytes(content)


def cut(name: str, share: float = 0.5):
    def write(folder: Path, hu: np.ndarray) -> None:
        sitk.WriteImage(as_image(hu), str(folder / name), useCompression=name.endswith("gz") or "z." in name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return write


def write_flipped_bits(folder: Path, hu: np.ndarray) -> None:
    sitk.WriteImage(as_image(hu), str(folder / "v.nii.gz"))
    content = bytearray((folder / "v.nii.gz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "v.nii.gz").write_bytes(content)


BAD_VOLUMES = {
    "NaN": (write_nan, Reason.NOT_FINITE),
    "infinite": (write_infinite, Reason.NOT_FINITE),
    "4D": (write_4d, Reason.NOT_A_VOLUME),
    "2D": (write_2d, Reason.NOT_A_VOLUME),
    "constant": (write_constant, Reason.CONSTANT_IMAGE),
    "mask": (write_mask, Reason.NOT_HOUNSFIELD),
    "mask in 16 bits": (write_wide_mask, Reason.NOT_HOUNSFIELD),
    "unit variance": (write_unit_variance, Reason.NOT_HOUNSFIELD),
    "colour": (write_colour, Reason.NOT_A_VOLUME),
    "no frame": (write_without_frame, Reason.NO_GEOMETRY),
    **{f"{name} cut": (cut(name), Reason.PIXELS_DAMAGED) for name in ("v.nii", "v.nii.gz", "v.nrrd", "v.mha")},
    **{f"compressed {name} cut": (cut(name), Reason.PIXELS_DAMAGED) for name in ("z.nrrd", "z.mha")},
    "last byte gone": (cut("v.nii", 0.99999), Reason.PIXELS_DAMAGED),
    "flipped bits": (write_flipped_bits, Reason.PIXELS_DAMAGED),
}


@pytest.mark.parametrize("case", BAD_VOLUMES)
def test_a_bad_volume_file_has_its_own_reason(case, tmp_path, small_hu, capfd):
    write, reason = BAD_VOLUMES[case]
    write(tmp_path, small_hu)
    assert end_of(tmp_path) == [reason]
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


def test_a_gzip_that_is_no_volume_is_left_alone(tmp_path):
    (tmp_path / "notes.nii.gz").write_bytes(gzip.compress(b"some text " * 100))
    inventory = find_series([tmp_path], SETTINGS)
    assert inventory.left_alone == {Reason.NOT_DICOM: 1}


def test_padding_in_a_volume_file_becomes_air(tmp_path, small_hu):
    bad = small_hu.copy()
    bad[:, :5] = -3024
    sitk.WriteImage(as_image(bad), str(tmp_path / "v.nii.gz"))
    (series,) = find_series([tmp_path], SETTINGS).series
    assert (read_volume(series, SETTINGS).hu[:, :5] == -1000).all()
