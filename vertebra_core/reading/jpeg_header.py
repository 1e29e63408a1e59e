"""The frame header of a JPEG image, read before a decoder in C is trusted with it.

A header that promises samples of 255 bits ended the process that decoded it. What must agree with the DICOM
attributes is little, and stands in the first bytes (ITU-T T.81, B.2.2; PS3.5 section 8.2.1).
"""

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

START_OF_IMAGE = b"\xff\xd8"
STARTS_OF_FRAME = {*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7}
"""Marker codes SOF0 to SOF15 (T.81, table B.1), and SOF55 of JPEG-LS (T.87)."""
MOST_BITS = 16
"""Bits of a sample in lossless JPEG and JPEG-LS (T.81, table B.2; T.87, C.2.2)."""
SYNTAXES = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes}


def refuse_odd_frame_header(dataset: Dataset, frames: list[int]) -> None:
    """Refuse an encapsulated JPEG image whose own header contradicts the DICOM attributes.

    Parameters
    ----------
    dataset : Dataset
        With pixel data and their description.
    frames : list of int
        Which frames will be decoded.

    Raises
    ------
    ValueError
        The precision is impossible, or the size is not Rows x Columns.
    """
    if dataset.file_meta.TransferSyntaxUID not in SYNTAXES:
        return
    wanted = set(frames)
    count = int(dataset.get("NumberOfFrames") or 1)
    for number, codestream in enumerate(generate_frames(dataset.PixelData, number_of_frames=count)):
        if number in wanted:
            bits, rows, columns = frame_header(codestream)
            if not 2 <= bits <= MOST_BITS or (rows, columns) != (dataset.Rows, dataset.Columns):
                raise ValueError("the image's own header differs from Rows and Columns, or its precision is impossible")


def frame_header(codestream: bytes) -> tuple[int, int, int]:
    """Precision (bits), lines and samples per line of a JPEG or JPEG-LS codestream.

    Raises
    ------
    ValueError
        There is no frame header where one must be.

    Examples
    --------
    >>> frame_header(bytes.fromhex("ffd8 fffe0004aabb ffc3000b0c020001000103"))
    (12, 512, 256)
    """
    if codestream[:2] != START_OF_IMAGE:
        raise ValueError("no start of image")
    at = 2
    while at + 9 <= len(codestream):
        if codestream[at] != 0xFF:
            break
        marker = codestream[at + 1]
        if marker == 0xFF:  # fill byte (B.1.1.2)
            at += 1
            continue
        if marker in STARTS_OF_FRAME:
            bits, *size = codestream[at + 4 : at + 9]
            return bits, size[0] << 8 | size[1], size[2] << 8 | size[3]
        at += 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
    raise ValueError("no frame header")
