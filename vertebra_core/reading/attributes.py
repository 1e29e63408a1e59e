"""What the header of a DICOM object says, read so that no malformed value can raise."""

import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from vertebra_core.reading.content import content_of
from vertebra_core.reading.files import ArchiveFile

CT_CLASSES = {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
ENHANCED_CLASSES = {EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
CAPTURE_CLASSES = {
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
}
NO_IMAGE_MODALITIES = {"SR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PR", "KO", "REG", "DOC", "FID", "PLAN"}
"""Modality of objects that are no acquired image, even where they carry pixels (PS3.3 C.7.3.1.1.1)."""
MODALITIES_MENDED = ("", "OT")
"""Values of Modality that deny nothing: the SOP class decides."""
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
IMAGE_MODALITIES = {
    "CT",
    "MR",
    "PT",
    "NM",
    "US",
    "CR",
    "DX",
    "MG",
    "XA",
    "RF",
    "SC",
    "OT",
    "ES",
    "SM",
    "PX",
    "IO",
    "XC",
}
"""Modality of images (PS3.3 C.7.3.1.1.1), as far as they are met beside CT."""
HUMAN = {"", "human", "homo sapiens"}
DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """What the images of a series have in common: identity, kind, patient, scanner and pixel format.

    `study_uid` and `series_uid` fall back to the folder of the file where the header has none. `content` is the code of
    a `vertebra_core.reading.content.Content`.
    """

    patient_id: str
    patient_id_issuer: str
    study_uid: str
    series_uid: str
    series_uid_in_header: bool
    modality: str
    sop_class_uid: str
    transfer_syntax_uid: str
    image_type: tuple[str, ...]
    manufacturer: str | None
    scanner_model: str | None
    kernel: str | None
    contrast: bool | None
    rows: int | None
    columns: int | None
    frames: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    rescale_type: str
    age_years: float | None
    sex: str | None
    study_date: str | None
    content: str = "plain"
    is_patient: bool = True

    @property
    def may_be_ct(self) -> bool:
        """True for CT images: neither the modality nor the SOP class may name another kind of image.

        A CT image whose modality is absent or OT ("other") is one; an MR stored as CT, or a CT as MR, is not.
        """
        if self.sop_class_uid in CT_CLASSES:
            return self.modality in ("CT", *MODALITIES_MENDED)
        other_kind = UID(self.sop_class_uid).name != self.sop_class_uid and self.sop_class_uid not in CAPTURE_CLASSES
        return self.modality == "CT" and not other_kind  # a private class has no name

    @property
    def kind_in_words(self) -> str:
        """Modality and SOP class for a person, where they are terms of the standard."""
        modality = self.modality if self.modality in IMAGE_MODALITIES else "unknown"
        name = UID(self.sop_class_uid).name
        return f"modality {modality}, stored as {'an unknown kind' if name == self.sop_class_uid else name}"

    @property
    def is_enhanced(self) -> bool:
        """True where positions stand in functional groups, frame by frame."""
        return self.sop_class_uid in ENHANCED_CLASSES

    @property
    def compressed(self) -> bool:
        """True where the size of the pixel data does not follow from the header."""
        if self.transfer_syntax_uid == DEFLATED:
            return True
        uid = UID(self.transfer_syntax_uid)
        return uid.is_transfer_syntax and uid.is_compressed if uid else False


def text(dataset: Dataset, keyword: str) -> str:
    """Value of an attribute as stripped text, "" where absent or malformed."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else str(value).strip(" \0\n\r\t")
    except Exception:  # pydicom converts lazily; an odd value may raise anything
        return ""


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Values of an attribute of several strings, () where absent or malformed."""
    try:
        value = dataset.get(keyword)
        values = [] if value is None else [value] if isinstance(value, str) else list(value)
        return tuple(sys.intern(str(part).strip(" \0")) for part in values)
    except Exception:
        return ()


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence, [] where absent or malformed."""
    try:
        return list(dataset.get(keyword) or [])
    except Exception:
        return []


def number(dataset: Dataset, keyword: str) -> float | None:
    """Value of an attribute as a finite number, None where absent, malformed or not finite."""
    values = numbers(dataset, keyword, 1)
    return values[0] if values else None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers of an attribute, or None."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return None
        if isinstance(value, bytes):
            raise TypeError("text in a binary representation")
        parts = value.split("\\") if isinstance(value, str) else value
        values = tuple(map(float, parts)) if isinstance(parts, Iterable) else (float(parts),)
    except Exception:
        values = _numbers_of_text(plain_text(dataset, keyword))
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def plain_text(dataset: Dataset, keyword: str) -> str:
    """The value of an attribute as it stands in the file, "" where it is absent or no text."""
    try:
        value = dataset.get_item(keyword).value  # type: ignore[union-attr]
        if isinstance(value, bytes):
            return value.decode("ascii")
        return value if isinstance(value, str) else "\\".join(part for part in value if isinstance(part, str))
    except Exception:
        return ""


def _numbers_of_text(words: str) -> tuple[float, ...]:
    """Numbers parted by backslashes, with points or with commas as a decimal sign.

    Examples
    --------
    >>> _numbers_of_text("0,75\\\\0,75"), _numbers_of_text("1\\\\0"), _numbers_of_text("1,000.5")
    ((0.75, 0.75), (1.0, 0.0), ())
    """
    try:
        return tuple(float(word.replace(",", ".")) for word in words.strip(" \0").split("\\"))
    except ValueError:
        return ()


def integer(dataset: Dataset, keyword: str, default: int) -> int:
    """Value of an attribute as a whole number, `default` where absent or malformed."""
    value = number(dataset, keyword)
    return default if value is None else int(value)


def iso_date(value: str) -> str | None:
    """Turn a DICOM date into ISO 8601, None where it is no date.

    Examples
    --------
    >>> iso_date("20240229"), iso_date("20230229"), iso_date("")
    ('2024-02-29', None, None)
    """
    found = re.fullmatch(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})", value)
    if not found:
        return None
    try:
        return date(*map(int, found.groups())).isoformat()
    except ValueError:
        return None


def age_in_years(age: str, birth: str | None, study: str | None) -> float | None:
    """Age from PatientAge ("067Y", "018M", ...), else from the dates of birth and study, else None.

    Examples
    --------
    >>> age_in_years("067Y", None, None), age_in_years("", "1950-06-01", "2020-05-31"), age_in_years("", None, None)
    (67.0, 69.0, None)
    """
    found = re.fullmatch(r"(\d{1,3})([DWMY])", age.upper())
    if found:
        return round(int(found[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[found[2]], 2)
    if not birth or not study or study < birth:
        return None
    return float(int(study[:4]) - int(birth[:4]) - (study[5:] < birth[5:]))


def has_contrast(agent: str) -> bool | None:
    """True where an agent is named, False where it is denied, None where the header is silent."""
    return None if not agent else agent.upper() not in {"NO", "N", "NONE", "NIL", "W/O", "NO CONTRAST"}


def content_code(parts: Sequence[Dataset], image_type: tuple[str, ...], description: str) -> str:
    """Class of what images show; of the description nothing else is kept."""
    codes = tuple(text(item, "CodeValue") for part in parts for item in items(part, "DerivationCodeSequence"))
    technique = next(filter(None, (text(part, "VolumeBasedCalculationTechnique") for part in parts)), "")
    return content_of(image_type, description, codes, technique).code


def frame_attributes(study: StudyAttributes, parts: Sequence[Dataset]) -> StudyAttributes:
    """The attributes of one frame: what its functional groups say comes before what the file says of all."""
    own = parts[:-1]
    image_type = next(filter(None, (texts(part, "FrameType") for part in own)), study.image_type)
    kernel = next(filter(None, (texts(part, "ConvolutionKernel") for part in own)), None)
    rescale_type = next(filter(None, (text(part, "RescaleType").upper() for part in own)), study.rescale_type)
    return replace(
        study,
        image_type=image_type,
        kernel="/".join(filter(None, kernel)) if kernel else study.kernel,
        rescale_type=sys.intern(rescale_type),
        content=sys.intern(content_code(parts, image_type, text(parts[-1], "SeriesDescription"))),
    )


def mended_codes(parts: Sequence[Dataset], study: StudyAttributes) -> tuple[str, ...]:
    """What was mended while these datasets were read, as codes."""
    codes = ()
    if any("," in plain_text(part, keyword) for part in parts for keyword in GEOMETRY):
        codes += ("decimal_comma",)
    if study.modality in MODALITIES_MENDED:
        codes += ("modality_from_sop_class",)
    return codes


def is_patient(dataset: Dataset) -> bool:
    """False for an animal and for what is scanned to check the scanner (PS3.3 C.7.1.1, C.7.6.1)."""
    species = text(dataset, "PatientSpeciesDescription").lower()
    checked = {text(dataset, name).upper() for name in ("QualityControlImage", "QualityControlSubject")}
    return species in HUMAN and "YES" not in checked


def study_attributes(dataset: Dataset, file: ArchiveFile) -> StudyAttributes:
    """Gather the attributes shared by a series, with the folder in place of UIDs that are absent."""
    folder = file.path.rpartition("/")[0] or "."
    study_date = iso_date(text(dataset, "StudyDate"))
    sex = text(dataset, "PatientSex").upper()
    rows, columns = integer(dataset, "Rows", 0), integer(dataset, "Columns", 0)
    meta = getattr(dataset, "file_meta", Dataset())
    series_uid = text(dataset, "SeriesInstanceUID")
    strings = {
        "patient_id": text(dataset, "PatientID"),
        "patient_id_issuer": text(dataset, "IssuerOfPatientID"),
        "study_uid": text(dataset, "StudyInstanceUID") or folder,
        "series_uid": series_uid or folder,
        "modality": text(dataset, "Modality").upper(),
        "sop_class_uid": text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID"),
        "transfer_syntax_uid": text(meta, "TransferSyntaxUID"),
        "rescale_type": text(dataset, "RescaleType").upper(),
        "content": content_code([dataset], texts(dataset, "ImageType"), text(dataset, "SeriesDescription")),
    }
    return StudyAttributes(
        **{name: sys.intern(value) for name, value in strings.items()},
        series_uid_in_header=bool(series_uid),
        image_type=texts(dataset, "ImageType"),
        manufacturer=text(dataset, "Manufacturer") or None,
        scanner_model=text(dataset, "ManufacturerModelName") or None,
        kernel="/".join(filter(None, texts(dataset, "ConvolutionKernel"))) or None,
        contrast=has_contrast(text(dataset, "ContrastBolusAgent")),
        rows=rows or None,
        columns=columns or None,
        frames=integer(dataset, "NumberOfFrames", 1),
        samples_per_pixel=integer(dataset, "SamplesPerPixel", 1),
        bits_allocated=integer(dataset, "BitsAllocated", 16),
        bits_stored=integer(dataset, "BitsStored", 16),
        age_years=age_in_years(text(dataset, "PatientAge"), iso_date(text(dataset, "PatientBirthDate")), study_date),
        sex=sex if sex in {"F", "M", "O"} else None,
        study_date=study_date,
        is_patient=is_patient(dataset),
    )
