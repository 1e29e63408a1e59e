"""Headers of everything in an archive: files are recognised by their content, never by their name.

Only what stands before the pixels is read. Each file becomes one `SliceHeader` per image (an Enhanced CT holds
many), one `VolumeHeader`, one `ObjectHeader` (DICOM without an image) or one `LeftAlone`.
"""

import gzip
import logging
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread, read_partial
from pydicom.uid import MediaStorageDirectoryStorage

from vertebra_core.errors import NotEvaluable, Reason, VertebraError
from vertebra_core.reading.attributes import (
    CT_CLASSES,
    StudyAttributes,
    frame_attributes,
    mended_codes,
    number,
    numbers,
    study_attributes,
    text,
)
from vertebra_core.reading.files import ArchiveFile, LeftAlone, full_name, open_file, open_packed
from vertebra_core.reading.packed import Member, NotUnpacked, Packed, sniff_packed

if TYPE_CHECKING:
    from vertebra_core.reading.volume_files import VolumeGrid

PEEK_BYTES = 1024
"""Enough for a DICOM preamble, a NIfTI header and the first lines of a NRRD or MetaImage header."""
LARGE_ELEMENT_BYTES = 2**20
"""Larger elements before the pixels are private data, which are passed over unread."""
LAST_IMAGE_GROUP = 0x0028
"""Group of the pixel description: all that a classic CT says about its image stands in it or before it."""

TELL_APART = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "ContrastBolusAgent",
    "KVP",
    "ReconstructionDiameter",
    "FilterType",
    "SeriesNumber",
    "TemporalPositionIndex",
    "FrameAcquisitionNumber",
    "StackID",
)
"""Attributes that may tell apart two images of one series at the same position, most telling first (case R1)."""
IN_ORDER = ("AcquisitionDateTime", "AcquisitionTime", "ContentTime", "FrameAcquisitionDateTime")
"""Attributes whose order says which images were taken together."""

OF_NO_INTEREST = {Reason.NOT_DICOM, Reason.EMPTY_FILE}


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One image of one DICOM file.

    Parameters
    ----------
    file : ArchiveFile
    frame : int or None
        Index of the frame in a multi-frame file; None in a file of one image.
    study : StudyAttributes
        What the image shares with its series; the same object for all images of equal values.
    position : tuple of 3 floats or None
        ImagePositionPatient, LPS mm: centre of the first pixel.
    orientation : tuple of 6 floats or None
        ImageOrientationPatient: direction of a row, then of a column.
    pixel_spacing : tuple of 2 floats or None
        PixelSpacing, mm: distance of rows (along y), then of columns (along x).
    rescale : tuple of 2 floats or None
        RescaleSlope and RescaleIntercept; None where absent.
    tell_apart : tuple of str
        Values of `TELL_APART`.
    in_order : tuple of str
        Values of `IN_ORDER`.
    instance_number : int or None
        Never used for geometry.
    complete : bool
        False where an uncompressed file is shorter than its header says.
    mended : tuple of str
        What had to be mended in the header, as codes.
    """

    file: ArchiveFile
    frame: int | None
    study: StudyAttributes
    sop_instance_uid: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    slice_thickness: float | None
    rescale: tuple[float, float] | None
    tell_apart: tuple[str, ...]
    in_order: tuple[str, ...]
    instance_number: int | None
    complete: bool
    mended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """A DICOM object without a CT image: report, structure set, segmentation, image of another modality."""

    file: ArchiveFile
    study: StudyAttributes


@dataclass(frozen=True, slots=True)
class VolumeHeader:
    """A file that holds a whole volume.

    Parameters
    ----------
    file : ArchiveFile
    file_format : str
        "nifti", "nrrd" or "metaimage".
    judged : VolumeGrid, NotEvaluable or None
        Its grid, or why it cannot be measured; None where its header has not been read yet.
    """

    file: ArchiveFile
    file_format: str
    judged: "VolumeGrid | NotEvaluable | None" = None


Interned = dict[StudyAttributes, StudyAttributes]
"""A thousand slices share one object of attributes: an archive of millions of files must fit in memory."""

Header = SliceHeader | ObjectHeader | VolumeHeader | LeftAlone


def read_headers(file: ArchiveFile, interned: Interned) -> list[Header]:
    """Read one file's header, or say why it has none; of a zip or tar file the headers of all it holds.

    Raises
    ------
    CouldNotRun
        A store that does not answer, or no room to unpack to. Whatever a file holds, it becomes a header or a reason.
    """
    try:
        with open_file(file.archive, file.path, file.size) as stream:
            start = stream.read(PEEK_BYTES)
            stream.seek(0)
            if not sniff_packed(start):
                return _headers(file, start, stream, interned)
        with open_packed(full_name(file.archive, file.path)) as packed:
            return _packed_headers(file, packed, interned)
    except VertebraError:
        raise
    except NotUnpacked as refusal:
        return [LeftAlone(file, refusal.reason)]
    except Exception:  # a broken file may break the parser anywhere; none may stop the archive (case O8)
        return [LeftAlone(file, Reason.UNREADABLE)]


def _headers(file: ArchiveFile, start: bytes, stream: BinaryIO, interned: Interned) -> list[Header]:
    """Recognise a file by its start and read its header."""
    volume_format = sniff_volume(start)
    if volume_format:
        return [VolumeHeader(file, volume_format)]
    if not sniff_dicom(start):
        return [LeftAlone(file, Reason.NOT_DICOM)]
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs odd values, and they may name a patient
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are judged here, not printed once per slice
        return _dicom_headers(file, stream, interned)


def _packed_headers(file: ArchiveFile, packed: Packed, interned: Interned) -> list[Header]:
    """Headers of the files in a zip or tar file; one without a single image (a .docx is a zip file) is one file."""
    headers: list[Header] = []
    for member in packed.members:
        inner = ArchiveFile(file.archive, f"{file.path}/{member.name}", member.size, member.mark, file.changed_s)
        headers += _member_headers(inner, member, packed, interned)
    if all(isinstance(header, LeftAlone) and header.reason in OF_NO_INTEREST for header in headers):
        return [LeftAlone(file, Reason.NOT_DICOM)]
    return headers


def _member_headers(file: ArchiveFile, member: Member, packed: Packed, interned: Interned) -> list[Header]:
    if member.encrypted or not member.size:
        return [LeftAlone(file, Reason.ENCRYPTED_ARCHIVE if member.encrypted else Reason.EMPTY_FILE)]
    try:
        with packed.open(member.name) as stream:
            start = stream.read(PEEK_BYTES)
            stream.seek(0)
            if sniff_packed(start):
                return [LeftAlone(file, Reason.NESTED_ARCHIVE)]
            return _headers(file, start, stream, interned)
    except Exception:
        return [LeftAlone(file, Reason.UNREADABLE)]


def sniff_dicom(start: bytes) -> bool:
    """Tell whether the first bytes are DICOM: with a preamble, or beginning at once with group 0002 or 0008."""
    if start[128:132] == b"DICM":
        return True
    for order in ("little", "big"):
        group = int.from_bytes(start[0:2], order)
        element = int.from_bytes(start[2:4], order)
        explicit = start[4:6].isalpha() and start[4:6].isupper()
        length = int.from_bytes(start[4:8], order)
        if len(start) > 16 and group in (2, 8) and element < 0x0100 and (explicit or 0 < length < 256):
            return True
    return False


def sniff_volume(start: bytes) -> str | None:
    """Name the volume format of the first bytes, or None."""
    if start[:2] == b"\x1f\x8b":
        start = _gunzip_start(start)
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    if start[:4] == b"NRRD":
        return "nrrd"
    if start[:8].lstrip().startswith((b"ObjectTy", b"NDims")) and b"=" in start[:32]:
        return "metaimage"
    return None


def _gunzip_start(start: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(start, PEEK_BYTES)
    except (zlib.error, gzip.BadGzipFile):
        return b""


def _dicom_headers(file: ArchiveFile, stream: BinaryIO, interned: Interned) -> list[Header]:
    dataset = read_partial(
        stream, lambda tag, vr, length: tag.group > LAST_IMAGE_GROUP, defer_size=LARGE_ELEMENT_BYTES, force=True
    )
    meta = getattr(dataset, "file_meta", Dataset())
    declared_class = text(meta, "MediaStorageSOPClassUID")
    if declared_class == MediaStorageDirectoryStorage:
        return [LeftAlone(file, Reason.NOT_AN_IMAGE)]
    study = study_attributes(dataset, file)
    if not (study.sop_class_uid or study.modality or study.series_uid_in_header):
        return [LeftAlone(file, Reason.UNREADABLE)]
    study = interned.setdefault(study, study)
    if study.rows is None or study.columns is None:
        # A CT image without a matrix is cut off in its header; anything else without one is no image.
        cut_off = not CT_CLASSES.isdisjoint({study.sop_class_uid, declared_class})
        return [LeftAlone(file, Reason.UNREADABLE) if cut_off else ObjectHeader(file, study)]
    if not study.may_be_ct:
        return [ObjectHeader(file, study)]
    complete = is_complete(study, file.size - stream.tell())
    if study.frames > 1 or study.is_enhanced:
        stream.seek(0)
        groups = dcmread(stream, stop_before_pixels=True, force=True)  # the frames stand after LAST_IMAGE_GROUP
        described = len(groups.get("PerFrameFunctionalGroupsSequence") or [])
        frames = range(max(min(described, study.frames), 1))  # NumberOfFrames may be -1
        parts = [functional_groups(groups, frame) for frame in frames]
        own = [frame_attributes(study, part) for part in parts]
        shared = [interned.setdefault(attributes, attributes) for attributes in own]
        return [slice_header(file, *one, complete, frame) for frame, one in enumerate(zip(parts, shared, strict=True))]
    return [slice_header(file, [dataset], study, complete)]


def slice_header(
    file: ArchiveFile, parts: Sequence[Dataset], study: StudyAttributes, complete: bool, frame: int | None = None
) -> SliceHeader:
    """Gather what one image says about itself: in the one dataset of a classic file, or in those of a frame."""
    dataset = parts[-1]

    def first(read: Callable, keyword: str, *arguments: int):
        """The value in the frame's own group, else in the shared one, else in the dataset itself."""
        found = (read(part, keyword, *arguments) for part in parts)
        return next((value for value in found if value not in (None, "")), None)

    slope, intercept = first(number, "RescaleSlope"), first(number, "RescaleIntercept")
    instance = number(dataset, "InstanceNumber")
    return SliceHeader(
        file=file,
        frame=frame,
        study=study,
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        position=first(numbers, "ImagePositionPatient", 3),
        orientation=first(numbers, "ImageOrientationPatient", 6),
        pixel_spacing=first(numbers, "PixelSpacing", 2),
        slice_thickness=first(number, "SliceThickness"),
        rescale=None if slope is None or intercept is None else (slope, intercept),
        tell_apart=tuple(sys.intern(first(text, keyword) or "") for keyword in TELL_APART),
        in_order=tuple(first(text, keyword) or "" for keyword in IN_ORDER),
        instance_number=frame if frame is not None else None if instance is None else int(instance),
        complete=complete,
        mended=mended_codes(parts, study),
    )


def functional_groups(dataset: Dataset, frame: int) -> list[Dataset]:
    """All datasets that describe one frame, the most specific first (PS3.3 C.7.6.16)."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    groups = [*own[frame : frame + 1], *shared[:1]]
    items = [element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value]
    return [*items, dataset]


def is_complete(study: StudyAttributes, bytes_left: int) -> bool:
    """Tell whether the rest of an uncompressed file can hold the pixels it claims; True where it cannot be told."""
    claimed = (study.rows or 0) * (study.columns or 0) * max(study.frames, 1) * study.bits_allocated // 8
    return study.compressed or bytes_left >= claimed
