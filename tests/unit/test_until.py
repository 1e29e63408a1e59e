"""The hour at which a night ends, also on the nights when clocks are put forward and back."""

import json
from datetime import UTC, datetime

import pytest

from flows.settings import load_settings
from tasks.settings import RunSettings
from tasks.until import closing_time, next_time
from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import WrongUse


@pytest.mark.parametrize(
    ("until", "zone", "after", "expected"),
    [
        # Vienna: UTC+1 in winter, UTC+2 in summer
        ("06:00", "Europe/Vienna", "2026-11-28T21:00", "2026-11-29T05:00"),
        ("06:00", "Europe/Vienna", "2026-07-01T20:00", "2026-07-02T04:00"),
        ("06:00", "Europe/Vienna", "2026-11-29T04:59", "2026-11-29T05:00"),
        ("06:00", "Europe/Vienna", "2026-11-29T05:00", "2026-11-30T05:00"),
        ("23:30", "Europe/Vienna", "2026-11-28T23:00", "2026-11-29T22:30"),  # in Vienna it is the 29th by then
        # put forward on 2026-03-29 at 02:00 (01:00 UTC), put back on 2026-10-25 at 03:00 (01:00 UTC)
        ("06:00", "Europe/Vienna", "2026-03-28T22:00", "2026-03-29T04:00"),
        ("02:30", "Europe/Vienna", "2026-03-28T22:00", "2026-03-29T01:30"),  # does not exist: 03:30 summer time
        ("06:00", "Europe/Vienna", "2026-10-24T20:00", "2026-10-25T05:00"),
        ("02:30", "Europe/Vienna", "2026-10-24T20:00", "2026-10-25T00:30"),  # exists twice: the first
        ("06:00:30", "UTC", "2026-11-28T21:00", "2026-11-29T06:00:30"),
    ],
)
def test_the_next_such_hour(until, zone, after, expected):
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert next_time(until, zone, moment(after)) == moment(expected)


def test_without_a_zone_it_is_that_of_the_machine():
    here = next_time("06:00", None, datetime(2026, 11, 28, 21, tzinfo=UTC)).astimezone()
    assert (here.hour, here.minute) == (6, 0)


def test_the_start_of_the_run_counts_and_not_when_its_shards_are_made(tmp_path):
    """A run that began at 05:50 and took stock until 06:10 is over, not on its way to tomorrow."""
    layout, run = Layout(tmp_path), "20261129T055000-a3f1"
    replace(layout.run_record(run), json.dumps({"started": "2026-11-29T05:50:00+00:00"}).encode())
    settings = RunSettings(until="06:00", time_zone="UTC")
    assert closing_time(layout, run, settings).at == datetime(2026, 11, 29, 6, tzinfo=UTC).timestamp()
    assert not closing_time(layout, run, RunSettings()).has_come()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"run.until": "6 o'clock"}, 'until is an hour of the day such as "06:00"'),
        ({"run.until": "25:00"}, 'until is an hour of the day such as "06:00"'),
        ({"run.time_zone": "Europe/Wien"}, "no such time zone: 'Europe/Wien'"),
        ({"run.time_zone": "../etc/passwd"}, "no such time zone"),
    ],
)
def test_what_is_no_hour_or_no_zone_is_refused_at_once(flags, said):
    with pytest.raises(WrongUse, match=said):
        load_settings(flags=flags)
