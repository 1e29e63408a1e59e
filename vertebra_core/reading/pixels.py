"""One slice: decoding, padding and rescale to Hounsfield units."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Shaped
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, JPEGLSNearLossless
from scipy.ndimage import label

from vertebra_core.errors import NotEvaluable, Reason, VertebraError, is_out_of_memory
from vertebra_core.reading.attributes import number
from vertebra_core.reading.files import open_file
from vertebra_core.reading.headers import SliceHeader
from vertebra_core.reading.hounsfield import ValueCounts
from vertebra_core.reading.jpeg_header import refuse_odd_frame_header
from vertebra_core.volume import AIR_HU

FASTEST_PLUGIN = {JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}
"""pydicom would try gdcm first, which wraps the same codec and takes longer: 11 ms a slice of 512 x 512, not 6.5."""
PIXEL_ATTRIBUTES = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
)
"""All that decoding needs; everything else, 64 MB of private data included, is passed over."""
TISSUE_ABOVE_HU = -900.0
"""A padding value above this could be tissue: then only what touches the border of the image is padding."""


SCRAMBLED_HU, SCRAMBLED_RATIO = 20.0, 2.0
"""Mean difference of neighbouring lines above which an image may be scrambled, and by how much it must be smaller with
rows and columns exchanged. Lines of real CTs differ by 5 to 40 HU, and several times more when they are cut wrongly."""

Slice = tuple[Shaped[np.ndarray, "y x"], int]
"""HU of a slice (int32, or float64 where the rescale is no whole number), and how many of its pixels are padding."""


def decode_slices(
    slices: Sequence[SliceHeader], air_below_hu: float, counts: ValueCounts | None = None
) -> Iterator[Slice]:
    """Yield the slices in HU, padding already air. Slices of one file must follow each other.

    Parameters
    ----------
    slices : sequence of SliceHeader
    air_below_hu : float
        Lower values are padding.
    counts : ValueCounts, optional
        Where values are counted as they were before padding became air; declared padding is not.

    Raises
    ------
    NotEvaluable
        PIXELS_DAMAGED, DECODER_MISSING.
    """
    position = 0
    while position < len(slices):
        here = slices[position].file
        until = position
        while until < len(slices) and slices[until].file == here:
            until += 1
        yield from _decode_file(slices[position:until], position, air_below_hu, counts)
        position = until


def _decode_file(
    slices: Sequence[SliceHeader], position: int, air_below_hu: float, counts: ValueCounts | None
) -> Iterator[Slice]:
    """Decode the given images of one file, each as soon as it is asked for."""
    file, done = slices[0].file, 0
    try:
        with open_file(file.archive, file.path) as stream:
            dataset = dcmread(stream, force=True, specific_tags=list(PIXEL_ATTRIBUTES))
        _complete_description(dataset)
        plugin = _need_decoder(dataset)
        wanted = [header.frame or 0 for header in slices]
        refuse_odd_frame_header(dataset, wanted)
        frames = iter_pixels(dataset, indices=wanted, raw=True, decoding_plugin=plugin)
        for header in slices:
            stored = next(frames)
            if stored.shape != (header.study.rows, header.study.columns):
                raise ValueError("decoded size differs from Rows and Columns")
            yield to_hounsfield(stored, dataset, header.rescale, air_below_hu, counts)
            done += 1
    except VertebraError:
        raise
    except Exception as error:  # decoders raise what they like, and their texts may hold paths
        if is_out_of_memory(error):
            raise NotEvaluable(Reason.OUT_OF_MEMORY) from None
        if "does not support" in str(error):  # pydicom's word for a variant that no installed decoder knows
            raise NotEvaluable(Reason.DECODER_MISSING, "no decoder for this variant of the transfer syntax") from None
        raise NotEvaluable(Reason.PIXELS_DAMAGED, f"slice {position + done + 1} cannot be decoded") from None


def refuse_scrambled(image: Shaped[np.ndarray, "y x"]) -> None:
    """Refuse an image whose Rows and Columns are exchanged: its lines run on, so that neighbours do not match.

    Raises
    ------
    NotEvaluable
        PIXELS_DAMAGED.
    """
    rows, columns = image.shape
    exchanged = image.reshape(columns, rows)
    as_it_is, otherwise = (float(np.abs(np.diff(one.astype(np.float32), axis=0)).mean()) for one in (image, exchanged))
    if rows != columns and as_it_is > SCRAMBLED_HU and as_it_is > SCRAMBLED_RATIO * otherwise:
        detail = f"lines of {columns} pixels do not match, lines of {rows} do: Rows and Columns are exchanged"
        raise NotEvaluable(Reason.PIXELS_DAMAGED, detail)


def _complete_description(dataset: Dataset) -> None:
    """Supply what a file without a meta header, or an anonymiser, left out and what a CT leaves no choice about."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, _ = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    for keyword, only_value in (("SamplesPerPixel", 1), ("PhotometricInterpretation", "MONOCHROME2")):
        if dataset.get(keyword) in (None, ""):
            setattr(dataset, keyword, only_value)


def _need_decoder(dataset: Dataset) -> str:
    """Name the decoder to use, "" for pydicom's own choice.

    Raises
    ------
    NotEvaluable
        DECODER_MISSING.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return ""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        raise NotEvaluable(Reason.DECODER_MISSING, f"no decoder for {syntax.name}")
    fastest = FASTEST_PLUGIN.get(syntax, "")
    return fastest if fastest in decoder.available_plugins else ""


def to_hounsfield(
    stored: Shaped[np.ndarray, "y x"],
    dataset: Dataset,
    rescale: tuple[float, float] | None,
    air_below_hu: float,
    counts: ValueCounts | None = None,
) -> Slice:
    """Rescale one slice to HU and turn its padding into air."""
    slope, intercept = rescale or (1.0, 0.0)
    whole = float(slope).is_integer() and float(intercept).is_integer() and stored.dtype.kind in "iu"
    if whole:
        hu = stored.astype(np.int32)
        hu *= int(slope)
        hu += int(intercept)
    else:
        hu = stored.astype(np.float64) * slope + intercept
    declared = _declared_padding(stored, dataset)
    if counts is not None:
        counts.add(hu if declared is None else hu[~declared])
    mask = padding_mask(hu, declared, air_below_hu)
    hu[mask] = AIR_HU
    return hu, int(mask.sum())


def padding_mask(
    hu: Shaped[np.ndarray, "y x"], declared: Bool[np.ndarray, "y x"] | None, air_below_hu: float
) -> Bool[np.ndarray, "y x"]:
    """Where a slice shows what the scanner did not measure (PS3.3 C.7.5.1.1.2, case R9).

    By PixelPaddingValue and PixelPaddingRangeLimit; by values that no tissue has; and, where neither says so, by
    the one value below air that fills all four corners.
    """
    mask = hu < np.asarray(air_below_hu, hu.dtype)  # of one type: no copy of the slice
    if declared is not None and declared.any():
        mask |= declared if hu[declared].max() < TISSUE_ABOVE_HU else _touching_border(declared)
    corners = hu[[0, 0, -1, -1], [0, -1, 0, -1]]
    if (corners == corners[0]).all() and air_below_hu <= corners[0] < AIR_HU:
        mask |= hu == corners[0]
    return mask


def _declared_padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    value, limit = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
    if value is None:
        return None
    low, high = sorted(_as_stored(bound, stored.dtype) for bound in (value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _as_stored(value: float, dtype: np.dtype) -> int:
    """A padding value is written signed or unsigned at random: bring it into the range of the pixels."""
    if dtype.kind not in "iu":
        return int(value)
    bounds, span = np.iinfo(dtype), 2 ** (8 * dtype.itemsize)
    return (int(value) - int(bounds.min)) % span + int(bounds.min)


def _touching_border(mask: np.ndarray) -> np.ndarray:
    parts = np.zeros(mask.shape, np.int32)
    label(mask, output=parts)
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return np.isin(parts, border[border > 0])
