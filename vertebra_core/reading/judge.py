"""Whether a stack of images can be measured, from the headers alone: its grid, or the reason why not."""

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.attributes import CAPTURE_CLASSES
from vertebra_core.reading.grid import SliceGrid, slice_grid
from vertebra_core.reading.headers import SliceHeader
from vertebra_core.reading.stacks import Stack, is_localizer
from vertebra_core.settings import ReadingSettings

PAGE_WORDS = {"SCREEN SAVE", "DOSE_INFO", "PATIENT_INFO", "RESULTS", "DOSE", "SCREEN_CAPTURE", "SUMMARY", "PROTOCOL"}
"""ImageType values of pages of text stored as images."""
HOUNSFIELD_TYPES = {"", "HU", "US", "UNSPECIFIED"}
"""RescaleType values under which pixels may be Hounsfield units (PS3.3 C.11.1.1.2); others are iodine, Z and so on."""


def judge_stack(stack: Stack, settings: ReadingSettings) -> tuple[SliceGrid | None, Reason | None, str]:
    """Say from the headers whether a stack can be measured: its grid, or the reason why not and a detail."""
    reason = _kind_of_image(stack.slices[0])
    if reason:
        return None, reason, ""
    if stack.collides:
        return None, Reason.AMBIGUOUS_STACK, f"among {len(stack.slices)} slices some share a position"
    try:
        grid = slice_grid(stack.slices, settings)
    except NotEvaluable as refusal:
        return None, refusal.reason, refusal.detail
    study = stack.slices[0].study
    if (study.rows or 0) * (study.columns or 0) * grid.n_slices > settings.max_voxels:
        return grid, Reason.TOO_LARGE, f"{study.rows} x {study.columns} x {grid.n_slices} voxels"
    short = sum(not header.complete for header in stack.slices)
    if short:
        return grid, Reason.PIXELS_DAMAGED, f"{short} of {len(stack.slices)} files are shorter than their header says"
    if study.rescale_type not in HOUNSFIELD_TYPES or study.bits_stored <= 8:
        return grid, Reason.NOT_HOUNSFIELD, f"{study.bits_stored} bits stored; rescale to Hounsfield units expected"
    return grid, None, ""


def _kind_of_image(header: SliceHeader) -> Reason | None:
    """Recognise what is stored as CT but is no slice of a CT volume."""
    study = header.study
    if is_localizer(header):
        return Reason.LOCALIZER
    no_place = header.position is None or header.orientation is None
    page = study.sop_class_uid in CAPTURE_CLASSES and no_place
    if page or study.samples_per_pixel > 1 or not PAGE_WORDS.isdisjoint(study.image_type):
        return Reason.REPORT_PAGE
    return None
