"""Names, variants and the chain that counts, on cases worked out by hand."""

import numpy as np
import pytest

from vertebra_core.levels.chain import MISSED, STEP_SD, WILD_SD, Chain, Finds, Trust, step_patterns, step_weights
from vertebra_core.levels.chain import name_chain as name_finds
from vertebra_core.levels.find import log_sizes, neighbour_ratio, read_chain, trust_of
from vertebra_core.levels.names import LOOKS, MEASURED, NAMES, VARIANTS, Variant, looks_of
from vertebra_core.levels.sizes import LOG_SIZES, LOOK_SIZES_MM, SizeSpread
from vertebra_core.phantom.levels import LEVEL_SIZES
from vertebra_core.settings import LevelSettings
from vertebra_core.tables.columns import LEVELS

PLAIN = Trust(1.0, 0.02, SizeSpread((0.07, 0.10), (0.05, 0.08)))


def seen(*names: str, sure: float = 0.9) -> np.ndarray:
    """Looks of finds that look like these levels, the rest shared by all others."""
    looks = np.full((len(names), len(LOOKS)), (1 - sure) / (len(LOOKS) - 1))
    looks[np.arange(len(names)), [LOOKS.index(n) for n in names]] = sure
    return looks


def name_chain(looks: np.ndarray, ratio: np.ndarray, trust: Trust) -> Chain:
    """Name finds whose sizes are not known."""
    return name_finds(Finds(looks, ratio, np.full((len(looks), 2), np.nan)), trust)


def thoracic(first: int, last: int) -> list[str]:
    return [f"T{i}" for i in range(first, last + 1)]


def test_the_variants_are_all_of_mankind_and_most_have_twelve_and_five():
    assert sum(v.prior for v in VARIANTS) == pytest.approx(1.0)
    assert (VARIANTS[0].thoracic, VARIANTS[0].lumbar) == (12, 5)
    assert VARIANTS[0].names == LOOKS


def test_every_name_that_is_measured_has_its_place_in_the_tables():
    assert set(MEASURED) <= set(LEVELS)
    assert list(MEASURED) == [name for name in LEVELS if name in MEASURED]
    assert MEASURED[0] == "C3"
    assert MEASURED[-1] == "L6"


@pytest.mark.parametrize(
    ("variant", "name", "look"),
    [
        (Variant(12, 6, 0.1), "L6", {"L5": 1.0}),
        (Variant(12, 6, 0.1), "L1", {"L1": 1.0}),
        (Variant(12, 4, 0.1), "L4", {"L5": 1.0}),
        (Variant(11, 5, 0.1), "T11", {"T12": 1.0}),
        (Variant(11, 5, 0.1), "T5", {"T5": 1.0}),
        (Variant(13, 5, 0.1), "T13", {"T12": 1.0}),
        (Variant(13, 5, 0.1), "T7", {"T6": 0.5, "T7": 0.5}),
        (Variant(11, 6, 0.1), "C7", {"C7": 1.0}),
    ],
)
def test_looks_of_variants(variant, name, look):
    row = looks_of(variant)[variant.names.index(name)]
    assert {LOOKS[i]: pytest.approx(row[i]) for i in np.flatnonzero(row)} == look
    np.testing.assert_allclose(looks_of(variant).sum(1), 1.0)


def test_clear_looks_are_named_as_they_look():
    names = ["C6", "C7", *thoracic(1, 12), "L1"]
    chain = name_chain(seen(*names), np.ones(len(names) - 1), PLAIN)
    assert list(chain.path) == names
    assert chain.variants[0] > 0.9


def test_one_look_that_errs_is_outvoted():
    looks = seen("T8", "T9", "T10", "T12", "T12", "L1")
    assert name_chain(looks, np.ones(5), PLAIN).path == ("T8", "T9", "T10", "T11", "T12", "L1")


def test_a_gap_is_counted_across():
    looks = np.full((4, len(LOOKS)), 1 / len(LOOKS))
    looks[:2] = seen("T3", "T4")
    chain = name_chain(looks, np.array([1.0, 2.0, 1.0]), PLAIN)
    assert chain.path == ("T3", "T4", "T6", "T7")


def test_a_step_weighs_as_written():
    weights = step_weights(np.array([1.0, 2.0]))
    assert weights[0, 0] == 0.0
    assert weights[1, 1] == pytest.approx(np.log(MISSED))
    assert weights[0, 1] == pytest.approx(np.log(MISSED) - 0.5 * WILD_SD**2)  # log 2 is 4.6 SD
    assert step_weights(np.array([1.1]))[0, 0] == pytest.approx(-0.5 * (np.log(1.1) / STEP_SD) ** 2)


@pytest.mark.parametrize(
    ("looks", "names"),
    [
        # Thirteen ribbed vertebrae between a seen neck and a seen loin.
        (
            ["C6", "C7", *thoracic(1, 6), "T6", *thoracic(7, 12), "L1", "L2"],
            ["C6", "C7", *thoracic(1, 13), "L1", "L2"],
        ),
        # Six free vertebrae between the last rib and the sacrum.
        (
            ["T11", "T12", "L1", "L2", "L3", "L3", "L4", "L5", "S1"],
            ["T11", "T12", *(f"L{i}" for i in range(1, 7)), "S1"],
        ),
        # Four.
        (["T11", "T12", "L1", "L2", "L4", "L5", "S1"], ["T11", "T12", *(f"L{i}" for i in range(1, 5)), "S1"]),
        # Eleven ribs.
        (["C7", *thoracic(1, 6), *thoracic(8, 12), "L1", "L2"], ["C7", *thoracic(1, 11), "L1", "L2"]),
    ],
    ids=["T13", "L6", "no L5", "no T12"],
)
def test_variants_are_counted(looks, names):
    chain = name_chain(seen(*looks), np.ones(len(looks) - 1), PLAIN)
    assert list(chain.path) == names


def test_nothing_seen_is_nothing_named():
    looks = np.full((5, len(LOOKS)), 1 / len(LOOKS))
    named = read_chain(name_chain(looks, np.ones(4), PLAIN), LevelSettings())
    assert named.levels == (None,) * 5
    assert np.isnan(named.confidence).all()
    assert not named.foreign.any()


def test_axis_and_sacrum_are_foreign_and_have_no_level():
    names = ["C2", "C3", "C4", "C5", "C6", "C7"]
    named = read_chain(name_chain(seen(*names, sure=0.99), np.ones(5), PLAIN), LevelSettings())
    assert named.levels == (None, *names[1:])
    assert named.foreign.tolist() == [True, *[False] * 5]
    names = ["L3", "L4", "L5", "S1"]
    named = read_chain(name_chain(seen(*names, sure=0.99), np.ones(3), PLAIN), LevelSettings())
    assert named.foreign.tolist() == [False, False, False, True]
    assert named.levels[:3] == ("L3", "L4", "L5")


def test_a_name_is_given_with_its_probability():
    chain = name_chain(seen("T8", "T9", "T10", sure=0.6), np.ones(2), PLAIN)
    named = read_chain(chain, LevelSettings(min_confidence=0.0))
    for k, level in enumerate(named.levels):
        assert named.confidence[k] == chain.probability[k, NAMES.index(level)]
    strict = read_chain(chain, LevelSettings(min_confidence=1.0))
    assert strict.levels == (None, None, None)


def test_the_distance_of_neighbours_is_one_in_units_of_their_size():
    upper = np.array([[0, 0, 20], [0, 0, 0], [0, 15, 20], [0, 15, 0], [0, 30, 20], [0, 30, 0]], float)
    points = np.stack([upper, upper - [0, 0, 22.0], upper - [0, 0, 66.0]])
    np.testing.assert_allclose(neighbour_ratio(points), [1.0, 2.0])


def test_more_finds_than_names_are_refused():
    with pytest.raises(ValueError, match="27 finds"):
        name_chain(np.full((27, len(LOOKS)), 1 / len(LOOKS)), np.ones(26), PLAIN)


def test_steps_are_the_likely_ones_or_differ_at_one_gap():
    patterns = step_patterns(step_weights(np.array([1.0, 2.1])))
    assert patterns[0].tolist() == [1, 2]
    assert len(patterns) == 1 + 2 * 3
    assert (np.abs(patterns - patterns[0]) > 0).sum(1).max() == 1
    assert step_patterns(step_weights(np.zeros(0))).shape == (1, 0)


def test_sizes_alone_find_the_place_of_a_long_row():
    sizes = LOG_SIZES[LOOKS.index("T2") : LOOKS.index("L1") + 1] + np.log(1.05)
    flat = np.full((len(sizes), len(LOOKS)), 1 / len(LOOKS))
    chain = name_finds(Finds(flat, np.ones(len(sizes) - 1), sizes), PLAIN)
    assert chain.path[0] == "T2"
    assert chain.path[-1] == "L1"
    assert chain.probability[0, NAMES.index("T2")] > 0.6


def test_sizes_are_those_that_phantoms_are_built_with():
    for level, size in LEVEL_SIZES.items():
        height, depth = LOOK_SIZES_MM[level]
        assert height == pytest.approx(size.hp)
        assert depth == pytest.approx((size.cranial + size.caudal) / 2, abs=0.06)


def test_cut_and_deformed_finds_keep_their_sizes_to_themselves():
    body = np.array([[0, 0, 20], [0, 0, 0], [0, 15, 20], [0, 15, 0], [0, 30, 20], [0, 30, 0]], float)
    wedge = body.copy()
    wedge[0, 2] = 14.0
    sizes = log_sizes(np.stack([body, wedge, body]), np.array([True, True, False]))
    np.testing.assert_allclose(sizes[0], np.log([20.0, 30.0]))
    assert np.isnan(sizes[1, 0])
    assert sizes[1, 1] == pytest.approx(np.log((30 + np.hypot(30, 6)) / 2))
    assert np.isnan(sizes[2]).all()


def test_settings_say_how_far_to_trust():
    trust = trust_of(LevelSettings(trust=0.3, doubt=0.1, patient_size_sd=(1.0, 2.0), vertebra_size_sd=(3.0, 4.0)))
    assert trust == Trust(0.3, 0.1, SizeSpread((1.0, 2.0), (3.0, 4.0)))


def test_where_the_scan_goes_on_the_spine_has_ended():
    """Six finds that look like anything, in a scan that shows what lies below the last: it is the last lumbar one."""
    flat = np.full((6, len(LOOKS)), 1 / len(LOOKS))
    unknown = np.full((6, 2), np.nan)
    open_ended = name_finds(Finds(flat, np.ones(5), unknown), PLAIN).probability
    ended = name_finds(Finds(flat, np.ones(5), unknown, (False, True)), PLAIN).probability
    last = [NAMES.index(name) for name in ("L4", "L5", "L6", "S1", "S2")]
    assert open_ended[-1, last].sum() < 0.3
    # About 1 (L5) + 0.1 (S1) + 0.01 (S2) against seventeen higher places at 0.03 each.
    assert ended[-1, last].sum() > 0.6
    top = name_finds(Finds(flat, np.ones(5), unknown, (True, False)), PLAIN).probability
    assert top[0, [NAMES.index("C2"), NAMES.index("C3")]].sum() > 0.6


@pytest.mark.parametrize(("count", "last"), [(22, "L5"), (21, "L4"), (24, "L6")])
def test_a_row_between_two_ends_is_counted_whatever_it_looks_like(count, last):
    flat = np.full((count, len(LOOKS)), 1 / len(LOOKS))
    chain = name_finds(Finds(flat, np.ones(count - 1), np.full((count, 2), np.nan), (True, True)), PLAIN)
    assert chain.path[0] in ("C2", "C3")
    if count == 22:
        assert (chain.path[0], chain.path[-1]) == ("C3", last)
        assert chain.probability[-1, NAMES.index(last)] > 0.8
    elif count < 22:
        assert chain.path[-1] == last
    else:
        assert chain.path[-1] in (last, "S1")
