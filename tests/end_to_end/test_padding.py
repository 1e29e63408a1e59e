"""Case R9: padding outside the scan circle changes neither the centre line nor G, however it is written."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from vertebra_core.models import load_models
from vertebra_core.phantom.anatomy import random_patient
from vertebra_core.phantom.dicom import write_dicom_series
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import random_scan, render
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings, Settings
from vertebra_core.study import measure_study

MOST_SHIFT_MM, MOST_G = 0.5, 0.01
"""The case's bounds."""


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng([9, 1])
    patient = random_patient(rng, PatientOptions(arms_up=True, ossification_probability=0.0))
    return render(patient, random_scan(rng, patient, "chest", (1.5, 1.5, 2.0)))


def write(volume, folder, change):
    """Write the volume as DICOM and let `change` edit the stored pixels [rows, columns] outside the circle."""
    paths = write_dicom_series(
        volume, folder, patient_id="R9", study_uid=generate_uid(), series_uid=generate_uid(), transfer_syntax="explicit"
    )
    rows, columns = volume.hu.shape[1:]
    y, x = np.mgrid[:rows, :columns]
    radius = min(rows, columns) / 2
    outside = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) > radius
    assert 0.1 < outside.mean() < 0.5
    for path in paths:
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        change(dataset, hu, outside)
        dataset.save_as(path)


def store(dataset, stored, signed, intercept):
    dataset.PixelRepresentation = int(signed)
    dataset.RescaleIntercept, dataset.RescaleSlope = intercept, 1
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()


def air(dataset, hu, outside):
    store(dataset, np.where(outside, -1000, hu) + 1024, False, -1024)


def padded_with_tag(dataset, hu, outside):
    store(dataset, np.where(outside, -2000, hu), True, 0)
    dataset.add_new("PixelPaddingValue", "SS", -2000)


def padded_without_tag(dataset, hu, outside):
    store(dataset, np.where(outside, -2000, hu), True, 0)


def stored_zero(dataset, hu, outside):
    store(dataset, np.where(outside, 0, hu + 1024), False, -1024)


def padding_rescaled_too(dataset, hu, outside):
    store(dataset, np.where(outside, -2000, hu + 1024), True, -1024)  # -3024 HU


def padded_range(dataset, hu, outside):
    noise = np.random.default_rng(0).integers(-2000, -1990, hu.shape)
    store(dataset, np.where(outside, noise, hu), True, 0)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    dataset.add_new("PixelPaddingRangeLimit", "SS", -1990)


def measured(volume, folder, change):
    write(volume, folder, change)
    (series,) = find_series([folder], ReadingSettings()).series
    assert series.decision is None
    return measure_study(read_volume(series, ReadingSettings()), load_models(), Settings())


@pytest.fixture(scope="module")
def plain(volume, tmp_path_factory):
    return measured(volume, tmp_path_factory.mktemp("plain"), air)


@pytest.mark.parametrize(
    "change", [padded_with_tag, padded_without_tag, stored_zero, padding_rescaled_too, padded_range]
)
def test_r9_padding_changes_neither_line_nor_g(volume, plain, tmp_path, change):
    result = measured(volume, tmp_path, change)
    assert plain.complete.sum() >= 8
    assert result.complete.tolist() == plain.complete.tolist()
    s = np.linspace(0.0, plain.curve.length, 50)
    shift = np.linalg.norm(result.curve.position(s) - plain.curve.position(s), axis=1)
    assert shift.mean() < MOST_SHIFT_MM
    assert np.abs(result.sizes.g - plain.sizes.g)[plain.complete].max() < MOST_G
