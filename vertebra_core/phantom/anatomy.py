"""A synthetic patient: a function from points of the patient (LPS mm) to HU, with exact keypoints.

Nothing is stored on a grid, so the same patient can be sampled on a CT grid, on the coarse grid of the first network
or on the straightened planes of the second, wherever points are needed.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped

from vertebra_core.geometry import CentreLine
from vertebra_core.phantom.attachments import bone_parts
from vertebra_core.phantom.column import Column, random_column
from vertebra_core.phantom.fields import Parts, blend, cover
from vertebra_core.phantom.implants import random_extras
from vertebra_core.phantom.limbs import random_limbs, random_skeleton
from vertebra_core.phantom.organs import random_organs
from vertebra_core.phantom.patient import PatientOptions, Person, random_person
from vertebra_core.phantom.torso import LUNG_DEPTH_MM, MIN_EDGE_MM, Torso, random_torso
from vertebra_core.truth import Truth

READER = "phantom"
CHUNK = 1 << 15
"""Points evaluated at a time: the vectors of a chunk stay in a processor's cache."""


@dataclass(frozen=True)
class Phantom:
    """A synthetic patient.

    Parameters
    ----------
    person : Person
    column : Column
    torso : Torso
    limbs : Parts
        Soft tissue of arms, legs and head, under the trunk.
    organs : Parts
        Clipped to the inside of the rib cage and of the abdomen.
    girdle : Parts
        Bones of shoulders and arms and soft parts of the neck, clipped to the outside of the cage.
    bones : Parts
        Discs and all bones, painted last but for what disease and surgery add to them.
    metal : array [n, 2, 3]
        Ends of straight pieces of thick metal, LPS mm; the scanner makes streaks from them.
    """

    person: Person
    column: Column
    torso: Torso
    limbs: Parts = field(repr=False)
    organs: Parts = field(repr=False)
    girdle: Parts = field(repr=False)
    bones: Parts = field(repr=False)
    metal: np.ndarray = field(default_factory=lambda: np.zeros((0, 2, 3)), repr=False)

    def hu(
        self, points: Shaped[np.ndarray, "*n 3"], blur_mm: float = 0.0, cull: bool = True
    ) -> Float[np.ndarray, "*n"]:
        """HU at points.

        Parameters
        ----------
        points : array [..., 3]
            LPS mm. Neighbours in the array should be neighbours in space: parts are culled by chunks.
        blur_mm : float
            Standard deviation of an isotropic point spread function that edges and thin shells are blurred with,
            analytically. Give about half of the distance between points: with 0 a shell of 0.35 mm is met by chance.
        cull : bool
            False evaluates every part at every point: slow, the same values (for tests).

        Returns
        -------
        array [...], float32
        """
        flat = np.asarray(points).reshape(-1, 3)
        hu = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), CHUNK):
            x, y, z = np.ascontiguousarray(flat[start : start + CHUNK].T, dtype=np.float32)
            hu[start : start + CHUNK] = self._chunk(x, y, z, blur_mm, cull)
        return hu.reshape(points.shape[:-1])

    def _chunk(self, x, y, z, blur_mm: float, cull: bool) -> np.ndarray:
        reach = np.array([[c.min() for c in (x, y, z)], [c.max() for c in (x, y, z)]])
        # An axial slice has one z: profiles along z are then single numbers.
        one_z = z[0] if reach[0, 2] == reach[1, 2] else z
        hu = self.torso.surroundings(x, y, blur_mm)
        self.limbs.paint(hu, x, y, z, blur_mm, reach, cull)
        in_cage, cosine = self.torso.ground(hu, x, y, one_z, blur_mm)
        inner = hu.copy()
        self.organs.paint(inner, x, y, z, blur_mm, reach, cull)
        self.girdle.paint(hu, x, y, z, blur_mm, reach, cull)
        hu = blend(hu, inner, cover(in_cage - np.float32(LUNG_DEPTH_MM), max(blur_mm, MIN_EDGE_MM)))
        self.torso.paint_ribs(hu, x, y, one_z, in_cage, cosine, blur_mm)
        self.bones.paint(hu, x, y, z, blur_mm, reach, cull)
        return hu

    @property
    def truth(self) -> Truth:
        """Keypoints of all vertebrae from C3 to the last lumbar one, on the outer border of the bony plates."""
        points = self.column.keypoints
        levels = tuple(v.level for v in self.column.vertebrae)
        return Truth("", READER, points, np.ones(len(points), bool), levels)

    @property
    def centre_line(self) -> CentreLine:
        """Through the body centres, from the top of the first to the bottom of the last vertebra of `truth`."""
        return self.column.centre_line


def random_patient(rng: np.random.Generator, options: PatientOptions | None = None) -> Phantom:
    """Draw a patient; the same generator state gives the same patient.

    The middle of T8 lies in the origin of the patient frame.
    """
    options = options or PatientOptions()
    person = random_person(rng, options)
    return round_column(rng, person, random_column(rng, person, options), options)


def round_column(rng: np.random.Generator, person: Person, column: Column, options: PatientOptions) -> Phantom:
    """The patient round a spine: trunk, organs, limbs and the other bones."""
    # Drawn apart, so that what is added here changes nothing of the rest of a patient.
    extras_rng = rng.spawn(1)[0]
    torso = random_torso(rng, person, column, options.table)
    organs = random_organs(rng, person, column, torso, options.bowel_gas)
    limbs, neck = random_limbs(rng, person, column, torso)
    girdle, skeleton = random_skeleton(rng, person, column, torso)
    extras = random_extras(extras_rng, column, torso, options)
    bones = (*skeleton, *bone_parts(rng, column, options), *extras.parts)
    soft = Parts(limbs), Parts(organs), Parts((*neck, *girdle))
    return Phantom(person, column, torso, *soft, Parts(bones), extras.metal)
