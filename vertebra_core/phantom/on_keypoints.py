"""A phantom on given keypoints: the patient round vertebrae that a reader or the program has marked.

The marked vertebrae get exactly the given points. Everything else follows: vertebrae above, below and between them,
ribs, trunk and organs are drawn as for a random patient of the same size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from vertebra_core.errors import WrongUse
from vertebra_core.phantom.anatomy import Phantom, round_column
from vertebra_core.phantom.body import Body
from vertebra_core.phantom.column import (
    Column,
    furnish,
    make_discs,
    random_bends,
    random_bodies,
    random_gaps,
    stack,
    wear,
    with_ends,
)
from vertebra_core.phantom.levels import LEVEL_SIZES, level_names, level_size
from vertebra_core.phantom.patient import PatientOptions, Person, random_person
from vertebra_core.phantom.vertebra import Pose
from vertebra_core.phantom.warp import Warp

PERSON_SIZES = (0.7, 1.4)
"""Limits of a patient's size relative to the mean: beyond them the points are no adult's spine."""
LEAST_HEIGHT_MM = 2.0
"""A lower body cannot be drawn."""
SHARED_DENT_MM = 0.3
"""Below this concavity of both plates together its share between them says nothing."""
FILLER_SCALES = (0.5, 1.6)
"""Limits of the size of a vertebra that is put between two marked ones, relative to its level's."""
GUESSED = level_names()
"""Levels among which a name is guessed."""


def phantom_on_keypoints(
    points: Float[np.ndarray, "k 6 3"],
    levels: Sequence[str | None],
    rng: np.random.Generator,
    options: PatientOptions | None = None,
) -> Phantom:
    """A patient whose vertebrae have the given keypoints.

    Parameters
    ----------
    points : array [k, 6, 3]
        LPS mm, k >= 1, from the top down; the middle of the phantom's trunk is the middle of its T8.
    levels : sequence of (str or None)
        "C3" .. "L6"; a missing name is counted from its neighbours, or guessed from sizes where none is named.
    options : PatientOptions or None
        Fractures, scoliosis and variants among them are ignored: the points say what the spine is like.

    Raises
    ------
    WrongUse
        No points, points that make no vertebra, or names that do not run downward.
    """
    points = np.asarray(points, float)
    names = complete_levels(points, levels)
    options = options or PatientOptions()
    person = replace(random_person(rng, options), size=person_size(points, names))
    column = _column(rng, points, names, person, options)
    return round_column(rng, person, column, options)


def complete_levels(points: Float[np.ndarray, "k 6 3"], levels: Sequence[str | None]) -> tuple[str, ...]:
    """Names of all vertebrae, the missing ones counted or guessed.

    Raises
    ------
    WrongUse
        No points, another number of names, or names that do not run downward.
    """
    if not len(points) or len(points) != len(levels):
        raise WrongUse(f"{len(points)} vertebrae with {len(levels)} names: at least one vertebra, and a name for each")
    order = _order(levels)
    named = [(k, order.index(level)) for k, level in enumerate(levels) if level is not None]
    first, start = named[0] if named else (0, likely_start(points))
    places = [start - first + k for k in range(len(points))]
    for k, place in named:
        places[k:] = [place + i for i in range(len(points) - k)]
    if min(places) < 0 or max(places) >= len(order) or (np.diff(places) < 1).any():
        raise WrongUse(f"levels {', '.join(str(n) for n in levels)}: they must run downward between C3 and L6")
    return tuple(order[place] for place in places)


def _order(levels: Sequence[str | None]) -> tuple[str, ...]:
    """Levels in the order of this spine, with a T13, L6 or the absence of T12 where the names say so."""
    given = [level for level in levels if level is not None]
    no_t12 = any(a == "T11" and b == "L1" for a, b in pairwise(levels))
    order = level_names(13 if "T13" in given else 11 if no_t12 else 12, 6 if "L6" in given else 5)
    unknown = [level for level in given if level not in order]
    if unknown:
        raise WrongUse(f"level {unknown[0]}: one of C3 .. C7, T1 .. T13, L1 .. L6 is expected")
    return order


def likely_start(points: Float[np.ndarray, "k 6 3"]) -> int:
    """Place among C3 .. L5 where a run of unnamed vertebrae fits best by its sizes, whatever the patient's own size."""
    sizes = np.log(np.stack([_lengths(points)[name] for name in ("hp", "cranial", "caudal")], 1))
    fits = []
    for start in range(len(GUESSED) - len(points) + 1):
        here = [LEVEL_SIZES[name] for name in GUESSED[start : start + len(points)]]
        away = sizes - np.log([[size.hp, size.cranial, size.caudal] for size in here])
        fits.append(float(away.std()) + 0.2 * abs(float(away.mean())))
    if not fits:
        raise WrongUse(f"{len(points)} vertebrae: more than there are from C3 to L5")
    return int(np.argmin(fits))


def _lengths(points: np.ndarray) -> dict[str, np.ndarray]:
    def between(a: int, b: int) -> np.ndarray:
        return np.maximum(np.linalg.norm(points[:, a] - points[:, b], axis=-1), 1e-3)

    return {"hp": between(4, 5), "cranial": between(0, 4), "caudal": between(1, 5)}


def person_size(points: Float[np.ndarray, "k 6 3"], levels: Sequence[str]) -> float:
    """Size of the skeleton relative to the mean of all adults, from back heights and plates."""
    lengths = _lengths(points)
    ratios = [lengths[name] / [getattr(level_size(level), name) for level in levels] for name in lengths]
    return float(np.clip(np.median(ratios), *PERSON_SIZES))


@dataclass(frozen=True)
class Fit:
    """A body, its place, and the bend that carries its keypoints onto the given ones."""

    body: Body
    pose: Pose
    warp: Warp


def fit_vertebra(points: Float[np.ndarray, "6 3"], like: Body) -> Fit:
    """Fit a body to six points.

    Parameters
    ----------
    points : array [6, 3]
        LPS mm.
    like : Body
        What the points do not say: width, rim, waist and so on.

    Raises
    ------
    WrongUse
        The points make no vertebra: front behind the back, or top below the bottom.
    """
    pose = fitted_pose(points)
    own = (points - pose.centre) @ pose.rotation
    heights = own[0::2, 2] - own[1::2, 2]
    lengths = own[[4, 5], 1] - own[[0, 1], 1]
    upright = min(pose.rotation[1, 1], pose.rotation[2, 2]) > 0  # the back behind and the top above
    if not upright or not (heights > LEAST_HEIGHT_MM).all() or not (lengths > LEAST_HEIGHT_MM).all():
        raise WrongUse(f"points round {np.round(points.mean(0), 1).tolist()}: no vertebra has such a shape")
    dents = own[[0, 4], 2].mean() - own[2, 2], own[3, 2] - own[[1, 5], 2].mean()
    share = np.clip(dents[0] / sum(dents), 0.0, 1.0) if sum(dents) > SHARED_DENT_MM else 0.5
    ha, hm, hp = (float(h) for h in heights)
    cranial, caudal = (float(length) for length in lengths)
    body = replace(
        like, ha=ha, hm=hm, hp=hp, cranial=cranial, caudal=caudal, cranial_share=float(share), tilt=0.0, nodes=()
    )
    return Fit(body, pose, Warp(body, own))


def fitted_pose(points: Float[np.ndarray, "6 3"]) -> Pose:
    """Own frame of six points: v along both plates to the back, t across them upward, origin amid the corners."""
    back = points[4] + points[5] - points[0] - points[1]
    back = back / max(float(np.linalg.norm(back)), 1e-9)
    up = points[0] + points[4] - points[1] - points[5]
    up = up - (up @ back) * back
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    return Pose(np.stack([np.cross(back, up), back, up], 1), points[[0, 1, 4, 5]].mean(0))


def _column(
    rng: np.random.Generator,
    points: np.ndarray,
    given: tuple[str, ...],
    person: Person,
    options: PatientOptions,
) -> Column:
    levels = _order(given)
    bodies = wear(rng, random_bodies(rng, levels, person), person, options)
    fits = {name: fit_vertebra(six, bodies[levels.index(name)]) for name, six in zip(given, points, strict=True)}
    bodies = [fits[name].body if name in fits else body for name, body in zip(levels, bodies, strict=True)]
    bodies, names = with_ends(rng, bodies, levels, person)
    bodies, poses = _placed(rng, bodies, names, fits, person, options)
    warps = {name: fit.warp for name, fit in fits.items()}
    vertebrae = furnish(rng, names, bodies, poses, person, options, {}, warps)
    k = len(levels) + 1
    discs = make_discs(rng, vertebrae[: k + 1], person, options)
    return Column(vertebrae[0], tuple(vertebrae[1:k]), tuple(vertebrae[k:]), discs, ())


def _placed(
    rng, bodies: list[Body], names: list[str], fits: dict[str, Fit], person: Person, options: PatientOptions
) -> tuple[list[Body], list[Pose]]:
    """Places of all bodies: the fitted stay, those above, below and between are stacked on to them."""
    straight = replace(options, scoliosis_probability=0.0)
    n = next(i for i, name in enumerate(names) if name[0] == "S")
    bends = random_bends(rng, n, names[:n], person, straight)
    gaps = random_gaps(rng, ("C3", *names[1:n]), bodies[:n], bends[:, 0], person)
    rest = len(bodies) - 1 - n
    bends[:, 0] = 0.0  # already in the gaps
    chain = stack(bodies, np.vstack([gaps, np.full((rest, 2), 0.6)]), np.vstack([bends, np.zeros((rest, 3))]))
    fixed = [k for k, name in enumerate(names) if name in fits]
    poses = [fits[name].pose if name in fits else pose for name, pose in zip(names, chain, strict=True)]
    for k in range(len(names)):
        if k < fixed[0] or k > fixed[-1]:
            anchor = fixed[0] if k < fixed[0] else fixed[-1]
            poses[k] = _carried(chain[k], chain[anchor], poses[anchor])
    for upper, lower in pairwise(fixed):
        for k in range(upper + 1, lower):
            bodies[k], poses[k] = _between(bodies, poses, upper, lower, k)
    return bodies, poses


def _carried(pose: Pose, anchor: Pose, place: Pose) -> Pose:
    """A pose moved as the move from ``anchor`` to ``place`` moves everything."""
    turn = place.rotation @ anchor.rotation.T
    return Pose(turn @ pose.rotation, turn @ (pose.centre - anchor.centre) + place.centre)


def _between(bodies: list[Body], poses: list[Pose], upper: int, lower: int, k: int) -> tuple[Body, Pose]:
    """An unmarked vertebra, sized and placed to fill its share of the room between two marked ones."""
    top = poses[upper].patient_from_own(np.array([0, 0, -bodies[upper].hm / 2]))
    bottom = poses[lower].patient_from_own(np.array([0, 0, bodies[lower].hm / 2]))
    missing = lower - upper - 1
    body = bodies[k]
    room = float(np.linalg.norm(bottom - top)) / missing
    scale = float(np.clip(0.85 * room / ((body.ha + body.hp) / 2), *FILLER_SCALES))
    sizes = {name: getattr(body, name) * scale for name in ("ha", "hm", "hp", "cranial", "caudal", "rim")}
    share = (k - upper - 0.5) / missing
    left, _, right = np.linalg.svd((1 - share) * poses[upper].rotation + share * poses[lower].rotation)
    return replace(body, **sizes, spur=(0.0, 0.0), nodes=()), Pose(left @ right, top + share * (bottom - top))
