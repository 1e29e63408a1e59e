"""What a log may say: every event and every field, declared once.

The log drops a field that is not declared here and says its name in ``undeclared``: what nobody thought about cannot
carry an identifier out of an archive. docs/observability.md shows these tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass

UNDECLARED = "undeclared"
"""Field that names what was dropped."""

FIELDS: Mapping[str, str] = {
    "study_key": "Key of the study.",
    "series_key": "Key of a further series (`--all-series`); absent where the line is about the index series.",
    "shard": "Name of the shard.",
    "studies": "Studies, or further series, in the shard.",
    "worker": "Machine and process that runs the shard.",
    "device": "Where the networks ran: cpu or cuda, and how where a GPU's memory ran out.",
    "child": "Number of the process that measures.",
    "status": "How the study ended: ok, partial, not_evaluable, failed.",
    "reason": "Reason code; null for ok.",
    "by_status": "Studies by how they ended.",
    "seconds": "Wall time, s.",
    "by_stage": "Wall time by stage of the method, s.",
    "is_first": "False if another try of the same shard was committed before; then that one stands.",
    "number": "Which try of the study it was, from 1.",
    "new_child": "Whether the study was the first of its process.",
    "detail": "What happened, in words of this program.",
    "kept_gb": "Memory that the process kept after a study, GiB.",
    "allowance_gb": "Memory that a study may take, GiB.",
    "error": "Type of the error; never its message, which may quote a header.",
    "digest": "The same for errors that arose at the same place.",
    "frames": "Where the error arose: file, function, line of the program.",
    "tries": "How often the shard was handed out.",
    "running": "Shards that were under way.",
    "waiting": "Number of shards not begun.",
    "shards": "Names of shards.",
    "of_run": "Run that had committed the shard.",
    "parts": "Names of the shards that take its place.",
    "verdict": "reproduced, drifted, incomplete or none (see below).",
    "worst_mm": "Largest difference of a height from its reference, mm.",
    "counts": "Sentinel studies by outcome.",
    "seen": "Studies in the archives.",
    "measured": "Of these, measured, in this run or before.",
    "refused": "Of these, refused, with a reason.",
    "failed": "Of these, failed.",
    "left": "Of these, still due.",
    "left_why": "Why studies were left.",
    "reasons": "Studies by reason code.",
    "new": "Studies by reason code that ended in this run.",
    "failures": "Key and reason code of what failed in this run.",
    "others": "Further series by reason code.",
    "others_left": "Further series still due.",
    "due": "Studies that were due when the run began.",
    "snapshot": "Name of the newest snapshot.",
    "published": "Whether this run published it.",
    "sentinels": "Verdict of the sentinel studies.",
    UNDECLARED: "Names of fields that were dropped: a mistake in the program.",
}
"""What each field means."""


@dataclass(frozen=True)
class Event:
    """One kind of line.

    Parameters
    ----------
    log : str
        "shard": written by the worker that runs a shard; "run": by the process that leads the run.
    meaning : str
    fields : tuple of str
        Names of `FIELDS`; a line has ``time`` and ``event`` besides.
    """

    log: str
    meaning: str
    fields: tuple[str, ...]


ABOUT_STUDY = ("study_key", "series_key")
WHERE_IT_AROSE = ("error", "digest", "frames")
SUMMARY = ("seen", "measured", "refused", "failed", "left", "left_why", "reasons", "new", "failures", "others")

EVENTS: Mapping[str, Event] = {
    "shard_started": Event("shard", "A worker has begun a shard.", ("shard", "studies", "worker")),
    "study_started": Event("shard", "A study is handed to the process that measures.", ABOUT_STUDY),
    "study_done": Event(
        "shard", "A study came to an end.", (*ABOUT_STUDY, "status", "reason", "seconds", "by_stage", "device")
    ),
    "study_gone": Event("shard", "The files of a study went away since they were met; it stays due.", ABOUT_STUDY),
    "try_failed": Event(
        "shard",
        "A try of a study failed; it may be tried again.",
        (*ABOUT_STUDY, "number", "reason", "detail", "new_child"),
    ),
    "given_up": Event("shard", "A study failed for good.", (*ABOUT_STUDY, "reason", "detail")),
    "unforeseen_error": Event("shard", "An error of the program on a study.", (*ABOUT_STUDY, *WHERE_IT_AROSE)),
    "picture_failed": Event(
        "shard", "A picture could not be drawn; its study stands.", (*ABOUT_STUDY, *WHERE_IT_AROSE)
    ),
    "models_loaded": Event(
        "shard",
        "The networks were loaded: once in each process and for each device.",
        (*ABOUT_STUDY, "device", "child"),
    ),
    "device_changed": Event(
        "shard", "A GPU's memory ran out; the study was tried again this way.", (*ABOUT_STUDY, "device")
    ),
    "tried_alone": Event(
        "shard",
        "A try failed while the next study was read in the same process; it was tried again alone, as if for the first "
        "time.",
        (*ABOUT_STUDY, "reason"),
    ),
    "child_recycled": Event(
        "shard", "The process that measures kept memory and was replaced.", (*ABOUT_STUDY, "kept_gb", "allowance_gb")
    ),
    "shard_committed": Event(
        "shard", "All results of a shard are written.", ("shard", "by_status", "seconds", "is_first")
    ),
    "shard_given_back": Event(
        "shard", "A shard was ended without a commit: by an error, or because the run ends.", ("shard", "error")
    ),
    "shard_lost": Event("run", "A shard came back without a result.", ("shard", "error", "tries")),
    "set_aside": Event("run", "A committed shard was damaged; its studies are due again.", ("shard", "of_run")),
    "shard_parted": Event("run", "The worker of a shard died: it goes on in parts.", ("shard", "parts")),
    "run_stopping": Event("run", "The hour has come: no shard is begun any more.", ("running", "waiting")),
    "shards_missing": Event("run", "Shards have no result in the end: nothing is published.", ("shards",)),
    "workers_lost": Event("run", "All workers are gone; new ones are started.", ("running", "waiting")),
    "sentinels_compared": Event(
        "run", "The sentinel studies were compared with their references.", ("verdict", "worst_mm", "counts")
    ),
    "run_ended": Event(
        "run", "The run is over.", (*SUMMARY, "others_left", "due", "snapshot", "published", "sentinels")
    ),
}


def declared(event: str, fields: Mapping[str, object]) -> dict[str, object]:
    """The fields that an event may have; of all others, the names.

    Examples
    --------
    >>> declared("shard_lost", {"shard": "00003", "error": "KilledWorker", "patient": "Doe^Jane"})
    {'shard': '00003', 'error': 'KilledWorker', 'undeclared': ['patient']}
    """
    known = EVENTS[event].fields if event in EVENTS else ()
    kept = {name: value for name, value in fields.items() if name in known}
    dropped = sorted(set(fields) - set(kept))
    return {**kept, UNDECLARED: dropped} if dropped else kept


def tables() -> str:
    """Events and fields as two Markdown tables, as docs/observability.md shows them."""
    events = [
        f"| `{name}` | {event.log} | {event.meaning} | {', '.join(f'`{field}`' for field in event.fields)} |"
        for name, event in EVENTS.items()
    ]
    fields = [f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items()]
    head = ["| event | log of the | meaning | fields |", "|---|---|---|---|"]
    return "\n".join([*head, *events, "", "| field | meaning |", "|---|---|", *fields])


if __name__ == "__main__":
    print(tables())
