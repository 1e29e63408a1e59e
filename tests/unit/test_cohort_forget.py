"""Right to erasure: of a patient who is forgotten nothing is left in a cohort, and nothing changes for the others."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_studies import IDENTITY, NORMAL, WEDGE, column, make_cohort, outcome_of, patient_series, result_of

from flows.cli import COULD_NOT_RUN, DONE, WRONG_USE, main
from tasks.clock import seconds_since_epoch
from tasks.inventory import Stock, record_inventory
from vertebra_core.cohort.forget import forget
from vertebra_core.cohort.identity import open_pseudonyms
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import commit_shard
from vertebra_core.cohort.links import known_keys, read_links
from vertebra_core.cohort.lock import release_lock, take_lock
from vertebra_core.cohort.snapshot import latest_snapshot, publish
from vertebra_core.settings import GradingSettings, PrivacySettings
from vertebra_core.tables.rows import outcome_rows, to_arrow

TABLES = ("studies", "vertebrae", "patients", "levels_in_view", "other_series", "other_vertebrae")


@pytest.fixture
def cohort(tmp_path) -> Layout:
    """Three patients; the second has two studies, a further series, pictures, lines in a log and a private index."""
    spine = result_of(column([NORMAL, WEDGE]), levels=("T7", "T8"))
    hers = patient_series(2)
    later = replace(hers, study_uid="1.2.3.22", series_uid="1.2.3.22.1", path="p2/later")
    series = [patient_series(1), hers, later, patient_series(3)]
    layout = make_cohort(tmp_path / "spines", [(one, spine) for one in series])
    keys = known_keys(layout, series, open_pseudonyms(layout))
    record_inventory(layout, Stock(tuple(series), {}, 8), keys, None, PrivacySettings())
    rows = outcome_rows(outcome_of(keys.study_key(hers), keys.patient_key(hers), spine), GradingSettings())
    others = {"studies": [], "other_series": rows["studies"], "other_vertebrae": rows["vertebrae"]}
    commit_shard(
        layout, "20240102T000000-bb", "other-00000", {name: to_arrow(name, some) for name, some in others.items()}
    )
    layout.pictures.mkdir()
    logs = layout.logs("20240101T000000-aa")
    logs.mkdir(parents=True)
    for one in series:
        layout.picture(keys.study_key(one)).write_bytes(b"a picture")
        with open(logs / "shard-0000.jsonl", "a") as log:
            log.write(json.dumps({"event": "study_done", "study_key": keys.study_key(one)}) + "\n")
    failures = [[keys.study_key(one), "failed"] for one in series]
    owner = {"host": "h", "boot": "b", "pid": 1, "started": 0.0}
    record = {"run": "20240101T000000-aa", "started": "2024", "owner": owner, "failures": failures}
    layout.run_record("20240101T000000-aa").write_text(json.dumps(record))
    (layout.private / "index").mkdir()
    (layout.private / "index" / "archive.table").write_bytes(b"p2/ct")
    publish(layout, "20240103T000000-cc", IDENTITY, {}, {})
    return layout


def key_of(layout: Layout, patient_id: str) -> str:
    return next(row["patient_key"] for row in read_links(layout).to_pylist() if row["patient_id"] == patient_id)


def rows(layout: Layout, table: str) -> list[dict]:
    return pq.read_table(latest_snapshot(layout) / f"{table}.parquet").to_pylist()


def contents(root: Path) -> bytes:
    """Names and bytes of all files, and the rows of the tables among them."""
    found = b""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        found += path.name.encode() + path.read_bytes()
        if path.suffix == ".parquet":
            found += json.dumps(pq.read_table(path, partitioning=None).to_pylist(), default=str).encode()
    return found


def test_nothing_of_the_patient_is_left_and_nothing_of_the_others_is_lost(cohort, capsys):
    key = key_of(cohort, "MR-0002")
    theirs = {value for row in read_links(cohort).to_pylist() if row["patient_key"] == key for value in row.values()}
    hers = {str(value).encode() for value in theirs if str(value).startswith(("st", "se", "pt", "MR-", "1.2.3.2"))}
    before = {name: [row for row in rows(cohort, name) if row["patient_key"] != key] for name in TABLES}
    assert all(value in contents(cohort.root) for value in hers)
    assert main(["forget", str(cohort.root), key, "--yes"]) == DONE
    left = contents(cohort.root)
    assert not [value for value in hers if value in left]
    assert b"p2/" not in left
    assert "2 studies" in capsys.readouterr().out
    assert not cohort.lock.exists()
    publish(cohort, "20240104T000000-dd", IDENTITY, {}, {})
    for name in TABLES:
        assert rows(cohort, name) == before[name], name
    assert len(list(cohort.pictures.iterdir())) == 2
    assert len(json.loads(cohort.run_records()[0].read_text())["failures"]) == 2
    assert len((cohort.logs("20240101T000000-aa") / "shard-0000.jsonl").read_text().splitlines()) == 2


def test_without_yes_it_only_says_what_it_would_do(cohort, capsys):
    before = contents(cohort.root)
    assert main(["forget", str(cohort.root), key_of(cohort, "MR-0002")]) == DONE
    assert "--yes" in capsys.readouterr().out
    assert contents(cohort.root) == before


def test_an_interrupted_call_can_be_repeated(cohort, monkeypatch):
    """It stops when all but the links is done: the links still know whose rows to look for."""
    key = key_of(cohort, "MR-0002")
    with monkeypatch.context() as patch:
        patch.setattr("vertebra_core.cohort.forget.PRIVATE_DEPTHS", None)
        with pytest.raises(TypeError):
            forget(cohort, key)
    assert key_of(cohort, "MR-0002") == key
    forget(cohort, key)
    assert key.encode() not in contents(cohort.root)


def test_a_cohort_at_work_and_a_patient_that_is_none_are_told_in_one_line(cohort, capsys):
    assert main(["forget", str(cohort.root), "pt00", "--yes"]) == WRONG_USE
    take_lock(cohort, "20240105T000000-ee", seconds_since_epoch())
    assert main(["forget", str(cohort.root), key_of(cohort, "MR-0002"), "--yes"]) == COULD_NOT_RUN
    release_lock(cohort, "20240105T000000-ee")
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert latest_snapshot(cohort).is_dir()
