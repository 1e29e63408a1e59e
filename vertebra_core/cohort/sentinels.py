"""Sentinel studies: a few studies that every run measures again, and compares with what they measured first.

The same input, weights, settings and schema must give the same heights, whoever computes them. Where they do not, a
library, a driver or a machine has changed what the program measures, and the night's tables cannot be trusted.

What is measured again is committed with the run (tables of its own beside an empty mark, so it is never a row of
``studies`` or ``vertebrae``), compared, and kept in ``sentinels/RUN.json``. References are heights of the first result
that was committed of a study, for each identity: other weights or settings begin new ones beside the old.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.layout import MARK_TABLE, Layout
from vertebra_core.cohort.ledger import Mark, MethodIdentity, choose, committed, read_companion, sources_of
from vertebra_core.errors import Reason, WrongUse
from vertebra_core.storage import Place, matching
from vertebra_core.tables.outcome import Status

FORMAT = "vertebra-sentinels/1"
SENTINEL_SHARD = "sentinel-"
"""How the names of their shards begin."""
SENTINEL_TABLES = {"studies": "sentinel_studies", "vertebrae": "sentinel_vertebrae"}
"""Where their rows go, by the table where those of a study go."""
TOLERANCE_MM = 0.05
"""Largest difference of a height that is taken for rounding. The same machine and versions give the same bits; other
arithmetic moved no height of real CT by more than the figures of docs/observability.md. A pixel of the plane on which
keypoints are found is 0.5 mm, two readers differ by 0.5 mm (docs/accuracy.md): ten times this is still small."""
MEASURED = (Status.OK.value, Status.PARTIAL.value)
OF_THE_ENGINE = {Reason.DEADLINE.code, Reason.OUT_OF_MEMORY.code, Reason.WORKER_DIED.code}
"""A study that ends so tells of a busy machine, not of what is measured."""
HEIGHTS = ("ha_mm", "hm_mm", "hp_mm")

Heights = Sequence[Sequence[float | None]]
"""Of one study: ha, hm, hp of every vertebra from the top down, mm; None where it was not measured."""


class Outcome(StrEnum):
    """What became of one sentinel study in a run."""

    REPRODUCED = "reproduced"
    DRIFTED = "drifted"
    """Measured, but otherwise than its reference; or it failed where the reference was measured."""
    FIRST = "first"
    """Measured for the first time in this run, by these weights and settings: the reference of the next."""
    NOT_MEASURED = "not_measured"
    """Its shard was not committed, or it never was measured at all."""
    GONE = "gone"
    """Its files are in none of the archives of this run, or cannot be measured any more."""


class Verdict(StrEnum):
    """What a run says of all its sentinel studies."""

    NONE = "none"
    """None were chosen."""
    REPRODUCED = "reproduced"
    FIRST = "first"
    """None could be compared yet: all are new, or weights or settings are."""
    INCOMPLETE = "incomplete"
    """Some are gone or were not measured; those that were reproduce."""
    DRIFTED = "drifted"


@dataclass(frozen=True)
class Compared:
    """One sentinel study in one run.

    Parameters
    ----------
    worst_mm : float or None
        Largest difference of a height.
    why : str
        Of what is neither reproduced nor first.
    reference : str
        Run in which the reference was measured.
    """

    study_key: str
    outcome: Outcome
    worst_mm: float | None = None
    why: str = ""
    reference: str = ""
    heights_mm: Heights = ()


@dataclass(frozen=True)
class Judged:
    """All sentinel studies of one run."""

    studies: tuple[Compared, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst that befell any of them."""
        met = {one.outcome for one in self.studies}
        if not met:
            return Verdict.NONE
        if Outcome.DRIFTED in met:
            return Verdict.DRIFTED
        if met & {Outcome.GONE, Outcome.NOT_MEASURED}:
            return Verdict.INCOMPLETE
        return Verdict.REPRODUCED if Outcome.REPRODUCED in met else Verdict.FIRST

    @property
    def worst_mm(self) -> float | None:
        """Largest difference of a height among all that were compared."""
        return max((one.worst_mm for one in self.studies if one.worst_mm is not None), default=None)

    def summary(self) -> dict[str, object]:
        """Verdict, worst difference and counts, without a key: for the record of a run and for provenance."""
        counts = Counter(one.outcome.value for one in self.studies)
        return {
            "verdict": self.verdict.value,
            "worst_mm": self.worst_mm,
            "tolerance_mm": TOLERANCE_MM,
            "counts": {name: counts[name] for name in sorted(counts)},
        }


@dataclass(frozen=True)
class Reference:
    """The heights a study must give again; as long as its input and the method are the same."""

    study_key: str
    input_digest: str
    identity: MethodIdentity
    run: str
    heights_mm: Heights


def read_keys(layout: Layout) -> tuple[str, ...]:
    """Study keys of the sentinel studies; none where none were chosen.

    Raises
    ------
    WrongUse
        The file is of another format.
    """
    document = _read(layout.sentinel_keys)
    return tuple(document["keys"]) if document else ()


def write_keys(layout: Layout, keys: Collection[str]) -> None:
    """Choose the sentinel studies; references and earlier comparisons stay."""
    replace(layout.sentinel_keys, _document({"keys": sorted(keys)}))


def read_references(layout: Layout) -> list[Reference]:
    """All references, of whatever method."""
    document = _read(layout.sentinel_references)
    found = document["references"] if document else []
    return [Reference(**{**one, "identity": MethodIdentity(**one["identity"])}) for one in found]


def write_references(layout: Layout, references: Sequence[Reference]) -> None:
    """Write all references."""
    replace(layout.sentinel_references, _document({"references": [asdict(one) for one in references]}))


def write_judged(layout: Layout, run: str, identity: MethodIdentity, judged: Judged) -> None:
    """Keep the comparison of a run."""
    document = {"run": run, **asdict(identity), **judged.summary(), "studies": [asdict(one) for one in judged.studies]}
    replace(layout.sentinels_of(run), _document(document))


def heights_of(vertebrae: pa.Table, study_key: str) -> Heights:
    """Heights of one study from rows of ``vertebrae``, from the top down."""
    rows = [row for row in vertebrae.to_pylist() if row["study_key"] == study_key]
    return [[row[name] for name in HEIGHTS] for row in sorted(rows, key=lambda row: row["vertebra_index"])]


def compare(reference: Heights, again: Heights, tolerance_mm: float = TOLERANCE_MM) -> tuple[float | None, str]:
    """Largest difference in mm, and what is wrong ("" if nothing is).

    Examples
    --------
    >>> compare([[20.0, 19.5, None]], [[20.01, 19.5, None]], 0.05)[1]
    ''
    >>> compare([[20.0, 19.5, 20.0]], [[20.0, 19.25, 20.0]], 0.05)
    (0.25, '1 of 3 heights off by more than 0.05 mm')
    >>> compare([[20.0, 19.5, 20.0]], [], 0.05)[1], compare([[20.0, None, 20.0]], [[20.0, 19.5, 20.0]], 0.05)[1]
    ('0 vertebrae instead of 1', '1 of 3 heights measured in one of both only')
    """
    if len(reference) != len(again):
        return None, f"{len(again)} vertebrae instead of {len(reference)}"
    pairs = [pair for before, now in zip(reference, again, strict=True) for pair in zip(before, now, strict=True)]
    off = [abs(before - now) for before, now in pairs if before is not None and now is not None]
    worst = max(off, default=None)
    if one_sided := sum((before is None) != (now is None) for before, now in pairs):
        return worst, f"{one_sided} of {len(pairs)} heights measured in one of both only"
    if beyond := sum(difference > tolerance_mm for difference in off):
        return worst, f"{beyond} of {len(pairs)} heights off by more than {tolerance_mm:g} mm"
    return worst, ""


def first_results(
    layout: Layout, identity: MethodIdentity, current: Mapping[str, str], keys: Collection[str]
) -> list[Reference]:
    """What was committed of studies: references of those that have none yet; of what was not measured there is none."""
    chosen = choose(committed(layout), identity, current)
    wanted = [row for row in chosen.to_pylist() if row["study_key"] in keys and row["status"] in MEASURED]
    inputs = {row["study_key"]: row["input_digest"] for row in wanted}
    rows = chosen.filter(pc.field("study_key").isin(pa.array(sorted(inputs), pa.string())))
    found = []
    for mark, studies in sources_of(layout, rows):
        vertebrae = read_companion(layout, mark, "vertebrae")
        for key in studies.to_pylist():
            found.append(Reference(key, inputs[key], identity, mark.run, heights_of(vertebrae, key)))
    return found


@dataclass(frozen=True)
class Again:
    """What a sentinel study gave in a run.

    Parameters
    ----------
    reason : str
        Why it was not measured; "" if it was.
    """

    reason: str
    heights_mm: Heights


def measured_again(layout: Layout, run: str) -> dict[str, Again]:
    """What a run has measured again, by study key."""
    found = {}
    suffix = f".{MARK_TABLE}.parquet"
    for path in matching(layout.results / run, f"{SENTINEL_SHARD}*{suffix}"):
        mark = Mark(path, run, path.name.removesuffix(suffix))
        vertebrae = read_companion(layout, mark, SENTINEL_TABLES["vertebrae"])
        for row in read_companion(layout, mark, SENTINEL_TABLES["studies"]).to_pylist():
            reason = "" if row["status"] in MEASURED else row["reason"]
            found[row["study_key"]] = Again(reason, heights_of(vertebrae, row["study_key"]))
    return found


def judge(
    key: str, current: Mapping[str, str], reference: Reference | None, again: Again | None, run: str, was_asked: bool
) -> Compared:
    """What became of one sentinel study.

    Parameters
    ----------
    key : str
    current : mapping
        Study key -> input digest, as the archives are now.
    reference : Reference or None
        Of the present input and method.
    again : Again or None
        What it gave in this run.
    run : str
    was_asked : bool
        Whether it was to be measured again in this run.
    """
    if key not in current:
        return Compared(key, Outcome.GONE, why="its files are in none of the archives of this run")
    if reference is None:
        return Compared(key, Outcome.NOT_MEASURED, why="there is no result of it")
    if again is None:
        if was_asked:
            return Compared(key, Outcome.NOT_MEASURED, why="it was not brought to an end", reference=reference.run)
        if reference.run == run:
            return Compared(key, Outcome.FIRST, reference=run, heights_mm=reference.heights_mm)
        return Compared(key, Outcome.NOT_MEASURED, why="chosen after this run was planned", reference=reference.run)
    found = {"reference": reference.run, "heights_mm": again.heights_mm}
    if again.reason:
        outcome = Outcome.NOT_MEASURED if again.reason in OF_THE_ENGINE else Outcome.DRIFTED
        return Compared(key, outcome, why=f"was measured, and now: {again.reason}", **found)
    worst, why = compare(reference.heights_mm, again.heights_mm)
    return Compared(key, Outcome.DRIFTED if why else Outcome.REPRODUCED, worst, why, **found)


def forget_sentinels(layout: Layout, studies: Collection[str]) -> None:
    """Take studies out of the choice, the references and all comparisons."""
    if layout.sentinel_keys.exists():
        write_keys(layout, [key for key in read_keys(layout) if key not in studies])
    if references := read_references(layout):
        write_references(layout, [one for one in references if one.study_key not in studies])
    for path in matching(layout.sentinels, "*.json"):
        document = json.loads(path.read_text())
        if any(one["study_key"] in studies for one in document.get("studies", [])):
            left = [one for one in document["studies"] if one["study_key"] not in studies]
            replace(path, _document({**document, "studies": left}))


def _read(path: Place) -> dict | None:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if document.get("format") != FORMAT:
        raise WrongUse(f"{path}: not in the format {FORMAT}")
    return document


def _document(content: Mapping[str, object]) -> bytes:
    return json.dumps({"format": FORMAT, **content}, indent=1).encode() + b"\n"
