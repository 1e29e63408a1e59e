"""The hour at which a night ends: no shard is begun after it, and what runs comes to an end soon."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tasks.clock import seconds_since_epoch
from tasks.settings import RunSettings
from vertebra_core.cohort.layout import Layout
from vertebra_core.storage import Place

GRACE_SECONDS = 300.0
"""A shard that runs at the hour may take so long to end: shards are made for one to five minutes. Then it is told to
commit the studies it has finished; the one it is at takes no longer than its deadlines (`RunSettings`)."""


@dataclass(frozen=True)
class ClosingTime:
    """When a run ends; the clock on the wall counts, so a clock that is put right is believed.

    Parameters
    ----------
    at : float or None
        Seconds since 1970; None: when all is done.
    said : str
        The hour as it was named.
    """

    at: float | None = None
    said: str = ""

    @property
    def why(self) -> str:
        """What a person is told."""
        return f"stopped at {self.said}"

    def has_come(self, grace_s: float = 0.0) -> bool:
        """Whether it is that late, or so much later."""
        return self.at is not None and seconds_since_epoch() >= self.at + grace_s


def closing_time(layout: Layout, run: str, settings: RunSettings) -> ClosingTime:
    """When a run of these settings ends: the first time after its start that a clock shows that hour."""
    if settings.until is None:
        return ClosingTime()
    started = datetime.fromisoformat(json.loads(layout.run_record(run).read_text())["started"])
    return ClosingTime(next_time(settings.until, settings.time_zone, started).timestamp(), settings.until)


def next_time(until: str, zone: str | None, after: datetime) -> datetime:
    """The next moment, in UTC, at which a clock shows an hour.

    An hour that comes twice when clocks are put back is the first of both; one that is skipped when they are put
    forward is as late as it would have been without.

    Parameters
    ----------
    until : str
        "06:00".
    zone : str or None
        "Europe/Vienna"; None: that of this machine.
    after : datetime
        With its zone.

    Examples
    --------
    >>> next_time("06:00", "Europe/Vienna", datetime(2026, 11, 28, 21, 0, tzinfo=UTC)).isoformat()
    '2026-11-29T05:00:00+00:00'
    """
    there = ZoneInfo(zone) if zone else None
    today, hour = after.astimezone(there).date(), time.fromisoformat(until)
    moments = (_moment(today + timedelta(days), hour, there) for days in range(3))
    return next(moment for moment in moments if moment > after)


def _moment(day: date, hour: time, zone: ZoneInfo | None) -> datetime:
    there = datetime.combine(day, hour)
    return (there.replace(tzinfo=zone) if zone else there).astimezone(UTC)


def stop_file(layout: Layout, run: str) -> Place:
    """Where workers are told to commit what they have and to end; it goes with the plans."""
    return layout.plans(run) / "stop"
