"""Why a series or a study ends without measurements, and how an error reaches a person.

    VertebraError            one clear line for the person at the keyboard
    +-- WrongUse             the command was called wrongly            -> exit code 2
    +-- CouldNotRun          storage, service or disk did not answer   -> exit code 3
    +-- NotEvaluable         this study cannot be measured             -> a row with a reason

``NotEvaluable`` is raised deep in the core and caught once, where a study becomes a row.
"""

from enum import Enum

OUT_OF_MEMORY_WORDS = ("alloc", "out of memory")
"""How libraries say it in a RuntimeError: torch "can't allocate memory", C++ "bad_alloc", ITK "Failed to allocate"."""


class Reason(Enum):
    """Why a file, series or study was left out: ``code`` goes into tables, ``sentence`` is what a person reads."""

    # -- met in the archive, not a CT image: recognised, counted, left alone
    NOT_AN_IMAGE = "not_an_image", "Not an image series (report, structure set, segmentation, presentation state)."
    OTHER_MODALITY = "other_modality", "An image, but not a CT."
    LOCALIZER = "localizer", "A localizer (scout) image."
    REPORT_PAGE = "report_page", "A dose or summary page stored as CT."
    NOT_A_VOLUME = "not_a_volume", "Single or reformatted 2D images that do not form an axial volume."
    NOT_A_PATIENT = "not_a_patient", "An animal, or a phantom of quality control, by its header."
    PROJECTION = "projection", "Slabs of largest or smallest values (MIP, MinIP): no voxel shows one place."
    DERIVED_MAP = "derived_map", "A map computed from other images (subtraction, iodine, perfusion, bone removed)."
    TIME_SERIES = "time_series", "One place taken many times (bolus tracking, perfusion): not a volume."
    NOT_DICOM = "not_dicom", "Neither DICOM nor a supported volume file."
    UNREADABLE = "unreadable", "The file cannot be opened or its header cannot be read; restore it from the source."
    EMPTY_FILE = "empty_file", "The file has no bytes."
    ALREADY_SEEN = "already_seen", "A link or folder that leads to files met before; they are counted once."

    ARRIVING = "arriving", "A file of the study changed a moment ago: left alone until it has settled."
    NESTED_ARCHIVE = "nested_archive", "A zip or tar file inside another; unpack the outer one."
    ENCRYPTED_ARCHIVE = "encrypted_archive", "A file in a zip file that asks for a password."
    DAMAGED_ARCHIVE = "damaged_archive", "A zip or tar file that cannot be unpacked; fetch it again."
    ARCHIVE_TOO_LARGE = "archive_too_large", "A zip or tar file that unpacks to far more than a study can be."

    # -- a CT series, not the one that is measured
    NOT_INDEX_SERIES = "not_index_series", "Another series of the same study was chosen; see `decision_detail`."
    OTHER_STACK = "other_stack", "Another acquisition of the same series was chosen; see `decision_detail`."
    OTHER_PHASE = "other_phase", "Another phase of the breath or the heart beat was chosen; see `decision_detail`."
    AMBIGUOUS_STACK = "ambiguous_stack", "Different images share a position and no attribute tells them apart."

    # -- a CT series whose geometry or pixels cannot be trusted
    TOO_FEW_SLICES = "too_few_slices", "Too few slices for a vertebra to be seen from end to end."
    MISSING_SLICES = "missing_slices", "More slices are missing than may be filled in safely; fetch the series again."
    UNEVEN_SPACING = "uneven_spacing", "The distance between slices changes inside the series."
    NO_GEOMETRY = "no_geometry", "Image position, orientation or pixel spacing is absent or impossible."
    GANTRY_TILT = "gantry_tilt", "The slices are sheared by a gantry tilt larger than may be rectified."
    TOO_LARGE = "too_large", "More voxels than a CT can have: the header is wrong, or the series is many."
    SLICES_TOO_THICK = "slices_too_thick", "Slices lie too far apart, or are too thick, for heights to mean anything."
    PIXELS_DAMAGED = "pixels_damaged", "Pixel data are truncated or cannot be decoded; fetch the series again."
    DECODER_MISSING = "decoder_missing", "No decoder for this transfer syntax; `vertebra doctor` lists them."
    NOT_HOUNSFIELD = "not_hounsfield", "Pixel values are not Hounsfield units (no rescale, or a window burnt in)."
    NOT_FINITE = "not_finite", "The volume has voxels that are not numbers."
    CONSTANT_IMAGE = "constant_image", "All voxels have the same value."

    # -- a sound volume in which nothing can be measured
    NO_SPINE = "no_spine", "No vertebral column in view."
    NO_VERTEBRA = "no_vertebra", "A column is in view, but no vertebra could be measured."
    SOME_NOT_MEASURED = "some_not_measured", "Not every whole vertebra in view could be measured; see `flags`."

    # -- the engine gave up
    WORKER_DIED = "worker_died", "The process that measured this study died; see `vertebra retry`."
    DEADLINE = "deadline", "The study took longer than the deadline; see `vertebra retry`."
    OUT_OF_MEMORY = "out_of_memory", "The study needed more memory than a worker may use; see `vertebra retry`."
    FAILED = "failed", "An unforeseen error; its digest is in the log."

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence


class VertebraError(Exception):
    """An error whose text is meant for the person who called; shown as one line, without a traceback."""


class WrongUse(VertebraError):
    """The command or a setting was used wrongly."""


class CouldNotRun(VertebraError):
    """Something the command needs (storage, a service, a disk) did not answer."""


class NotEvaluable(VertebraError):
    """A study that cannot be measured, with the reason that becomes its row.

    Parameters
    ----------
    reason : Reason
        What the table will say.
    detail : str
        What was found, where, and what was expected. Never a name, an identifier or free text of a header.

    Examples
    --------
    >>> str(NotEvaluable(Reason.TOO_FEW_SLICES, "2 slices, at least 8 expected"))
    'too_few_slices: 2 slices, at least 8 expected'
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail or reason.sentence
        super().__init__(f"{reason.code}: {self.detail}")

    def __reduce__(self):
        return NotEvaluable, (self.reason, self.detail)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("std::bad_alloc")), is_out_of_memory(ValueError("allocation of beds"))
    (True, False)
    """
    said = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in OUT_OF_MEMORY_WORDS)
    return isinstance(error, MemoryError) or said


class Gone(NotEvaluable):
    """A file of the series is not there any more: that says where the archive went, and nothing about the study.

    Examples
    --------
    >>> import pickle
    >>> type(pickle.loads(pickle.dumps(Gone()))).__name__, Gone().reason.code
    ('Gone', 'unreadable')
    """

    def __init__(self) -> None:
        super().__init__(Reason.UNREADABLE, "a file of the series is gone")

    def __reduce__(self):
        return Gone, ()
