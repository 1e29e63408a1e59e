"""Soft tissue of the trunk: outline, fat, muscle, lungs, mediastinum, abdomen, table, as functions of place.

Sizes follow landmarks of the spine; every one is a profile along z. Lengths in mm, rounded from memory of adult
anatomy and looked at beside real CT: the trunk need be convincing, not exact.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vertebra_core.phantom.column import Column
from vertebra_core.phantom.fields import Profile, RandomField, blend, cover, profile, random_field
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
    rib_z : array [r]
        z of the ribs at their transverse processes, from the first down.
    dome_z : float
        Top of the diaphragm.
    apex_z, floor_z : float
        Top of the lungs; bottom of the trunk.
    tissue : Tissue
    fat_mm : Profile
        Thickness of the fat under the skin.
    table_y : float
        Top of the table, or NaN for none.
    fine, coarse : RandomField
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
    table_y: float
    fine: RandomField
    coarse: RandomField

    def ground(self, x, y, z, blur_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """HU of trunk, table and air; depth in the cage and the cosine round it (see `cage`; far outside -99, 0)."""
        hu = self._table(x, y, blur_mm)
        in_cage, cosine = np.full(len(x), -99, np.float32), np.zeros(len(x), np.float32)
        depth = self._skin_depth(x, y, z)
        inside = np.flatnonzero(depth > -3.0)
        if len(inside):
            x, y, z, depth = x[inside], y[inside], z if np.ndim(z) == 0 else z[inside], depth[inside]
            in_cage[inside], cosine[inside] = places = self.cage(x, y, z)
            body = self._body(x, y, z, depth, places, blur_mm)
            hu[inside] = blend(hu[inside], body, cover(depth, max(blur_mm, 0.3)))
        return hu, in_cage, cosine

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

    def _table(self, x, y, blur_mm: float):
        hu = np.full(len(x), AIR_HU, np.float32)
        if np.isfinite(self.table_y):
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
            filled = self._cavity(x[chosen], y[chosen], zi, in_cage[chosen], cosine[chosen], fine[chosen], streaks[chosen], edge)
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
        # Mediastinum: round the spine, and a strip from the spine to the breast bone.
        near = np.square(np.square(dx / (self.half_width(z) + 7))) * 8 - 8
        spine = np.where(dy > 0, near, np.sqrt((dx / (self.half_width(z) + 6)) ** 2 + (dy / (self.half_depth(z) + 7)) ** 2) * 14 - 14)
        middle = np.abs(dx - 4) - np.float32(24.0) - np.float32(9) * np.clip((np.float32(self.apex_z - 60) - z) / 60, -1.5, 1.5)
        lung = np.minimum(np.minimum(lung, spine), middle)
        vessels = np.clip((coarse - np.float32(1.6)) * np.float32(1.4), 0, 1)
        air = np.float32(t.lung) + np.float32(14) * fine + vessels * np.float32(780)
        wet = np.where(above > -3, np.where(coarse > 0.8, np.float32(30.0), np.float32(t.fat + 10)), hu)
        hu = np.where((above > -3) & (above < 0), np.float32(t.muscle), wet)
        return blend(hu, air, cover(lung, edge))

    def _diaphragm(self, x, cosine, in_cage, z):
        centre = in_cage / self.cage_depth(z)
        low = np.float32(105.0) * (1 - np.minimum(centre, 1)) ** 3 * np.clip(np.float32(0.55) + cosine, np.float32(0.15), 1)
        right = np.where(x < 0, np.float32(8.0), np.float32(-4.0))
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
        q = np.sqrt(radial**2 + (off / np.float32(6.0)) ** 2)
        depth = (1 - q) * np.float32(3.6)
        start = np.abs(x[chosen] - self.spine_x(z if np.ndim(z) == 0 else z[chosen])) - np.float32(26)
        depth = np.minimum(depth, start)
        cartilage = cos < -ends
        inside, deep = cover(depth, blur_mm), cover(depth - np.float32(0.9), blur_mm)
        inside = np.where(cartilage & (nearest >= last - 1), 0, inside)
        deep = np.where(cartilage & (nearest >= last - 1), 0, deep)
        core = np.where(cartilage, np.float32(85), np.float32(self.rib_core_hu) + 50 * fine)
        shell = np.where(cartilage, np.float32(95), np.float32(self.rib_shell_hu))
        old = hu[chosen]
        hu[chosen] = old + inside * (shell - old) + deep * (core - shell)


def random_torso(rng: np.random.Generator, person: Person, column: Column) -> Torso:
    """The trunk round a spine."""
    s, fat = person.size, person.fat
    bodies = {v.level: v for v in column.all}
    at = {name: v.pose.centre for name, v in bodies.items()}
    z = np.array([v.pose.centre[2] for v in column.all])
    order = np.argsort(z)
    z = z[order]

    def along(values):
        return profile(z, np.array(values)[order])

    spine_x, spine_y = along([v.pose.centre[0] for v in column.all]), along([v.pose.centre[1] for v in column.all])
    lean = np.array([1 / max(abs(v.pose.rotation[2, 2]), 0.6) for v in column.all])
    half_depth = along(np.array([v.body.half_depth for v in column.all]) * lean)
    half_width = along([v.body.half_width for v in column.all])

    last = column.vertebrae[-1].level
    thoracic = [v.level for v in column.vertebrae if v.level[0] == "T"]
    marks = [at["C2"][2] + 40 * s, at["C4"][2], at["C7"][2], at["T1"][2], at["T3"][2], at["T5"][2], at["T8"][2]]
    marks += [at[thoracic[-1]][2], at["L3"][2], at[last][2], at["S3"][2], at["S5"][2] - 60, at["S5"][2] - 130]
    hips = marks[-1]

    def by_mark(*values):
        return profile(marks, np.array(values) * s)

    shoulders = 155 if person.arms_up else 185
    outer_width = by_mark(52, 58 + 8 * fat, 80, 120, shoulders, *(np.array([165, 158, 146, 140, 150, 168, 172, 165]) + 45 * fat))
    depth = np.array([100, 112, 125, 145, 178, 200, 215, 208, 198, 200, 205, 190, 170.0])
    depth += fat * np.array([10, 20, 30, 35, 45, 55, 65, 85, 95, 90, 70, 50, 40])
    depth *= rng.uniform(0.93, 1.07)
    # The back lies on the table: the skin's line is smoother than the spine's.
    behind = np.array([{"C": 44, "T": 55, "L": 64, "S": 50}[v.level[0]] for v in column.all])[order] * s + 6 + 26 * fat
    back = profile(z, np.array([v.pose.centre[1] for v in column.all])[order] + behind)
    flat = gaussian_filter1d(back.values, OUTLINE_SMOOTHING_MM / back.step, mode="nearest")
    back = Profile(back.start, back.step, flat.astype(np.float32))
    depths = by_mark(*depth)
    grid = np.arange(hips - 20, marks[0], 2.0)
    outer_y = profile(grid, back(grid) - depths(grid) / 2)
    outer_depth = profile(grid, depths(grid) / 2)
    shift = gaussian_filter1d(spine_x(grid) * 0.35, 30, mode="nearest")

    cage_back = spine_y(grid) + half_depth(grid) + 23 * s
    front = outer_y(grid) - outer_depth(grid) + (14 + 16 * fat) * s
    apex = at["T1"][2] + 8 * s
    dome = np.clip((apex + 30 - grid) / (apex + 30 - at["T6"][2]), 0.02, 1) ** 0.55
    cage_depth = np.maximum((cage_back - front) / 2 * dome, 5)
    cage_width = np.maximum((outer_width(grid) - (19 + 38 * fat) * s), 20) * np.clip(dome, 0.3, 1)
    ribs = [bodies[n].pose.patient_from_own(np.array([0, 0, bodies[n].body.hp * 0.25]))[2] for n in thoracic]
    muscle = float(np.clip(62 - 0.25 * (person.age_years - 40) + rng.normal(0, 6), 15, 75))
    if person.contrast:
        muscle += 10
    tissue = Tissue(float(rng.normal(-103, 5)), muscle, float(rng.normal(-850, 35)), float(rng.uniform(-0.6, 0.5)), float(rng.uniform(1.5, 2.6)))
    psoas_z = [at["T12"][2] if "T12" in at else at["T11"][2], at["L1"][2], at["L3"][2], at[last][2], at["S3"][2], at["S5"][2]]
    return Torso(
        spine_x, spine_y, half_depth, half_width,
        outer_x=profile(grid, shift), outer_y=outer_y, outer_width=outer_width, outer_depth=outer_depth,
        cage_y=profile(grid, cage_back - cage_depth), cage_width=profile(grid, cage_width),
        cage_depth=profile(grid, cage_depth),
        psoas=profile(psoas_z, np.array([0, 8, 17, 20, 18, 10]) * s * rng.uniform(0.8, 1.2)),
        rib_z=np.array(ribs), rib_drop=float(rng.uniform(75, 100)) * s,
        rib_shell_hu=float(rng.uniform(700, 1100)), rib_core_hu=float(rng.uniform(80, 260)),
        dome_z=float(at["T9"][2] + rng.normal(0, 12)), apex_z=float(apex), floor_z=float(hips), top_z=float(marks[0]),
        tissue=tissue,
        fat_mm=by_mark(*(np.array([2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 10, 8]) + fat * np.array([4, 6, 10, 14, 16, 18, 20, 26, 30, 32, 32, 30, 22]))),
        table_y=float(back.values.max() + rng.uniform(2, 8)) if rng.random() < 0.85 else float("nan"),
        fine=random_field(rng, 1.0, 1.0), coarse=random_field(rng, 2.0, 3.5),
    )  # fmt: skip
