"""Where everything of a cohort lies (one folder; docs of the layout are this file).

COHORT/
  cohort.json                            format version, when made, fingerprint of the pseudonym secret
  inventory/ARCHIVE_KEY.parquet          one row per series of an archive, replaced whole by each run
  results/RUN/SHARD.studies.parquet      the mark that a shard is done, created once and never changed,
  results/RUN/SHARD.TOKEN.*.parquet      and the other tables of the same shard, which the mark names by TOKEN
  snapshots/ID/                          what analysts read
  latest.json                            names the newest snapshot; written last
  pictures/STUDY_KEY.png
  logs/RUN/run.json, *.jsonl
  lock.json, lock.guard                  who works on the cohort
  private/                               mode 0700: secret, links.parquet, plans/RUN/SHARD.json
"""

import re
from dataclasses import dataclass
from pathlib import Path

from vertebra_core.errors import WrongUse

FORMAT = "vertebra-cohort/1"
MARK_TABLE = "studies"
"""The table whose committed file is the mark that a shard is done."""


@dataclass(frozen=True)
class Layout:
    """Paths of one cohort.

    Examples
    --------
    >>> Layout(Path("spines")).picture("st0a").as_posix()
    'spines/pictures/st0a.png'
    """

    root: Path

    @property
    def description(self) -> Path:
        return self.root / "cohort.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock.json"

    @property
    def latest(self) -> Path:
        return self.root / "latest.json"

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def secret(self) -> Path:
        return self.private / "secret"

    @property
    def links(self) -> Path:
        return self.private / "links.parquet"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    def inventory(self, archive_key: str) -> Path:
        return self.root / "inventory" / f"{archive_key}.parquet"

    def inventories(self) -> list[Path]:
        return sorted((self.root / "inventory").glob("*.parquet"))

    def mark(self, run: str, shard: str) -> Path:
        return self.results / run / f"{shard}.{MARK_TABLE}.parquet"

    def companion(self, run: str, shard: str, token: str, table: str) -> Path:
        return self.results / run / f"{shard}.{token}.{table}.parquet"

    def marks(self) -> list[Path]:
        """Marks of all committed shards, oldest run first."""
        return sorted(path for path in self.results.glob(f"*/*.{MARK_TABLE}.parquet"))

    def picture(self, study_key: str) -> Path:
        return self.pictures / f"{study_key}.png"

    def snapshot(self, identifier: str) -> Path:
        return self.snapshots / identifier

    def logs(self, run: str) -> Path:
        return self.root / "logs" / run

    def run_record(self, run: str) -> Path:
        return self.logs(run) / "run.json"

    def run_records(self) -> list[Path]:
        return sorted((self.root / "logs").glob("*/run.json"))

    def plans(self, run: str) -> Path:
        return self.private / "plans" / run

    def plan(self, run: str, shard: str) -> Path:
        return self.plans(run) / f"{shard}.json"


def open_layout(cohort: str | Path) -> Layout:
    """The layout of an existing cohort.

    Raises
    ------
    WrongUse
        The folder is not a cohort.
    """
    layout = Layout(Path(cohort))
    if not layout.description.is_file():
        raise WrongUse(f"{cohort}: not a cohort (no {layout.description.name}); `vertebra screen` makes one")
    return layout


def run_name(started: str, token: str) -> str:
    """The name of a run: sorts by its start.

    Examples
    --------
    >>> run_name("2026-11-28T21:04:09+00:00", "a3f1")
    '20261128T210409-a3f1'
    """
    return re.sub(r"[^0-9T]", "", started[:19]) + "-" + token
