"""Headers of volume files: the affine is ITK's for any rotation, and a header that contradicts itself is refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.file_header import Inflated
from vertebra_core.reading.nifti import parse_header
from vertebra_core.reading.text_headers import parse_metaimage, parse_nrrd
from vertebra_core.reading.volume_files import read_file_header, read_volume_file
from vertebra_core.settings import ReadingSettings

FORMATS = {".nii": "nifti", ".nii.gz": "nifti", ".nrrd": "nrrd", ".mha": "metaimage", ".mhd": "metaimage"}


def written(folder: Path, suffix: str, turn: np.ndarray, spacing: np.ndarray, origin: np.ndarray, dtype) -> sitk.Image:
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    image = sitk.GetImageFromArray(voxels)
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    sitk.WriteImage(image, str(folder / f"v{suffix}"))
    return image


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    mirrored=st.booleans(),
    dtype=st.sampled_from([np.int16, np.uint16, np.int32, np.float32, np.float64]),
)
def test_the_affine_and_the_type_are_those_of_itk(suffix, seed, mirrored, dtype, tmp_path_factory):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix() * [1, 1, -1 if mirrored else 1]
    spacing, origin = rng.uniform(0.3, 6.0, 3), rng.uniform(-900, 900, 3)
    folder = tmp_path_factory.mktemp("v")
    image = written(folder, suffix, turn, spacing, origin, dtype)
    header = read_file_header(str(folder), f"v{suffix}", FORMATS[suffix])
    expected = np.eye(4)
    expected[:3, :3], expected[:3, 3] = turn * spacing, origin
    assert header.shape == image.GetSize()
    assert (header.dtype.kind, header.dtype.itemsize) == (np.dtype(dtype).kind, np.dtype(dtype).itemsize)
    np.testing.assert_allclose(header.patient_from_voxel, expected, atol=2e-3 if "nii" in suffix else 1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_voxels_are_those_of_itk(suffix, dtype, compressed, tmp_path):
    rng = np.random.default_rng(1)
    hu = rng.integers(0 if np.dtype(dtype).kind == "u" else -1000, 3000, (20, 12, 10)).astype(dtype)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((3.0, 3.0, 2.0))
    sitk.WriteImage(image, str(tmp_path / f"v{suffix}"), useCompression=compressed)
    grid, voxels = read_volume_file(str(tmp_path), f"v{suffix}", FORMATS[suffix], ReadingSettings())
    assert (voxels == hu).all()
    assert voxels.dtype == (np.float32 if np.dtype(dtype).kind == "f" else np.int16)
    np.testing.assert_allclose(grid.spacing, [3, 3, 2], rtol=1e-6)


# -- NIfTI, field by field ----------------------------------------------------------------------------------------


def nifti(**changes) -> bytes:
    """A header of 40 x 40 x 40 voxels of 1 x 1 x 2 mm by qform and sform, with some fields changed."""
    fields = {
        "dim": (40, "8h", (3, 40, 40, 40, 1, 1, 1, 1)), "datatype": (70, "h", (4,)), "bitpix": (72, "h", (16,)),
        "pixdim": (76, "8f", (1, 1, 1, 2, 0, 0, 0, 0)), "vox_offset": (108, "f", (352,)),
        "scl_slope": (112, "f", (1,)), "scl_inter": (116, "f", (0,)), "xyzt_units": (123, "b", (2,)),
        "qform_code": (252, "h", (1,)), "sform_code": (254, "h", (1,)), "quatern": (256, "3f", (0, 0, 0)),
        "qoffset": (268, "3f", (5, 6, 7)), "srow": (280, "12f", (1, 0, 0, 5, 0, 1, 0, 6, 0, 0, 2, 7)),
    }  # fmt: skip
    header = bytearray(600)
    struct.pack_into("<i", header, 0, 348)
    header[344:348] = b"n+1\0"
    for name, (offset, layout, value) in fields.items():
        struct.pack_into("<" + layout, header, offset, *changes.get(name, value))
    return bytes(header)


def test_the_affine_is_turned_to_lps():
    affine = parse_header(nifti()).patient_from_voxel
    np.testing.assert_array_equal(affine, [[-1, 0, 0, -5], [0, -1, 0, -6], [0, 0, 2, 7], [0, 0, 0, 1]])
    only_q = parse_header(nifti(sform_code=(0,), srow=(9,) * 12)).patient_from_voxel
    np.testing.assert_array_equal(only_q, affine)
    assert parse_header(nifti(sform_code=(0,), qform_code=(0,))).patient_from_voxel is None


def test_lengths_may_stand_in_metres_and_micrometres():
    tiny = 0.001
    metres = nifti(
        xyzt_units=(1,),
        pixdim=(1, tiny, tiny, 2 * tiny, 0, 0, 0, 0),
        qoffset=(5 * tiny, 6 * tiny, 7 * tiny),
        srow=tuple(tiny * n for n in (1, 0, 0, 5, 0, 1, 0, 6, 0, 0, 2, 7)),
    )
    expected = parse_header(nifti()).patient_from_voxel
    np.testing.assert_allclose(parse_header(metres).patient_from_voxel, expected, rtol=1e-6)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pixdim": (1, 1, 1, 3, 0, 0, 0, 0)}, Reason.NO_GEOMETRY),
        ({"srow": (1, 0, 0, 5, 0, 1, 0, 6, 0, 0, 3, 7)}, Reason.NO_GEOMETRY),
        ({"srow": (NAN,) * 12}, Reason.NO_GEOMETRY),
        ({"srow": (4.0,) * 12}, Reason.NO_GEOMETRY),
        ({"srow": (1, 0, 0, 5, 0, 1, 0, 6, 0, 0.3, 1.98, 7)}, Reason.NO_GEOMETRY),
        ({"srow": (-1, 0, 0, 5, 0, 1, 0, 6, 0, 0, 2, 7)}, Reason.NO_GEOMETRY),
        ({"sform_code": (0,), "quatern": (NAN, 0, 0)}, Reason.NO_GEOMETRY),
        ({"sform_code": (0,), "quatern": (2, 0, 0)}, Reason.NO_GEOMETRY),
        ({"pixdim": (1, 0, 0, 0, 0, 0, 0, 0)}, Reason.NO_GEOMETRY),
        ({"pixdim": (1, NAN, INF, 2, 0, 0, 0, 0)}, Reason.NO_GEOMETRY),
        ({"xyzt_units": (7,)}, Reason.NO_GEOMETRY),
        ({"dim": (9, 40, 40, 40, 1, 1, 1, 1)}, Reason.UNREADABLE),
        ({"dim": (3, 40, -40, 40, 1, 1, 1, 1)}, Reason.UNREADABLE),
        ({"bitpix": (32,)}, Reason.UNREADABLE),
        ({"datatype": (5,)}, Reason.UNREADABLE),
        ({"datatype": (128,), "bitpix": (24,)}, Reason.NOT_A_VOLUME),
        ({"vox_offset": (INF,)}, Reason.UNREADABLE),
        ({"vox_offset": (100,)}, Reason.UNREADABLE),
        ({"scl_slope": (INF,)}, Reason.UNREADABLE),
    ],
)
def test_a_nifti_header_that_contradicts_itself_is_refused(changes, reason):
    with pytest.raises(NotEvaluable) as refusal:
        parse_header(nifti(**changes))
    assert refusal.value.reason is reason


@pytest.mark.parametrize(("slope", "scale"), [((0,), (1, 0)), ((NAN,), (1, 0)), ((2,), (2, -1024))])
def test_a_slope_that_is_not_set_scales_nothing(slope, scale):
    assert parse_header(nifti(scl_slope=slope, scl_inter=(-1024,))).scale == scale


# -- words --------------------------------------------------------------------------------------------------------

NRRD = (
    b"NRRD0004\n# a comment\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 40 40 40\n"
    b"space directions: (1,0,0) (0,1,0) (0,0,2)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    b"space origin: (5,6,7)\nuser:=key\n\n"
)
META = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    b"TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 5 6 7\nElementSpacing = 1 1 2\nDimSize = 40 40 40\n"
    b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)


def test_both_headers_in_words_say_the_same():
    nrrd, meta = parse_nrrd(NRRD), parse_metaimage(META)
    expected = [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]]
    np.testing.assert_array_equal(nrrd.patient_from_voxel, expected)
    np.testing.assert_array_equal(meta.patient_from_voxel, expected)
    assert (nrrd.offset, meta.offset) == (len(NRRD), len(META))
    assert nrrd.dtype == meta.dtype == np.dtype("<i2")


def test_a_nrrd_in_ras_is_turned():
    ras = parse_nrrd(NRRD.replace(b"left-posterior-superior", b"RAS")).patient_from_voxel
    np.testing.assert_array_equal(ras, [[-1, 0, 0, -5], [0, -1, 0, -6], [0, 0, 2, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "header",
    [
        NRRD.replace(b"space: left-posterior-superior\n", b""),
        NRRD.replace(b"left-posterior-superior", b"scanner-xyz"),
        META.replace(b"ElementSpacing = 1 1 2\n", b""),
    ],
    ids=["no space", "a space without a patient", "no spacing"],
)
def test_a_header_that_does_not_say_where_it_lies_has_no_affine(header):
    parsed = parse_nrrd(header) if header.startswith(b"NRRD") else parse_metaimage(header)
    assert parsed.patient_from_voxel is None


REFUSED = {
    (b"sizes: 40 40 40", b"sizes: 40 40"): Reason.UNREADABLE,
    (b"sizes: 40 40 40", b"sizes: 40 40 -40"): Reason.UNREADABLE,
    (b"sizes: 40 40 40", b"sizes: 40 40 40\nsizes: 40 40 41"): Reason.UNREADABLE,
    (b"dimension: 3", b"dimension: 16"): Reason.UNREADABLE,
    (b"type: short", b"type: block"): Reason.UNREADABLE,
    (b"endian: little\n", b""): Reason.UNREADABLE,
    (b"encoding: raw", b"encoding: bzip2"): Reason.UNREADABLE,
    (b"encoding: raw", b"encoding: raw\nline skip: 3"): Reason.UNREADABLE,
    (b"encoding: raw", b"encoding: raw\nbyte skip: -7"): Reason.UNREADABLE,
    (b"encoding: raw", b"encoding: raw\ndata file: ../../secret"): Reason.UNREADABLE,
    (b"encoding: raw", b"encoding: raw\ndata file: v%03d.raw 1 9 1"): Reason.UNREADABLE,
    (b"(0,0,2)", b"(0,0,0)"): Reason.NO_GEOMETRY,
    (b"(0,0,2)", b"(0,1,2)"): Reason.NO_GEOMETRY,
    (b"(0,0,2)", b"(0,2)"): Reason.NO_GEOMETRY,
    (b"(0,0,2)", b"none"): Reason.NO_GEOMETRY,
    (b"(0,0,2)", b"(0,0,1e30)"): Reason.NO_GEOMETRY,
    (b"(5,6,7)", b"5 6 7"): Reason.NO_GEOMETRY,
    (b"NDims = 3", b"NDims = 9"): Reason.UNREADABLE,
    (b"MET_SHORT", b"MET_STRING"): Reason.UNREADABLE,
    (b"BinaryData = True", b"BinaryData = False"): Reason.UNREADABLE,
    (b"CompressedData = False", b"CompressedData = 7"): Reason.UNREADABLE,
    (b"= LOCAL", b"= LIST"): Reason.UNREADABLE,
    (b"= LOCAL", b"= ../v.raw"): Reason.UNREADABLE,
    (b"ElementDataFile = LOCAL\n", b""): Reason.UNREADABLE,
    (b"1 0 0 0 1 0 0 0 1", b"1 0 0 0 1 0 0 0 0"): Reason.NO_GEOMETRY,
    (b"1 0 0 0 1 0 0 0 1", b"1 0 0"): Reason.NO_GEOMETRY,
    (b"ElementSpacing = 1 1 2", b"ElementSpacing = 1 1 nan"): Reason.NO_GEOMETRY,
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change[1].decode()[-24:].replace("\n", " "))
def test_a_header_in_words_that_leads_nowhere_is_refused(change):
    header = NRRD if change[0] in NRRD else META
    assert change[0] in header
    with pytest.raises(NotEvaluable) as refusal:
        (parse_nrrd if header is NRRD else parse_metaimage)(header.replace(*change))
    assert refusal.value.reason is REFUSED[change]


def test_a_word_for_a_number_is_an_unreadable_header(tmp_path):
    (tmp_path / "v.nrrd").write_bytes(NRRD.replace(b"dimension: 3", b"dimension: three"))
    with pytest.raises(NotEvaluable) as refusal:
        read_file_header(str(tmp_path), "v.nrrd", "nrrd")
    assert refusal.value.reason is Reason.UNREADABLE


def test_a_stream_of_zlib_without_its_end_is_told_from_a_short_one():
    packed = zlib.compress(bytes(10_000))
    whole, cut = Inflated(io.BytesIO(packed)), Inflated(io.BytesIO(packed[:-6]))
    assert len(b"".join(iter(lambda: whole.read(999), b""))) == 10_000
    with pytest.raises(EOFError):
        list(iter(lambda: cut.read(999), b""))
