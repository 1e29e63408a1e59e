"""``vertebra screen``."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def screen(
    archives: Annotated[list[str], Parameter(help="Folders with studies, or s3:// URLs; never written to.")],
    /,
    *,
    cohort: Annotated[str, Parameter(help="Folder or s3://BUCKET/PREFIX of the cohort; made if it is new.")],
    profile: Annotated[str, Parameter(help="Settings: a name in deployments/profiles or a .toml file.")] = "local",
    workers: Annotated[int | None, Parameter(help="Worker processes; 0: as many as fit.")] = None,
    shard_size: Annotated[int | None, Parameter(help="Studies committed together; 0: automatic.")] = None,
    deadline: Annotated[float | None, Parameter(help="Seconds a study may take.")] = None,
    memory: Annotated[float | None, Parameter(help="GiB a study may take.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, Parameter(help="Where the networks run.")] = None,
    all_series: Annotated[
        bool | None, Parameter(help="Also measure the series that do not stand for their study.", negative="")
    ] = None,
    site: Annotated[str | None, Parameter(help="Name of the archive for the tables' column `site`.")] = None,
    metadata: Annotated[
        Path | None, Parameter(help="CSV or Parquet with what headers do not say: ages, sex, dates, patients, sites.")
    ] = None,
    settle_minutes: Annotated[
        float | None,
        Parameter(help="A study that changed less than so long ago waits for a later run; 0: none waits."),
    ] = None,
    metrics: Annotated[
        str | None, Parameter(help="File to keep up to date with the run's state as Prometheus text.")
    ] = None,
    until: Annotated[
        str | None,
        Parameter(help="Hour at which no further shard is begun, 06:00; the next run goes on. Zone: run.time_zone."),
    ] = None,
    set_: Annotated[list[str], Parameter(name="--set", help="Any setting: SECTION.KEY=VALUE.", negative="")] = [],  # noqa: B006
    runner: Annotated[Literal["dask", "loop"], Parameter(help="loop: one study after the other.")] = "dask",
    json_: Annotated[bool, Parameter(name="--json", help="Print the summary as JSON.", negative="")] = False,
) -> int:
    """Screen archives into a cohort.

    Every study ends as a row: measured, refused with a reason, or failed. Running the same command again does only
    what is not done yet; after a crash it goes on where it was. A snapshot for analysts is published at the end.

    Example: vertebra screen /archive/ct --cohort spines --workers 4

    Example: vertebra screen /archive/ct --cohort s3://research/spines
    """
    from flows.cli import DONE, DONE_WITH_FAILURES
    from flows.places import check_places
    from flows.server import hush
    from flows.settings import assignments, load_settings
    from vertebra_core.reading.metadata import read_metadata

    hush()
    flags = {
        "run.workers": workers,
        "run.shard_size": shard_size,
        "run.deadline_s": deadline,
        "run.memory_gb": memory,
        "run.device": device,
        "run.all_series": all_series,
        "run.site": site,
        "run.settle_minutes": settle_minutes,
        "run.metrics_file": metrics,
        "run.until": until,
        **assignments(set_),
    }
    settings = load_settings(profile, flags)
    check_places(archives, cohort)
    known = read_metadata(metadata) if metadata else None
    from flows.screen import screen_archives  # brings Prefect, Dask and torch: late, so that wrong use is told at once

    tell = partial(print, file=sys.stderr)
    night = screen_archives(archives, cohort, settings, runner, say=tell, metadata=known)
    if json_:
        document = {**asdict(night), "snapshot": str(night.snapshot.folder), "rows": night.snapshot.rows}
        document["sentinels"] |= night.sentinels.summary()
        print(json.dumps(document, indent=1, default=str))
    else:
        print(summary(night, cohort))
    return DONE_WITH_FAILURES if night.has_failures else DONE


def summary(night, cohort: str) -> str:
    """The end of a run in a few lines."""
    from flows.stock import listed

    settled = night.settled
    lines = [
        f"studies   {settled.seen} seen = {settled.measured} measured + {settled.refused} refused + "
        f"{settled.failed} failed" + (f" + {settled.left} left for the next run" if settled.left else ""),
        "this run  " + (listed("", settled.new) or "nothing was due"),
    ]
    if settled.others or settled.others_left:
        left = f" + {settled.others_left} left for the next run" if settled.others_left else ""
        lines.append("further   " + listed("", settled.others) + left + ": other_series, other_vertebrae")
    if night.arriving:
        lines.append(f"waiting   {night.arriving} studies may still be arriving; --settle-minutes 0 takes them now")
    lines += [f"failure   {study} {reason}" for study, reason in settled.failures]
    if unreadable := night.left_alone.get("unreadable"):
        lines.append(f"failure   {unreadable} files or folders could not be read")
    lines += sentinel_lines(night.sentinels)
    if settled.left:
        left = f"{settled.left_why}: {settled.left} studies left for the next run"
        lines.append(f"left      {left}; the same command goes on")
    state = "published" if night.snapshot.is_new else "unchanged"
    lines.append(f"snapshot  {night.snapshot.folder} ({state}; {night.snapshot.rows['vertebrae']} vertebrae)")
    return "\n".join([*lines, f"next      vertebra tables {cohort}"])


def sentinel_lines(judged) -> list[str]:
    """The sentinel studies in a line, and one for each that did not reproduce; nothing where none were chosen."""
    from flows.commands.status import sentinel_line

    if not judged.studies:
        return []
    told = {"drifted": "failure  ", "gone": "sentinel ", "not_measured": "sentinel "}
    return [
        f"sentinels {sentinel_line(judged.summary())}",
        *(f"{told[one.outcome]} {one.study_key} {one.outcome}: {one.why}" for one in judged.studies if one.why),
    ]
