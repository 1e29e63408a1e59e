"""Small cells of what a report counts besides prevalence: hidden by the same rule (`epidemiology.small_cells`)."""

from collections.abc import Mapping
from dataclasses import replace

from vertebra_core.epidemiology.small_cells import SMALL_CELL
from vertebra_core.report.distributions import Shapes
from vertebra_core.report.quality import Quality


def hide_counts(counts: Mapping[str, int | None], below: int = SMALL_CELL) -> dict[str, int | None]:
    """Counts that add up to a known whole, without those from 1 to `below` - 1.

    Where that hides one count only, it could be had by subtraction; the next smallest is then hidden too.

    Examples
    --------
    >>> hide_counts({"a": 3, "b": 20, "c": 40, "d": 0})
    {'a': None, 'b': None, 'c': 40, 'd': 0}
    """
    hidden = {name for name, n in counts.items() if n is None or 0 < n < below}
    rest = [name for name, n in counts.items() if name not in hidden and n]
    if len(hidden) == 1 and rest:
        hidden.add(min(rest, key=lambda name: counts[name] or 0))
    return {name: None if name in hidden else n for name, n in counts.items()}


def hide_shapes(shapes: tuple[Shapes, ...]) -> tuple[Shapes, ...]:
    """Shapes without small cells."""
    return tuple(replace(one, counts=hide_counts(one.counts)) for one in shapes)


def hide_quality(found: Quality) -> Quality:
    """Quality without small cells; years of a scanner are then not told, whose differences would be small cells."""
    endings = hide_counts({str(i): one.n for i, one in enumerate(found.endings)})
    scanners = hide_counts({one.name: one.studies for one in found.scanners})
    devices = {name: n for name, n in hide_counts(found.devices).items() if n is not None}
    return replace(
        found,
        endings=tuple(replace(one, n=endings[str(i)]) for i, one in enumerate(found.endings)),
        scanners=tuple(
            replace(one, measured=None, median_g=None, studies=None) if scanners[one.name] is None else one
            for one in found.scanners
        ),
        years=(),
        devices=devices,
    )
