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
    """

    age_years: float
    female: bool
    size: float
    density_hu: float
    fat: float
    arms_up: bool
    contrast: bool


SEX_SIZE = 0.04
"""Women's heights are about 8 % below men's (Palm 2025)."""
SIZE_SD = 0.042
"""With `SEX_SIZE` this makes the SD between patients of 0.058 that the readers' keypoints have."""


def random_person(rng: np.random.Generator, options: PatientOptions) -> Person:
    """Draw a person.

    Trabecular density of L1 follows 226 - 2.5 (age - 25) HU, SD 40 (Jang 2019).
    """
    age = float(rng.uniform(25, 92)) if options.age_years is None else options.age_years
    female = bool(rng.random() < 0.5) if options.female is None else options.female
    size = float(np.exp(rng.normal(-SEX_SIZE if female else SEX_SIZE, SIZE_SD)))
    density = float(np.clip(226.0 - 2.5 * (age - 25.0) + rng.normal(0, 38), 15, 330))
    fat = float(rng.beta(1.6, 2.2)) if options.fat is None else options.fat
    arms_up = bool(rng.random() < 0.75) if options.arms_up is None else options.arms_up
    return Person(age, female, size, density, fat, arms_up, bool(rng.random() < options.contrast_probability))
