"""A CT scanner for phantoms: sampling, kernel blur, slice profile, noise, rounding to whole HU."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from vertebra_core.geometry import apply_affine
from vertebra_core.phantom.anatomy import Phantom
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

MAX_PITCH_MM = 1.6
"""Thicker slices are the mean of thinner ones at most this far apart."""
BLUR_PER_SAMPLE = 0.42
"""Edges are blurred analytically by at least this share of the distance of samples, against aliasing."""
STREAK_MM = (40.0, 0.8)
"""Correlation of shoulder streaks along and across them."""
RAYS = (3, 5, 8, 13, 20)
"""Rays round a piece of metal: numbers of periods of their pattern."""
METAL_REACH_MM = 22.0
"""Streaks of metal fade with this length."""
METAL_RADIUS_MM = 3.0
BOX_SD = 12**-0.5
"""Standard deviation of a box of width 1."""
HU_RANGE = (-1024, 3071)
"""What twelve bits hold with the usual intercept."""


@dataclass(frozen=True)
class Scan:
    """How a phantom is scanned.

    Parameters
    ----------
    shape : tuple of int
        Slices, rows, columns.
    patient_from_voxel : array [4, 4]
        Affine from (i_x, i_y, i_z) to LPS mm; the third index counts slices.
    kernel_sigma_mm : float
        Standard deviation of the reconstruction kernel in the slice: about 0.45 sharp, 0.75 soft.
    slice_thickness_mm : float
        Width of the (rectangular) slice profile; may differ from the distance of slices.
    noise_hu : float
        Standard deviation of the noise.
    noise_grain_mm : float
        Correlation of the noise in the slice.
    seed : int
    circle : bool
        True: outside the largest circle that fits the slice nothing was reconstructed.
    padding_hu : int
        What stands there; many scanners write values far below air.
    shoulder_streak_hu : float
        Standard deviation of the streaks across a slice where the shoulders are widest.
    shoulder_z : tuple of float
        Lowest and highest z of the shoulders, mm.
    metal_streak_hu : float
        Size of the streaks that go out from metal.
    """

    shape: tuple[int, int, int]
    patient_from_voxel: Float[np.ndarray, "4 4"]
    kernel_sigma_mm: float = 0.6
    slice_thickness_mm: float = 1.25
    noise_hu: float = 12.0
    noise_grain_mm: float = 0.6
    seed: int = 0
    circle: bool = False
    padding_hu: int = -1000
    shoulder_streak_hu: float = 0.0
    shoulder_z: tuple[float, float] = (0.0, 0.0)
    metal_streak_hu: float = 250.0

    @property
    def spacing(self) -> np.ndarray:
        """Distance of voxels (x, y, z), mm."""
        return np.linalg.norm(self.patient_from_voxel[:3, :3], axis=0)


def axial_scan(
    corner: Float[np.ndarray, "3"], size_mm: Float[np.ndarray, "3"], spacing: Float[np.ndarray, "3"], **how
) -> Scan:
    """A scan with axes along the patient's.

    Parameters
    ----------
    corner : array [3]
        LPS of the centre of the first voxel (right, front, feet end), mm.
    size_mm, spacing : array [3]
        Extent and distance of voxels along x, y, z.
    how
        Other fields of `Scan`.
    """
    affine = np.diag([*np.asarray(spacing, float), 1.0])
    affine[:3, 3] = corner
    nx, ny, nz = (max(1, round(s / d)) for s, d in zip(size_mm, spacing, strict=True))
    return Scan((nz, ny, nx), affine, **how)


def render(phantom: Phantom, scan: Scan) -> Volume:
    """The CT of a phantom, int16 HU; slice by slice, so memory stays at one slice besides the result.

    The same phantom and scan give the same voxels.
    """
    hu = np.empty(scan.shape, np.int16)
    for k, image in enumerate(render_slices(phantom, scan)):
        hu[k] = image
    return Volume(hu, scan.patient_from_voxel, source="phantom")


def render_slices(phantom: Phantom, scan: Scan) -> Iterator[np.ndarray]:
    """Slices [y, x] int16 of `render`, one after the other."""
    plan = _sampling(scan)
    rows, columns = np.mgrid[: scan.shape[1], : scan.shape[2]].astype(float)
    in_slice = apply_affine(scan.patient_from_voxel, np.stack([columns, rows, np.zeros_like(rows)], -1))
    outside = _outside_circle(scan)
    for k in range(scan.shape[0]):
        image = np.zeros(scan.shape[1:], np.float32)
        for offset in plan.offsets:
            points = (in_slice + (k + offset) * scan.patient_from_voxel[:3, 2]).astype(np.float32)
            image += phantom.hu(points, plan.blur_mm)
        image = gaussian_filter(image / len(plan.offsets), plan.sigma_px, mode="nearest", truncate=3)
        image += _noise(scan, k)
        image += shoulder_streaks(scan, k)
        image += metal_streaks(phantom.metal, scan, in_slice, k)
        image = np.clip(np.rint(image), *HU_RANGE).astype(np.int16)
        if outside is not None:
            image[outside] = scan.padding_hu
        yield image


@dataclass(frozen=True)
class _Sampling:
    offsets: np.ndarray
    blur_mm: float
    sigma_px: tuple[float, float]


def _sampling(scan: Scan) -> _Sampling:
    """Planes averaged to a slice (in slices), analytic blur, and the blur left for a filter (pixels)."""
    dx, dy, dz = scan.spacing
    count = max(1, int(np.ceil(scan.slice_thickness_mm / MAX_PITCH_MM)))
    pitch = scan.slice_thickness_mm / count
    offsets = ((np.arange(count) + 0.5) / count - 0.5) * scan.slice_thickness_mm / dz
    # The blur of a sampled plane stands for its own share of the slice profile as well.
    blur = min(max(BLUR_PER_SAMPLE * max(dx, dy), BOX_SD * pitch), scan.kernel_sigma_mm)
    rest = np.sqrt(max(scan.kernel_sigma_mm**2 - blur**2, 0.0))
    return _Sampling(offsets, float(blur), (rest / dy, rest / dx))


def _noise(scan: Scan, k: int) -> np.ndarray:
    if not scan.noise_hu:
        return np.zeros(scan.shape[1:], np.float32)
    white = np.random.default_rng([scan.seed, k]).normal(size=scan.shape[1:]).astype(np.float32)
    grain = gaussian_filter(
        white, (scan.noise_grain_mm / scan.spacing[1], scan.noise_grain_mm / scan.spacing[0]), truncate=3
    )
    return grain * np.float32(scan.noise_hu / max(float(grain.std()), 1e-6))


def shoulder_streaks(scan: Scan, k: int) -> np.ndarray | float:
    """Noise drawn out from left to right, HU [y, x]: few photons pass both shoulders (0 where there are none)."""
    low, high = scan.shoulder_z
    z = float(scan.patient_from_voxel[2, 2] * k + scan.patient_from_voxel[2, 3])
    share = 1 - abs(2 * z - low - high) / max(high - low, 1.0)
    if not scan.shoulder_streak_hu or share <= 0:
        return 0.0
    white = np.random.default_rng([scan.seed, k, 1]).normal(size=scan.shape[1:]).astype(np.float32)
    dx, dy, _ = scan.spacing
    drawn = gaussian_filter(white, (STREAK_MM[1] / dy, STREAK_MM[0] / dx), mode="wrap", truncate=3)
    return drawn * np.float32(scan.shoulder_streak_hu * np.sqrt(share) / max(float(drawn.std()), 1e-6))


def metal_streaks(metal: Float[np.ndarray, "n 2 3"], scan: Scan, in_slice: np.ndarray, k: int) -> np.ndarray | float:
    """Bright and dark rays round the places where metal crosses a slice, HU [y, x].

    A pattern like that of real streaks, not the physics of beam hardening.
    """
    centres = _crossings(metal, scan, k)
    if not scan.metal_streak_hu or not len(centres):
        return 0.0
    x, y = (in_slice[..., axis] + k * scan.patient_from_voxel[axis, 2] for axis in (0, 1))
    rng = np.random.default_rng([scan.seed, k // 3, 2])
    streaks = np.zeros(x.shape, np.float32)
    for cx, cy in centres:
        away, angle = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
        rays = sum(np.cos(n * angle + rng.uniform(0, 2 * np.pi)) for n in RAYS) / len(RAYS) ** 0.5
        streaks += (rays * np.exp(-away / METAL_REACH_MM) * np.clip(away / 4.0, 0, 1)).astype(np.float32)
    return streaks * np.float32(scan.metal_streak_hu / len(centres) ** 0.5)


def _crossings(metal: np.ndarray, scan: Scan, k: int) -> np.ndarray:
    """x, y [m, 2] where the pieces of metal cross slice ``k`` (whose tilt is neglected), LPS mm."""
    z = float(scan.patient_from_voxel[2, 2] * k + scan.patient_from_voxel[2, 3])
    start, end = metal[:, 0], metal[:, 1]
    rise = end[:, 2] - start[:, 2]
    share = np.clip((z - start[:, 2]) / np.where(np.abs(rise) < 1e-6, 1e-6, rise), 0, 1)
    place = start + share[:, None] * (end - start)
    return place[np.abs(place[:, 2] - z) < METAL_RADIUS_MM, :2]


def _outside_circle(scan: Scan) -> np.ndarray | None:
    if not scan.circle:
        return None
    ny, nx = scan.shape[1:]
    dx, dy, _ = scan.spacing
    y, x = np.ogrid[:ny, :nx]
    radius = min(nx * dx, ny * dy) / 2
    return np.hypot((x - (nx - 1) / 2) * dx, (y - (ny - 1) / 2) * dy) > radius


def truth_in_view(phantom: Phantom, scan: Scan | Volume) -> Truth:
    """Keypoints of the vertebrae in the field of view.

    A vertebra with all six points inside is complete, with some incomplete, with none left out.
    """
    shape = np.array(scan.shape if isinstance(scan, Scan) else scan.hu.shape)
    truth = phantom.truth
    voxels = apply_affine(np.linalg.inv(scan.patient_from_voxel), truth.points)
    inside = np.asarray(((voxels > -0.5) & (voxels < shape[::-1] - 0.5)).all(-1))
    if isinstance(scan, Scan) and scan.circle:
        middle = (shape[:0:-1] - 1) / 2
        away = np.hypot(*np.moveaxis((voxels[..., :2] - middle) * scan.spacing[:2], -1, 0))
        inside &= away < (shape[:0:-1] * scan.spacing[:2]).min() / 2
    seen = np.flatnonzero(inside.any(axis=1))
    levels = tuple(truth.levels[k] for k in seen)
    return replace(truth, points=truth.points[seen], complete=inside[seen].all(axis=1), levels=levels)


VIEWS = ("chest", "abdomen", "trunk", "neck", "lumbar", "spine", "head", "legs", "cone", "whole")
"""Fields of view of `random_scan`; head and legs show no vertebra with keypoints, or hardly one;
a cone is 120 mm wide and round, whole goes from the head to the thighs."""


def random_scan(
    rng: np.random.Generator, phantom: Phantom, view: str = "chest", spacing: tuple[float, float, float] | None = None
) -> Scan:
    """A scan as a hospital makes them.

    Parameters
    ----------
    view : str
        One of `VIEWS`.
    spacing : tuple of float or None
        Voxel distances (x, y, z), mm; drawn where None.

    Raises
    ------
    ValueError
        Another view.
    """
    low, high = _extent(rng, phantom, view)
    if spacing is None:
        pixel = float(rng.uniform(0.65, 0.98))
        spacing = (pixel, pixel, float(rng.choice([0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0])))
    width = _width(rng, phantom, view)
    middle_z = (low + high) / 2
    x, y = float(phantom.torso.spine_x(middle_z)), float(phantom.torso.spine_y(middle_z))
    if view not in ("lumbar", "spine", "cone"):
        x, y = float(phantom.torso.outer_x(middle_z)), float(phantom.torso.outer_y(middle_z))
    x, y = x + rng.normal(0, 6), y + rng.normal(0, 6)
    corner = np.array([x - width / 2, y - width / 2, low])
    size = np.array([width, width, high - low])
    sharp = float(rng.uniform(0.4, 0.85))
    more = rng.spawn(1)[0]
    most = 60.0 if phantom.person.arms_up else 140.0
    streaks = float(more.uniform(0, most)) if more.random() < 0.5 else 0.0
    return axial_scan(
        corner, size, np.array(spacing),
        kernel_sigma_mm=max(sharp, BLUR_PER_SAMPLE * spacing[0]),
        slice_thickness_mm=float(spacing[2] * rng.choice([1.0, 1.0, 1.25])),
        noise_hu=float(rng.uniform(6, 28)) * (0.8 / sharp), noise_grain_mm=0.9 * sharp, seed=int(rng.integers(2**31)),
        circle=view == "cone" or bool(rng.random() < 0.3), padding_hu=int(rng.choice([-1000, -1024])),
        shoulder_streak_hu=streaks, shoulder_z=shoulders(phantom), metal_streak_hu=float(more.uniform(80, 400)),
    )  # fmt: skip


CONE_MM = 120.0
WHOLE_BODY_MM = 500.0


def tilted(scan: Scan, degrees: float) -> Scan:
    """The same scan with the gantry tilted: slices lean about the left-right axis, the table moves as before.

    Rows are scanned along the leaning slice, so the volume is sheared (DICOM files say so by their positions).
    """
    affine = scan.patient_from_voxel.copy()
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    middle = apply_affine(affine, (np.array(scan.shape[::-1]) - 1) / 2)
    affine[:3, 1] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ affine[:3, 1]
    affine[:3, 3] += middle - apply_affine(affine, (np.array(scan.shape[::-1]) - 1) / 2)
    return replace(scan, patient_from_voxel=affine)


def shoulders(phantom: Phantom) -> tuple[float, float]:
    """Lowest and highest z of the shoulders, mm; where the arms are up they are higher and narrower."""
    at = {v.level: float(v.pose.centre[2]) for v in phantom.column.all}
    up = 30.0 if phantom.person.arms_up else 0.0
    return at["T4"] + up, at["C6"] + up


def _extent(rng, phantom: Phantom, view: str) -> tuple[float, float]:
    """Lowest and highest z of a view, mm."""
    at = {v.level: v.pose.centre[2] for v in phantom.column.all}
    last = phantom.column.vertebrae[-1].level
    jitter = rng.normal(0, 10, 2)
    spans = {
        "chest": (at["L1"] - 20, at["C7"] + 10),
        "abdomen": (at["S3"], at["T9"]),
        "trunk": (at["S5"] - 60, at["C6"]),
        "neck": (at["T4"], at["C2"] + 60),
        "lumbar": (at["S2"], at["T11"]),
        "spine": (at[last] - 40, at["C3"] + 30),
        "head": (at["C2"] + 35, at["C2"] + 190),
        "legs": (at["S5"] - 330, at["S5"] - 90),
        "cone": _cone(rng, at),
        "whole": (at["S5"] - 200, at["C2"] + 170),
    }
    if view not in spans:
        raise ValueError(f"a view is one of {', '.join(VIEWS)}, not {view}")
    low, high = spans[view]
    return low + jitter[0], high + jitter[1]


def _cone(rng, at: dict[str, float]) -> tuple[float, float]:
    """Lowest and highest z of a cone-beam scan of 150 to 200 mm of the column."""
    middle = at[str(rng.choice(["T6", "T9", "L1", "L3"]))]
    half = float(rng.uniform(75, 100))
    return middle - half, middle + half


def _width(rng, phantom: Phantom, view: str) -> float:
    """Field of view in the slice, mm."""
    if view == "cone":
        return CONE_MM
    if view == "whole":
        return WHOLE_BODY_MM
    if view in ("lumbar", "spine"):
        return float(rng.uniform(150, 260))
    if view in ("neck", "head"):
        return float(rng.uniform(240, 320))
    whole = 2 * float(phantom.torso.outer_width.values.max())
    return float(np.clip(whole * rng.uniform(0.85, 1.15), 280, 500))
