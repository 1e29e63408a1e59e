"""An archive in which everything that can name a patient does, and that ends in every way an archive can."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from engine_archive import SIDE, slice_dataset
from engine_methods import EXIT, GOOD, HANG, RAISE, REFUSE
from planted import Planter
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage

N_SLICES = 14
Edit = Callable[[Dataset, int], Dataset | None]


def write_archive(root: Path) -> Planter:
    """Write the archive below ``root``; only names and headers differ from sound studies of the engine's tests."""
    planter = Planter()
    for mark in (GOOD, RAISE, EXIT, REFUSE, HANG):
        _study(root, planter, mark=mark)
    good = _study(root, planter)
    _study(root, planter, into=good, edit=_other_series(good))
    for edit in (_mr, _malformed(planter), _pdf):
        _study(root, planter, edit=edit)
    less = (_localizer, _no_place, _page, _colour, _ten_apart, _same_place, lambda ds, i: None if i in (5, 6) else ds)
    for edit in less:
        _study(root, planter, edit=edit, whole=False)
    _study(root, planter, n_slices=3, whole=False)
    cut = sorted(_study(root, planter, whole=False).iterdir())[5]
    cut.write_bytes(cut.read_bytes()[:-700])
    broken = sorted(_study(root, planter, whole=False).iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:400] + planter.word().encode())
    _packed(root, planter)
    _odd_files(root / planter.word(), planter)
    _volumes(root / planter.word(), planter)
    return planter


def _study(
    root: Path,
    planter: Planter,
    mark: int = GOOD,
    edit: Edit | None = None,
    n_slices: int = N_SLICES,
    into: Path | None = None,
    whole: bool = True,
) -> Path:
    """One study of one series in a folder of a patient's name.

    Its first slice has a value in every attribute; where that is not asked for (it takes a second), in the most usual.
    """
    folder = into or root / f"{planter.word()}^{planter.word()}" / planter.word()
    folder.mkdir(parents=True, exist_ok=True)
    patient, ours = planter.word(), planter.uid()
    rng = np.random.default_rng(len(ours))
    hu = rng.normal(40.0, 15.0, (n_slices, SIDE, SIDE))
    hu[:, :4], hu[:, -4:], hu[:, 0, 0] = -1000.0, -1000.0, mark * 100
    for i in range(n_slices):
        ds = slice_dataset(ours, i, hu[i], patient, "F", "093Y", "16990317", "CT")
        kept = {name: ds[name] for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
        if i == 0 and whole:
            ds.update(planter.everything)
            ds.file_meta.update(planter.meta)
            ds.preamble = (planter.word() * 16).encode()
        else:
            ds.PatientName, ds.InstitutionName, ds.AccessionNumber = (planter.word() for _ in range(3))
            ds.DeviceSerialNumber, ds.StudyDescription, ds.SeriesDescription = (planter.word() for _ in range(3))
        for name, element in kept.items():
            ds[name] = element
        ds.FrameOfReferenceUID, ds.IssuerOfPatientID, ds.ContrastBolusAgent = f"{ours}.4", "", "IV"
        ds = edit(ds, i) if edit else ds
        if ds is not None:
            ds.save_as(folder / f"{planter.word()}.dcm", enforce_file_format=True)
    return folder


# -- what is refused, each for a reason of its own ----------------------------------------------------------------


def _mr(ds: Dataset, i: int) -> Dataset:
    ds.Modality = "MR"
    return ds


def _localizer(ds: Dataset, i: int) -> Dataset:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return ds


def _page(ds: Dataset, i: int) -> Dataset:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    return ds


def _no_place(ds: Dataset, i: int) -> Dataset:
    del ds.ImagePositionPatient
    return ds


def _colour(ds: Dataset, i: int) -> Dataset:
    ds.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    return ds


def _ten_apart(ds: Dataset, i: int) -> Dataset:
    ds.ImagePositionPatient = [-60.0, -60.0, -10.0 * i]
    return ds


def _same_place(ds: Dataset, i: int) -> Dataset:
    ds.ImagePositionPatient = [-60.0, -60.0, -2.5 * (i // 2)]
    return ds


def _pdf(ds: Dataset, i: int) -> Dataset:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    del ds.PixelData, ds.Rows, ds.Columns
    return ds


def _other_series(of: Path) -> Edit:
    """A second series of the study in a folder."""
    first = dcmread(next(of.iterdir()), stop_before_pixels=True)

    def edit(ds: Dataset, i: int) -> Dataset:
        ds.StudyInstanceUID, ds.PatientID = first.StudyInstanceUID, first.PatientID
        ds.ConvolutionKernel = "LUNG"
        return ds

    return edit


def _malformed(planter: Planter) -> Edit:
    """Words where dates, numbers and UIDs belong: a library may quote them when it complains."""

    words: dict[str, str] = {}

    def edit(ds: Dataset, i: int) -> Dataset:
        ill = {"StudyDate": "DA", "PatientBirthDate": "DA", "ContentTime": "TM", "PatientAge": "AS", "KVP": "DS"}
        ill |= {"StudyInstanceUID": "UI", "AcquisitionNumber": "IS", "SliceThickness": "DS", "SeriesNumber": "IS"}
        for keyword, vr in ill.items():
            as_text = "LO" if vr in ("DS", "IS") else vr  # pydicom writes no word as a number
            ds[keyword] = DataElement(
                tag_for_keyword(keyword) or 0, as_text, words.setdefault(keyword, planter.word()), validation_mode=0
            )
        ds.PatientSex = planter.word().upper()
        return ds

    return edit


def _packed(root: Path, planter: Planter) -> None:
    """A study in a zip file and one in a tar file, whose own names and those of their members name patients."""
    for suffix, kind in (("zip", "zip"), ("tar.gz", "gztar")):
        folder = _study(root, planter, whole=False)
        name = root / f"{planter.word()}_{planter.word()}"
        shutil.make_archive(str(name), kind, folder.parent)
        assert name.with_name(f"{name.name}.{suffix}").exists()
        shutil.rmtree(folder.parent)


# -- what is no series of images ----------------------------------------------------------------------------------


def _odd_files(folder: Path, planter: Planter) -> None:
    folder.mkdir()
    (folder / f"{planter.word()}.dcm").touch()
    (folder / f"{planter.word()}.txt").write_text(f"letter about {planter.word()}\n" * 50)
    (folder / planter.word()).write_bytes(b"\0" * 128 + b"DICM" + planter.word().encode() * 20)
    (folder / planter.word()).symlink_to(folder / planter.word())


def _volumes(folder: Path, planter: Planter) -> None:
    """Volume files with names in their names and headers; one cut short."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    image = sitk.GetImageFromArray(np.rint(rng.normal(40.0, 300.0, (20, 32, 32))).astype(np.int16))
    image.SetSpacing((4.0, 4.0, 2.5))
    for key in ("descrip", "aux_file", "intent_name", "db_name", "PatientName"):
        image.SetMetaData(key, planter.word())
    for suffix in ("nii.gz", "nii", "nrrd", "mha"):
        sitk.WriteImage(image, str(folder / f"{planter.word()}_{planter.word()}.{suffix}"))
    cut = folder / f"{planter.word()}.nii"
    sitk.WriteImage(image, str(cut))
    cut.write_bytes(cut.read_bytes()[:9000])
