"""A cohort in an S3 bucket, part by part, on a real server: commit, ledger, lock, snapshot."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import fsspec
import pandas as pd
import pytest
from made_studies import IDENTITY, NORMAL, WEDGE, column, make_cohort, patient_series, result_of, truth_of
from s3_server import filesystem, objects

from flows.cli import main
from flows.commands.doctor import _storage
from flows.places import check_places
from tasks.log import shard_log
from tasks.progress import Teller
from tasks.record import add_to_record, begin_record, end_record
from tasks.report import cohort_state
from tasks.sentinel import sentinels_now
from vertebra_core.cohort import lock as locking
from vertebra_core.cohort import snapshot as snapshots
from vertebra_core.cohort.commit import abandon_uploads, create, remove_folder, replace, streamed
from vertebra_core.cohort.conditional import Version, check_conditions, read_version, replace_version
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import committed, done_inputs, is_committed, marks
from vertebra_core.cohort.links import read_links
from vertebra_core.cohort.lock import LEASE_SECONDS, Owner, release_lock, renew_lock, take_lock, this_process
from vertebra_core.cohort.sentinels import (
    Compared,
    Judged,
    Outcome,
    Reference,
    forget_sentinels,
    read_keys,
    write_judged,
    write_keys,
    write_references,
)
from vertebra_core.cohort.snapshot import latest_snapshot, publish
from vertebra_core.errors import CouldNotRun, Reason, WrongUse
from vertebra_core.storage import place_of
from vertebra_core.tables.parquet import read_table
from vertebra_core.truth import write_truth

RACERS = 16
PART_BYTES = 6 * 1024**2
"""Above the 5 MiB that S3 demands of every part of an upload but the last."""
SPINE = column([NORMAL] * 6 + [WEDGE])


@pytest.fixture
def layout(bucket) -> Layout:
    """A name with what would be a pattern to those who look for one."""
    return Layout(place_of(f"{bucket}/night [1]/spines"))


def remove(place) -> None:
    place.fs.rm_file(place.path)


def race(act, number: int = RACERS) -> list:
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(act, range(number)))


# -- commit -------------------------------------------------------------------------------------------------------


def test_an_object_is_created_once_and_replaced_whole(layout):
    assert create(layout.latest, b"first")
    assert not create(layout.latest, b"second")
    assert layout.latest.read_bytes() == b"first"
    replace(layout.latest, b"third")
    assert layout.latest.read_bytes() == b"third"
    assert objects(str(layout.root)) == {"latest.json": 5}


def test_of_racers_one_creates(layout):
    won = race(lambda number: create(layout.latest, b"%d" % number))
    assert sum(won) == 1
    assert int(layout.latest.read_bytes()) == won.index(True)


def test_of_racers_who_saw_the_same_version_one_replaces_it(layout):
    create(layout.latest, b"before")
    before = read_version(layout.latest)
    won = race(lambda number: replace_version(layout.latest, b"%d" % number, before))
    assert sum(won) == 1
    assert int(layout.latest.read_bytes()) == won.index(True)


def test_an_object_that_is_gone_is_not_replaced(layout):
    create(layout.latest, b"before")
    before = read_version(layout.latest)
    remove(layout.latest)
    assert not replace_version(layout.latest, b"after", before)
    assert read_version(layout.latest) is None


def test_a_store_that_ignores_conditions_is_refused(layout, monkeypatch):
    create(layout.lock, b"{}")
    check_conditions(layout.lock)
    monkeypatch.setattr("vertebra_core.cohort.conditional.create", lambda path, data: True)
    with pytest.raises(CouldNotRun, match="ignores conditional writes"):
        check_conditions(layout.lock)


def test_after_an_error_in_the_middle_of_writing_nothing_is_left(layout, bucket):
    """s3fs commits what there is of a file when its block ends, also when it ends by an error."""
    for size in (10, 60 * 1024**2):  # one PUT; an upload in parts that has begun
        with pytest.raises(ZeroDivisionError):
            write_and_fail(layout, size)
    assert objects(bucket) == {}
    assert filesystem().list_multipart_uploads(bucket.removeprefix("s3://")) == []


def write_and_fail(layout: Layout, size: int) -> None:
    with streamed(layout.root / "big") as file:
        file.write(b"x" * size)
        raise ZeroDivisionError


def test_uploads_of_the_dead_are_ended_and_those_of_others_are_not(layout, bucket):
    store, name = filesystem(), bucket.removeprefix("s3://")
    mine, other = (f"{layout.snapshots.path.removeprefix(name + '/')}/x/a.parquet", "elsewhere/b.parquet")
    for key in (mine, other):
        upload = store.call_s3("create_multipart_upload", Bucket=name, Key=key)
        part = {"Bucket": name, "Key": key, "UploadId": upload["UploadId"], "PartNumber": 1}
        store.call_s3("upload_part", Body=b"x" * PART_BYTES, **part)
    abandon_uploads(layout.snapshots)
    assert [upload["Key"] for upload in store.list_multipart_uploads(name)] == [other]


def test_a_folder_is_removed_and_its_namesakes_are_not(layout):
    for name in ("plans/a/1", "plans/b/2", "plans2/c"):
        create(layout.private / name, b"x")
    remove_folder(layout.private / "plans")
    remove_folder(layout.private / "plans")
    assert objects(str(layout.private)) == {"plans2/c": 1}


# -- lock ---------------------------------------------------------------------------------------------------------


def write_owner(layout: Layout, owner: Owner) -> None:
    document = {"run": "theirs", "owner": vars(owner), "renewed": 0.0}
    replace(layout.lock, json.dumps(document).encode())


def elsewhere(monkeypatch, age_s: float) -> None:
    """As if the lock had been written so long ago, by the clock of the store."""
    read = locking.read_version
    monkeypatch.setattr(
        locking, "read_version", lambda path: (v := read(path)) and Version(v.data, v.etag, v.age_s + age_s)
    )


def test_a_lock_is_held_renewed_and_given_back(layout):
    assert take_lock(layout, "mine", 0.0) is None
    with pytest.raises(CouldNotRun, match="run mine is at work"):
        take_lock(layout, "second", 1e9)
    renew_lock(layout, "mine", 5.0)
    release_lock(layout, "second")
    with pytest.raises(CouldNotRun, match="run mine is at work"):
        take_lock(layout, "second", 1e9)
    release_lock(layout, "mine")
    assert take_lock(layout, "second", 0.0) is None


def test_of_sixteen_racers_one_gets_a_free_lock(layout):
    assert sum(race(lambda number: took(layout, f"run{number}"))) == 1


def test_of_sixteen_racers_one_gets_the_lock_of_a_dead_run(layout):
    me = this_process()
    write_owner(layout, Owner(me.host, me.boot, 2**22 - 7, 1.0))
    assert sum(race(lambda number: took(layout, f"run{number}"))) == 1


def took(layout: Layout, run: str) -> bool:
    try:
        take_lock(layout, run, 0.0)
    except CouldNotRun:
        return False
    return True


def test_an_owner_on_another_machine_keeps_its_lease_by_the_clock_of_the_store(layout, monkeypatch):
    owner = Owner("elsewhere", "b", 1, 0.0)
    write_owner(layout, owner)
    with pytest.raises(CouldNotRun, match=r"its lock ends in 1(79|80) s"):
        take_lock(layout, "mine", 1e12)  # what this machine's clock says plays no part
    elsewhere(monkeypatch, LEASE_SECONDS)
    assert take_lock(layout, "mine", 0.0) == owner


def test_who_was_taken_over_is_told_and_does_not_give_back_the_lock_of_the_other(layout):
    take_lock(layout, "mine", 0.0)
    write_owner(layout, Owner("elsewhere", "b", 1, 0.0))
    with pytest.raises(CouldNotRun, match="taken over"):
        renew_lock(layout, "mine", 1.0)
    release_lock(layout, "mine")
    assert json.loads(layout.lock.read_bytes())["run"] == "theirs"


def test_a_write_whose_answer_was_lost_is_not_taken_for_another_run(layout, monkeypatch):
    """The PUT arrives, its answer does not; sent again, it comes second to itself."""
    put = locking.replace_version
    monkeypatch.setattr(locking, "create", lambda path, data: bool(create(path, data)) and create(path, data))
    assert take_lock(layout, "mine", 0.0) is None
    monkeypatch.setattr(locking, "replace_version", lambda *words: put(*words) and put(*words))
    renew_lock(layout, "mine", 5.0)
    assert json.loads(layout.lock.read_bytes())["renewed"] == 5.0


# -- a published cohort -------------------------------------------------------------------------------------------


STUDIES = [
    (patient_series(1), result_of(SPINE)),
    (patient_series(2, sex="M", age_years=None), result_of(SPINE[:6])),
    (patient_series(3, sex=None), Reason.TOO_FEW_SLICES),
]


@pytest.fixture
def cohort(layout) -> Layout:
    """Three patients, one of them refused."""
    return make_cohort(layout.root, STUDIES)


@pytest.fixture
def beside(tmp_path) -> Layout:
    """The same in a folder."""
    return make_cohort(tmp_path / "spines", STUDIES)


def test_what_is_committed_in_a_bucket_is_what_is_in_a_folder(cohort, beside):
    names = [path.relative_to(beside.root).as_posix() for path in beside.root.rglob("*") if path.is_file()]
    assert sorted(map(without_token, objects(str(cohort.root)))) == sorted(map(without_token, names))
    assert is_committed(cohort, marks(cohort)[0].run, "0000")
    assert not is_committed(cohort, marks(cohort)[0].run, "0001")
    assert committed(cohort).num_rows == len(done_inputs(committed(cohort), IDENTITY)) == 3
    assert read_links(cohort).num_rows == 3
    assert latest_snapshot(cohort).name == latest_snapshot(beside).name
    for table in ("vertebrae", "studies", "patients", "levels_in_view"):
        mine, theirs = (read_table(latest_snapshot(one) / f"{table}.parquet") for one in (cohort, beside))
        assert mine.schema == theirs.schema
        assert mine.num_rows == theirs.num_rows
        keys = [name for name in mine.schema.names if name.endswith("_key")]  # from a secret of each cohort
        order = "patient_key" if table == "patients" else "study_key"
        same = [one.drop_columns(keys).to_pylist() for one in (mine.sort_by(order), theirs.sort_by(order))]
        assert sorted(map(str, same[0])) == sorted(map(str, same[1]))


def without_token(name: str) -> str:
    """Names of a shard's files hold a digest of keys, which come from a secret of each cohort."""
    return re.sub(r"(0000\.)[0-9a-f]{12}\.", r"\1", name)


def test_a_snapshot_of_which_only_part_is_there_is_never_seen_and_is_removed_by_the_next(cohort, monkeypatch):
    before = latest_snapshot(cohort)
    mark = marks(cohort)[0]
    remove(cohort.mark(mark.run, mark.shard))

    def no_more(*words) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "_write_json", no_more)
        with pytest.raises(KeyboardInterrupt):
            publish(cohort, "half", IDENTITY, {}, {})
    assert "snapshots/half/vertebrae.parquet" in objects(str(cohort.root))
    assert latest_snapshot(cohort) == before
    publish(cohort, "whole", IDENTITY, {}, {})
    assert not [name for name in objects(str(cohort.root)) if name.startswith("snapshots/half/")]
    assert latest_snapshot(cohort).name == "whole"
    assert (before / "vertebrae.parquet").exists()


def test_a_run_that_was_overtaken_does_not_put_its_snapshot_in_place_of_the_newer(cohort, monkeypatch):
    mark = marks(cohort)[0]
    remove(cohort.mark(mark.run, mark.shard))
    write = snapshots._write_json

    def while_another_publishes(path, document) -> None:
        write(path, document)
        if path.name == "provenance.json":
            replace(cohort.latest, b'{"snapshot": "newer", "content": "x", "rows": {}}')

    monkeypatch.setattr(snapshots, "_write_json", while_another_publishes)
    with pytest.raises(CouldNotRun, match="another run has published"):
        publish(cohort, "older", IDENTITY, {}, {})
    assert latest_snapshot(cohort).name == "newer"


def run(capsys, *words: str) -> str:
    assert main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def run_json(capsys, *words: str) -> dict:
    return json.loads(run(capsys, *words, "--json"))


def test_the_commands_say_the_same_of_a_bucket_and_of_a_folder(cohort, beside, capsys, tmp_path):
    url, folder = str(cohort.root), str(beside.root)
    counts = [run_json(capsys, "tables", place)["rows"] for place in (url, folder)]
    assert counts[0] == counts[1]
    estimates = [run_json(capsys, "prevalence", place, "--by", "sex")["prevalence"] for place in (url, folder)]
    assert estimates[0] == estimates[1]
    truths = tmp_path / "truths"
    truths.mkdir()
    for image in ("p1", "p2"):
        write_truth(truth_of(SPINE, image=image), truths / f"{image}.json")
    accuracy = [run_json(capsys, "evaluate", place, "--truth", str(truths))["detection"] for place in (url, folder)]
    assert accuracy[0] == accuracy[1]
    assert "duckdb.register_filesystem" in run(capsys, "tables", url)


def test_a_report_is_written_into_the_snapshot_of_a_bucket_as_into_a_folder(cohort, beside, capsys):
    """Without single studies, whose keys come from a secret of each cohort."""
    places = []
    for one in (cohort, beside):
        said = run_json(capsys, "report", str(one.root), "--gallery", "0", "--min-vertebrae", "1")
        assert said["file"] == str(latest_snapshot(one) / "report.html")
        places.append(latest_snapshot(one) / "report.html")
    pages = [place.read_bytes() for place in places]
    assert pages[0] == pages[1]
    assert pages[0].startswith(b"<!DOCTYPE html>")
    run(capsys, "report", str(cohort.root), "--min-vertebrae", "1")  # in its place, with single studies
    assert places[0].read_bytes() != pages[0]


def test_show_copies_the_picture_out_of_the_bucket(cohort, capsys, tmp_path):
    key = read_table(latest_snapshot(cohort) / "studies.parquet")["study_key"][0].as_py()
    replace(cohort.picture(key), b"a picture")
    out, export = tmp_path / "spine.png", tmp_path / "spine.json"
    assert str(cohort.picture(key)) in run(capsys, "show", str(cohort.root), key)
    run(capsys, "show", str(cohort.root), key, "--out", str(out), "--export", str(export))
    assert out.read_bytes() == b"a picture"
    assert export.exists()


def test_analysts_read_the_published_parquet_with_pandas_and_duckdb(bucket, capsys):
    cohort = make_cohort(place_of(f"{bucket}/spines"), STUDIES)
    files = run_json(capsys, "tables", str(cohort.root))["files"]
    (studies,), (vertebrae,) = files["studies"], files["vertebrae"]
    assert len(pd.read_parquet(vertebrae)) == 13
    connection = duckdb.connect()
    connection.register_filesystem(fsspec.filesystem("s3"))
    joined = "SELECT count(*) FROM read_parquet([?]) JOIN read_parquet([?]) USING (study_key)"
    assert connection.execute(joined, [vertebrae, studies]).fetchall() == [(13,)]


@pytest.mark.usefixtures("s3")
def test_the_example_of_the_page_runs():
    """The Python of docs/storage.md, as it stands there."""
    page = Path(__file__).parents[2] / "docs" / "storage.md"
    filesystem().mkdir("research")
    make_cohort(place_of("s3://research/spines"), STUDIES)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, page.name, "exec"), names)
    assert len(names["vertebrae"]) == 13
    assert [(sex, n) for sex, n, _ in names["by_sex"]] == [("F", 7), ("M", 6)]


def test_the_query_that_tables_prints_runs(bucket, capsys):
    cohort = make_cohort(place_of(f"{bucket}/spines"), STUDIES)
    out = run(capsys, "tables", str(cohort.root))
    namespace: dict = {}
    exec(out.split("before a query: ")[1].splitlines()[0], namespace)
    rows = namespace["duckdb"].sql(out[out.index("SELECT") :]).fetchall()
    namespace["duckdb"].unregister_filesystem("s3")
    assert sorted(rows) == [("F", 1, 1), ("M", 1, 0)]


def test_doctor_says_whether_a_bucket_keeps_to_conditions(bucket, monkeypatch):
    sound = _storage(f"{bucket}/spines")
    assert [(check["ok"], check["what"]) for check in sound] == [(True, "cohort")]
    assert "there is no such bucket" in _storage("s3://no-such-bucket/spines")[0]["found"]
    monkeypatch.setattr("vertebra_core.cohort.conditional.create", lambda path, data: True)
    (check,) = _storage(f"{bucket}/spines")
    assert (check["ok"], "ignores conditional writes" in check["found"]) == (False, True)
    assert objects(bucket) == {}  # the probe is taken away again


@pytest.mark.parametrize("cohort", ["memory://spines", "s3://"])
def test_a_cohort_in_a_store_without_conditions_is_wrong_use(tmp_path, capsys, cohort):
    assert main(["screen", str(tmp_path), "--cohort", cohort]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cohort_inside_an_archive_is_wrong_use(bucket):
    create(place_of(f"{bucket}/ct/a.dcm"), b"x")
    with pytest.raises(WrongUse, match="may not lie inside"):
        check_places([f"{bucket}/ct"], f"{bucket}/ct/spines")
    assert check_places([f"{bucket}/ct"], f"{bucket}/ct2/spines") == [f"{bucket}/ct"]


def test_a_number_is_explained_from_a_bucket(layout, capsys):
    make_cohort(layout.root, [(patient_series(1), result_of(column([NORMAL] * 6 + [WEDGE])))])
    assert main(["explain", str(layout.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["numerator"], found["denominator"], found["rows"][0]["ratio"]) == (1, 1, pytest.approx(0.72))


# -- what a run says of itself ----------------------------------------------------------------------------------------


def test_runs_progress_and_sentinels_are_kept_and_told(layout, capsys):
    """And forgotten: no key of the study is left in any object of theirs."""
    create(layout.description, b"{}")
    for number, name in enumerate(("run-a", "run-b")):
        begin_record(layout, name)
        add_to_record(layout, name, kind="screen", started=f"2026-11-2{number}T21:00:00+00:00")
    end_record(layout, "run-a", left=0, new={"ok": 3}, sentinels={"verdict": "none", "worst_mm": None, "counts": {}})
    shard_log(layout, "run-b", "00000")(
        "study_done", study_key="st1", status="ok", reason=None, seconds=1.0, by_stage={}
    )
    assert Teller(layout, "run-b", 4, lambda: None)() == 1
    state = cohort_state(layout)
    assert [(one.run, one.state) for one in state.runs] == [("run-b", "running"), ("run-a", "ended")]
    assert (state.progress.done, state.progress.total, state.free_bytes) == (1, 4, None)
    for words in (["status"], ["status", "--prometheus"], ["runs"], ["sentinel"]):
        assert main([words[0], str(layout.root), *words[1:]]) == 0
    assert main(["runs", str(layout.root), "run-b"]) == 0
    assert "st1" in capsys.readouterr().out

    write_keys(layout, ["st1", "st2"])
    write_references(layout, [Reference("st1", "input", IDENTITY, "run-a", [[20.0, 19.0, 21.0]])])
    judged = Judged((Compared("st1", Outcome.REPRODUCED, 0.0), Compared("st2", Outcome.GONE, why="gone")))
    write_judged(layout, "run-b", IDENTITY, judged)
    assert [one["outcome"] for one in sentinels_now(layout)["studies"]] == ["reproduced", "gone"]
    forget_sentinels(layout, {"st1"})
    assert read_keys(layout) == ("st2",)
    left = [name for name in objects(str(layout.root)) if "sentinel" in name]
    assert left == ["sentinels.json", "sentinels/references.json", "sentinels/run-b.json"]
    assert not [name for name in left if "st1" in (layout.root / name).read_text()]
