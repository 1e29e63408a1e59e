"""Where everything of a cohort lies: one folder, or one prefix of a bucket (docs of the layout are this file).

COHORT/
  cohort.json                            format version, when made, fingerprint of the pseudonym secret
  inventory/ARCHIVE_KEY.parquet          one row per series of an archive, replaced whole by each run
  results/RUN/SHARD.studies.parquet      the mark that a shard is done, created once and never changed,
  results/RUN/SHARD.TOKEN.*.parquet      and the other tables of the same shard, which the mark names by TOKEN
  damaged/RUN/                           shards that were changed after they were committed, set aside by the next run
  snapshots/ID/                          what analysts read
  latest.json                            names the newest snapshot; written last
  pictures/STUDY_KEY.png
  logs/RUN/run.json, *.jsonl
  retries/TIME.json                      studies that a person wants tried again, created once (vertebra retry)
  sentinels.json                         keys of the studies that every run measures again (sentinels.py)
  sentinels/references.json, RUN.json    what they must give, and what they gave
  lock.json, lock.guard                  who works on the cohort; in a bucket there is no guard
  private/                               mode 0700: secret, links.parquet, plans/RUN/SHARD.json.gz,
                                         index/ARCHIVE_KEY.parquet: what was learnt of each file (tasks.remember);
                                         in a bucket its policy must keep others out (docs/storage.md)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from vertebra_core.errors import WrongUse
from vertebra_core.storage import Place, answering, folders, matching, place_of

FORMAT = "vertebra-cohort/1"
MARK_TABLE = "studies"
"""The table whose committed file is the mark that a shard is done."""

STAMP_FORMAT = "%Y%m%dT%H%M%S"
RUN_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}(?=-)")


@dataclass(frozen=True)
class Layout:
    """Paths of one cohort.

    Examples
    --------
    >>> from pathlib import Path
    >>> Layout(Path("spines")).picture("st0a").as_posix()
    'spines/pictures/st0a.png'
    """

    root: Place

    @property
    def description(self) -> Place:
        return self.root / "cohort.json"

    @property
    def lock(self) -> Place:
        return self.root / "lock.json"

    @property
    def latest(self) -> Place:
        return self.root / "latest.json"

    @property
    def private(self) -> Place:
        return self.root / "private"

    @property
    def secret(self) -> Place:
        return self.private / "secret"

    @property
    def links(self) -> Place:
        return self.private / "links.parquet"

    @property
    def pictures(self) -> Place:
        return self.root / "pictures"

    @property
    def results(self) -> Place:
        return self.root / "results"

    @property
    def damaged(self) -> Place:
        return self.root / "damaged"

    @property
    def snapshots(self) -> Place:
        return self.root / "snapshots"

    def index(self, archive_key: str) -> Place:
        return self.private / "index" / f"{archive_key}.parquet"

    def inventory(self, archive_key: str) -> Place:
        return self.root / "inventory" / f"{archive_key}.parquet"

    def inventories(self) -> list[Place]:
        return matching(self.root / "inventory", "*.parquet")

    def mark(self, run: str, shard: str) -> Place:
        return self.results / run / f"{shard}.{MARK_TABLE}.parquet"

    def companion(self, run: str, shard: str, token: str, table: str) -> Place:
        return self.results / run / f"{shard}.{token}.{table}.parquet"

    def marks(self) -> list[Place]:
        """Marks of all committed shards, oldest run first."""
        return matching(self.results, f"*/*.{MARK_TABLE}.parquet")

    @property
    def retries(self) -> Place:
        return self.root / "retries"

    def retry(self, name: str) -> Place:
        return self.retries / f"{name}.json"

    def picture(self, study_key: str) -> Place:
        return self.pictures / f"{study_key}.png"

    def snapshot(self, identifier: str) -> Place:
        return self.snapshots / identifier

    def logs(self, run: str) -> Place:
        return self.root / "logs" / run

    @property
    def sentinel_keys(self) -> Place:
        return self.root / "sentinels.json"

    @property
    def sentinels(self) -> Place:
        return self.root / "sentinels"

    @property
    def sentinel_references(self) -> Place:
        return self.sentinels / "references.json"

    def sentinels_of(self, run: str) -> Place:
        return self.sentinels / f"{run}.json"

    def run_record(self, run: str) -> Place:
        return self.logs(run) / "run.json"

    def run_records(self) -> list[Place]:
        return matching(self.root / "logs", "*/run.json")

    def run_names(self) -> list[str]:
        """Names of all runs with a folder for their logs, newest first; of a store, the names alone are listed."""
        return sorted(folders(self.root / "logs"), reverse=True)

    def progress(self, run: str) -> Place:
        return self.logs(run) / "progress.json"

    def plans(self, run: str) -> Place:
        return self.private / "plans" / run

    def queue(self, run: str) -> Place:
        return self.plans(run) / "queue.json"

    def plan(self, run: str, shard: str) -> Place:
        return self.plans(run) / f"{shard}.json.gz"


def open_layout(cohort: str | Place) -> Layout:
    """The layout of an existing cohort.

    Raises
    ------
    CouldNotRun
        Its store does not answer.
    WrongUse
        The folder is not a cohort.
    """
    with answering(cohort):
        layout = Layout(place_of(cohort))
        found = layout.description.exists()  # `is_file` of a store says no where it ought to say: not allowed
    if not found:
        raise WrongUse(f"{cohort}: not a cohort (no {layout.description.name}); `vertebra screen` makes one")
    return layout


def run_name(started: str, token: str, before: Iterable[str] = ()) -> str:
    """The name of a run: sorts by its start, and after all runs before it, also where the clock was put back.

    Examples
    --------
    >>> run_name("2026-11-28T21:04:09+00:00", "a3f1")
    '20261128T210409-a3f1'
    >>> run_name("2026-11-28T21:04:09+00:00", "a3f1", ["20261128T235959-07c2"])
    '20261129T000000-a3f1'
    """
    stamp = re.sub(r"[^0-9T]", "", started[:19])
    newest = max((match[0] for name in before if (match := RUN_STAMP.match(name))), default="")
    if stamp <= newest:
        stamp = (datetime.strptime(newest, STAMP_FORMAT) + timedelta(seconds=1)).strftime(STAMP_FORMAT)
    return f"{stamp}-{token}"
