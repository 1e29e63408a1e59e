"""What tables tell of patients: by one rule, whatever was in force when a study was measured."""

import stat
from dataclasses import replace
from datetime import date, timedelta

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_studies import IDENTITY, NORMAL, column, make_cohort, patient_series, result_of

from tasks.inventory import Stock, record_inventory
from tasks.plan import order_studies
from vertebra_core.cohort.identity import DAYS_OF_SHIFT, Pseudonyms, keys_of, open_pseudonyms
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.links import known_keys, link_table, merge_links, read_links
from vertebra_core.cohort.snapshot import latest_snapshot, publish
from vertebra_core.errors import Reason
from vertebra_core.settings import GradingSettings, PrivacySettings
from vertebra_core.tables.covariates import COVARIATES, told

PSEUDONYMS = Pseudonyms(b"a secret of a test, long enough")
KNOWN = {
    "age_years": 93.0,
    "sex": "F",
    "study_date": "2024-03-05",
    "site": "north",
    "manufacturer": "Maker",
    "scanner": "Model",
}
DAYS = st.dates(date(1990, 1, 1), date(2030, 1, 1))


def row(**rule) -> dict:
    return told(KNOWN, "pt1", PrivacySettings(**rule), PSEUDONYMS.shift_days)


# -- one row ------------------------------------------------------------------------------------------------------


def test_by_default_a_row_tells_the_year_and_pools_the_oldest():
    expected = {**KNOWN, "age_years": 90.0, "study_year": 2024, "study_day": None, "study_date": None}
    assert row() == expected
    assert set(expected) == set(COVARIATES)


@pytest.mark.parametrize(
    ("rule", "filled"),
    [("none", set()), ("year", {"study_year"}), ("days", {"study_day"}), ("full", {"study_date"})],
)
def test_a_date_is_told_in_one_way_only(rule, filled):
    """Year and days together would tell the date of a study near New Year."""
    told_of = row(dates=rule)
    assert {name for name in ("study_year", "study_day", "study_date") if told_of[name] is not None} == filled


@pytest.mark.parametrize(("age", "pooled"), [(89.0, 89.0), (90.0, 90.0), (91.0, 90.0), (110.0, 90.0), (None, None)])
def test_ages_from_90_are_one_category(age, pooled):
    assert told({"age_years": age}, "pt1", PrivacySettings(), PSEUDONYMS.shift_days)["age_years"] == pooled
    whole = told({"age_years": age}, "pt1", PrivacySettings(pool_old_ages=False), PSEUDONYMS.shift_days)
    assert whole["age_years"] == age


def test_site_and_scanner_can_be_left_out():
    assert row(site=False)["site"] is None
    assert (row(scanner=False)["manufacturer"], row(scanner=False)["scanner"]) == (None, None)
    assert row(scanner=False)["site"] == "north"


def test_nothing_known_is_told_as_nothing():
    assert set(told({}, "pt1", PrivacySettings(dates="days"), PSEUDONYMS.shift_days).values()) == {None}


@given(DAYS, DAYS, st.text(min_size=1))
def test_days_keep_the_intervals_of_a_patient(first, second, patient):
    rule = PrivacySettings(dates="days")
    days = [
        told({"study_date": one.isoformat()}, patient, rule, PSEUDONYMS.shift_days)["study_day"]
        for one in (first, second)
    ]
    assert days[1] - days[0] == (second - first).days


def test_shifts_are_spread_over_a_century_and_depend_on_the_secret():
    """Of 2000 patients: the mean of a uniform shift is 18262 with a standard error of 236."""
    shifts = [PSEUDONYMS.shift_days(f"pt{i}") for i in range(2000)]
    assert min(shifts) >= 0
    assert max(shifts) < DAYS_OF_SHIFT
    assert abs(sum(shifts) / len(shifts) - (DAYS_OF_SHIFT - 1) / 2) < 4 * 236
    assert len(set(shifts)) > 1900
    assert shifts[:9] != [Pseudonyms(b"another secret").shift_days(f"pt{i}") for i in range(9)]


# -- a cohort -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path) -> Layout:
    """Patient 1 scanned twice in one year, and patient 2, of 95 years."""
    spine = result_of(column([NORMAL] * 3))
    first = patient_series(1, study_date="2024-11-30", slice_spacing_mm=3.0)
    later = replace(first, study_uid="1.2.3.11", series_uid="1.2.3.11.1", study_date="2024-12-24", slice_spacing_mm=1.0)
    old = patient_series(2, age_years=95.0)
    return make_cohort(tmp_path / "spines", [(later, spine), (first, spine), (old, spine)])


def rows(layout: Layout, table: str) -> list[dict]:
    return pq.read_table(latest_snapshot(layout) / f"{table}.parquet").to_pylist()


def published(layout: Layout, name: str, **rule) -> list[dict]:
    shift = open_pseudonyms(layout).shift_days
    publish(layout, name, IDENTITY, {}, {}, GradingSettings(), PrivacySettings(**rule), shift)
    return rows(layout, "studies")


def test_another_rule_publishes_all_rows_anew_and_measures_nothing(cohort):
    before = len(list(cohort.results.rglob("*.parquet")))
    assert {one["study_year"] for one in rows(cohort, "studies")} == {2024}
    assert {one["study_date"] for one in rows(cohort, "studies")} == {None}
    full = published(cohort, "b-full", dates="full", pool_old_ages=False)
    assert {one["study_date"] for one in full} == {date(2024, 11, 30), date(2024, 12, 24), date(2024, 3, 5)}
    assert max(one["age_years"] for one in full) == 95.0
    days = published(cohort, "c-days", dates="days")
    assert {one["study_date"] for one in days} == {one["study_year"] for one in days} == {None}
    patient = max({one["patient_key"] for one in days}, key=[one["patient_key"] for one in days].count)
    shifted = sorted(one["study_day"] for one in days if one["patient_key"] == patient)
    assert shifted[1] - shifted[0] == 24
    assert len(list(cohort.results.rglob("*.parquet"))) == before


def test_the_same_rule_is_not_published_twice(cohort):
    published(cohort, "b", dates="days")
    folder = latest_snapshot(cohort)
    published(cohort, "c", dates="days")
    assert latest_snapshot(cohort) == folder


def test_the_index_study_is_the_earliest_by_its_true_date_under_every_rule(cohort):
    """Both studies are of 2024, and the later one has the thinner slices, which decide where dates are equal."""
    for rule in ("full", "year", "days", "none"):
        published(cohort, f"as-{rule}", dates=rule)
        spacings = {one["n_studies"]: one["slice_spacing_mm"] for one in rows(cohort, "patients")}
        assert spacings[2] == 3.0, rule


def test_a_corrected_header_reaches_the_tables_without_a_measurement(cohort):
    series = patient_series(2, age_years=70.0, sex="M")
    pseudonyms = open_pseudonyms(cohort)
    merge_links(cohort, link_table([series], keys_of([series], pseudonyms)))
    assert 70.0 in {one["age_years"] for one in published(cohort, "corrected")}


def test_links_keep_a_site_that_is_not_given_again(tmp_path):
    layout, series = Layout(tmp_path), patient_series(1)
    for site in ("north", None, "south", None):
        merge_links(layout, link_table([series], keys_of([series], PSEUDONYMS), site))
    assert read_links(layout)["site"].to_pylist() == ["south"]
    assert stat.S_IMODE(layout.links.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.private.stat().st_mode) == 0o700


# -- the inventory and the order of rows --------------------------------------------------------------------------


def test_inventories_follow_the_rule_also_of_archives_that_are_not_screened_again(tmp_path):
    layout = Layout(tmp_path)
    for number, archive, rule in ((1, "/north", "full"), (2, "/south", "year")):
        series = patient_series(number, archive=archive)
        keys = known_keys(layout, [series], PSEUDONYMS)
        record_inventory(layout, Stock((series,), {}, 2), keys, archive[1:], PrivacySettings(dates=rule))
    inventory = pq.read_table([str(path) for path in layout.inventories()]).to_pylist()
    assert [one["study_date"] for one in inventory] == [None, None]
    assert [one["study_year"] for one in inventory] == [2024, 2024]
    assert {one["site"] for one in inventory} == {"north", "south"}


def test_rows_are_in_the_order_of_keys_not_of_folders(tmp_path):
    layout = Layout(tmp_path)
    series = [patient_series(i, decision=None if i % 2 else Reason.LOCALIZER) for i in range(1, 30)]
    keys = known_keys(layout, series, PSEUDONYMS)
    orders = [order.study_key for order in order_studies(series, keys)]
    assert orders == sorted(orders)
    record_inventory(layout, Stock(tuple(series), {}, 60), keys, None, PrivacySettings())
    inventory = pq.read_table(layout.inventories()[0])["series_key"].to_pylist()
    assert inventory == sorted(inventory)


def test_input_digests_in_tables_are_keyed(tmp_path):
    """They are made from UIDs and file names: without the secret nobody can check whether a study is in a cohort."""
    layout, series = Layout(tmp_path), patient_series(1)
    keys = known_keys(layout, [series], PSEUDONYMS)
    (order,) = order_studies([series], keys)
    record_inventory(layout, Stock((series,), {}, 2), keys, None, PrivacySettings())
    (one,) = pq.read_table(layout.inventories()[0]).to_pylist()
    assert order.input_digest == one["input_digest"] == PSEUDONYMS.key("in", series.input_digest)


# -- identifiers across runs --------------------------------------------------------------------------------------


def test_two_runs_that_contradict_each_other_part_one_identifier(tmp_path):
    """Number 815 is a woman in one archive and a man in another: they are not merged, whichever came first."""
    layout = Layout(tmp_path)
    hers = patient_series(1, patient_id="0815", sex="F", archive="/north")
    his = patient_series(2, patient_id="0815", sex="M", archive="/south")
    for series in (hers, his):
        keys = known_keys(layout, [series], PSEUDONYMS)
        merge_links(layout, link_table([series], keys), keys)
    assert len(set(read_links(layout)["patient_key"].to_pylist())) == 2


def test_a_study_uid_met_again_under_another_patient_leaves_the_first_study_as_it_is(tmp_path):
    layout = Layout(tmp_path)
    first = patient_series(1, archive="/north")
    second = replace(first, patient_id="MR-0002", archive="/south")
    keys = known_keys(layout, [first], PSEUDONYMS)
    key_of_first = keys.study_key(first)
    merge_links(layout, link_table([first], keys), keys)
    for order in ([second], [second, first], [first, second]):
        keys = known_keys(layout, order, PSEUDONYMS)
        assert keys.study_key(first) == key_of_first
        assert keys.study_key(second) != key_of_first
        assert keys.series_key(second) != keys.series_key(first)
        merge_links(layout, link_table(order, keys), keys)


def test_days_before_the_first_ct_are_still_days():
    assert row(dates="days")["study_day"] == (date(2024, 3, 5) - date(1900, 1, 1)).days + PSEUDONYMS.shift_days("pt1")
    assert date(1900, 1, 1) + timedelta(days=45354) == date(2024, 3, 5)
