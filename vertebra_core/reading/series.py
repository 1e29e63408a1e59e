"""A series as an inventory row: who, what, where its slices lie, and whether it will be measured."""

from dataclasses import dataclass

from vertebra_core.errors import Reason


@dataclass(frozen=True)
class Series:
    """One series met in an archive; a series that holds two acquisitions is two of these (`stack` 0 and 1).

    Identifying values (`patient_id`, UIDs, paths) stay in memory and in the cohort's private links file;
    tables hold pseudonyms made from them.

    Parameters
    ----------
    patient_id, patient_id_issuer : str
        As in the header, "" where absent. Which of them are one patient is
        decided in `vertebra_core.cohort.identity` (case R15).
    study_uid, series_uid : str
        UIDs, or the path below the archive for files without a header and for DICOM without UIDs.
    stack : int
        Which acquisition of the series, from 0.
    archive : str
        The root under which the files were found.
    path : str
        Common folder (DICOM) or file (NIfTI, NRRD, MHA) below `archive`, with forward slashes.
    files : tuple of str
        Files below `archive`, in slice order from index 0 of the volume.
    file_format : str
        "dicom", "nifti", "nrrd" or "metaimage".
    slice_spacing_mm, pixel_spacing_mm, extent_mm
        Measured from positions, not from tags; None where there is no geometry.
    age_years, sex, study_date
        As in the header; None where absent, never filled in. `study_date` is ISO 8601, `sex` is "F", "M" or "O".
    input_digest : str
        Changes whenever a file of the series is added, removed or changed.
    decision : Reason or None
        None: this series is measured. Otherwise why not.
    decision_detail : str
        What was found and what was expected; free of identifiers.
    orientation : str or None
        "axial", "sagittal", "coronal": the plane nearest to the slices; None where there is no geometry.
    repairs : tuple of str
        What was mended while the stack was put together, as codes ("duplicates_dropped:12").
    n_files : int
        Files accounted for by this row, dropped duplicates included: over all rows and all files left alone they
        add up to the files seen.
    changed_s : float
        When the newest of its files came to be as it is, seconds since the epoch; 0 where that is not known.
    site : str or None
        Where it comes from, if a table of metadata says so; else the whole run has one site.
    frames : tuple of int
        Frame of each of `files` (which then repeats the path) in multi-frame DICOM; () where a file is a slice.
    content : str
        Code of what the images show (`vertebra_core.reading.content.Content`); "plain" for a CT as it was taken.
    """

    patient_id: str
    patient_id_issuer: str
    study_uid: str
    series_uid: str
    stack: int
    archive: str
    path: str
    files: tuple[str, ...]
    file_format: str
    modality: str | None
    sop_class_uid: str | None
    transfer_syntax_uid: str | None
    image_type: tuple[str, ...]
    manufacturer: str | None
    scanner_model: str | None
    kernel: str | None
    contrast: bool | None
    rows: int | None
    columns: int | None
    n_slices: int
    slice_thickness_mm: float | None
    slice_spacing_mm: float | None
    pixel_spacing_mm: float | None
    extent_mm: float | None
    age_years: float | None
    sex: str | None
    study_date: str | None
    input_digest: str
    decision: Reason | None
    decision_detail: str = ""
    orientation: str | None = None
    repairs: tuple[str, ...] = ()
    n_files: int = 0
    changed_s: float = 0.0
    site: str | None = None
    frames: tuple[int, ...] = ()
    content: str = "plain"
