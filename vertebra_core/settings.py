"""Every threshold of the method, with its unit and where it comes from. Frozen; passed as arguments."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ReadingSettings:
    """What a series must be like to be measured, and how much may be mended."""

    min_slices: int = 8
    """Fewer cannot show a vertebra end to end: 8 slices of 3 mm make 24 mm, a thoracic body with its discs
    (docs/numbers.md)."""
    min_extent_mm: float = 30.0
    """Shortest head-foot extent: the median distance of two lumbar centres is 31-33 mm (docs/numbers.md)."""
    max_slice_spacing_mm: float = 6.0
    """At 5 mm place and level hold but heights do not (docs/numbers.md); beyond that not even the place. It holds for
    SliceThickness too: slabs of 10 mm every millimetre show no endplate."""
    usable_coverage: float = 0.5
    """Share of the longest extent in the study below which a series is only a part of what was scanned."""
    fine_enough_mm: float = 1.5
    """Of slices up to this the kernel decides, not the thickness: two readings agree equally well up to 1.6 mm
    (docs/numbers.md)."""
    spacing_tolerance: float = 0.10
    """Steps may differ from the median step by this fraction: rounding of positions reaches 3.4 % at 0.3 mm
    (case R14)."""
    max_filled_gap_mm: float = 12.0
    """Missing slices are filled in where those on both sides lie no further apart: half of the smallest distance of two
    vertebrae, so that none is lost. At a wider gap the series is parted."""
    max_filled_fraction: float = 0.10
    """Largest share of slices that may be filled in; a single one always may."""
    max_tilt_degrees: float = 30.0
    """Gantries tilt to +-30 degrees; more is not a tilt but a wrong header."""
    max_voxels: int = 2**31
    """A whole body at 1024 x 1024 pixels has fewer than 2000 slices; more is a wrong header, and 4 GiB of memory."""
    air_below_hu: float = -1100.0
    """No tissue and no air is below -1000 HU but for noise: lower values are padding outside the scan circle
    (case R9)."""


@dataclass(frozen=True)
class CurveSettings:
    """Step 1 of the method: the centre line (paper 3.1)."""

    grid_mm: float = 3.0
    """Resolution of the first network (paper 5.1)."""
    presence: float = 0.5
    """Probability above which a slice is taken to show a vertebral body."""
    smoothing_mm: float = 15.0
    """Standard deviation of the robust smoother along z: about half a vertebra and its disc (20-33 mm,
    docs/numbers.md)."""
    outlier_mm: float = 8.0
    """A slice further than this from the robust line is left out of it: four times the mean error of the network."""
    min_length_mm: float = 30.0
    """Shortest line that can hold one whole vertebra."""
    margin_mm: float = 30.0
    """The line is prolonged by about one vertebra beyond the first and last slice with a body: the second network then
    sees what follows the last one, and a whole vertebra at the end is not taken for a cut one."""


@dataclass(frozen=True)
class SymmetrySettings:
    """The plane that mirrors the spine, to which the centre line is moved (docs/experiments.md)."""

    half_width_mm: float = 20.0
    """Half of the width that is mirrored: body, pedicles, laminae and joints; 16 to 25 mm were no different."""
    anterior_mm: float = 14.0
    posterior_mm: float = 46.0
    """Extent before and behind the line: the body, the arch and the spinous process. On annotated CT the plane was
    0.04 mm worse without the front of the body, and 0.04 mm without the last 12 mm behind."""
    reach_mm: float = 6.0
    """The plane is looked for this far to both sides: the line of a patient never seen is at most 5 mm off."""
    turns_degrees: tuple[float, ...] = (-24.0, -18.0, -12.0, -6.0, 0.0, 6.0, 12.0, 18.0, 24.0)
    """Turns of the vertebrae about their axis that are compared: a patient who lies askew, or scoliosis."""
    turn_along_mm: float = 80.0
    shift_along_mm: float = 30.0
    """Standard deviations along the line of what is compared together: turns change slowly, places faster."""
    turn_sd_degrees: float = 7.5
    shift_sd_mm: float = 3.0
    prior: float = 0.05
    """How much a turn and a shift of these sizes must gain in symmetry (1: perfect) to be believed."""
    coarse_mm: tuple[float, float, float] = (2.0, 3.0, 9.0)
    fine_mm: tuple[float, float, float] = (1.5, 2.0, 6.0)
    """Samples across, to the back and along the line: for the turn, then for the place."""


@dataclass(frozen=True)
class StraightenSettings:
    """The plane sampled along the centre line."""

    pixel_mm: float = 0.5
    """Pixel of the straightened planes: below the in-plane voxel of chest CT (0.5-1.0 mm, paper section 4)."""
    anterior_mm: float = 48.0
    """Extent in front of the line: a lumbar body is up to 42 mm deep (docs/numbers.md), its front 21 mm before its
    centre; the rest shows spurs and vessels."""
    posterior_mm: float = 48.0
    """Extent behind the line: the canal and the spinous processes, which tell front from back."""
    parallel_mm: tuple[float, ...] = (-4.0, -2.0, 0.0, 2.0, 4.0)
    """Offsets u of the parallel sagittal planes, an odd number with 0 in the middle; their spread covers the error
    of the line across (1-2 mm)."""

    def __post_init__(self) -> None:
        if len(self.parallel_mm) % 2 == 0 or self.parallel_mm[len(self.parallel_mm) // 2] != 0.0:
            raise ValueError(f"parallel_mm needs an odd number of offsets with 0 in the middle, got {self.parallel_mm}")


@dataclass(frozen=True)
class KeypointSettings:
    """Step 2 of the method: vertebrae on the plane (paper 3.2)."""

    min_score: float = 0.5
    """Objectness above which an anchor is a vertebra."""
    max_overlap: float = 0.3
    """Non-maximum suppression: two boxes with a larger intersection over union are one vertebra."""
    max_off_line_mm: float = 12.0
    """Bodies lie within 2 mm of the true line, spinous processes 42-49 mm behind it (docs/numbers.md)."""
    edge_mm: float = 4.5
    """A keypoint this close to the end of the image: the vertebra is marked incomplete and not measured. Of the
    annotated scans, keypoints found on bodies that the scan cuts lie 0-3.5 mm from its end, on whole ones 5.7 mm and
    more (but for two at 1.0 and 3.6); a body cut in half and measured would be a fracture (docs/experiments.md)."""


@dataclass(frozen=True)
class MeasureSettings:
    """From what the second network expects to be wrong by to standard errors."""

    height_error_scale: float = 1.15
    """Standard error of a height over its expected absolute error: 1.25 for a normal distribution, fitted on patients
    left out (docs/accuracy.md)."""
    g_error_scale: float = 1.06
    """The same for G."""
    sharp_mm: float = 1.6
    """Two readings of slices up to this spacing agree within 0.2 to 0.4 mm, of thicker ones within 0.9 to 1.3 mm
    (docs/numbers.md): there the border itself is uncertain, whoever reads it."""
    height_blur: float = 0.45
    """Standard error of a height, mm, for every mm of spacing above ``sharp_mm``; fitted likewise."""
    g_blur_per_mm: float = 0.018
    """The same for G, 1/mm."""
    harmless_gap_mm: float = 4.0
    """A gap of missing slices no wider than this, from slice to slice, hides no disc and no body, so it only spoils an
    endplate beside it; all that touches a wider one is not measured. Thoracic discs are 4 mm and higher."""


@dataclass(frozen=True)
class LevelSettings:
    """Names of the vertebrae: how far the network's looks are trusted and when a name is given (docs/levels.md)."""

    trust: float = 0.2
    """Exponent of the looks' probabilities, fitted on left-out patients: neighbouring finds see much of the same image,
    so their evidence may not be multiplied in full."""
    doubt: float = 0.05
    """Chance that the looks of a find say nothing, fitted likewise."""
    patient_size_sd: tuple[float, float] = (0.07, 0.10)
    """SD between patients of log height and log depth: 0.058 and 0.093 among 100 patients (phantom/levels.py)."""
    vertebra_size_sd: tuple[float, float] = (0.05, 0.07)
    """The same inside a patient: 0.037 and 0.053 among those patients, wider for what is read, fitted as `trust`."""
    min_confidence: float = 0.8
    """Below this probability a vertebra gets no name: NULL rather than a guess."""
    foreign: float = 0.95
    """A find that is the axis or the sacrum with at least this probability is dropped: the tables hold C3 to L6."""


@dataclass(frozen=True)
class GradingSettings:
    """Genant grades: applied when rows are written or read, never during inference."""

    mild: float = 0.80
    """At least mild at G <= 0.80 (Genant 1993; paper section 5.2)."""
    moderate: float = 0.74
    """At least moderate at G <= 0.74 (paper section 5.2)."""
    severe: float = 0.60
    """Severe at G <= 0.60 (Genant 1993: more than 40 % of height lost)."""


@dataclass(frozen=True)
class PrivacySettings:
    """What published tables tell of patients besides measurements (docs/privacy.md).

    Applied when a snapshot is written, to all of its rows, never during inference.
    """

    dates: Literal["none", "year", "days", "full"] = "year"
    """When a study was made. year: the calendar year (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C)). days: days since
    an origin of the patient's own, which keeps intervals and hides the calendar (PS3.15 E.3.6, Retain Longitudinal
    Temporal Information with Modified Dates). full: the date. none: nothing."""
    pool_old_ages: bool = True
    """Ages of 90 years and more are published as 90 (the same paragraph of HIPAA: one category of 90 or older)."""
    site: bool = True
    """Publish where an archive comes from, as named by who ran the screening."""
    scanner: bool = True
    """Publish maker and model of the scanner, which Table E.1-1 of PS3.15 does not name."""


@dataclass(frozen=True)
class Settings:
    """All of the above."""

    reading: ReadingSettings = field(default_factory=ReadingSettings)
    curve: CurveSettings = field(default_factory=CurveSettings)
    symmetry: SymmetrySettings = field(default_factory=SymmetrySettings)
    straighten: StraightenSettings = field(default_factory=StraightenSettings)
    keypoints: KeypointSettings = field(default_factory=KeypointSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    levels: LevelSettings = field(default_factory=LevelSettings)
    grading: GradingSettings = field(default_factory=GradingSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)

    def digest(self) -> str:
        """Sixteen hex digits that change with every setting a measurement depends on (grading and privacy do not)."""
        values = {name: section for name, section in asdict(self).items() if name not in ("grading", "privacy")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
