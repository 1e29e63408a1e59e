"""Phantoms as a hospital archive holds CT: one DICOM file a slice, with synthetic identities."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from vertebra_core.phantom.anatomy import Phantom, random_patient
from vertebra_core.phantom.patient import PatientOptions
from vertebra_core.phantom.scanner import Scan, random_scan, render, truth_in_view
from vertebra_core.truth import Truth, write_truth
from vertebra_core.volume import Volume

TRANSFER_SYNTAXES: dict[str, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "jpegls": JPEGLSLossless,
    "jpeg2000": JPEG2000Lossless,
    "rle": RLELossless,
}
"""Names of the lossless transfer syntaxes that can be written."""
UNCOMPRESSED = ("explicit", "implicit", "deflated")
MANUFACTURER = "Synthetic"
SERIES_UID_TAG = 0x0020000E
UNSIGNED_INTERCEPT = -1024
"""Rescale intercept of twelve-bit unsigned pixels, as most scanners write them."""


def write_dicom_series(
    volume: Volume,
    folder: Path,
    *,
    patient_id: str,
    study_uid: str,
    series_uid: str,
    age_years: float | None = None,
    sex: str = "",
    study_date: date = date(2020, 1, 1),
    transfer_syntax: str = "explicit",
    slice_thickness_mm: float | None = None,
    kernel: str = "STANDARD",
    series_description: str = "Synthetic CT",
    body_part: str = "CHEST",
) -> list[Path]:
    """Write a volume as a CT Image Storage series (DICOM PS3.3 A.3), one file a slice.

    Parameters
    ----------
    volume : Volume
        Whole HU.
    folder : Path
        Made if missing; files are named by slice number.
    sex : str
        "M", "F", "O" or empty.
    transfer_syntax : str
        A key of `TRANSFER_SYNTAXES`.
    slice_thickness_mm : float or None
        Default: the distance of slices.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        Another transfer syntax, or HU that are not whole 16-bit numbers.
    """
    if transfer_syntax not in TRANSFER_SYNTAXES:
        raise ValueError(f"a transfer syntax is one of {', '.join(TRANSFER_SYNTAXES)}, not {transfer_syntax}")
    stored, intercept, signed = _stored_values(volume.hu)
    head = _series_header(volume, slice_thickness_mm, kernel, series_description, body_part, intercept, signed)
    head.update(_identity(patient_id, study_uid, series_uid, age_years, sex, study_date))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, pixels in enumerate(stored):
        path = folder / f"{k + 1:04d}.dcm"
        _write_slice(path, head, pixels, volume.patient_from_voxel, k, transfer_syntax)
        paths.append(path)
    return paths


def _stored_values(hu: np.ndarray) -> tuple[np.ndarray, int, bool]:
    """Pixels to store, rescale intercept, and whether they are signed."""
    whole = hu if np.issubdtype(hu.dtype, np.integer) else np.rint(hu)  # no copy of a large volume without need
    low, high = (float(whole.min()), float(whole.max())) if hu.size else (0.0, 0.0)
    if (whole is not hu and not np.array_equal(whole, hu)) or low < -32768 or high > 32767:
        raise ValueError("HU must be whole numbers that fit 16 bits")
    if low >= UNSIGNED_INTERCEPT and high <= 4095 + UNSIGNED_INTERCEPT:
        return (whole - np.int16(UNSIGNED_INTERCEPT)).astype(np.uint16, copy=False), UNSIGNED_INTERCEPT, False
    return whole.astype(np.int16, copy=False), 0, True


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    for digits in range(12, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} does not fit a decimal string")


def _series_header(
    volume: Volume, thickness: float | None, kernel: str, description: str, body_part: str, intercept: int, signed: bool
) -> Dataset:
    dx, dy, dz = volume.spacing
    axes = volume.patient_from_voxel[:3, :2] / (dx, dy)
    d = Dataset()
    d.SOPClassUID = CTImageStorage
    d.SpecificCharacterSet = "ISO_IR 100"
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.Modality = "CT"
    d.Manufacturer = MANUFACTURER
    d.ManufacturerModelName = "Phantom"
    d.InstitutionName = ""
    d.StationName = ""
    d.SeriesDescription = description
    d.BodyPartExamined = body_part
    d.PatientPosition = "HFS"
    d.PositionReferenceIndicator = ""
    d.KVP = "120"
    d.ConvolutionKernel = kernel
    d.SliceThickness = _decimal(thickness or dz)
    d.SpacingBetweenSlices = _decimal(dz)
    d.ReconstructionDiameter = _decimal(max(dx * volume.hu.shape[2], dy * volume.hu.shape[1]))
    d.ImageOrientationPatient = [_decimal(c) for c in axes.T.ravel()]
    d.PixelSpacing = [_decimal(dy), _decimal(dx)]
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.Rows, d.Columns = volume.hu.shape[1:]
    d.BitsAllocated, d.BitsStored, d.HighBit = (16, 16, 15) if signed else (16, 12, 11)
    d.PixelRepresentation = int(signed)
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = str(intercept), "1", "HU"
    d.WindowCenter, d.WindowWidth = "300", "1500"
    return d


def _identity(patient_id: str, study_uid: str, series_uid: str, age: float | None, sex: str, day: date) -> Dataset:
    d = Dataset()
    d.PatientName = f"Synthetic^{patient_id}"
    d.PatientID = patient_id
    d.PatientSex = sex
    d.PatientBirthDate = ""
    if age is not None:
        d.PatientAge = f"{int(age):03d}Y"
    d.StudyInstanceUID = study_uid
    # The public readers' files name series by UIDs with a dot at the end, which is no legal UID: it is kept as it is.
    d.add(DataElement(SERIES_UID_TAG, "UI", series_uid, validation_mode=config.IGNORE))
    d.FrameOfReferenceUID = generate_uid(entropy_srcs=[series_uid, "frame"])
    text = day.strftime("%Y%m%d")
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = text
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = "120000"
    d.StudyID, d.SeriesNumber, d.AcquisitionNumber = "1", 2, 1
    d.AccessionNumber, d.ReferringPhysicianName, d.StudyDescription = "", "", "Synthetic CT"
    return d


def _write_slice(path: Path, head: Dataset, pixels: np.ndarray, affine: np.ndarray, k: int, syntax: str) -> None:
    d = Dataset()
    d.update(head)
    d.SOPInstanceUID = generate_uid(entropy_srcs=[str(head.SeriesInstanceUID), str(k)])
    position = affine[:3, 2] * k + affine[:3, 3]
    d.ImagePositionPatient = [_decimal(c) for c in position]
    d.SliceLocation = _decimal(float(position[2]))
    d.InstanceNumber = k + 1
    d.PixelData = np.ascontiguousarray(pixels).astype("<u2" if pixels.dtype == np.uint16 else "<i2").tobytes()
    d["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, d.SOPInstanceUID
    meta.TransferSyntaxUID = TRANSFER_SYNTAXES[syntax] if syntax in UNCOMPRESSED else ExplicitVRLittleEndian
    d.file_meta = meta
    if syntax not in UNCOMPRESSED:
        d.compress(TRANSFER_SYNTAXES[syntax], generate_instance_uid=False)
    d.save_as(path, enforce_file_format=True)


@dataclass(frozen=True)
class PhantomStudy:
    """One study of a phantom archive: who, how scanned, how stored.

    Parameters
    ----------
    view : str
        One of `vertebra_core.phantom.scanner.VIEWS`.
    spacing : tuple of float
        Distance of voxels (x, y, z), mm.
    options : PatientOptions
    transfer_syntax : str
    """

    view: str
    spacing: tuple[float, float, float]
    options: PatientOptions
    transfer_syntax: str = "explicit"


DEMO_FIELD_MM = 300.0
"""Largest field of view of an archive's studies, which keeps a study small."""


def archive_plan(n_studies: int, *, without_spine: bool = True) -> list[PhantomStudy]:
    """What the studies of an archive are like: thin and thick slices, broken, bent and sound spines.

    Parameters
    ----------
    without_spine : bool
        Whether the last study shows legs, where nothing can be measured; only where there are more than two.
    """
    broken = PatientOptions(fracture_probability=1.0, scoliosis_probability=0.1)
    bent = PatientOptions(fracture_probability=0.2, scoliosis_probability=1.0, max_cobb_degrees=40.0)
    sound = PatientOptions(fracture_probability=0.0, scoliosis_probability=0.0)
    kinds = (
        PhantomStudy("chest", (1.0, 1.0, 1.25), broken, "jpegls"),
        PhantomStudy("chest", (1.0, 1.0, 1.5), sound, "explicit"),
        PhantomStudy("abdomen", (0.95, 0.95, 1.25), broken, "jpegls"),
        PhantomStudy("chest", (0.85, 0.85, 2.0), bent, "implicit"),
        PhantomStudy("lumbar", (0.7, 0.7, 1.0), broken, "deflated"),
        PhantomStudy("chest", (1.0, 1.0, 1.25), PatientOptions(), "rle"),
    )
    plan = [kinds[i % len(kinds)] for i in range(n_studies)]
    if without_spine and n_studies > 2:
        plan[-1] = PhantomStudy("legs", (0.95, 0.95, 3.0), PatientOptions(arms_up=True), "explicit")
    return plan


def make_study(study: PhantomStudy, rng: np.random.Generator) -> tuple[Phantom, Scan]:
    """The patient and the scan of a planned study."""
    phantom = random_patient(rng, study.options)
    scan = random_scan(rng, phantom, study.view, study.spacing)
    return phantom, _narrowed(scan)


def _narrowed(scan: Scan) -> Scan:
    """The same scan with at most `DEMO_FIELD_MM` round its middle, put where the spine stays inside."""
    nz, ny, nx = scan.shape
    dx, dy, _ = scan.spacing
    columns, rows = min(nx, int(DEMO_FIELD_MM / dx)), min(ny, int(DEMO_FIELD_MM / dy))
    affine = scan.patient_from_voxel.copy()
    # Cut alike at both sides, but in front only: the spine lies behind the middle.
    affine[:3, 3] += affine[:3, 0] * ((nx - columns) // 2) + affine[:3, 1] * (ny - rows)
    return replace(scan, shape=(nz, rows, columns), patient_from_voxel=affine)


def write_phantom_archive(
    folder: Path,
    n_studies: int,
    seed: int,
    *,
    truth_folder: Path | None = None,
    plan: list[PhantomStudy] | None = None,
) -> list[Truth]:
    """Write phantoms as an archive of DICOM studies, and their truth apart from it.

    Parameters
    ----------
    folder : Path
        One folder a study, one file a slice.
    seed : int
        The same seed writes the same voxels, identities and truth.
    truth_folder : Path or None
        For ``vertebra-truth/1`` files named by study; ``image`` is the SeriesInstanceUID. None writes none.
    plan : list of PhantomStudy or None
        Default: `archive_plan`.

    Returns
    -------
    list of Truth
        One a study, in order; no vertebrae for a study without a spine.
    """
    return list(iterate_phantom_archive(folder, n_studies, seed, truth_folder=truth_folder, plan=plan))


def iterate_phantom_archive(
    folder: Path,
    n_studies: int,
    seed: int,
    *,
    truth_folder: Path | None = None,
    plan: list[PhantomStudy] | None = None,
) -> Iterator[Truth]:
    """As `write_phantom_archive`, study by study, so that a caller can show progress."""
    for i, study in enumerate(plan or archive_plan(n_studies)):
        rng = np.random.default_rng([seed, i])
        phantom, scan = make_study(study, rng)
        volume = render(phantom, scan)
        name = f"PHANTOM-{seed:03d}-{i + 1:04d}"
        study_uid, series_uid = (generate_uid(entropy_srcs=[name, kind]) for kind in ("study", "series"))
        write_dicom_series(
            volume, folder / name / "CT",
            patient_id=name, study_uid=study_uid, series_uid=series_uid, age_years=phantom.person.age_years,
            sex="F" if phantom.person.female else "M",
            study_date=date(2019, 1, 1) + timedelta(days=int(rng.integers(5 * 365))),
            transfer_syntax=study.transfer_syntax, slice_thickness_mm=scan.slice_thickness_mm,
            kernel="SHARP" if scan.kernel_sigma_mm < 0.55 else "STANDARD",
            body_part={"chest": "CHEST", "abdomen": "ABDOMEN", "lumbar": "LSPINE", "legs": "LEG"}.get(study.view, ""),
        )  # fmt: skip
        truth = replace(truth_in_view(phantom, scan), image=str(series_uid))
        if truth_folder is not None:
            truth_folder.mkdir(parents=True, exist_ok=True)
            write_truth(truth, truth_folder / f"{name}.json")
        yield truth
