"""Agreement among readers does not depend on who is named first, nor on where the patient lies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra_core.evaluation.agreement import agreement
from vertebra_core.evaluation.readings import ReadSeries, join, same_vertebra
from vertebra_core.phantom.reader_file import Reading

height = st.floats(14, 26)
shifts = st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))


@st.composite
def readings(draw):
    """Two to four readers of some of five vertebrae 30 mm apart, each with an error of its own."""
    found = {}
    for reader in range(draw(st.integers(2, 4))):
        marked = []
        for i in sorted(draw(st.sets(st.integers(0, 4), min_size=1))):
            three, shift = draw(st.tuples(height, height, height)), np.array(draw(shifts))
            six = [[0.0, 12.0 * j, sign * three[j] / 2] for j in range(3) for sign in (-1, 1)]
            marked.append(np.array(six) + shift + [50.0, 50.0, 30.0 * i + 50.0])
        found[f"reader{reader}"] = Reading(np.array(marked), (None,) * len(marked))
    return found


def joined(found: dict[str, Reading]):
    return join([ReadSeries("one", "1.2.3", found)], {"one": (1.0, 1.0)})


@given(readings())
@settings(deadline=None, max_examples=40)
def test_every_reading_is_of_one_vertebra_and_no_reader_marks_one_twice(found):
    _, vertebra = same_vertebra([one.voxels for one in found.values()])
    whose = np.repeat(np.arange(len(found)), [len(one.voxels) for one in found.values()])
    assert len(set(zip(vertebra.tolist(), whose.tolist(), strict=True))) == len(vertebra)
    assert sorted(set(vertebra.tolist())) == list(range(vertebra.max() + 1))


@given(readings(), st.floats(0, 100), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_order_of_readers_and_place_do_not_matter(found, away, random):
    if not len(joined(found).pairs):
        return
    names = list(found)
    random.shuffle(names)
    moved = {name: Reading(found[name].voxels + away, found[name].levels) for name in names}
    one, other = agreement(joined(found)), agreement(joined(moved))
    assert other.g.rms == pytest.approx(one.g.rms)
    assert other.others_mm.mean == pytest.approx(one.others_mm.mean)
    assert other.confusion == one.confusion
    assert (other.f1, other.covered, other.grades) == (one.f1, one.covered, one.grades)


@given(readings())
@settings(deadline=None, max_examples=25)
def test_the_mean_of_the_others_is_that_of_a_slow_loop(found):
    all_of_them = joined(found)
    others = all_of_them.of_others(all_of_them.g)
    for i, vertebra in enumerate(all_of_them.vertebra):
        rest = [g for j, g in enumerate(all_of_them.g) if j != i and all_of_them.vertebra[j] == vertebra]
        assert (np.isnan(others[i]) and not rest) or others[i] == pytest.approx(np.mean(rest))
