"""The columns of every table: name, type, unit, description, source. Read by `vertebra_core.tables.schema` only."""

from dataclasses import dataclass

import pyarrow as pa

from vertebra_core.errors import Reason
from vertebra_core.measure import KEYPOINT_NAMES

STATUSES = ("ok", "partial", "not_evaluable", "failed")
GRADES = ("normal", "mild", "moderate", "severe")
"""From the least to the most severe; the position is the semiquantitative grade 0 to 3 (Genant 1993)."""
SHAPES = ("wedge", "biconcave", "crush")
FLAGS = ("cut_by_edge", "not_measurable")
SEXES = ("F", "M", "O")
ORIENTATIONS = ("axial", "sagittal", "coronal")
DECISIONS = ("measure", "leave")
LEVELS = (
    *(f"C{i}" for i in range(1, 8)),
    *(f"T{i}" for i in range(1, 14)),
    *(f"L{i}" for i in range(1, 7)),
)
"""Names from the top down; T13 and L6 exist in some patients."""

TEXT, WHOLE, REAL, YES_NO, DAY = pa.string(), pa.int32(), pa.float64(), pa.bool_(), pa.date32()
PLACE = pa.float32()
"""Coordinates: float32 resolves 0.0001 mm at 1000 mm from the origin, far below the noise of a keypoint."""

NONE = "none"
"""The unit of a value that has none."""


@dataclass(frozen=True)
class Column:
    """One column.

    Parameters
    ----------
    unit, description, source : str
        Never empty; the unit is "none" where there is none. Source: a DICOM keyword, an equation, a publication,
        or the step of the program that makes the value.
    values : tuple of str
        All allowed values; empty where the column is free.
    is_list : bool
        Several values in one string, separated by ";".
    reproducible : bool
        False for timings and the device, which differ between two runs over the same input.
    """

    name: str
    type: pa.DataType
    unit: str
    description: str
    source: str
    nullable: bool = True
    values: tuple[str, ...] = ()
    is_list: bool = False
    reproducible: bool = True

    def __post_init__(self) -> None:
        if not (self.name and self.unit and self.description and self.source):
            raise ValueError(f"column {self.name!r} lacks a unit, a description or a source")


def _key(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, TEXT, NONE, description, "keyed hash of the identifiers; the links stay in private/", nullable)


_STUDY = _key("study_key", "Pseudonym of the study.")
_PATIENT = _key("patient_key", "Pseudonym of the patient.")
_SERIES = _key("series_key", "Pseudonym of the series; two acquisitions of one series have two keys.")

_AGE = Column(
    "age_years",
    REAL,
    "years",
    "Age at the study; never filled in. 90 stands for 90 and more, unless `privacy.pool_old_ages` is off.",
    "PatientAge, or StudyDate and PatientBirthDate",
)
_SEX = Column("sex", TEXT, NONE, "Sex as in the header; never filled in.", "PatientSex", values=SEXES)
_WHEN = (
    Column("study_year", WHOLE, "year", "Year of the study; NULL unless `privacy.dates` is year.", "StudyDate"),
    Column(
        "study_day",
        WHOLE,
        "days",
        "Days from an origin of the patient's own, the same in all snapshots: differences within a patient are true "
        "intervals, the number itself means nothing. NULL unless `privacy.dates` is days.",
        "StudyDate and a keyed hash of the patient key",
    ),
    Column("study_date", DAY, "date", "Day of the study; NULL unless `privacy.dates` is full.", "StudyDate"),
)
"""At most one of them holds values: two together would tell more than either."""
_SITE = Column(
    "site",
    TEXT,
    NONE,
    "Where the archive comes from, as named by who ran the screening; NULL where `privacy.site` is off.",
    "run settings",
)

_SCAN = (
    Column("manufacturer", TEXT, NONE, "Maker of the scanner; NULL where `privacy.scanner` is off.", "Manufacturer"),
    Column(
        "scanner", TEXT, NONE, "Model of the scanner; NULL where `privacy.scanner` is off.", "ManufacturerModelName"
    ),
    Column("kernel", TEXT, NONE, "Reconstruction kernel.", "ConvolutionKernel"),
    Column("contrast", YES_NO, NONE, "Whether a contrast agent is recorded.", "ContrastBolusAgent"),
    Column("slice_thickness_mm", REAL, "mm", "Nominal thickness of a slice.", "SliceThickness"),
    Column(
        "slice_spacing_mm", REAL, "mm", "Median distance of neighbouring slices.", "measured from ImagePositionPatient"
    ),
    Column("pixel_spacing_mm", REAL, "mm", "Pixel size across the slice.", "PixelSpacing"),
)


def _sourced_reason(what: str) -> Column:
    codes = tuple(reason.code for reason in Reason)
    return Column("reason", TEXT, NONE, what, "vertebra_core.errors.Reason", values=codes)


_INPUT = Column(
    "input_digest",
    TEXT,
    NONE,
    "Changes whenever a file of the series is added, removed or changed.",
    "inventory",
    False,
)

_COORDINATES = tuple(
    Column(
        f"{point}_{axis}_mm",
        PLACE,
        "mm",
        f"Keypoint {number}, {point.replace('_', ' ')}: {axis} ({towards}) in the patient frame LPS.",
        "second network (paper section 3.2), mapped back to the patient",
        nullable=False,
    )
    for number, point in enumerate(KEYPOINT_NAMES)
    for axis, towards in zip("xyz", ("to the left", "to posterior", "to superior"), strict=True)
)

_NOT_YET = "NULL in this version: not estimated yet."
_CALIBRATED = "second network, calibrated on patients left out (docs/accuracy.md)"
_GRADING = "Genant 1993; paper sections 4 and 5; bounds inclusive, no rounding"

VERTEBRAE = (
    _STUDY,
    _PATIENT,
    _SERIES,
    Column(
        "vertebra_index",
        WHOLE,
        "count",
        "Position in the study from the top down, from 0.",
        "order along the curve",
        False,
    ),
    Column("level", TEXT, NONE, "Anatomical level; NULL where the view cannot tell.", "level naming", values=LEVELS),
    Column("level_confidence", REAL, "probability", "Confidence in `level`, 0 to 1.", "level naming"),
    Column(
        "score",
        REAL,
        "probability",
        "Objectness of the detection, 0 to 1.",
        "second network (paper section 3.2)",
        False,
    ),
    Column(
        "complete",
        YES_NO,
        NONE,
        "False where the edge of the scan cuts the vertebra: heights are then NULL.",
        "edge test",
        False,
    ),
    *_COORDINATES,
    Column("ha_mm", REAL, "mm", "Anterior height: keypoint 0 to 1.", "paper section 1"),
    Column("hm_mm", REAL, "mm", "Middle height: keypoint 2 to 3.", "paper section 1"),
    Column("hp_mm", REAL, "mm", "Posterior height: keypoint 4 to 5.", "paper section 1"),
    Column("ha_se_mm", REAL, "mm", "Standard error of `ha_mm`.", _CALIBRATED),
    Column("hm_se_mm", REAL, "mm", "Standard error of `hm_mm`.", _CALIBRATED),
    Column("hp_se_mm", REAL, "mm", "Standard error of `hp_mm`.", _CALIBRATED),
    Column(
        "g",
        REAL,
        "ratio",
        "Genant index: smallest of the three heights over the largest, not rounded.",
        "paper equation 1",
    ),
    Column("g_se", REAL, "ratio", "Standard error of `g`.", _CALIBRATED),
    Column(
        "grade",
        TEXT,
        NONE,
        "mild: g <= 0.80; moderate: g <= 0.74; severe: g <= 0.60 (defaults).",
        _GRADING,
        values=GRADES,
    ),
    Column(
        "shape",
        TEXT,
        NONE,
        "Which height of a graded vertebra is smallest: wedge anterior, biconcave middle, crush posterior. "
        "Equal heights: the first in this order. NULL for normal vertebrae.",
        "Genant 1993",
        values=SHAPES,
    ),
    Column(
        "depth_mm", REAL, "mm", "Antero-posterior length, mean of both endplates between the keypoints.", "keypoints"
    ),
    Column("trabecular_hu", REAL, "HU", f"Mean density of the trabecular bone. {_NOT_YET}", "original volume"),
    Column(
        "curve_position_mm",
        REAL,
        "mm",
        "Arc length of the centre below the top of the centre line.",
        "centre line",
        False,
    ),
    Column(
        "flags",
        TEXT,
        NONE,
        "cut_by_edge: the scan ends inside the vertebra. not_measurable: a height is missing or not positive.",
        "edge test; paper equation 1",
        values=FLAGS,
        is_list=True,
    ),
)

_SUMMARY = (
    Column(
        "n_vertebrae", WHOLE, "count", "Vertebrae measured: complete and with a Genant index.", "vertebrae table", False
    ),
    Column("min_g", REAL, "ratio", "Smallest `g` of the study.", "paper section 5.1"),
    Column(
        "worst_grade",
        TEXT,
        NONE,
        "Grade of `min_g`; NULL, not normal, where nothing was measured.",
        _GRADING,
        values=GRADES,
    ),
    Column(
        "spinal_deformity_index",
        WHOLE,
        "points",
        "Sum of the grades (mild 1, moderate 2, severe 3) over the measured vertebrae in view. Unseen ones add none: "
        "read it together with `n_vertebrae`.",
        "Kerkeni 2009",
    ),
)

_SECONDS = tuple(
    Column(f"seconds_{stage}", REAL, "s", f"Wall time of the stage: {what}.", "stopwatch", reproducible=False)
    for stage, what in (
        ("read", "reading the series"),
        ("curve", "centre line"),
        ("straighten", "sampling the planes"),
        ("keypoints", "finding vertebrae"),
        ("levels", "naming levels"),
        ("measure", "measuring"),
        ("total", "all stages together"),
    )
)

STUDIES = (
    _STUDY,
    _PATIENT,
    _SERIES,
    Column("status", TEXT, NONE, "How the study ended.", "screening", False, STATUSES),
    _sourced_reason("Why the study is not ok; NULL exactly when it is."),
    Column("reason_detail", TEXT, NONE, "What was found and what was expected; free of identifiers.", "screening"),
    Column(
        "repairs", TEXT, NONE, "What was mended while reading, code:count, separated by ';'.", "reading", is_list=True
    ),
    _SUMMARY[0],
    Column("n_incomplete", WHOLE, "count", "Vertebrae that the edge of the scan cuts.", "vertebrae table", False),
    Column("level_first", TEXT, NONE, "Uppermost named level in view.", "level naming", values=LEVELS),
    Column("level_last", TEXT, NONE, "Lowest named level in view.", "level naming", values=LEVELS),
    _SUMMARY[1],
    Column("min_g_vertebra_index", WHOLE, "count", "`vertebra_index` of the vertebra with `min_g`.", "vertebrae table"),
    Column("min_g_level", TEXT, NONE, "Level of the vertebra with `min_g`.", "level naming", values=LEVELS),
    *_SUMMARY[2:],
    Column(
        "cobb_deg",
        REAL,
        "degrees",
        "Largest difference of the sideways tilt of the centre line between two vertebrae in view, on the coronal "
        "plane: approximates Cobb's angle, whose endplates the mid-sagittal plane does not show. "
        "NULL below 4 vertebrae.",
        "centre line at the vertebral centres",
    ),
    Column(
        "kyphosis_deg",
        REAL,
        "degrees",
        "Angle between the upper endplate of T4 and the lower one of T12 in the sagittal plane, positive to kyphosis. "
        "NULL unless both are named and complete.",
        "keypoints",
    ),
    _AGE,
    _SEX,
    *_WHEN,
    _SITE,
    *_SCAN,
    Column("n_slices", WHOLE, "count", "Slices of the series.", "inventory", False),
    *_SECONDS,
    Column("device", TEXT, NONE, "Device that ran the networks.", "run settings", False, reproducible=False),
    _INPUT,
    Column("model_digest", TEXT, NONE, "Digest of all weights.", "vertebra_core.models", False),
    Column(
        "settings_digest",
        TEXT,
        NONE,
        "Digest of every setting a measurement depends on.",
        "vertebra_core.settings",
        False,
    ),
    Column("schema_version", TEXT, NONE, "Version of this declaration.", "vertebra_core.tables.schema", False),
    Column("software_version", TEXT, NONE, "Version of the program.", "package", False),
)

PATIENTS = (
    _PATIENT,
    Column("n_studies", WHOLE, "count", "Studies of the patient, whatever their end.", "studies table", False),
    Column(
        "n_evaluable_studies", WHOLE, "count", "Studies with at least one measured vertebra.", "studies table", False
    ),
    _key(
        "index_study_key", "Pseudonym of the index study; NULL where no study has a measured vertebra.", nullable=True
    ),
    _AGE,
    _SEX,
    *_WHEN,
    _SITE,
    Column("slice_spacing_mm", REAL, "mm", "Slice spacing of the index study.", "measured from ImagePositionPatient"),
    *_SUMMARY,
)

LEVELS_IN_VIEW = (
    _STUDY,
    _PATIENT,
    Column("level", TEXT, NONE, "Anatomical level.", "level naming", False, LEVELS),
    Column(
        "level_number",
        WHOLE,
        "count",
        "Order from the top: C1 is 1, T1 8, L1 21; T13 is 20, L6 26.",
        "level naming",
        False,
    ),
    Column("vertebra_index", WHOLE, "count", "Row of `vertebrae` with this level.", "vertebrae table", False),
    Column("level_confidence", REAL, "probability", "Confidence in `level`, 0 to 1.", "level naming"),
    Column(
        "complete", YES_NO, NONE, "False where the edge of the scan cuts it: in view, not assessed.", "edge test", False
    ),
    Column("g", REAL, "ratio", "Genant index.", "paper equation 1"),
    Column("grade", TEXT, NONE, "Grade; NULL where it could not be assessed.", _GRADING, values=GRADES),
)

INVENTORY = (
    _SERIES,
    _STUDY,
    _PATIENT,
    Column(
        "decision",
        TEXT,
        NONE,
        "Whether the series is measured and stands for its study. With `--all-series` those left as not_index_series, "
        "other_stack or other_phase are measured, too: see `other_series`.",
        "reading.select",
        False,
        DECISIONS,
    ),
    _sourced_reason("Why the series is left; NULL exactly when it stands for its study."),
    Column(
        "decision_detail", TEXT, NONE, "What was found and what was expected; free of identifiers.", "reading.select"
    ),
    Column("stack", WHOLE, "count", "Which acquisition of the series, from 0.", "slice positions", False),
    Column("file_format", TEXT, NONE, "dicom, nifti, nrrd or metaimage.", "inventory", False),
    Column("n_files", WHOLE, "count", "Files of the series, dropped duplicates included.", "inventory", False),
    Column("modality", TEXT, NONE, "Kind of acquisition.", "Modality"),
    Column("sop_class_uid", TEXT, NONE, "Kind of object; a number of the standard, not of the patient.", "SOPClassUID"),
    Column("transfer_syntax_uid", TEXT, NONE, "Encoding; a number of the standard.", "TransferSyntaxUID"),
    Column("image_type", TEXT, NONE, "Values of the image type, separated by '\\'.", "ImageType"),
    Column("rows", WHOLE, "pixels", "Rows of a slice.", "Rows"),
    Column("columns", WHOLE, "pixels", "Columns of a slice.", "Columns"),
    Column("n_slices", WHOLE, "count", "Slices of the series.", "inventory", False),
    *_SCAN,
    Column("orientation", TEXT, NONE, "Plane nearest to the slices.", "ImageOrientationPatient", values=ORIENTATIONS),
    Column("repairs", TEXT, NONE, "What was mended while stacking, code:count.", "reading", is_list=True),
    Column("extent_mm", REAL, "mm", "Length covered along the slices.", "measured from ImagePositionPatient"),
    _AGE,
    _SEX,
    *_WHEN,
    _SITE,
    _INPUT,
)
