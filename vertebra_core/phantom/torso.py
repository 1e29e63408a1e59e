"""Soft tissue of the trunk: outline, fat, muscle, lungs, mediastinum, abdomen, table, as functions of place.

Sizes follow landmarks of the spine; every one is a profile along z. Lengths in mm, rounded from memory of adult
anatomy and looked at beside real CT: the trunk need be convincing, not exact.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vertebra_core.phantom.column import Column
from vertebra_core.phantom.fields import PROFILE_STEP_MM, Profile, RandomField, blend, cover, profile, random_field
from vertebra_core.phantom.patient import Person
from vertebra_core.volume import AIR_HU

OUTLINE_SMOOTHING_MM = 30.0
MIN_EDGE_MM = 0.4
"""Borders of soft tissue are never sharper than this (SD)."""
RIB_DEPTH_MM = 5.0
"""The middle of the ribs lies this far inside the cage's surface."""
LUNG_DEPTH_MM = 10.0
"""The pleura lies this far inside the cage's surface."""


@dataclass(frozen=True)
class Tissue:
    """HU of the tissues of a patient."""

    fat: float
    muscle: float
    lung: float
    abdomen: float
    fat_in_muscle: float


@dataclass(frozen=True)
class Torso:
    """The trunk.

    Parameters
    ----------
    spine_x, spine_y, half_depth, half_width : Profile
        Middle and size of the bodies at a height z.
    outer_x, outer_y, outer_width, outer_depth : Profile
        Middle and half-axes of the skin's outline.
    cage_y, cage_width, cage_depth : Profile
        Middle and half-axes of the rib cage, continued round the abdomen.
    psoas : Profile
        Half-width of the psoas muscles.
    rib_z : array [r]
        z of the ribs at their transverse processes, from the first down.
    rib_drop : float
        How much lower a rib lies in front than behind.
    rib_shell_hu, rib_core_hu : float
    dome_z : float
        Top of the diaphragm.
    apex_z, floor_z, top_z : float
        Top of the lungs; bottom and top of the trunk.
    tissue : Tissue
    fat_mm : Profile
        Thickness of the fat under the skin.
    middle_x : float
        The patient's middle.
    table_y : float
        Top of the table, or NaN for none.
    fine, coarse, vessels : RandomField
    """

    spine_x: Profile
    spine_y: Profile
    half_depth: Profile
    half_width: Profile
    outer_x: Profile
    outer_y: Profile
    outer_width: Profile
    outer_depth: Profile
    cage_y: Profile
    cage_width: Profile
    cage_depth: Profile
    psoas: Profile
    rib_z: np.ndarray
    rib_drop: float
    rib_shell_hu: float
    rib_core_hu: float
    dome_z: float
    apex_z: float
    floor_z: float
    top_z: float
    tissue: Tissue
    fat_mm: Profile
    middle_x: float
    table_y: float
    fine: RandomField
    coarse: RandomField
    vessels: RandomField

    def ground(self, hu, x, y, z, blur_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Paint the trunk over ``hu`` in place; depth in the cage and the cosine round it (far outside -99 and 0)."""
        in_cage, cosine = np.full(len(x), -99, np.float32), np.zeros(len(x), np.float32)
        depth = self._skin_depth(x, y, z)
        inside = np.flatnonzero(depth > -3.0)
        if len(inside):
            x, y, z, depth = x[inside], y[inside], z if np.ndim(z) == 0 else z[inside], depth[inside]
            in_cage[inside], cosine[inside] = places = self.cage(x, y, z)
            body = self._body(x, y, z, depth, places, blur_mm)
            hu[inside] = blend(hu[inside], body, cover(depth, max(blur_mm, 0.3)))
        return in_cage, cosine

    def _skin_depth(self, x, y, z):
        half_x, half_y = self.outer_width(z), self.outer_depth(z)
        dx, dy = (x - self.outer_x(z)) / half_x, (y - self.outer_y(z)) / half_y
        q2 = dx * dx + dy * dy
        # A little squarer than an ellipse: flat on the table.
        q2 = q2 - np.float32(0.35) * np.minimum(dx * dx, 1) * np.minimum(dy * dy, 1)
        q = np.sqrt(np.maximum(q2, np.float32(1e-3)))
        depth = (1 - q) * np.minimum(half_x, half_y)
        ends = np.minimum(z - np.float32(self.floor_z), np.float32(self.top_z) - z)
        return np.minimum(depth, ends)

    def surroundings(self, x, y, blur_mm: float) -> np.ndarray:
        """HU of the air round the patient and of the table."""
        hu = np.full(len(x), AIR_HU, np.float32)
        if np.isfinite(self.table_y):
            x = x - np.float32(self.middle_x)
            bend = np.float32(25.0) * (x / np.float32(230.0)) ** 2
            under = y - np.float32(self.table_y) + bend
            shell = cover(1.5 - np.abs(under - np.float32(14)), max(blur_mm, 0.3)) * (np.abs(x) < 225)
            pad = (under > 0) & (under < 12) & (np.abs(x) < 215)
            hu += np.where(pad, np.float32(30), np.float32(0))
            hu += shell * np.float32(1150)
        return hu

    def cage(self, x, y, z):
        """Depth (mm) inside the cage and the cosine (1 at the back, -1 in front) of the place round it."""
        half_x, half_y = self.cage_width(z), self.cage_depth(z)
        dx, dy = x - self.outer_x(z), y - self.cage_y(z)
        # Beside the spine the ribs swing back before they turn to the front.
        dy = dy - np.where(dy > 0, np.float32(11.0) * dx * dx / (dx * dx + np.float32(1600.0)), 0)
        sx, sy = dx / half_x, dy / half_y
        q = np.maximum(np.sqrt(sx * sx + sy * sy), np.float32(0.05))
        r = np.sqrt(dx * dx + dy * dy)
        return np.maximum(r, 1) * (1 - q) / q, sy / q

    def _body(self, x, y, z, depth, places, blur_mm: float):
        t = self.tissue
        fine = self.fine(x, y, z)
        soft = np.float32(8.0) * fine
        fat = np.float32(t.fat) + soft
        muscle = np.float32(t.muscle) + soft
        streaks = self.coarse(x, y, z)
        muscle = np.where(streaks > np.float32(t.fat_in_muscle), fat, muscle)
        wall = cover(depth - self.fat_mm(z), max(blur_mm, 0.4))
        hu = blend(fat, muscle, wall)
        hu = np.where(depth < 1.8, np.float32(10.0), hu)
        in_cage, cosine = places
        edge = max(blur_mm, 0.4)
        cavity = cover(in_cage - np.float32(LUNG_DEPTH_MM - 1), edge)
        chosen = np.flatnonzero(cavity > 0)
        if len(chosen):
            zi = z if np.ndim(z) == 0 else z[chosen]
            filled = self._cavity(
                x[chosen], y[chosen], zi, in_cage[chosen], cosine[chosen], fine[chosen], streaks[chosen], edge
            )
            hu[chosen] = blend(hu[chosen], filled, cavity[chosen])
        return hu

    def _cavity(self, x, y, z, in_cage, cosine, fine, coarse, edge: float):
        t = self.tissue
        # Abdomen: fat with loops of bowel, psoas beside the spine.
        dx, dy = x - self.spine_x(z), y - self.spine_y(z)
        loops = np.where(coarse > np.float32(t.abdomen), np.float32(30.0), np.float32(t.fat)) + np.float32(8) * fine
        loops = np.where((coarse > 2.2) & (dy < -50), np.float32(-850), loops)
        hu = loops
        size = self.psoas(z)
        side = np.abs(dx) - self.half_width(z) - np.float32(0.7) * size
        psoas = (side / np.maximum(size, 1)) ** 2 + ((dy - 4) / np.maximum(size * np.float32(1.25), 1)) ** 2
        hu = np.where((psoas < 1) & (size > 4), np.float32(t.muscle), hu)
        above = z - self._diaphragm(x, cosine, in_cage, z)
        lung = np.minimum(above, np.float32(self.apex_z) - z + np.float32(15))
        lung = np.minimum(lung, in_cage - np.float32(LUNG_DEPTH_MM))
        lung = np.minimum(lung, self._beside_mediastinum(x, y, z, dx, dy, coarse))
        vessels = np.clip((self.vessels(x, y, z) - np.float32(2.1)) * np.float32(2.0), 0, 1)
        air = np.float32(t.lung) + np.float32(14) * fine + vessels * np.float32(780)
        wet = np.where(above > -3, np.where(coarse > 0.8, np.float32(30.0), np.float32(t.fat + 10)), hu)
        hu = np.where((above > -3) & (above < 0), np.float32(t.muscle), wet)
        return blend(hu, air, cover(lung, edge))

    def _beside_mediastinum(self, x, y, z, dx, dy, coarse):
        """Distance (mm) from the mediastinum: round the spine, round the great vessels, a septum to the breast bone."""
        wide, deep = self.half_width(z), self.half_depth(z)
        front = np.sqrt((dx / (wide + 5)) ** 2 + (dy / (deep + 6)) ** 2) * 14 - 14
        spine = np.where(dy > 0, np.abs(dx) - wide - 3 - np.float32(0.32) * dy, front)
        breast = self.cage_y(z) - self.cage_depth(z) + np.float32(LUNG_DEPTH_MM)
        behind = self.spine_y(z) - deep
        half = np.maximum((behind - breast) / 2 + 8, 8)
        across = np.float32(27) + np.float32(3) * coarse
        middle = self.spine_x(z) * np.float32(0.6) + np.float32(0.4 * self.middle_x + 2)
        core = np.sqrt(((x - middle) / across) ** 2 + ((y - (behind + breast) / 2) / half) ** 2) * 22 - 22
        septum = np.where(dy < 0, np.abs(x - self.outer_x(z) - 4) - 3, 99)
        return np.minimum(np.minimum(spine, core), septum)

    def _diaphragm(self, x, cosine, in_cage, z):
        centre = in_cage / self.cage_depth(z)
        low = (
            np.float32(105.0)
            * (1 - np.minimum(centre, 1)) ** 3
            * np.clip(np.float32(0.55) + cosine, np.float32(0.15), 1)
        )
        right = np.where(x < np.float32(self.middle_x), np.float32(8.0), np.float32(-4.0))
        return np.float32(self.dome_z) + right - low

    def paint_ribs(self, hu, x, y, z, in_cage, cosine, blur_mm: float) -> None:
        """Ribs lie in the wall of the cage, each falling from back to front; cartilage in front. In place."""
        reach = np.float32(5.0 + 2.3 * blur_mm)
        chosen = np.flatnonzero((np.abs(in_cage - np.float32(RIB_DEPTH_MM)) < reach) & (cosine < 0.99))
        if not len(chosen):
            return
        cos = cosine[chosen]
        fine = self.fine(x[chosen], y[chosen], z if np.ndim(z) == 0 else z[chosen])
        level = (z if np.ndim(z) == 0 else z[chosen]) + np.float32(self.rib_drop) * (1 - cos) / 2
        number = np.interp(-level, -self.rib_z, np.arange(len(self.rib_z))).astype(np.float32)
        nearest = np.rint(number).astype(np.int32)
        off = (level - self.rib_z.astype(np.float32)[nearest]) * np.float32(0.85)
        ends = np.clip(np.float32(0.72) - nearest * np.float32(0.012), 0, 1) * 2 - 1
        last = len(self.rib_z) - 1
        ends = np.where(nearest >= last - 1, np.where(nearest == last, np.float32(-0.55), np.float32(0.1)), ends)
        radial = (in_cage[chosen] - np.float32(RIB_DEPTH_MM)) / np.float32(3.6)
        q = np.sqrt(radial**2 + (off / np.float32(5.4)) ** 2)
        depth = (1 - q) * np.float32(3.6)
        start = np.abs(x[chosen] - self.spine_x(z if np.ndim(z) == 0 else z[chosen])) - np.float32(37)
        depth = np.minimum(depth, start)
        cartilage = cos < -ends
        inside, deep = cover(depth, blur_mm), cover(depth - np.float32(0.9), blur_mm)
        inside = np.where(cartilage & (nearest >= last - 1), 0, inside)
        deep = np.where(cartilage & (nearest >= last - 1), 0, deep)
        core = np.where(cartilage, np.float32(85), np.float32(self.rib_core_hu) + 50 * fine)
        shell = np.where(cartilage, np.float32(95), np.float32(self.rib_shell_hu))
        old = hu[chosen]
        hu[chosen] = old + inside * (shell - old) + deep * (core - shell)


MARKS = ("top", "C4", "C7", "T1", "T3", "T5", "T8", "last T", "L3", "last L", "S3", "crotch", "bottom")
"""Heights at which the trunk's sizes are given; top: 40 mm above C2; crotch and bottom: 60 and 130 mm below S5."""
OUTER_HALF_WIDTH = np.array([52, 58, 80, 120, 170, 165, 158, 146, 140, 150, 168, 172, 165.0])
OUTER_HALF_WIDTH_FAT = np.array([0, 8, 10, 15, 30, 45, 45, 45, 45, 45, 45, 45, 45.0])
ARMS_UP_NARROWER = 15.0
OUTER_DEPTH = np.array([100, 112, 125, 145, 178, 200, 215, 208, 198, 200, 205, 190, 170.0])
OUTER_DEPTH_FAT = np.array([10, 20, 30, 35, 45, 55, 65, 85, 95, 90, 70, 50, 40.0])
FAT_LAYER = np.array([2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 10, 8.0])
FAT_LAYER_FAT = np.array([4, 6, 10, 14, 16, 18, 20, 26, 30, 32, 32, 30, 22.0])
"""Sizes of the trunk at `MARKS`, mm; those ending in FAT are what obesity adds."""
SKIN_BEHIND_BODY = {"C": 44.0, "T": 55.0, "L": 64.0, "S": 50.0}
"""From a body's centre to the skin of the back without fat, mm."""


@dataclass(frozen=True)
class _Outline:
    grid: np.ndarray
    front_y: np.ndarray
    marks: np.ndarray
    skin_back: np.ndarray
    x: Profile
    y: Profile
    width: Profile
    depth: Profile
    fat_mm: Profile


def _marks(column: Column, size: float) -> np.ndarray:
    z = {v.level: v.pose.centre[2] for v in column.all}
    last = column.vertebrae[-1].level
    thoracic = [v.level for v in column.vertebrae if v.level[0] == "T"]
    inner = [z[n] for n in ("C4", "C7", "T1", "T3", "T5", "T8", thoracic[-1], "L3", last, "S3")]
    return np.array([z["C2"] + 40 * size, *inner, z["S5"] - 60, z["S5"] - 130])


def _middle_x(column: Column) -> float:
    """The patient's middle: where T8 lies."""
    return next(float(v.pose.centre[0]) for v in column.vertebrae if v.level == "T8")


def _outline(rng: np.random.Generator, person: Person, column: Column) -> _Outline:
    """The skin: it lies on the table, so its back is smoother than the spine's line."""
    s, fat = person.size, person.fat
    marks = _marks(column, s)
    half_width = OUTER_HALF_WIDTH + fat * OUTER_HALF_WIDTH_FAT
    half_width[4] -= ARMS_UP_NARROWER * person.arms_up
    depth = (OUTER_DEPTH + fat * OUTER_DEPTH_FAT) * rng.uniform(0.93, 1.07)
    z = [v.pose.centre[2] for v in column.all]
    behind = [v.pose.centre[1] + SKIN_BEHIND_BODY[v.level[0]] * s + 6 + 26 * fat for v in column.all]
    back = profile(z, behind)
    flat = gaussian_filter1d(back.values, OUTLINE_SMOOTHING_MM / back.step, mode="nearest")
    back = Profile(back.start, back.step, flat)
    grid = np.arange(marks[-1] - 20, marks[0], PROFILE_STEP_MM)
    depths, skin = profile(marks, depth * s)(grid), back(grid)
    spine_x = profile(z, [v.pose.centre[0] for v in column.all])
    # The trunk follows a bent spine only partly.
    middle = _middle_x(column)
    shift = middle + gaussian_filter1d((spine_x(grid) - middle) * 0.35, 30, mode="nearest")
    return _Outline(
        grid, skin - depths, marks, skin, profile(grid, shift), profile(grid, skin - depths / 2),
        profile(marks, half_width * s), profile(grid, depths / 2),
        profile(marks, (FAT_LAYER + fat * FAT_LAYER_FAT) * s),
    )  # fmt: skip


def _cage(
    person: Person, column: Column, outline: _Outline, spine_y: Profile, half_depth: Profile
) -> dict[str, Profile]:
    """The rib cage inside the skin, closing to a dome round the tips of the lungs."""
    s, fat, grid = person.size, person.fat, outline.grid
    z = {v.level: v.pose.centre[2] for v in column.all}
    apex = z["T1"] + 38 * s
    dome = np.clip((apex - grid) / (apex - z["T6"]), 0.02, 1) ** 0.55
    # The lungs' tips lie beside the bodies, not behind them.
    back = spine_y(grid) + half_depth(grid) + (23 - 26 * (1 - dome)) * s
    front = outline.front_y + (14 + 16 * fat) * s
    depth = np.maximum((back - front) / 2 * dome**0.6, 8)
    width = np.maximum(outline.width(grid) - (19 + 38 * fat) * s, 20) * np.clip(dome, 0.3, 1)
    return {
        "cage_y": profile(grid, back - depth),
        "cage_width": profile(grid, width),
        "cage_depth": profile(grid, depth),
    }


def _tissue(rng: np.random.Generator, person: Person) -> Tissue:
    muscle = np.clip(62 - 0.25 * (person.age_years - 40) + rng.normal(0, 6), 15, 75) + 10 * person.contrast
    return Tissue(
        fat=float(rng.normal(-103, 5)), muscle=float(muscle), lung=float(rng.normal(-850, 35)),
        abdomen=float(rng.uniform(-0.6, 0.5)), fat_in_muscle=float(rng.uniform(1.5, 2.6)),
    )  # fmt: skip


def random_torso(rng: np.random.Generator, person: Person, column: Column, table: bool | None = None) -> Torso:
    """The trunk round a spine."""
    s = person.size
    z = {v.level: v.pose.centre[2] for v in column.all}
    last = column.vertebrae[-1].level
    heights = list(z.values())
    spine_x, spine_y = (profile(heights, [v.pose.centre[axis] for v in column.all]) for axis in (0, 1))
    # A tilted body is longer in an axial slice.
    half_depth = profile(heights, [v.body.half_depth / max(abs(v.pose.rotation[2, 2]), 0.6) for v in column.all])
    outline = _outline(rng, person, column)
    ribs = [v.pose.patient_from_own(np.array([0, 0, v.body.hp / 4]))[2] for v in column.vertebrae if v.level[0] == "T"]
    psoas_z = [z.get("T12", z["T11"]), z["L1"], z["L3"], z[last], z["S3"], z["S5"]]
    has_table = bool(rng.random() < 0.85) if table is None else table
    return Torso(
        spine_x, spine_y, half_depth,
        half_width=profile(heights, [v.body.half_width for v in column.all]),
        outer_x=outline.x, outer_y=outline.y, outer_width=outline.width, outer_depth=outline.depth,
        **_cage(person, column, outline, spine_y, half_depth),
        psoas=profile(psoas_z, np.array([0, 8, 17, 20, 18, 10]) * s * rng.uniform(0.8, 1.2)),
        rib_z=np.array(ribs), rib_drop=float(rng.uniform(75, 100)) * s,
        rib_shell_hu=float(rng.uniform(700, 1100)), rib_core_hu=float(rng.uniform(80, 260)),
        dome_z=float(z["T9"] + rng.normal(0, 12)), apex_z=float(z["T1"] + 8 * s),
        floor_z=float(outline.marks[-1]), top_z=float(outline.marks[0]),
        tissue=_tissue(rng, person), fat_mm=outline.fat_mm, middle_x=_middle_x(column),
        table_y=float(outline.skin_back.max() + rng.uniform(2, 8)) if has_table else float("nan"),
        fine=random_field(rng, 1.0, 1.0), coarse=random_field(rng, 2.0, 3.5), vessels=random_field(rng, 1.1, 1.4),
    )  # fmt: skip
