"""Whether a stack of images can be measured, from the headers alone: its grid, or the reason why not."""

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.attributes import CAPTURE_CLASSES
from vertebra_core.reading.content import Content, content_named, of_image_type
from vertebra_core.reading.grid import SliceGrid, slice_grid
from vertebra_core.reading.headers import SliceHeader
from vertebra_core.reading.stacks import Stack, count_places, is_localizer
from vertebra_core.settings import ReadingSettings

NEVER_MEASURED = {
    Content.PROJECTION: Reason.PROJECTION,
    Content.DERIVED_MAP: Reason.DERIVED_MAP,
    Content.CURVED: Reason.NOT_A_VOLUME,
}
BETTER_WORD = {
    Content.LOCALIZER: Reason.LOCALIZER,
    Content.REPORT_PAGE: Reason.REPORT_PAGE,
    Content.TIME_SERIES: Reason.TIME_SERIES,
}
"""What a description says of images that form no volume anyway."""
NO_VOLUME = {Reason.TOO_FEW_SLICES, Reason.NOT_A_VOLUME, Reason.NO_GEOMETRY, Reason.AMBIGUOUS_STACK}
HOUNSFIELD_TYPES = {"", "HU", "US", "UNSPECIFIED"}
"""RescaleType values under which pixels may be Hounsfield units (PS3.3 C.11.1.1.2); others are iodine, Z and so on."""


def judge_stack(stack: Stack, settings: ReadingSettings) -> tuple[SliceGrid | None, Reason | None, str]:
    """Say from the headers whether a stack can be measured: its grid, or the reason why not and a detail."""
    study = stack.slices[0].study
    reason = _kind_of_image(stack.slices[0])
    if reason:
        return None, reason, ""
    try:
        _refuse_collisions(stack, settings)
        grid = slice_grid(stack.slices, settings)
    except NotEvaluable as refusal:
        reason = BETTER_WORD.get(content_named(study.content), refusal.reason)
        return None, reason if refusal.reason in NO_VOLUME else refusal.reason, refusal.detail
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
    if not study.is_patient:
        return Reason.NOT_A_PATIENT
    if is_localizer(header):
        return Reason.LOCALIZER
    no_place = header.position is None or header.orientation is None
    page = study.sop_class_uid in CAPTURE_CLASSES and no_place
    if page or study.samples_per_pixel > 1 or of_image_type(study.image_type) is Content.REPORT_PAGE:
        return Reason.REPORT_PAGE
    return NEVER_MEASURED.get(content_named(study.content))


def _refuse_collisions(stack: Stack, settings: ReadingSettings) -> None:
    """Refuse images that share positions, by whether a few places or all were taken again."""
    if not stack.collides:
        return
    n_places = count_places(stack.slices)
    if n_places < settings.min_slices:
        raise NotEvaluable(Reason.TIME_SERIES, f"{len(stack.slices)} images of {n_places} places")
    raise NotEvaluable(Reason.AMBIGUOUS_STACK, f"among {len(stack.slices)} slices some share a position")
