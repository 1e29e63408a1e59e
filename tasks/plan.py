"""The plan of a run is data: which studies are due, in which shards; printable without running anything."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

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
class Plan:
    """What a run will do.

    Parameters
    ----------
    current : dict
        Study key -> input digest of every study in the archives, due or done.
    refused : tuple of StudyOrder
        Due studies without a series that can be measured: they end as rows, without a worker.
    shards : tuple of Shard
    others : dict
        Series key -> input digest of every further series that could be measured, whether that was asked for or not.
    """

    run: str
    current: dict[str, str]
    refused: tuple[StudyOrder, ...]
    shards: tuple[Shard, ...]
    others: dict[str, str]

    @property
    def n_to_measure(self) -> int:
        """Studies that workers will measure."""
        return sum(order.is_index for shard in self.shards for order in shard.studies)

    @property
    def n_others(self) -> int:
        """Further series that workers will measure."""
        return sum(len(shard.studies) for shard in self.shards) - self.n_to_measure

    @property
    def n_due(self) -> int:
        """Studies that become rows in this run: to be measured, or refused by their headers."""
        return len(self.refused) + self.n_to_measure


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
    orders: Iterable[StudyOrder],
    done: set[tuple[str, str]],
    method: str,
    identity: MethodIdentity,
    settings: Settings,
    run_settings: RunSettings,
    others: Sequence[StudyOrder] = (),
) -> Plan:
    """Leave out what is done and cut the rest into shards, further series last.

    Parameters
    ----------
    done : set of (study or series key, input digest)
        From `vertebra_core.cohort.ledger.done_inputs`.
    others : sequence of StudyOrder
        From `order_other_series`; measured if the run's settings ask for it.
    """
    orders = list(orders)
    wanted = [*orders, *others] if run_settings.all_series else orders
    due = [order for order in wanted if (order.key, order.input_digest) not in done]
    refused = tuple(order for order in due if order.is_index and order.series.decision is not None)
    measured = [order for order in due if order.is_index and order.series.decision is None]
    further = [order for order in due if not order.is_index]
    size = run_settings.studies_per_shard(len(measured) + len(further))
    shards = tuple(
        Shard(run, name, some, method, identity, settings, run_settings)
        for prefix, part in (("", measured), (OTHER_SHARD, further))
        for name, some in cut(prefix, part, size)
    )
    current = {order.study_key: order.input_digest for order in orders}
    return Plan(run, current, refused, shards, {order.series_key: order.input_digest for order in others})


def cut(prefix: str, orders: Sequence[StudyOrder], size: int) -> Iterator[tuple[str, tuple[StudyOrder, ...]]]:
    """Orders in shards of a size, with the names of the shards."""
    for number, start in enumerate(range(0, len(orders), size)):
        yield f"{prefix}{number:05d}", tuple(orders[start : start + size])


def write_shard(layout: Layout, shard: Shard) -> Place:
    """Put a shard where its worker finds it: the plan names patients, so it is private, and only its name travels."""
    commit.private_folder(layout.private)
    path = layout.plan(shard.run, shard.name)
    commit.replace(path, TypeAdapter(Shard).dump_json(shard), mode=0o600)
    return path


def read_shard(layout: Layout, run: str, name: str) -> Shard:
    """What `write_shard` wrote."""
    return TypeAdapter(Shard).validate_json(layout.plan(run, name).read_bytes())


def _digest_of_all(members: Sequence[Series]) -> str:
    lines = sorted(f"{one.series_uid}/{one.stack}:{one.input_digest}" for one in members)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]
