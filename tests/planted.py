"""Identifying values that look like nothing else, planted wherever DICOM can hold one, and the search for them.

Every value is recognisable by its form, so that one search finds any of them, whole or as a part of another word, in
any case, in UTF-8 and in UTF-16.
"""

import io
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

NOT_IN_THE_DICTIONARY = (
    0x00100011, 0x00100012, 0x00100013, 0x00100014, 0x00100015, 0x00100016, 0x00100041, 0x00100042, 0x00100043,
    0x00100044, 0x00100045, 0x00100046, 0x00100047, 0x00102162, 0x00081301, 0x00081302, 0x00081303, 0x00081304,
    0x0040A034, 0x0040A035, 0x0040B034, 0x0040B036, 0x0040B03B, 0x0040B03F, 0x0040E012,
)  # fmt: skip
"""Attributes of PS3.15 Table E.1-1 (edition 2026c) that pydicom does not know yet."""
CURVE_AND_OVERLAY = (0x50003000, 0x60003000, 0x60004000)
"""Repeating groups of the same table: curve data, overlay data and comments."""
DESCRIBES_THE_IMAGE = {
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "ConversionType", "Manufacturer",
    "ManufacturerModelName", "ConvolutionKernel", "PatientAge", "PatientSex", "StudyDate", "RescaleType",
    "TransferSyntaxUID", "PresentationLUTShape", "LossyImageCompression", "VolumeBasedCalculationTechnique",
}  # fmt: skip
"""Attributes that may be told, or by which an image is known for a CT: they keep the values they have. None of them
but the patient's age, sex and date of study is in Table E.1-1."""
IMAGE_GROUPS = {0x0000, 0x0002, 0x0004, 0x0028, 0x7FE0, 0xFFFE}
"""Groups of commands, meta header, directories, pixel description and pixels."""
NUMBERS_OF_THE_IMAGE = {
    "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "InstanceNumber", "AcquisitionNumber",
    "NumberOfFrames", "SliceLocation", "GantryDetectorTilt", "KVP",
}  # fmt: skip
STUDY_DATE, STUDY_YEAR = "16990317", 1699
UID_ROOT = "1.2.826.0.1.3680043.9.7777"

WORD = rb"zq[0-9]{5}x"
ALONE, ENDS = rb"(?<![0-9a-f.-])", rb"(?![0-9a-f-])"
"""Numbers are looked for where they stand alone: parts of digests, UUIDs and longer numbers look like any number."""
FORMS = re.compile(
    WORD
    + rb"|3680043\.9\.7777\.[0-9]+"
    + rb"|"
    + ALONE
    + rb"(?:16[0-9]{2}(?:-[01][0-9]-[0-3][0-9]|[01][0-9][0-3][0-9])|16[0-9]{12}\.77[0-9]{4}|1[0-9]{5}\.77[0-9]{4}"
    + rb"|77[0-9]{5}\.25|1988[0-9]{5}7)"
    + ENDS,
    re.IGNORECASE,
)
"""Words, UIDs, dates and times of the seventeenth century, times, decimal numbers, whole numbers."""
WIDE_FORMS = re.compile(rb"z\0q\0(?:[0-9]\0){5}x", re.IGNORECASE)
"""Words in UTF-16, where a zero byte stands between any two characters."""


class Planter:
    """Makes values, each once."""

    def __init__(self) -> None:
        self._number = itertools.count(1)

    @cached_property
    def everything(self) -> Dataset:
        """A value in every attribute that can hold one, nested and private ones too."""
        ds = Dataset()
        plant(ds, self)
        return ds

    @cached_property
    def meta(self) -> Dataset:
        """The same for the meta header."""
        meta = FileMetaDataset()
        meta.ImplementationVersionName, meta.SourceApplicationEntityTitle = self.word(), self.word()
        meta.PrivateInformationCreatorUID, meta.PrivateInformation = self.uid(), self.word().encode()
        return meta

    def word(self) -> str:
        """A word of eight characters."""
        return f"Zq{next(self._number):05d}x"

    def uid(self) -> str:
        return f"{UID_ROOT}.{next(self._number)}"

    def value(self, vr: str) -> object:
        """A value of a value representation, or None for one that cannot hold an identifying value of ours."""
        number = next(self._number)
        word = f"Zq{number:05d}x"
        date = f"{1600 + number % 90}{1 + number % 12:02d}{1 + number % 28:02d}"
        time = f"1{number % 10}{number % 60:02d}{number // 60 % 60:02d}.77{number % 10000:04d}"
        values = {
            "PN": f"{word}^Given^{word}",
            "CS": word.upper(),
            **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "AE"), word),
            "UR": f"https://{word}.example/{word}",
            "UI": f"{UID_ROOT}.{number}",
            "DA": date,
            "TM": time,
            "DT": date + time,
            "DS": f"77{number:05d}.25",
            "IS": f"1988{number:05d}7",
            "OB": word.encode(),
            "UN": word.encode(),
        }
        return values.get(vr)


def plant(ds: Dataset, planter: Planter) -> int:
    """Fill an empty dataset with a value in every attribute that can hold one; how many."""
    planted = 0
    for tag in sorted(DicomDictionary):
        vr, _, _, _, keyword = DicomDictionary[tag]
        if Tag(tag).group in IMAGE_GROUPS or keyword in DESCRIBES_THE_IMAGE | NUMBERS_OF_THE_IMAGE:
            continue
        if vr == "SQ":
            if not keyword.endswith("FunctionalGroupsSequence"):
                ds[tag] = DataElement(tag, "SQ", Sequence([_item(planter)]))
                planted += 1
            continue
        value = planter.value(vr)
        if value is not None:
            ds[tag] = DataElement(tag, vr, value, validation_mode=0)
            planted += 1
    for tag in NOT_IN_THE_DICTIONARY:
        ds[tag] = DataElement(tag, "LO", planter.word())
    for tag in CURVE_AND_OVERLAY:
        ds[tag] = DataElement(tag, dictionary_VR(tag).split(" or ")[0], planter.word().encode(), validation_mode=0)
    for group in (0x0009, 0x0011, 0x0021, 0x0029, 0x7FE1):
        block = ds.private_block(group, planter.word(), create=True)
        block.add_new(0x01, "LO", planter.word())
        block.add_new(0x02, "UN", planter.word().encode())
        block.add_new(0x03, "SQ", Sequence([_item(planter)]))
    ds.ImagePresentationComments = planter.word()
    ds.PaletteColorLookupTableUID, ds.LargePaletteColorLookupTableUID = planter.uid(), planter.uid()
    ds.StudyDate = STUDY_DATE
    return planted + len(NOT_IN_THE_DICTIONARY) + len(CURVE_AND_OVERLAY)


def _item(planter: Planter) -> Dataset:
    item = Dataset()
    item.PatientName, item.CodeMeaning, item.ReferencedSOPInstanceUID = planter.word(), planter.word(), planter.uid()
    item.PersonIdentificationCodeSequence = Sequence([Dataset()])
    item.PersonIdentificationCodeSequence[0].CodeMeaning = planter.word()
    return item


# -- the search ---------------------------------------------------------------------------------------------------


def found_in(content: bytes) -> set[bytes]:
    """Every planted value in some bytes, read as UTF-8, and every word in UTF-16 of either byte order."""
    wide = {match[0].replace(b"\0", b"") for match in WIDE_FORMS.finditer(content)}
    return wide | {match[0] for match in FORMS.finditer(content)}


def opened(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what they are when unpacked: values and metadata of Parquet, texts of PNG, zip."""
    raw = path.read_bytes()
    yield raw
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        yield json.dumps(file.read().to_pylist(), default=str).encode()
        yield str(file.schema_arrow).encode() + str(file.metadata.metadata).encode()
    elif path.suffix == ".png":
        yield b"".join(_unpacked(kind, data) for kind, data in png_chunks(raw))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def _unpacked(kind: bytes, data: bytes) -> bytes:
    if kind in (b"zTXt", b"iTXt"):
        _, _, text = data.partition(b"\0")
        return data + (zlib.decompress(text[1:]) if kind == b"zTXt" else b"")
    return data if kind != b"IDAT" else b""


def png_chunks(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and data of every chunk of a PNG."""
    chunks, at = [], 8
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "big")
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks
