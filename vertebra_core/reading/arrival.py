"""Studies that are still arriving are left alone until they have settled (case O10)."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vertebra_core.errors import Reason
from vertebra_core.reading.files import LeftAlone
from vertebra_core.reading.series import Series

HALF_WRITTEN = {Reason.UNREADABLE, Reason.EMPTY_FILE, Reason.NOT_DICOM, Reason.DAMAGED_ARCHIVE}
"""What a file looks like of which the end, or all but the name, has yet to come."""


@dataclass(frozen=True)
class Settling:
    """When a study counts as settled.

    Parameters
    ----------
    now : float
        Start of the run, seconds since the epoch.
    seconds : float
        A study has settled when none of its files changed for so long; 0: at once.
    """

    now: float
    seconds: float

    def is_fresh(self, changed_s: float) -> bool:
        """Whether something that changed at this time may still be changing.

        A time further ahead of ours than the limit is a wrong clock, not an arrival: it would never settle.

        Examples
        --------
        >>> [Settling(1000.0, 60.0).is_fresh(changed) for changed in (930.0, 950.0, 1050.0, 1070.0)]
        [False, True, True, False]
        """
        return abs(self.now - changed_s) < self.seconds

    def settles_in(self, series: Iterable[Series]) -> float:
        """Seconds until the last of the studies that are left alone for now has settled; 0 if there are none."""
        changed = [one.changed_s for one in series if one.decision is Reason.ARRIVING and self.is_fresh(one.changed_s)]
        return max((at + self.seconds - self.now for at in changed), default=0.0)


def leave_arriving(rows: Iterable[Series], settling: Settling) -> list[Series]:
    """Give every series of a study that is still arriving that decision, whatever its header says so far."""
    rows = list(rows)
    fresh: dict[tuple[str, str], bool] = defaultdict(bool)
    for row in rows:
        fresh[row.patient_id, row.study_uid] |= settling.is_fresh(row.changed_s)
    detail = f"a file of the study changed less than {settling.seconds / 60:g} minutes before the run"
    return [
        replace(row, decision=Reason.ARRIVING, decision_detail=detail) if fresh[row.patient_id, row.study_uid] else row
        for row in rows
    ]


def reason_now(left: LeftAlone, settling: Settling | None) -> Reason:
    """Why a file is left alone: one that changed a moment ago may be half written."""
    fresh = settling is not None and settling.is_fresh(left.file.changed_s)
    return Reason.ARRIVING if fresh and left.reason in HALF_WRITTEN else left.reason


def arriving_studies(rows: Iterable[Series]) -> int:
    """How many studies are left alone because they are still arriving."""
    return len({(row.patient_id, row.study_uid) for row in rows if row.decision is Reason.ARRIVING})
