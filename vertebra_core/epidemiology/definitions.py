"""What counts as a deformed vertebra: definitions that differ in the ratio that is held against the bounds.

Each gives one ratio per vertebra, 1 for an ideal one, and a vertebra reaches a grade where its ratio is at or below
the bound (`GradingSettings`). They need heights only: choosing another never needs new inference.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.tables.columns import LEVELS

DefinitionName = Literal["genant", "height-loss", "level-adjusted"]
DEFINITIONS: tuple[DefinitionName, ...] = get_args(DefinitionName)

MEANING: dict[str, str] = {
    "genant": "G = min(ha, hm, hp) / max(ha, hm, hp) (Genant 1993; paper equation 1)",
    "height-loss": "1 - loss, loss = 1 - min(ha, hm) / hp: anterior or middle height against the posterior one",
    "level-adjusted": "the smaller of ha/hp and hm/hp, each over its trimmed mean in this cohort at this level and sex",
}

TRIM = 0.10
"""Share left out at either end before a reference mean is taken, so that deformed vertebrae (a few per cent at the
lower end) hardly move it. EVOS took trimmed means of each cohort in the same spirit (O'Neill 1996)."""
MIN_REFERENCE = 30
"""Vertebrae that a reference mean needs: its standard error is then 0.2 of the spread between people. With fewer of
one sex both sexes are taken together; with fewer still the vertebra has no level-adjusted ratio. A convention."""
_ALL_SEXES = "all"


@dataclass(frozen=True)
class ReferenceRatio:
    """Trimmed mean ratios of the cohort's own vertebrae at a level.

    Parameters
    ----------
    sex : str
        "all" where one sex alone has too few.
    n : int
        Vertebrae, before trimming.
    """

    level: str
    sex: str
    n: int
    ha_over_hp: float
    hm_over_hp: float


@dataclass(frozen=True)
class Adjusted:
    """Level-adjusted ratios [vertebrae], NaN where there is no reference, and the references."""

    ratio: Float[np.ndarray, "vertebrae"]
    references: tuple[ReferenceRatio, ...]


def height_loss_ratio(heights_mm: Float[np.ndarray, "vertebrae 3"]) -> Float[np.ndarray, "vertebrae"]:
    """The smaller of anterior and middle height over the posterior one; above 1 where the posterior is smallest.

    A crush deformity, with a low posterior height, is not seen by it.

    Examples
    --------
    >>> height_loss_ratio(np.array([[20.0, 24.0, 25.0], [25.0, 25.0, 20.0]])).tolist()
    [0.8, 1.25]
    """
    return heights_mm[:, :2].min(1) / heights_mm[:, 2]


def level_adjusted_ratio(
    heights_mm: Float[np.ndarray, "vertebrae 3"],
    level: Int[np.ndarray, "vertebrae"],
    sex: Int[np.ndarray, "vertebrae"],
    sexes: tuple[str, ...],
) -> Adjusted:
    """The smaller of ha/hp and hm/hp, each divided by what is usual at the level.

    Parameters
    ----------
    heights_mm : array
        ha, hm, hp in mm; NaN where not measured.
    level : array
        Position in `LEVELS`, -1 where not known; such a vertebra has no ratio.
    sex : array
        Position in `sexes`.
    sexes : tuple of str

    Notes
    -----
    Thoracic bodies are wedged and their endplates concave by nature, most of all at T6 and T7: one bound for all
    levels finds deformities there that are none. The reference is the cohort's own (ratios differ between sexes and
    centres, O'Neill 1996), so these ratios say how unusual a vertebra is here, not how deformed.
    """
    ratios = heights_mm[:, :2] / heights_mm[:, 2:]
    usable = (level >= 0) & np.isfinite(ratios).all(1)
    means = np.full((len(LEVELS), len(sexes), 2), np.nan)
    references = []
    for number in np.unique(level[usable]).tolist():
        here = usable & (level == number)
        pooled = _reference(LEVELS[number], _ALL_SEXES, ratios[here])
        own = [_reference(LEVELS[number], name, ratios[here & (sex == i)]) for i, name in enumerate(sexes)]
        chosen = [one or pooled for one in own]
        present = np.bincount(sex[here], minlength=len(sexes)) > 0
        for i, one in enumerate(chosen):
            if one is not None and present[i]:
                means[number, i] = one.ha_over_hp, one.hm_over_hp
                references += [one] if one not in references else []
    adjusted = np.full(len(level), np.nan)
    adjusted[usable] = (ratios[usable] / means[level[usable], sex[usable]]).min(1)
    return Adjusted(adjusted, tuple(references))


def _reference(level: str, sex: str, ratios: np.ndarray) -> ReferenceRatio | None:
    from scipy.stats import trim_mean

    if len(ratios) < MIN_REFERENCE:
        return None
    ha_over_hp, hm_over_hp = trim_mean(ratios, TRIM, axis=0).tolist()
    return ReferenceRatio(level, sex, len(ratios), ha_over_hp, hm_over_hp)
