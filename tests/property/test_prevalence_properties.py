"""What must hold of the estimators whatever the numbers, and slow plain references beside the quick ways."""

from dataclasses import astuple, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cohorts import make_cohort_tables

from vertebra_core.epidemiology.analysis import Analysis
from vertebra_core.epidemiology.by_vertebra import SPINE
from vertebra_core.epidemiology.clusters import bootstrap_interval, clustered_estimate, clustered_share
from vertebra_core.epidemiology.coverage import hajek, level_weights, mean_over_levels
from vertebra_core.epidemiology.intervals import binomial_interval
from vertebra_core.epidemiology.misclassification import lang_reiczigel, rogan_gladen
from vertebra_core.epidemiology.prevalence import prevalence
from vertebra_core.epidemiology.standard_populations import STANDARDS, read_standard, standard_population
from vertebra_core.epidemiology.standardise import EmptyBand, standardise, studied_bands
from vertebra_core.epidemiology.strata import Stratum, cross, place_in
from vertebra_core.epidemiology.trends import logistic_slope
from vertebra_core.errors import WrongUse

FEW = settings(max_examples=40, deadline=None)
PEOPLE = st.lists(st.tuples(st.integers(1, 13), st.floats(0, 1)), min_size=1, max_size=60)
PORTIONS = st.floats(0.02, 0.98)


def clusters(people) -> tuple[np.ndarray, np.ndarray]:
    n = np.array([size for size, _ in people])
    return np.floor(n * np.array([share for _, share in people])).astype(int), n


@FEW
@given(PEOPLE)
def test_clustered_intervals_hold_the_share_and_lie_between_0_and_1(people):
    k, n = clusters(people)
    for method in ("auto", "logit", "beta"):
        one = clustered_share(k, n, method)
        assert 0 <= one.low <= one.share <= one.high <= 1
    assert clustered_estimate(k, n).count == k.sum()


def test_vertebrae_of_one_patient_each_are_independent_people():
    """Clusters of one vertebra: the beta interval is Clopper-Pearson's."""
    k = np.array([1] * 12 + [0] * 88)
    low, high = binomial_interval(12, 100, "clopper-pearson")
    one = clustered_share(k, np.ones(100, int), "beta")
    assert (one.low, one.high) == pytest.approx((low, high), abs=0.002)
    assert one.design_effect == pytest.approx(1.0, abs=0.02)


def test_without_a_positive_vertebra_each_patient_counts_once():
    one = clustered_share(np.zeros(30, int), np.full(30, 10), "logit")
    assert (one.low, one.method) == (0.0, "beta")
    assert one.high == pytest.approx(binomial_interval(0, 30, "clopper-pearson")[1])


def test_the_pooled_bootstrap_is_the_plain_one():
    rng = np.random.default_rng(3)
    n = rng.integers(5, 14, 50)
    k = rng.binomial(n, rng.beta(0.5, 5, 50))
    drawn = rng.integers(0, 50, (20_000, 50))
    plain = np.quantile(k[drawn].sum(1) / n[drawn].sum(1), [0.025, 0.975])
    assert bootstrap_interval(k, n) == pytest.approx(plain, abs=0.004)


@FEW
@given(st.integers(1, 400), st.data(), PORTIONS, PORTIONS)
def test_rogan_gladen_stays_in_range_and_undoes_the_test(n, data, se, sp):
    if se + sp <= 1.05:
        se, sp = 1 - se, 1 - sp
    if se + sp <= 1.05:
        return
    count = data.draw(st.integers(0, n))
    for one in (rogan_gladen(count, n, se, sp), lang_reiczigel(count / n, n, se, 500, sp, 500)):
        assert 0 <= one.low <= one.high <= 1
        assert 0 <= one.share <= 1
        assert (one.warning is None) == (0 <= one.raw <= 1)
        assert one.raw * se + (1 - one.raw) * (1 - sp) == pytest.approx(count / n)


@pytest.mark.parametrize(("se", "sp"), [(0.5, 0.5), (0.2, 0.7), (1.2, 0.9), (0.9, 0.0)])
def test_a_test_that_tells_nothing_cannot_be_corrected(se, sp):
    with pytest.raises(ValueError, match="sensitivity"):
        rogan_gladen(5, 10, se, sp)


def test_lang_reiczigel_covers_the_truth_where_se_and_sp_are_estimated():
    """2000 surveys of 500 with Se and Sp from 60 and 120 people; the plain interval forgets these samples."""
    rng, true, se, sp, n = np.random.default_rng(7), 0.15, 0.75, 0.92, 500
    ap = rng.binomial(n, true * se + (1 - true) * (1 - sp), 2000) / n
    found, cleared = rng.binomial(60, se, 2000) / 60, rng.binomial(120, sp, 2000) / 120
    ours = [lang_reiczigel(a, n, f, 60, c, 120) for a, f, c in zip(ap, found, cleared, strict=True)]
    assert 0.935 <= np.mean([one.low <= true <= one.high for one in ours]) <= 0.975
    plain = [rogan_gladen(round(a * n), n, f, c) for a, f, c in zip(ap[:300], found, cleared, strict=False)]
    assert np.mean([one.low <= true <= one.high for one in plain]) < 0.85


@FEW
@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=10))
def test_a_standardised_share_lies_among_the_shares_of_its_bands(bands):
    ns = np.array([n for n, _, _ in bands])
    counts = np.floor(ns * np.array([share for _, share, _ in bands]))
    weights = np.array([weight for _, _, weight in bands])
    for method in ("wilson", "clopper-pearson", "gamma", "tiwari"):
        one = standardise(counts, ns, weights, method)
        assert (counts / ns).min() - 1e-12 <= one.share <= (counts / ns).max() + 1e-12
        assert one.low - 1e-9 <= one.share <= one.high + 1e-9


def test_standardising_to_the_cohorts_own_ages_changes_nothing():
    counts, ns = np.array([5, 9, 20]), np.array([100, 80, 60])
    one = standardise(counts, ns, ns)
    assert one.share == pytest.approx(34 / 240)


@FEW
@given(st.lists(st.lists(st.integers(0, 3), min_size=19, max_size=19), min_size=1, max_size=4))
def test_no_band_in_force_is_empty_in_any_group_and_all_weight_is_kept(ns):
    ns = np.array(ns)
    if not ns.any():
        with pytest.raises(EmptyBand):
            studied_bands(STANDARDS["who"], ns)
        return
    bands = studied_bands(STANDARDS["who"], ns)
    number = np.array(bands.band_of)
    for group in ns[ns.any(1)]:
        held = np.bincount(number[number >= 0], group[number >= 0], minlength=len(bands.names))
        assert (held > 0).all()
        assert held.sum() == group.sum()  # nobody is dropped
    assert sum(bands.weights) == pytest.approx(1.0)
    inside = number >= 0
    assert bands.share_of_standard == pytest.approx(np.array(STANDARDS["who"].weights)[inside].sum() / 100.035)


@pytest.mark.parametrize(
    ("text", "starts", "weights"),
    [
        ("age,weight\n50-59,7\n60-69,5\n70+,3\n", (50, 60, 70), (7, 5, 3)),
        ("50-59,7\n60-89,5\n", (50, 60, 90), (7, 5, 0)),  # nobody of 90 and more in this standard
        ("0,1\n1-4,4\n5-89,90\n90-94,3\n95+,2\n", (0, 1, 5, 90), (1, 4, 90, 5)),
        ("\ufeff80-89,1\n90+,2\n\n", (80, 90), (1, 2)),
    ],
)
def test_a_standard_of_ones_own_is_read(tmp_path, text, starts, weights):
    (tmp_path / "own.csv").write_text(text)
    standard = standard_population(str(tmp_path / "own.csv"))
    assert (standard.starts, standard.weights, standard.name) == (starts, pytest.approx(weights), "own")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("age,weight\n", "no age band"),
        ("50-59,7\n61-69,5\n", "does not begin"),
        ("50-59,7\n59-69,5\n", "does not begin"),
        ("50+,7\n60-69,5\n", "does not begin"),
        ("50-59,seven\n", "expected a line"),
        ("50-59,7,8\n", "expected a line"),
        ("50-59,-7\n", "expected a line"),
        ("50-59,nan\n", "expected a line"),
        ("59-50,7\n", "ends before"),
        ("80-94,7\n95+,1\n", "straddles"),
        ("50-59,0\n60+,0\n", "zero"),
    ],
)
def test_a_standard_that_makes_no_sense_is_one_clear_line(tmp_path, text, complaint):
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(WrongUse, match=complaint):
        read_standard(tmp_path / "own.csv")


def test_an_unknown_standard_is_named(tmp_path):
    with pytest.raises(WrongUse, match="esp2013, who, us2000"):
        standard_population("esp2014")


def test_level_weights_give_back_the_mix_of_the_cohort():
    """By hand: 60 young and 40 old; the level is seen in 30 young (2 fractured) and 8 old (4): 0.6/15 + 0.4/2."""
    stratum = np.repeat([0, 1], [60, 40])
    seen = np.r_[np.arange(30), np.arange(60, 68)]
    positive = np.isin(seen, [0, 1, 60, 61, 62, 63])
    weights = level_weights(np.zeros(38, int), stratum[seen], stratum, 1)
    assert weights.weights == pytest.approx(np.where(stratum[seen] == 0, 0.38 / 0.5, 0.38 / 0.2))
    assert hajek(positive, weights.weights).share == pytest.approx(0.6 / 15 + 0.4 / 2)
    assert (weights.capped, weights.never_seen.tolist()) == (0, [0.0])


def test_weights_are_capped_and_strata_that_nobody_shows_are_told():
    stratum = np.repeat([0, 1, 2], [100, 900, 50])
    seen = np.r_[np.arange(100), [100]]  # one of 900 in stratum 1, nobody in stratum 2
    weights = level_weights(np.zeros(101, int), stratum[seen], stratum, 1)
    assert (weights.capped, weights.weights.max()) == (1, 10.0)
    assert weights.never_seen.tolist() == pytest.approx([50 / 1050])


def test_equal_weights_are_the_plain_share_with_patients_as_clusters():
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(40), rng.integers(1, 9, 40))
    positive = rng.random(len(patient)) < 0.3
    one = hajek(positive, np.full(len(patient), 2.5), patient)
    n = np.bincount(patient)
    other = clustered_share(np.bincount(patient, positive).astype(int), n, "beta")
    assert (one.share, one.se, one.low, one.high) == pytest.approx((other.share, other.se, other.low, other.high))
    assert one.n_effective == pytest.approx(len(patient))


def test_the_mean_over_levels_counts_each_level_once():
    level = np.repeat([3, 7], [90, 10])
    positive = np.r_[np.arange(90) < 9, np.arange(10) < 5]
    assert mean_over_levels(positive, np.ones(100), level).share == pytest.approx((0.1 + 0.5) / 2)
    assert len(SPINE) == 13


@FEW
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=30))
def test_crossed_groups_are_those_that_occur(rows):
    first, second = (np.array([row[i] for row in rows], int) for i in (0, 1))
    grouping = cross([Stratum(("a", "b", "c"), first), Stratum(("x", "y"), second)])
    plain = [("abc"[i], "xy"[j]) for i, j in rows]
    assert [grouping.names[code] for code in grouping.codes] == plain
    assert list(grouping.names) == sorted(set(plain))


def test_a_slope_that_would_be_infinite_or_rests_on_few_patients_is_not_given():
    assert logistic_slope(np.array([0, 10]), np.array([10, 10]), np.array([0, 1])) is None
    assert logistic_slope(np.array([1, 2]), np.array([10, 10]), np.array([3, 3])) is None
    k, n, score = np.r_[np.ones(50, int), [0] * 50, [3]], np.full(101, 5), np.r_[np.zeros(100), [1.0]]
    assert logistic_slope(k, n, score, clustered=True) is None


@FEW
@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30), st.integers(1, 4))
def test_runs_of_keys_are_looked_up_as_each_key_would_be(keys, pieces):
    cut = -(-max(len(keys), 1) // pieces)
    column = pa.chunked_array(
        [pa.array(keys[i : i + cut], pa.string()) for i in range(0, max(len(keys), 1), cut)], pa.string()
    )
    plain = [{"c": 0, "a": 1}.get(key, -1) for key in keys]
    assert place_in(column, pa.array(["c", "a"])).tolist() == plain


def test_groups_by_level_are_those_of_plain_counting():
    """Some vertebrae without a level: those of one patient are then one cluster, all others are patients."""
    made = make_cohort_tables(80, seed=4).tables
    rng = np.random.default_rng(0)
    levels = [None if unknown else name for name, unknown in zip(
        made.vertebrae["level"].to_pylist(), rng.random(len(made.vertebrae)) < 0.2, strict=True
    )]  # fmt: skip
    bones = made.vertebrae.set_column(made.vertebrae.schema.get_field_index("level"), "level", pa.array(levels))
    analysis = Analysis(by=("level", "sex"), vertebra_interval="beta")
    answer = prevalence(replace(made, vertebrae=bones), analysis)
    sex = dict(zip(made.studies["study_key"].to_pylist(), made.studies["sex"].to_pylist(), strict=True))
    index = set(made.patients["index_study_key"].to_pylist())
    plain: dict[str, dict[str, list[float]]] = {}
    for row in bones.select(["study_key", "level", "g"]).to_pylist():
        if row["g"] is not None and row["study_key"] in index:
            name = f"{row['level'] or 'not known'}, {sex[row['study_key']]}"
            plain.setdefault(name, {}).setdefault(row["study_key"], []).append(row["g"])
    assert {group.name for group in answer.vertebrae} == {*plain, "all"}
    for group in answer.vertebrae[:-1]:
        patients = plain[group.name].values()
        k = np.array([sum(g <= 0.74 for g in one) for one in patients])
        n = np.array([len(one) for one in patients])
        assert group.n_patients == len(n)
        assert astuple(group.moderate) == pytest.approx(astuple(clustered_estimate(k, n, "beta")))
