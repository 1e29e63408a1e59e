"""Names of vertebrae, the variants of their number, and what each looks like beside the landmarks of its spine."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

AXIS, SACRUM = "C2", "S1"
CERVICAL = tuple(f"C{i}" for i in range(3, 8))
"""Seven cervical vertebrae in nearly every mammal; the measured ones begin at C3."""
LOOKS = (AXIS, *CERVICAL, *(f"T{i}" for i in range(1, 13)), *(f"L{i}" for i in range(1, 6)), SACRUM, "S2")
"""What the network tells apart: the levels of a spine with twelve thoracic and five lumbar vertebrae. A variant spine
is made of the same looks in another row: its T13 looks like a T12, for it bears the last rib."""
NAMES = (
    AXIS,
    *CERVICAL,
    *(f"T{i}" for i in range(1, 14)),
    *(f"L{i}" for i in range(1, 7)),
    SACRUM,
    "S2",
)
"""All names a find can get, from the top down."""
MEASURED = tuple(name for name in NAMES if name not in (AXIS, SACRUM, "S2"))
"""The levels of the tables: C3 to L6."""
THORACIC_FADE = (5.0, 9.0)
"""Down to T5 a thoracic vertebra looks like its number from the neck, from T9 on like its number from the last rib."""


@dataclass(frozen=True)
class Variant:
    """A number of thoracic and lumbar vertebrae, and how common it is.

    Parameters
    ----------
    thoracic, lumbar : int
    prior : float
        Share of people.
    """

    thoracic: int
    lumbar: int
    prior: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names from the axis to the sacrum."""
        ribbed = [f"T{i}" for i in range(1, self.thoracic + 1)]
        free = [f"L{i}" for i in range(1, self.lumbar + 1)]
        return (AXIS, *CERVICAL, *ribbed, *free, SACRUM, "S2")


VARIANTS = (
    Variant(12, 5, 0.858),
    Variant(12, 4, 0.060),
    Variant(11, 5, 0.030),
    Variant(12, 6, 0.025),
    Variant(11, 6, 0.015),
    Variant(13, 5, 0.006),
    Variant(13, 4, 0.006),
)
"""After whole-spine CT of 551 people (Skeletal Radiol 2025, PMID 40381031): 23 presacral vertebrae in 12.3 %, 25 in
4.0 %, a lumbar rib in 1.5 %; 13 pairs of ribs in 0.4 % and 11 in 8 % of 1340 Koreans. How these combine is not
published: of the spines with 23 a third is taken to lack a rib. All variants are given about three quarters of their
share, for one that is seen wrongly spoils a whole spine."""


@cache
def looks_of(variant: Variant) -> Float[np.ndarray, "n looks"]:
    """How much each vertebra of a variant, in the order of its names, looks like each of `LOOKS`; rows sum to 1.

    Examples
    --------
    >>> extra = Variant(13, 5, 0.01)
    >>> looks = looks_of(extra)[extra.names.index("T13")]
    >>> [(LOOKS[i], float(looks[i])) for i in np.flatnonzero(looks)]
    [('T12', 1.0)]
    """
    table = np.zeros((len(variant.names), len(LOOKS)))
    for row, name in zip(table, variant.names, strict=True):
        place = _place(name, variant)
        low = int(place)
        share = place - low
        row[low] += 1.0 - share
        if share > 0:
            row[low + 1] += share
    return table


def _place(name: str, variant: Variant) -> float:
    """Index in `LOOKS`, with a fraction between two of them."""
    kind, number = name[0], int(name[1:])
    if kind == "T":
        start, stop = THORACIC_FADE
        share = float(np.clip((number - start) / (stop - start), 0.0, 1.0))
        return LOOKS.index("T1") + number - 1 - share * (variant.thoracic - 12)
    if kind == "L":
        return LOOKS.index("L1") + (number - 1) * 4.0 / (variant.lumbar - 1)
    return LOOKS.index(name)
