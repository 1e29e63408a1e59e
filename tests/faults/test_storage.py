"""How a store is spoken to, on a real S3 server: what is seen, who wins a race, and what a person is told."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import filesystem, free_ports

from vertebra_core.errors import CouldNotRun, WrongUse
from vertebra_core.storage import S3_ATTEMPTS, answering, came_second, is_url, place_of, storage_options

RACERS = 16


@pytest.mark.parametrize(
    ("text", "url"), [("s3://bucket/spines", True), ("spines", False), ("/archive/s3:/x", False), ("file:///x", True)]
)
def test_a_url_is_told_from_a_folder(text, url):
    assert is_url(text) == url


def test_folders_stay_plain_paths():
    assert place_of("spines") == Path("spines")
    assert place_of(Path("spines")) == Path("spines")
    assert place_of("file:///archive/ct") == Path("/archive/ct")


def test_a_store_that_nothing_here_can_read_is_one_line():
    with pytest.raises(CouldNotRun, match="gopher://host/x"):
        place_of("gopher://host/x")


def test_what_another_process_wrote_is_seen_at_once(bucket):
    """s3fs remembers listings unless it is told not to."""
    place = place_of(bucket)
    (place / "a.txt").write_text("first")
    assert [path.name for path in place.iterdir()] == ["a.txt"]
    other = filesystem()
    other.pipe_file(f"{bucket}/b.txt", b"second")
    assert sorted(path.name for path in place.iterdir()) == ["a.txt", "b.txt"]
    other.pipe_file(f"{bucket}/a.txt", b"changed")
    assert (place / "a.txt").read_text() == "changed"


def test_a_place_travels_to_another_process_as_its_url_and_options(bucket):
    place = place_of(f"{bucket}/a cohort") / "x"
    arrived = pickle.loads(pickle.dumps(place))
    assert (str(arrived), arrived.storage_options) == (f"{bucket}/a cohort/x", storage_options("s3"))


def test_of_sixteen_who_create_the_same_object_one_wins(bucket):
    """If this fails on another server, no cohort may lie on it: two runs would both believe they hold it."""
    store = filesystem()

    def race(number: int) -> bool:
        try:
            store.pipe_file(f"{bucket}/one", b"%d" % number, mode="create")
        except OSError as error:
            if came_second(error):
                return False
            raise
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(race, range(RACERS)))
    assert sum(won) == 1
    assert int(store.cat_file(f"{bucket}/one")) == won.index(True)


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("environment", "place", "line"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "{bucket}/x", "access denied"),
        ({"AWS_ACCESS_KEY_ID": None}, "{bucket}/x", "no credentials|access denied"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "{bucket}/x", "no credentials"),
        ({}, "s3://no-such-bucket/x", "there is no such bucket"),
    ],
    ids=["wrong secret", "half of it", "no credentials", "no bucket"],
)
def test_what_a_store_refuses_is_one_line_that_names_the_place(bucket, monkeypatch, environment, place, line):
    for name, value in environment.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    where = place.format(bucket=bucket)
    with pytest.raises(CouldNotRun, match=f"^{where}: .*({line})"), answering(where):
        fresh(where).write_bytes(b"something")


def test_a_store_that_is_gone_is_tried_and_then_one_line(monkeypatch):
    monkeypatch.setattr("vertebra_core.storage.S3_ATTEMPTS", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(CouldNotRun, match="s3://bucket: the store does not answer"), answering("s3://bucket"):
        (fresh("s3://bucket") / "x").read_bytes()


def test_our_own_errors_and_faults_of_the_program_pass_unchanged():
    with pytest.raises(WrongUse, match=r"^as it is$"), answering("s3://bucket"):
        raise WrongUse("as it is")
    with pytest.raises(ZeroDivisionError), answering("s3://bucket"):
        1 / 0  # noqa: B018


def test_requests_are_tried_as_often_as_we_say():
    assert storage_options("s3")["config_kwargs"]["retries"]["total_max_attempts"] == S3_ATTEMPTS


def fresh(url: str):
    """A place whose client was made now, from the environment as it is now."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    return place_of(url)
