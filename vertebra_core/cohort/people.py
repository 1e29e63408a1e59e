"""Who stands behind the rows of a table, as far as it may tell: joined from the private links when it is written.

Committed results hold none of it. Every snapshot and inventory is filled by one rule from one place, so two rules are
never mixed, and a correction of a header or of a list of sites reaches all tables without measuring anything again.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.cohort.commit import parquet_bytes, replace
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.links import KNOWN, rows_of
from vertebra_core.settings import PrivacySettings
from vertebra_core.storage import Place
from vertebra_core.tables.covariates import COVARIATES, told
from vertebra_core.tables.parquet import read_table
from vertebra_core.tables.schema import arrow_schema


@dataclass(frozen=True)
class People:
    """What is known of the people of a cohort, and the rule by which tables tell it.

    Parameters
    ----------
    links : pa.Table
        `vertebra_core.cohort.links.read_links`.
    privacy : PrivacySettings
    shift_days : callable
        `vertebra_core.cohort.identity.Pseudonyms.shift_days`.
    """

    links: pa.Table
    privacy: PrivacySettings
    shift_days: Callable[[str], int]

    def behind(self, table: pa.Table) -> pa.Table:
        """The links of the rows of a table, by series key, in the order of the table; NULL where there is none."""
        rows = rows_of(table["series_key"], self.links["series_key"])
        return self.links.select(["patient_key", *KNOWN]).take(rows)

    def digest(self, table: pa.Table) -> str:
        """Changes whenever what the rows tell of people does, or the order of a patient's studies.

        Made from what is told only: a digest of true dates could be searched for them.
        """
        known = self.behind(table)
        patients = [patient or "" for patient in known["patient_key"].to_pylist()]
        rows = [
            told(row, patient, self.privacy, self.shift_days)
            for row, patient in zip(known.to_pylist(), patients, strict=True)
        ]
        dates = known["study_date"].to_pylist()
        order = sorted(range(len(rows)), key=lambda i: (patients[i], dates[i] or "9999"))
        return hashlib.sha256(json.dumps([patients, rows, order], default=str).encode()).hexdigest()

    def dates(self, table: pa.Table) -> list[str | None]:
        """True dates of the rows, ISO 8601, for putting them in order; never to be written to a table."""
        return self.behind(table)["study_date"].to_pylist()

    def fill(self, table: pa.Table) -> pa.Table:
        """A table with one row per study or series, with patient keys and covariates by the rule."""
        known = self.behind(table)
        patients = pc.call_function("coalesce", [known["patient_key"], table["patient_key"]]).to_pylist()
        rows = [
            told(row, patient, self.privacy, self.shift_days)
            for row, patient in zip(known.to_pylist(), patients, strict=True)
        ]
        columns = {name: [row[name] for row in rows] for name in COVARIATES}
        return _with_columns(table, {"patient_key": patients, **columns})


def with_patients(table: pa.Table, studies: pa.Table) -> pa.Table:
    """A table with many rows per study, with the patient keys of ``studies``."""
    rows = rows_of(table["study_key"], studies["study_key"])
    return _with_columns(table, {"patient_key": studies["patient_key"].take(rows).to_pylist()})


def refill_inventories(layout: Layout, of_this_run: Sequence[Place], people: People) -> None:
    """Bring inventories of archives that are not part of this run under the rule in force."""
    for path in layout.inventories():
        if path in of_this_run:
            continue
        old = read_table(path)
        if old.schema.names == arrow_schema("inventory").names:  # not of an older version
            new = people.fill(old)
            if not new.equals(old):
                replace(path, parquet_bytes(new))


def _with_columns(table: pa.Table, columns: dict[str, list]) -> pa.Table:
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table
