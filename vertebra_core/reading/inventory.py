"""What an archive holds: a row for every series met, and a count of everything else."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.uid import RawDataStorage

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.arrival import Settling, leave_arriving, reason_now
from vertebra_core.reading.attributes import NO_IMAGE_MODALITIES, StudyAttributes
from vertebra_core.reading.files import ArchiveFile, LeftAlone
from vertebra_core.reading.gather import Gathering
from vertebra_core.reading.grid import directions, head_foot_extent, plane_of
from vertebra_core.reading.headers import ObjectHeader, SliceHeader, VolumeHeader
from vertebra_core.reading.judge import judge_stack
from vertebra_core.reading.scan import Notes, Progress, scan_headers, silent
from vertebra_core.reading.series import Series
from vertebra_core.reading.stacks import Stack, split_stacks
from vertebra_core.reading.volume_files import VolumeGrid
from vertebra_core.settings import ReadingSettings


@dataclass(frozen=True)
class Inventory:
    """Everything met in the archives.

    Parameters
    ----------
    series : tuple of Series
        One per stack and per object series, measured or not, in a stable order.
    left_alone : dict of Reason to int
        Files and links that belong to no series, counted by reason.
    files_seen : int
        The files of all series (`Series.n_files`) and all that was left alone.
    """

    series: tuple[Series, ...]
    left_alone: Mapping[Reason, int] = field(default_factory=dict)
    files_seen: int = 0


def find_series(
    archives: Sequence[Path | str],
    settings: ReadingSettings,
    on_progress: Progress = silent,
    notes: Notes | None = None,
    processes: int = 1,
    settling: Settling | None = None,
) -> Inventory:
    """Find every series below the archives and decide from the headers which can be measured.

    Parameters
    ----------
    archives : sequence of path or URL
    settings : ReadingSettings
    on_progress : callable
        Hears how many files have been looked at.
    notes : Notes, optional
        What an earlier night learnt; takes down what this one learns.
    processes : int
        Processes to read with, where there are many files.
    settling : Settling, optional
        When a study counts as settled; without it every study does.

    Raises
    ------
    WrongUse
        An archive that does not exist. An empty one has no series.
    CouldNotRun
        A store that does not answer.
    """
    images: Gathering[SliceHeader] = Gathering()
    objects: Gathering[ObjectHeader] = Gathering()
    rows: list[Series] = []
    left_alone: Counter[Reason] = Counter()
    for header in scan_headers(archives, settings, on_progress, notes, processes):
        match header:
            case LeftAlone():
                left_alone[reason_now(header, settling)] += 1
            case VolumeHeader():
                rows.append(volume_series(header))
            case ObjectHeader(study=study):
                objects.add((*_series_identity(study, header.file), study.sop_class_uid), header)
            case SliceHeader(study=study):
                images.add(_series_identity(study, header.file), header)
    for slices in images.lists():
        rows += image_series(slices, settings)
    rows += [object_series(members) for members in objects.lists()]
    files_seen = sum(series.n_files for series in rows) + sum(left_alone.values())
    rows = number_stacks(tell_archives_apart(rows))
    rows = leave_arriving(rows, settling) if settling else rows
    rows.sort(key=lambda series: (series.archive, series.path, series.study_uid, series.series_uid, series.stack))
    return Inventory(tuple(rows), dict(left_alone), files_seen)


def _series_identity(study: StudyAttributes, file: ArchiveFile) -> tuple[str, ...]:
    """What images of one series share; a series UID counts across archives, a folder only within its own."""
    archive = "" if study.series_uid_in_header else file.archive
    return archive, study.patient_id, study.study_uid, study.series_uid


def tell_archives_apart(rows: Sequence[Series]) -> list[Series]:
    """Prefix names that are paths where two archives hold the same path: they are different studies."""
    homes: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not is_uid(row.study_uid) and row.archive not in homes[row.study_uid]:
            homes[row.study_uid].append(row.archive)
    apart = []
    for row in rows:
        if homes.get(row.study_uid, [row.archive])[0] != row.archive:
            name = f"{row.archive}/{row.study_uid}"
            own = row.series_uid if is_uid(row.series_uid) else f"{row.archive}/{row.series_uid}"
            row = replace(row, study_uid=name, series_uid=own)
        apart.append(row)
    return apart


def number_stacks(rows: Sequence[Series]) -> list[Series]:
    """Give each row of one series UID a number of its own, as few others as possible.

    A series UID may be met in two studies or under two patients, and beside images with objects that are none.
    """
    taken: dict[str, set[int]] = defaultdict(set)
    numbered: dict[int, Series] = {}
    for i in sorted(range(len(rows)), key=lambda i: _claim(rows[i])):
        used = taken[rows[i].series_uid]
        stack = rows[i].stack if rows[i].stack not in used else max(used) + 1
        used.add(stack)
        numbered[i] = replace(rows[i], stack=stack)
    return [numbered[i] for i in range(len(rows))]


def _claim(row: Series) -> tuple:
    is_object = row.decision in (Reason.OTHER_MODALITY, Reason.NOT_AN_IMAGE)
    return is_object, row.study_uid, row.patient_id, row.stack, row.sop_class_uid or ""


def is_uid(name: str) -> bool:
    """True for a DICOM UID, False for the path that stands in for one."""
    return re.fullmatch(r"[0-9.]+", name) is not None


# -- images -------------------------------------------------------------------------------------------------------


def image_series(slices: Sequence[SliceHeader], settings: ReadingSettings) -> list[Series]:
    """Make a row for each stack of one DICOM series."""
    accounted: set[ArchiveFile] = set()
    rows = []
    for number, stack in enumerate(split_stacks(slices, settings)):
        files = {header.file for header in (*stack.slices, *stack.duplicates)} - accounted
        accounted |= files
        rows.append(_stack_series(stack, number, len(files), settings))
    return rows


def _stack_series(stack: Stack, number: int, n_files: int, settings: ReadingSettings) -> Series:
    first = stack.slices[0]
    grid, decision, detail = judge_stack(stack, settings)
    ordered = [stack.slices[i] for i in grid.order] if grid else list(stack.slices)
    axes = directions(first)
    repairs = (f"duplicates_dropped:{len(stack.duplicates)}",) if stack.duplicates else ()
    repairs += stack.repairs
    mended = Counter(code for header in stack.slices for code in header.mended)
    repairs += tuple(f"{code}:{count}" for code, count in sorted(mended.items()))
    return Series(
        **_shared(first.study, [header.file for header in ordered]),
        stack=number,
        n_slices=len(ordered),
        slice_thickness_mm=first.slice_thickness,
        slice_spacing_mm=float(grid.spacing[2]) if grid else None,
        pixel_spacing_mm=min(first.pixel_spacing) if first.pixel_spacing else None,
        extent_mm=grid.head_foot_extent(first.study.rows or 1, first.study.columns or 1) if grid else None,
        input_digest=input_digest((*stack.slices, *stack.duplicates)),
        decision=decision,
        decision_detail=detail,
        orientation=plane_of(axes[2]) if axes else None,
        repairs=repairs,
        n_files=n_files,
        changed_s=max(header.file.changed_s for header in (*stack.slices, *stack.duplicates)),
        frames=tuple(header.frame or 0 for header in ordered) if first.frame is not None else (),
    )


# -- everything else ----------------------------------------------------------------------------------------------


def object_series(members: Sequence[ObjectHeader]) -> Series:
    """Make the row of DICOM objects that are no CT image."""
    study = members[0].study
    raw = study.sop_class_uid == RawDataStorage
    has_pixels = study.rows is not None and study.modality not in NO_IMAGE_MODALITIES and not raw
    return Series(
        **_shared(study, [member.file for member in members]),
        stack=0,
        n_slices=len(members),
        slice_thickness_mm=None,
        slice_spacing_mm=None,
        pixel_spacing_mm=None,
        extent_mm=None,
        input_digest=_digest(f"{member.file.path} {member.file.version}" for member in members),
        decision=Reason.OTHER_MODALITY if has_pixels else Reason.NOT_AN_IMAGE,
        decision_detail=study.kind_in_words if has_pixels else "",
        n_files=len(members),
        changed_s=max(member.file.changed_s for member in members),
    )


def volume_series(header: VolumeHeader) -> Series:
    """Make the row of a NIfTI, NRRD or MetaImage file, which is a study of its own."""
    file = header.file
    judged = header.judged
    grid = judged if isinstance(judged, VolumeGrid) else None
    refused = isinstance(judged, NotEvaluable)
    decision, detail = (judged.reason, judged.detail) if refused else (None, "")
    spacing = grid.spacing if grid else None
    return Series(
        patient_id="",
        patient_id_issuer="",
        study_uid=file.path,
        series_uid=file.path,
        stack=0,
        archive=file.archive,
        path=file.path,
        files=(file.path,),
        file_format=header.file_format,
        modality=None,
        sop_class_uid=None,
        transfer_syntax_uid=None,
        image_type=(),
        manufacturer=None,
        scanner_model=None,
        kernel=None,
        contrast=None,
        rows=grid.shape_xyz[1] if grid else None,
        columns=grid.shape_xyz[0] if grid else None,
        n_slices=grid.shape_xyz[2] if grid else 0,
        slice_thickness_mm=None,
        slice_spacing_mm=float(spacing[2]) if spacing is not None else None,
        pixel_spacing_mm=float(spacing[:2].min()) if spacing is not None else None,
        extent_mm=head_foot_extent(grid.patient_from_voxel, grid.shape_xyz) if grid else None,
        age_years=None,
        sex=None,
        study_date=None,
        input_digest=_digest([f"{file.path} {file.version}"]),
        decision=decision,
        decision_detail=detail,
        orientation=plane_of(grid.patient_from_voxel[:3, 2]) if grid else None,
        n_files=1,
        changed_s=file.changed_s,
    )


def _shared(study: StudyAttributes, files: Sequence[ArchiveFile]) -> dict:
    """The columns that a DICOM series takes over from its headers."""
    archive = min(file.archive for file in files)
    paths = tuple(file.path if file.archive == archive else f"{file.archive}/{file.path}" for file in files)
    return {
        "patient_id": study.patient_id,
        "patient_id_issuer": study.patient_id_issuer,
        "study_uid": study.study_uid,
        "series_uid": study.series_uid,
        "archive": archive,
        "path": common_folder(paths),
        "files": paths,
        "file_format": "dicom",
        "modality": study.modality or None,
        "sop_class_uid": study.sop_class_uid or None,
        "transfer_syntax_uid": study.transfer_syntax_uid or None,
        "image_type": study.image_type,
        "manufacturer": study.manufacturer,
        "scanner_model": study.scanner_model,
        "kernel": study.kernel,
        "contrast": study.contrast,
        "rows": study.rows,
        "columns": study.columns,
        "age_years": study.age_years,
        "sex": study.sex,
        "study_date": study.study_date,
        "content": study.content,
    }


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that holds all paths; "" for the archive itself.

    Examples
    --------
    >>> common_folder(["a/b/1.dcm", "a/c/2.dcm"]), common_folder(["1.dcm"])
    ('a', '')
    """
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    depth = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return "/".join(first[:depth])


def input_digest(slices: Iterable[SliceHeader]) -> str:
    """Digest of a stack: changes when a slice comes, goes or is rewritten, not when a file is renamed."""
    return _digest(
        f"{header.sop_instance_uid or header.file.path} {header.frame} {header.file.version}" for header in slices
    )


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
