"""The plan of a run is data: which studies are due, in which shards; printable without running anything."""

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from tasks.pace import SECONDS_PER_SLICE
from tasks.settings import RunSettings
from vertebra_core.cohort import commit
from vertebra_core.cohort.identity import SeriesKeys
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity
from vertebra_core.cohort.others import OTHER_SHARD
from vertebra_core.errors import Reason
from vertebra_core.reading.select import NOT_CHOSEN
from vertebra_core.reading.series import Series
from vertebra_core.settings import Settings
from vertebra_core.storage import Place

REFUSED_SHARD = "refused-"
"""How the names of shards begin of which no series is measured."""
GZIP_LEVEL = 1
"""Names of files repeat themselves: the fastest level makes a tenth of them."""
REFUSED_PER_SHARD = 5000
"""Studies without a series to measure are rows and nothing else: thousands fit in one committed file."""

NOT_CT = {
    Reason.NOT_AN_IMAGE,
    Reason.OTHER_MODALITY,
    Reason.LOCALIZER,
    Reason.REPORT_PAGE,
    Reason.NOT_A_VOLUME,
    Reason.PROJECTION,
    Reason.DERIVED_MAP,
    Reason.TIME_SERIES,
    Reason.NOT_DICOM,
}
"""Decisions that say least about why a study was not measured: any other series of the study speaks first."""


@dataclass(frozen=True)
class StudyOrder:
    """One study that is due, and the series that stands for it.

    Parameters
    ----------
    input_digest : str
        Of the series to be measured; of all series of a study in which none can be. Keyed, as it goes into tables.
    """

    study_key: str
    patient_key: str
    series_key: str
    input_digest: str
    series: Series
    is_index: bool = True
    """False for a further series of a study, measured beside its index series."""

    @property
    def key(self) -> str:
        """What its row and its picture are known by: the study, or the further series."""
        return self.study_key if self.is_index else self.series_key


@dataclass(frozen=True)
class Shard:
    """Studies, or further series, that one worker measures and commits together, with all a worker needs to know."""

    run: str
    name: str
    studies: tuple[StudyOrder, ...]
    method: str
    identity: MethodIdentity
    settings: Settings
    run_settings: RunSettings


@dataclass(frozen=True)
class PlannedShard:
    """What is kept of a shard once it is written: its name, and the keys of its studies or further series."""

    name: str
    keys: tuple[str, ...]

    @property
    def is_other(self) -> bool:
        """Whether it holds further series."""
        return self.name.startswith(OTHER_SHARD)


@dataclass(frozen=True)
class Plan:
    """What a run will do: keys and digests only, for it stays in memory as long as the run lasts.

    Parameters
    ----------
    current : dict
        Study key -> input digest of every study in the archives, due or done.
    refused : tuple of PlannedShard
        Due studies without a series that can be measured: they end as rows, without a worker.
    shards : tuple of PlannedShard
        To be handed to workers, further series last.
    others : dict
        Series key -> input digest of every further series that could be measured, whether that was asked for or not.
    sentinels : tuple of PlannedShard
        Studies that are done and measured again, for comparison only (`tasks.sentinel`).
    """

    run: str
    current: dict[str, str]
    refused: tuple[PlannedShard, ...]
    shards: tuple[PlannedShard, ...]
    others: dict[str, str]
    sentinels: tuple[PlannedShard, ...] = ()

    @property
    def n_refused(self) -> int:
        """Studies that end as rows without a worker."""
        return sum(len(shard.keys) for shard in self.refused)

    @property
    def n_to_measure(self) -> int:
        """Studies that workers will measure."""
        return sum(len(shard.keys) for shard in self.shards if not shard.is_other)

    @property
    def n_others(self) -> int:
        """Further series that workers will measure."""
        return sum(len(shard.keys) for shard in self.shards if shard.is_other)

    @property
    def n_due(self) -> int:
        """Studies that become rows in this run: to be measured, or refused by their headers."""
        return self.n_refused + self.n_to_measure

    def digest_of(self, shard: PlannedShard, key: str) -> str:
        """The input digest of a study or further series of a shard."""
        return (self.others if shard.is_other else self.current)[key]


@dataclass(frozen=True)
class FannedOut:
    """What a runner says of the shards it was given. What it has done is not said here: that stands in the ledger.

    Parameters
    ----------
    left : tuple of str
        Shards that it put back, by the names it was given: their studies stay due, and that is as it should be. A
        shard that is neither here nor committed, whole or in parts, is missing: then nothing is published.
    why : str
        For what reason they were put back, for people; "" where none was.
    """

    left: tuple[str, ...] = ()
    why: str = ""


def order_studies(series: Sequence[Series], keys: SeriesKeys) -> list[StudyOrder]:
    """One order per study met, in order of the keys, whether it can be measured or not.

    The order of an archive is that of folders and names: it may tell who came first, or whose name begins with A.
    """
    studies: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        studies[keys.study_key(one)].append(one)
    orders = []
    for study_key, members in sorted(studies.items()):
        chosen = spokesman(members)
        digest = chosen.input_digest if chosen.decision is None else _digest_of_all(members)
        patient_key, series_key = keys.patient_key(chosen), keys.series_key(chosen)
        orders.append(StudyOrder(study_key, patient_key, series_key, keys.input_key(digest), chosen))
    return orders


def order_other_series(series: Sequence[Series], keys: SeriesKeys) -> list[StudyOrder]:
    """One order per series that could be measured but does not stand for its study, in order of the keys."""
    orders = []
    for one in series:
        if one.decision in NOT_CHOSEN:
            names = keys.of(one)
            digest, measured = keys.input_key(one.input_digest), replace(one, decision=None, decision_detail="")
            orders.append(StudyOrder(**names, input_digest=digest, series=measured, is_index=False))
    return sorted(orders, key=lambda order: order.series_key)


def spokesman(members: Sequence[Series]) -> Series:
    """The series of a study that is measured; where there is none, the one that says most about why."""

    def rank(one: Series) -> tuple:
        return one.decision is None, one.decision not in NOT_CT, one.n_slices, one.series_uid, one.stack

    return max(members, key=rank)


def plan_shards(
    run: str,
    orders: Sequence[StudyOrder],
    done: set[tuple[str, str]],
    method: str,
    identity: MethodIdentity,
    settings: Settings,
    run_settings: RunSettings,
    others: Sequence[StudyOrder] = (),
    seconds_per_slice: float = SECONDS_PER_SLICE,
    hand_out: Callable[[Shard], object] = lambda shard: None,
) -> Plan:
    """Leave out what is done and cut the rest into shards, further series last.

    Parameters
    ----------
    done : set of (study or series key, input digest)
        From `vertebra_core.cohort.ledger.done_inputs`.
    others : sequence of StudyOrder
        From `order_other_series`; measured if the run's settings ask for it.
    seconds_per_slice : float
        How long a study is expected to take, from `tasks.pace.seconds_per_slice`.
    hand_out : callable
        Takes each shard as soon as it is cut, to write it down: the plan itself keeps only keys.
    """
    wanted = [*orders, *others] if run_settings.all_series else orders
    due = [order for order in wanted if (order.key, order.input_digest) not in done]
    measured = [order for order in due if order.is_index and order.series.decision is None]
    further = [order for order in due if not order.is_index]
    refused = [without_files(order) for order in due if order.is_index and order.series.decision is not None]
    seconds = seconds_per_slice * sum(order.series.n_slices for order in (*measured, *further))
    size = run_settings.studies_per_shard(len(measured) + len(further), seconds)

    def cut(prefix: str, some: Sequence[StudyOrder], size: int) -> Iterator[PlannedShard]:
        """Cut and hand out."""
        for number, start in enumerate(range(0, len(some), size)):
            part = tuple(some[start : start + size])
            shard = Shard(run, f"{prefix}{number:05d}", part, method, identity, settings, run_settings)
            hand_out(shard)
            yield PlannedShard(shard.name, tuple(order.key for order in part))

    return Plan(
        run=run,
        current={order.study_key: order.input_digest for order in orders},
        refused=tuple(cut(REFUSED_SHARD, refused, REFUSED_PER_SHARD)),
        shards=(*cut("", measured, size), *cut(OTHER_SHARD, further, size)),
        others={order.series_key: order.input_digest for order in others},
    )


def without_files(order: StudyOrder) -> StudyOrder:
    """An order that nobody will read: thousands of them make one shard."""
    series = order.series
    return replace(order, series=replace(series, files=(), frames=(), n_files=series.n_files or len(series.files)))


def write_shard(layout: Layout, shard: Shard) -> Place:
    """Put a shard where its worker finds it: the plan names patients, so it is private, and only its name travels."""
    commit.private_folder(layout.private)
    path = layout.plan(shard.run, shard.name)
    commit.replace(path, gzip.compress(TypeAdapter(Shard).dump_json(shard), GZIP_LEVEL, mtime=0), mode=0o600)
    return path


def read_shard(layout: Layout, run: str, name: str) -> Shard:
    """What `write_shard` wrote."""
    return TypeAdapter(Shard).validate_json(gzip.decompress(layout.plan(run, name).read_bytes()))


def _digest_of_all(members: Sequence[Series]) -> str:
    lines = sorted(f"{one.series_uid}/{one.stack}:{one.input_digest}" for one in members)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]
