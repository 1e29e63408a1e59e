"""What may be asked of a random patient, and who that patient is."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PatientOptions:
    """What a random patient may be like; a field left at None is drawn.

    Parameters
    ----------
    age_years : float or None
    female : bool or None
    fracture_probability : float
        Chance that a patient has deformed vertebrae at all.
    max_fractures : int
    min_g : float
        Lowest Genant index of a deformity.
    scoliosis_probability : float
    max_cobb_degrees : float
    kyphosis_degrees : float or None
        Added to (or, negative, taken from) the kyphosis of the chest that the drawn sizes give.
    ossification_probability : float
        Flowing ossification in front of the bodies (DISH).
    variant_probability : float
        One thoracic or lumbar vertebra more or less.
    contrast_probability : float
        Vessels, heart and organs brighter than without contrast.
    fat : float or None
        0 thin to 1 obese.
    arms_up : bool or None
    density_hu : float or None
        Trabecular HU of L1: below 60 osteoporotic, above 300 sclerotic.
    cortex_mm : float or None
        Thickness of the shell of the bodies.
    vacuum_probability, sclerosis_probability, spur_probability, node_probability : float or None
        Share of discs with gas, of bodies with dense plates, of corners with an osteophyte and of bodies with a
        Schmorl node; None: they grow with age.
    ossification_mm : float or None
        Thickness of the flowing ossification at the discs.
    metastasis_probability, cement_probability, screw_probability : float
        Chance of a patient to have them at all.
    device_probability : float
        Chance of each of a port, sternal wires and electrodes on the skin.
    bowel_gas : float or None
        Share of bowel loops that are full of gas.
    table : bool or None
        Whether the patient lies on one that is seen.
    """

    age_years: float | None = None
    female: bool | None = None
    fracture_probability: float = 0.35
    max_fractures: int = 4
    min_g: float = 0.35
    scoliosis_probability: float = 0.3
    max_cobb_degrees: float = 60.0
    kyphosis_degrees: float | None = None
    ossification_probability: float = 0.12
    variant_probability: float = 0.08
    contrast_probability: float = 0.5
    fat: float | None = None
    arms_up: bool | None = None
    density_hu: float | None = None
    cortex_mm: float | None = None
    vacuum_probability: float | None = None
    sclerosis_probability: float | None = None
    spur_probability: float | None = None
    node_probability: float | None = None
    ossification_mm: float | None = None
    metastasis_probability: float = 0.06
    cement_probability: float = 0.03
    screw_probability: float = 0.03
    device_probability: float = 0.1
    bowel_gas: float | None = None
    table: bool | None = None


PLAIN = PatientOptions(
    age_years=40.0, fracture_probability=0.0, scoliosis_probability=0.0, ossification_probability=0.0,
    variant_probability=0.0, contrast_probability=0.0, fat=0.3, arms_up=True, vacuum_probability=0.0,
    sclerosis_probability=0.0, spur_probability=0.0, node_probability=0.0, metastasis_probability=0.0,
    cement_probability=0.0, screw_probability=0.0, device_probability=0.0,
)  # fmt: skip
"""A patient with nothing special: one of its fields changed shows what that one does."""


@dataclass(frozen=True)
class Person:
    """Who the patient is: what sizes and densities follow from.

    Parameters
    ----------
    age_years : float
    female : bool
    size : float
        Length of the skeleton relative to the mean of all adults.
    density_hu : float
        Trabecular HU of L1.
    fat : float
        0 thin to 1 obese.
    arms_up : bool
    contrast : bool
    cortex_mm : float
        Thickness of the shell of the bodies.
    """

    age_years: float
    female: bool
    size: float
    density_hu: float
    fat: float
    arms_up: bool
    contrast: bool
    cortex_mm: float = 0.35

    @property
    def wear(self) -> float:
        """How far age has worn the spine, 0 (to 40 years) to 1 (from 90 years)."""
        return float(np.clip((self.age_years - 40) / 50, 0, 1))


SCLEROTIC_SHARE = 0.05
SCLEROTIC_HU = (280.0, 520.0)
"""Few patients have bone far denser than age explains (myelofibrosis, osteopetrosis, renal bone disease): drawn so."""
CORTEX_MM = (0.28, 0.45)
"""Shell of sound bone: 0.24-0.29 mm on sections (Ritzel 1997), 0.35 mm with the plates (Silva 1994)."""
THINNEST_CORTEX_MM = 0.15
"""Shell of the least dense bone."""
SEX_SIZE = 0.04
"""Women's heights are about 8 % below men's (Palm 2025)."""
SIZE_SD = 0.042
"""With `SEX_SIZE` this makes the SD between patients of 0.058 that the readers' keypoints have."""


def random_person(rng: np.random.Generator, options: PatientOptions) -> Person:
    """Draw a person.

    Trabecular density of L1 follows 226 - 2.5 (age - 25) HU, SD 40 (Jang 2019).
    """
    more = rng.spawn(1)[0]
    age = float(rng.uniform(25, 92)) if options.age_years is None else options.age_years
    female = bool(rng.random() < 0.5) if options.female is None else options.female
    size = float(np.exp(rng.normal(-SEX_SIZE if female else SEX_SIZE, SIZE_SD)))
    density = float(np.clip(226.0 - 2.5 * (age - 25.0) + rng.normal(0, 38), 15, 330))
    fat = float(rng.beta(1.6, 2.2)) if options.fat is None else options.fat
    arms_up = bool(rng.random() < 0.75) if options.arms_up is None else options.arms_up
    contrast = bool(rng.random() < options.contrast_probability)
    if more.random() < SCLEROTIC_SHARE:
        density = float(more.uniform(*SCLEROTIC_HU))
    density = density if options.density_hu is None else options.density_hu
    return Person(age, female, size, density, fat, arms_up, contrast, _cortex(more, density, options))


def _cortex(rng: np.random.Generator, density_hu: float, options: PatientOptions) -> float:
    """Thickness of the shell, mm: thinner where bone is less dense."""
    drawn = float(rng.uniform(*CORTEX_MM)) - 0.15 * float(np.clip((110.0 - density_hu) / 80.0, 0, 1))
    return options.cortex_mm if options.cortex_mm is not None else max(drawn, THINNEST_CORTEX_MM)
