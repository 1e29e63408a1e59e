"""Publishing: the newest result of every study, in few files, visible only when all of it is there.

In a folder, a snapshot is written under another name and renamed. A bucket knows no renaming: there its objects are
put where they stay, ``provenance.json`` last. In both, readers are led to it by ``latest.json``, written after
everything else, and to its tables by their fixed names: what is half there is never seen, and the next run removes it.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vertebra_core.cohort.commit import (
    COMPRESSION,
    TEMPORARY,
    abandon_uploads,
    create,
    remove_folder,
    replace,
    streamed,
)
from vertebra_core.cohort.conditional import Version, read_version, replace_version
from vertebra_core.cohort.layout import MARK_TABLE, Layout, open_layout
from vertebra_core.cohort.ledger import (
    IDENTITY,
    Mark,
    MethodIdentity,
    choose,
    committed,
    open_mark,
    read_companion,
    sources_of,
)
from vertebra_core.cohort.links import read_links
from vertebra_core.cohort.others import choose_others, other_tables
from vertebra_core.cohort.people import People, with_patients
from vertebra_core.errors import CouldNotRun, WrongUse
from vertebra_core.settings import GradingSettings, PrivacySettings
from vertebra_core.storage import Place, answering, matching, place_of, read_ahead
from vertebra_core.tables.dictionary import dictionary
from vertebra_core.tables.patients import patient_table
from vertebra_core.tables.regrade import deformity_sums, regrade_levels, regrade_studies, regrade_vertebrae
from vertebra_core.tables.schema import arrow_schema

PROVENANCE = "provenance.json"
"""Written last into a snapshot: where it is, everything is."""
ROW_GROUP = 131_072
"""Rows of a row group: large enough for an analyst's scan, small enough for publishing to fit in memory (case T8)."""

DEFAULT_GRADING, DEFAULT_PRIVACY = GradingSettings(), PrivacySettings()
NO_OTHERS: Mapping[str, str] = {}


def no_shift(patient_key: str) -> int:
    """Days that are not shifted; good enough wherever days are not told."""
    return 0


@dataclass(frozen=True)
class Snapshot:
    """A published snapshot.

    Parameters
    ----------
    rows : dict
        Number of rows by table.
    is_new : bool
        False if the newest snapshot already said the same and was kept.
    """

    identifier: str
    folder: Place
    rows: dict[str, int]
    is_new: bool


def latest_snapshot(layout: Layout) -> Place:
    """Folder of the newest snapshot.

    Raises
    ------
    WrongUse
        Nothing has been published yet.
    """
    latest = _latest(layout)
    if latest is None:
        raise WrongUse(f"{layout.root}: nothing published yet; run `vertebra screen` first")
    return layout.snapshot(latest["snapshot"])


def open_snapshot(cohort: str | Place) -> tuple[Layout, Place]:
    """A cohort and its newest snapshot, or the snapshot that is named: COHORT/snapshots/ID.

    Raises
    ------
    CouldNotRun
        The store does not answer.
    WrongUse
        Neither a cohort nor a snapshot, or nothing has been published yet.
    """
    with answering(cohort):
        place = place_of(cohort)
        named = (place / PROVENANCE).exists()
    if named:
        return Layout(place.parent.parent), place
    layout = open_layout(cohort)
    return layout, latest_snapshot(layout)


def latest_provenance(layout: Layout) -> tuple[str, dict[str, Any]] | None:
    """Name and provenance of the newest snapshot; None if nothing has been published."""
    latest = _latest(layout)
    if latest is None:
        return None
    return latest["snapshot"], json.loads((layout.snapshot(latest["snapshot"]) / PROVENANCE).read_text())


def named_snapshot(layout: Layout, identifier: str | None = None) -> Place:
    """Folder of a snapshot by its name, or of the newest one.

    Raises
    ------
    WrongUse
        There is none of this name, or nothing has been published yet.
    """
    if identifier is None:
        return latest_snapshot(layout)
    known = sorted(path.parent.name for path in matching(layout.snapshots, f"*/{PROVENANCE}"))
    if identifier not in known:
        raise WrongUse(f"{layout.root}: no snapshot {identifier} (there are: {', '.join(known) or 'none'})")
    return layout.snapshot(identifier)


def publish(
    layout: Layout,
    identifier: str,
    identity: MethodIdentity,
    current: Mapping[str, str],
    provenance: Mapping[str, Any],
    grading: GradingSettings = DEFAULT_GRADING,
    privacy: PrivacySettings = DEFAULT_PRIVACY,
    shift_days: Callable[[str], int] = no_shift,
    others: Mapping[str, str] = NO_OTHERS,
) -> Snapshot:
    """Publish the results of one method; ``latest.json`` is written last.

    Parameters
    ----------
    identifier : str
        Name of the new snapshot.
    identity : MethodIdentity
        Results of other weights, settings or schema versions are not mixed in.
    current : mapping
        Study key -> input digest, as the archives are now; for these studies only the result of that input counts.
        Of other studies the newest result is published: their archive was not part of this run.
    provenance : mapping
        What ``provenance.json`` shall say besides what is known here. Holds the time of publishing.
    grading : GradingSettings
        All rows are graded anew, also those that were written under other bounds.
    privacy : PrivacySettings
        What all rows may tell of patients, also those measured when another rule was in force.
    shift_days : callable
        `vertebra_core.cohort.identity.Pseudonyms.shift_days`.
    others : mapping
        Series key -> input digest of the series of the same studies that could be measured beside the index series,
        as the archives are now (`vertebra_core.cohort.others`).

    Raises
    ------
    CouldNotRun
        Rows do not add up; or, in a bucket, another run has published in the meantime.
    """
    _remove_unfinished(layout)
    chosen = choose(committed(layout), identity, current)
    beside = choose_others(layout, identity, chosen, current, others)
    people = People(read_links(layout), privacy, shift_days)
    content = _content_digest(chosen, beside, grading, people)
    before = _version_of_latest(layout)
    latest = _latest(layout)
    if latest and latest["content"] == content and (layout.snapshot(latest["snapshot"]) / PROVENANCE).exists():
        return Snapshot(latest["snapshot"], layout.snapshot(latest["snapshot"]), latest["rows"], is_new=False)
    building = _begin(layout, identifier)
    rows = _write_tables(layout, building, chosen, beside, grading, people)
    if rows[MARK_TABLE] != chosen.num_rows:
        raise CouldNotRun(f"snapshot {identifier}: {rows[MARK_TABLE]} studies written, {chosen.num_rows} expected")
    _write_json(building / "dictionary.json", dictionary())
    _write_json(
        building / PROVENANCE,
        {
            **provenance,
            "grading": asdict(grading),
            "privacy": asdict(privacy),
            **_counts(chosen),
            "rows": rows,
            "content": content,
        },
    )
    document = {"snapshot": identifier, "content": content, "rows": rows}
    _make_visible(layout, building, identifier, json.dumps(document, indent=1).encode(), before)
    return Snapshot(identifier, layout.snapshot(identifier), rows, is_new=True)


def _begin(layout: Layout, identifier: str) -> Place:
    """The folder in which a snapshot is built."""
    if not isinstance(layout.root, Path):
        return layout.snapshot(identifier)
    building = layout.snapshots / f"{TEMPORARY}{identifier}"
    building.mkdir(parents=True)
    return building


def _make_visible(layout: Layout, building: Place, identifier: str, latest: bytes, before: Version | None) -> None:
    """Lead readers to a snapshot of which everything is there."""
    if isinstance(building, Path):
        _sync(building)
        building.rename(building.with_name(identifier))
        _sync(building.parent)
        replace(layout.latest, latest)
    elif not (replace_version(layout.latest, latest, before) if before else create(layout.latest, latest)):
        raise CouldNotRun(f"{layout.root}: another run has published in the meantime; nothing was published")


def _version_of_latest(layout: Layout) -> Version | None:
    """In a bucket, what ``latest.json`` was when publishing began: a run that was overtaken must not put it back."""
    return None if isinstance(layout.root, Path) else read_version(layout.latest)


def _write_tables(
    layout: Layout, folder: Place, chosen: pa.Table, others: pa.Table, grading: GradingSettings, people: People
) -> dict[str, int]:
    """Write all tables, one shard at a time in memory; only those with a row per study or series are ever whole."""
    sources = sources_of(layout, chosen)
    opened = list(read_ahead(layout.root, lambda source: _opened(*source), sources))
    tokens, parts = [token for token, _ in opened], [part for _, part in opened]
    studies = people.fill(pa.concat_tables([arrow_schema(MARK_TABLE).empty_table(), *parts])).sort_by("study_key")
    sums: Counter[str] = Counter()

    def parts_of(table: str) -> Iterator[pa.Table]:
        def read(shard: tuple[tuple[Mark, pa.Array], str]) -> pa.Table:
            (mark, keys), token = shard
            return with_patients(_of_studies(read_companion(layout, mark, table, token), keys), studies)

        return read_ahead(layout.root, read, zip(sources, tokens, strict=True))

    def vertebrae() -> Iterator[pa.Table]:
        for part in parts_of("vertebrae"):
            part = regrade_vertebrae(part, grading)
            sums.update(deformity_sums(part))
            yield part

    def levels() -> Iterator[pa.Table]:
        for part in parts_of("levels_in_view"):
            yield regrade_levels(part, grading)

    rows = {
        "vertebrae": _write_streamed(folder, "vertebrae", vertebrae()),
        "levels_in_view": _write_streamed(folder, "levels_in_view", levels()),
    }
    studies = regrade_studies(studies, sums, grading)
    rows[MARK_TABLE] = _write_streamed(folder, MARK_TABLE, iter([studies]))
    rows["patients"] = _write_streamed(folder, "patients", iter([patient_table(studies, people.dates(studies))]))
    for name, parts in other_tables(layout, others, grading, people).items():
        rows[name] = _write_streamed(folder, name, parts)
    return rows


def _opened(mark: Mark, keys: pa.Array) -> tuple[str, pa.Table]:
    """The token of a shard's other tables, and these rows of its ``studies``."""
    rows, token = open_mark(mark)
    return token, _of_studies(rows, keys)


def _of_studies(table: pa.Table, keys: pa.Array) -> pa.Table:
    return table.filter(pc.field("study_key").isin(keys))


def _write_streamed(folder: Place, name: str, parts: Iterator[pa.Table]) -> int:
    """Write a table in row groups of `ROW_GROUP`, however small its parts are."""
    schema = arrow_schema(name)
    waiting, n_waiting, written = [schema.empty_table()], 0, 0
    path = folder / f"{name}.parquet"
    with streamed(path) as sink, pq.ParquetWriter(sink, schema, compression=COMPRESSION) as writer:

        def flush() -> None:
            nonlocal waiting, n_waiting, written
            writer.write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP)
            written += n_waiting
            waiting, n_waiting = [schema.empty_table()], 0

        for part in parts:
            waiting.append(part.select(schema.names).cast(schema))
            n_waiting += part.num_rows
            if n_waiting >= ROW_GROUP:
                flush()
        if n_waiting or not written:
            flush()
    return written


def _content_digest(chosen: pa.Table, others: pa.Table, grading: GradingSettings, people: People) -> str:
    """Changes with every result that is shown, with the grading and with what is told of patients; not with time."""
    rules = [asdict(grading), asdict(people.privacy), people.digest(chosen), people.digest(others)]
    digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode())
    for column in (*IDENTITY, "series_key", "run"):
        for table in (chosen, others):
            digest.update("\n".join(table[column].to_pylist()).encode() + b"\0")
    return digest.hexdigest()[:16]


def _counts(chosen: pa.Table) -> dict[str, Any]:
    def count(column: str) -> dict[str, int]:
        counts = {entry["values"]: entry["counts"] for entry in chosen[column].value_counts().to_pylist()}
        return {name: counts[name] for name in sorted(counts, key=str) if name is not None}

    return {"studies": chosen.num_rows, "studies_by_status": count("status"), "studies_by_reason": count("reason")}


def _remove_unfinished(layout: Layout) -> None:
    """Remove what a killed run left half-written; the cohort's lock makes sure nobody is writing it."""
    if isinstance(layout.snapshots, Path):
        unfinished = set(layout.snapshots.glob(f"{TEMPORARY}*"))
    else:
        abandon_uploads(layout.snapshots)
        finished = {path.parent for path in matching(layout.snapshots, f"*/{PROVENANCE}")}
        unfinished = {path.parent for path in matching(layout.snapshots, "*/*")} - finished
    for folder in unfinished:
        remove_folder(folder)


def _latest(layout: Layout) -> dict | None:
    try:
        found = json.loads(layout.latest.read_text())
    except (FileNotFoundError, ValueError):  # damaged is as good as none: the next run publishes anew
        return None
    return found if isinstance(found, dict) and {"snapshot", "content", "rows"} <= set(found) else None


def _write_json(path: Place, document: Mapping[str, Any]) -> None:
    replace(path, json.dumps(document, indent=1, default=str).encode() + b"\n")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
