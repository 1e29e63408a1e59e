"""Small DICOM archives for tests of the engine: real files, each study with a mark that tells a method what to do."""

import zlib
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

N_SLICES, SIDE, PIXEL_MM, SPACING_MM = 16, 32, 4.0, 2.5
MARK_HU_STEP = 100
"""The first voxel holds the mark times this; soft tissue and air elsewhere."""


def fresh_fork_server() -> None:
    """Let the next sandbox of this process see its environment as it is now, not as another module's tests left it."""
    forkserver._forkserver._stop()  # what CPython's own tests do


def write_study(
    folder: Path,
    patient: str,
    mark: int = 0,
    sex: str = "F",
    age: str = "067Y",
    date: str = "20240301",
    number: int | None = None,
    modality: str = "CT",
    n_slices: int = N_SLICES,
) -> Path:
    """Write one study of one CT series.

    Parameters
    ----------
    patient : str
        PatientID; a name is made from it, and UIDs from it and the folder.
    mark : int
        What `engine_methods` does with the study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = f"1.2.826.0.1.3680043.10.1.{number or zlib.crc32(f'{folder.name}{patient}'.encode())}"
    rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
    hu = rng.normal(40.0, 15.0, (n_slices, SIDE, SIDE))
    hu[:, :4], hu[:, -4:] = -1000.0, -1000.0
    hu[:, 0, 0] = mark * MARK_HU_STEP
    for i in range(n_slices):
        slice_dataset(root, i, hu[i], patient, sex, age, date, modality).save_as(
            folder / f"{i:03d}.dcm", enforce_file_format=True
        )
    return folder


def slice_dataset(
    root: str, i: int, hu: np.ndarray, patient: str, sex: str, age: str, date: str, modality: str
) -> Dataset:
    """One slice as a DICOM object."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{root}.3.{i + 1}"
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{root}.1", f"{root}.2", f"{root}.4"
    ds.Modality, ds.ImageType = modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientID, ds.PatientName, ds.PatientBirthDate = patient, f"Surname^{patient}", "19570102"
    ds.PatientSex, ds.PatientAge, ds.StudyDate = sex, age, date
    ds.AccessionNumber, ds.InstitutionName = f"ACC{patient}", "Saint Elsewhere"
    ds.ReferringPhysicianName, ds.StudyDescription = "Doctor^Who", f"thorax of {patient}"
    ds.InstanceNumber, ds.AcquisitionNumber = i + 1, 1
    ds.ImagePositionPatient = [-60.0, -60.0, -SPACING_MM * i]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [PIXEL_MM, PIXEL_MM], SPACING_MM
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = SIDE, SIDE, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.PixelData = (np.rint(hu) + 1024).astype("<u2").tobytes()
    return ds
