"""From the images of one series to stacks: images that were taken together and can form one volume.

A series may hold a scout, two acquisitions, two kernels or the same slices twice (cases R1 and R5). Images are
parted by what they are (geometry, kernel, localizer), then, only where they collide in space, by the attribute
that parts them; exact duplicates are dropped and counted.
"""

import hashlib
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import dcmread

from vertebra_core.errors import VertebraError
from vertebra_core.reading.content import Content, of_image_type
from vertebra_core.reading.files import open_file
from vertebra_core.reading.grid import directions
from vertebra_core.reading.headers import IN_ORDER, TELL_APART, SliceHeader
from vertebra_core.reading.ranges import regular_ranges
from vertebra_core.settings import ReadingSettings

SAME_DIRECTION = 1e-3
"""Images whose direction cosines differ by less are parallel: 0.25 mm at the rim of a 500 mm field of view."""
SAME_SPACING = 1e-3
"""Relative difference of pixel spacings that is rounding: half a pixel over 512."""
SAME_POSITION_MM = 0.01
"""Images closer than this show the same slice; positions are written with at least two decimals (case R14)."""
FEWEST_PLACES = 4
"""Images that collide in fewer places than this are no volume, however they are parted."""
EVEN_STEP = 0.25
"""A part of a series is regular when its steps are whole multiples of their median to within this fraction."""


@dataclass(frozen=True)
class Stack:
    """Images that were taken together.

    Parameters
    ----------
    slices : tuple of SliceHeader
        In the order of their positions, where they have any.
    duplicates : tuple of SliceHeader
        Dropped copies of the same images.
    collides : bool
        True where different images still share a position and no attribute tells them apart.
    repairs : tuple of str
        What was done to put the stack together, as codes.
    """

    slices: tuple[SliceHeader, ...]
    duplicates: tuple[SliceHeader, ...] = ()
    collides: bool = False
    repairs: tuple[str, ...] = ()


def is_localizer(header: SliceHeader) -> bool:
    """True where ImageType says that the image is a scout."""
    return of_image_type(header.study.image_type) is Content.LOCALIZER


def split_stacks(slices: Sequence[SliceHeader], settings: ReadingSettings) -> list[Stack]:
    """Part the images of one series into stacks, the largest first."""
    stacks: list[Stack] = []
    for alike in _alike(slices):
        if directions(alike[0]) is None:
            stacks.append(Stack(tuple(alike)))
        else:
            for stack in _split_colliding(sort_along_normal(alike)):
                stacks += _part_ranges(stack, settings)
    return sorted(stacks, key=_stack_order)


def _split_colliding(along: list[SliceHeader]) -> list[Stack]:
    """Drop duplicates of parallel images and part what still collides."""
    kept, duplicates = _drop_same_instance(along)
    if _collides(kept) and _all_collisions_are_copies(kept):
        kept, copies = _drop_same_pixels(kept)
        duplicates += copies
    if _collides(kept) and len(_places(kept)) < FEWEST_PLACES:  # bolus tracking: one row, not one for every image
        return [Stack(tuple(kept), tuple(duplicates), collides=True)]
    parts = _part_collisions(kept)
    if any(map(_collides, parts)):
        kept, copies = _drop_same_pixels(kept)
        duplicates += copies
        parts = _part_collisions(kept)
    parts, copies = _drop_copied_parts(parts)
    duplicates += copies
    return [Stack(tuple(part), tuple(duplicates) if i == 0 else (), _collides(part)) for i, part in enumerate(parts)]


def _part_ranges(stack: Stack, settings: ReadingSettings) -> list[Stack]:
    """Part a stack where the spacing changes for good, or at a gap too wide to fill: each range is regular."""
    if stack.collides:
        return [stack]
    ranges = regular_ranges(_offsets(stack.slices), settings)
    parts = [stack.slices[start:stop] for start, stop in ranges]
    repairs = (f"parted_where_spacing_changes:{len(parts)}",) if len(parts) > 1 else ()
    return [Stack(part, stack.duplicates if i == 0 else (), repairs=repairs) for i, part in enumerate(parts)]


def _stack_order(stack: Stack) -> tuple:
    first = stack.slices[0]
    acquisition = first.tell_apart[0]
    number = int(acquisition) if acquisition.lstrip("-").isdigit() else 0
    return is_localizer(first), -len(stack.slices), number, min(header.file.path for header in stack.slices)


def sort_along_normal(slices: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Sort parallel slices by their positions along the right-handed normal; ties by path and frame."""
    offsets = dict(zip(map(id, slices), _offsets(slices), strict=True))
    return sorted(slices, key=lambda header: (offsets[id(header)], header.file.path, header.frame or 0))


def _offsets(slices: Sequence[SliceHeader]) -> np.ndarray:
    axes = directions(slices[0])
    if axes is None:
        raise ValueError("slices without geometry have no order")
    return np.array([header.position for header in slices], float) @ axes[2]


def _alike(slices: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """Group images of one kind: matrix, kernel, localizer or not, and parallel directions of equal spacing."""
    exact: dict[Hashable, list[SliceHeader]] = defaultdict(list)
    for header in slices:
        exact[_kind(header), header.orientation, header.pixel_spacing].append(header)
    merged: list[list[SliceHeader]] = []
    for members in exact.values():
        group = next((group for group in merged if _same_grid(members[0], group[0])), None)
        if group is None:
            merged.append(list(members))
        else:
            group += members
    return merged


def _kind(header: SliceHeader) -> Hashable:
    study = header.study
    has_place = header.position is not None
    return study.sop_class_uid, study.rows, study.columns, study.kernel, study.content, is_localizer(header), has_place


def _same_grid(a: SliceHeader, b: SliceHeader) -> bool:
    """True for images of one kind whose planes are parallel and whose pixels are equal, but for rounding."""
    if _kind(a) != _kind(b) or (directions(a) is None) != (directions(b) is None):
        return False
    if a.orientation is None or b.orientation is None or a.pixel_spacing is None or b.pixel_spacing is None:
        return True
    if np.abs(np.subtract(a.orientation, b.orientation)).max() > SAME_DIRECTION:
        return False
    return bool(np.abs(np.subtract(a.pixel_spacing, b.pixel_spacing)).max() <= SAME_SPACING * max(a.pixel_spacing))


def _places(slices: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Group slices sorted along the normal by position: more than one in a group collide."""
    offsets = _offsets(slices)
    starts = np.flatnonzero(np.diff(offsets, prepend=-np.inf) > SAME_POSITION_MM).tolist()
    return [list(slices[a:b]) for a, b in zip(starts, [*starts[1:], len(slices)], strict=True)]


def count_places(slices: Sequence[SliceHeader]) -> int:
    """Number of different positions of parallel slices."""
    return len(_places(sort_along_normal(slices)))


def _collides(slices: Sequence[SliceHeader]) -> bool:
    return directions(slices[0]) is not None and bool((np.diff(_offsets(slices)) <= SAME_POSITION_MM).any())


# -- duplicates ---------------------------------------------------------------------------------------------------


def _drop_same_instance(along: list[SliceHeader]) -> tuple[list[SliceHeader], list[SliceHeader]]:
    """Keep one image per SOPInstanceUID and place: the longest file, for a shorter one is a damaged copy.

    An anonymiser may have given all images one UID: numbers that differ make them different all the same.
    """
    kept, dropped = [], []
    for place in _places(along):
        best: dict[Hashable, SliceHeader] = {}
        for header in sorted(place, key=lambda header: -header.file.size):
            name = header.sop_instance_uid or header.file.path
            best.setdefault((name, header.frame, header.tell_apart, header.instance_number), header)
        survivors = set(map(id, best.values()))
        kept += [header for header in place if id(header) in survivors]
        dropped += [header for header in place if id(header) not in survivors]
    return kept, dropped


def _all_collisions_are_copies(along: list[SliceHeader]) -> bool:
    """True where all images of every shared place have equal pixels.

    Two acquisitions may agree in some slices (nothing enhances there), but not in all; the first that differs
    ends the reading.
    """
    return all(len(set(map(_content, place))) == 1 for place in _places(along) if len(place) > 1)


def _drop_same_pixels(along: list[SliceHeader]) -> tuple[list[SliceHeader], list[SliceHeader]]:
    """Keep one of the images that share their place, their pixels and every attribute that could part them."""
    kept, dropped = [], []
    for place in _places(along):
        best: dict[Hashable, SliceHeader] = {}
        for header in place:
            content = _content(header) if len(place) > 1 else None
            other = best.setdefault((content, header.tell_apart), header)
            (kept if other is header else dropped).append(header)
    return kept, dropped


def _drop_copied_parts(parts: list[list[SliceHeader]]) -> tuple[list[list[SliceHeader]], list[SliceHeader]]:
    """Drop a part whose every image equals that of an earlier part: a series sent twice with new numbers."""
    kept: list[list[SliceHeader]] = []
    dropped: list[SliceHeader] = []
    for part in parts:
        same = (other for other in kept if _same_places(part, other))
        if any(all(_content(a) == _content(b) for a, b in zip(part, other, strict=True)) for other in same):
            dropped += part
        else:
            kept.append(part)
    return kept, dropped


def _same_places(a: list[SliceHeader], b: list[SliceHeader]) -> bool:
    if len(a) != len(b) or directions(a[0]) is None:
        return False
    return bool(np.abs(_offsets(a) - _offsets(b)).max() <= SAME_POSITION_MM)


def _content(header: SliceHeader) -> Hashable:
    return pixel_digest(header), header.rescale


def pixel_digest(header: SliceHeader) -> str:
    """Digest of an image's stored pixels; of its name where they cannot be read."""
    try:
        with open_file(header.file.archive, header.file.path) as stream:
            pixels = dcmread(stream, force=True, specific_tags=["PixelData"]).PixelData
    except VertebraError:  # a store that does not answer says nothing about its files
        raise
    except Exception:  # a damaged file is no duplicate; reading it will say what is wrong
        return f"{header.file.archive}/{header.file.path}"
    return hashlib.sha256(pixels).hexdigest() + f":{header.frame}"


# -- collisions ---------------------------------------------------------------------------------------------------


def _part_collisions(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Part slices that collide, or acquisitions that interleave, by the first attribute that parts them cleanly."""
    by_acquisition = _part_by(slices, lambda header: header.tell_apart[0])
    clean = len(by_acquisition) > 1 and not any(map(_collides, by_acquisition))
    if clean and (_collides(slices) or all(map(_regular, by_acquisition))):
        return by_acquisition
    if not _collides(slices):
        return [slices]
    for parts in _candidate_partings(slices):
        if len(parts) > 1 and not any(map(_collides, parts)):
            return parts
    return [slices]


def _candidate_partings(slices: list[SliceHeader]) -> Iterable[list[list[SliceHeader]]]:
    for i in range(len(TELL_APART)):
        yield _part_by(slices, lambda header, i=i: header.tell_apart[i])
    yield _part_by(slices, lambda header: header.study.image_type)
    most = max(map(len, _places(slices)))
    orders: list[Callable] = [lambda header, i=i: header.in_order[i] or None for i in range(len(IN_ORDER))]
    for order in [*orders, lambda header: header.instance_number]:
        parts = _part_at_repeats(slices, order)
        if len(parts) == most:  # else images alternate, and their order does not say which belong together
            yield parts


def _part_by(slices: list[SliceHeader], attribute: Callable[[SliceHeader], Hashable]) -> list[list[SliceHeader]]:
    """Group by an attribute; groups that do not overlap in space are one stack scanned piece by piece."""
    groups: dict[Hashable, list[SliceHeader]] = defaultdict(list)
    for header in slices:
        groups[attribute(header)].append(header)
    if len(groups) == 1:
        return [slices]
    offset = dict(zip(map(id, slices), _offsets(slices).tolist(), strict=True))
    parts: list[tuple[list[tuple[float, float]], list[SliceHeader]]] = []
    for key in sorted(groups, key=_natural):
        span = offset[id(groups[key][0])], offset[id(groups[key][-1])]
        for taken, members in parts:
            at = bisect(taken, span)
            if (at == 0 or taken[at - 1][1] < span[0] - SAME_POSITION_MM) and (
                at == len(taken) or span[1] + SAME_POSITION_MM < taken[at][0]
            ):
                taken.insert(at, span)
                members += groups[key]
                break
        else:
            parts.append(([span], list(groups[key])))
    return [sort_along_normal(members) for _, members in parts]


def _natural(key: Hashable) -> tuple:
    """Order numbers as numbers and everything else as text."""
    try:
        return 0, float(str(key)), ""
    except ValueError:
        return 1, 0.0, str(key)


def _part_at_repeats(slices: list[SliceHeader], order: Callable) -> list[list[SliceHeader]]:
    """Walk the slices in an order of time; a position that comes again begins a new stack."""
    if any(order(header) is None for header in slices):
        return [slices]
    place_of = {id(header): i for i, place in enumerate(_places(slices)) for header in place}
    parts: list[list[SliceHeader]] = [[]]
    taken: set[int] = set()
    for header in sorted(slices, key=order):
        if place_of[id(header)] in taken:
            parts.append([])
            taken = set()
        taken.add(place_of[id(header)])
        parts[-1].append(header)
    return [sort_along_normal(part) for part in parts]


def _regular(slices: list[SliceHeader]) -> bool:
    """True where the steps are whole multiples of their median: what remains when acquisitions are parted rightly."""
    steps = np.diff(_offsets(slices))
    if len(steps) < 2:
        return False
    ratio = steps / np.median(steps)
    return bool((np.abs(ratio - np.rint(ratio)) <= EVEN_STEP).all() and np.rint(ratio).max() <= 2)
