"""Headers read by several processes: as by one, in the same order, and a file that kills its reader is one reason."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from engine_archive import N_SLICES, write_study

from benchmarks import discovery
from vertebra_core.errors import Reason
from vertebra_core.reading import gather, inventory, scan
from vertebra_core.reading.files import ArchiveFile, LeftAlone, walk
from vertebra_core.reading.gather import Gathering
from vertebra_core.reading.headers import read_headers
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.scan import Notes, scan_headers
from vertebra_core.settings import ReadingSettings

SETTINGS = ReadingSettings()


@pytest.fixture
def archive(tmp_path) -> Path:
    for patient in ("MR-1", "MR-2"):
        write_study(tmp_path / patient, patient)
    (tmp_path / "notes.txt").write_text("text")
    return tmp_path


def test_two_processes_give_what_one_gives_and_slices_share_their_attributes(archive, monkeypatch):
    alone = list(scan_headers([archive], SETTINGS))
    monkeypatch.setattr(scan, "PROCESSES_FROM", 3)
    monkeypatch.setattr(scan, "BLOCK", 5)
    heard: list[int] = []
    notes = Notes()
    together = list(scan_headers([archive], SETTINGS, heard.append, notes, processes=2))
    assert together == alone
    assert heard == list(range(1, 2 * N_SLICES + 2))
    assert notes.opened == 2 * N_SLICES + 1
    assert len({id(header.study) for header in together if hasattr(header, "study")}) == 2


def dies_of_one(file: ArchiveFile, interned: dict) -> list:
    """A reader that a certain file kills."""
    if file.path.endswith("004.dcm"):
        os._exit(9)
    return read_headers(file, interned)


def test_a_file_that_kills_its_reader_is_unreadable_and_all_others_are_read(archive, monkeypatch):
    monkeypatch.setattr(scan, "PROCESSES_FROM", 0)
    files = [one for one in walk([archive / "MR-1"]) if isinstance(one, ArchiveFile)][2:6]
    with ExitStack() as stack:
        readers = scan._Readers(stack, SETTINGS, {}, 2)
        readers._read = dies_of_one  # type: ignore[assignment]
        first, second = readers.ask(files), readers.ask(files[:1])
        read = first()
        assert second()[0] == read_headers(files[0], {})
    bad = [headers for headers in read if isinstance(headers[0], LeftAlone)]
    assert bad == [[LeftAlone(files[2], Reason.UNREADABLE)]]
    assert len(read) == 4


def test_the_benchmark_of_discovery_runs_and_finds_the_same_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["discovery", str(tmp_path / "made"), "--files", "250", "--pixels", "1"])
    assert discovery.main() == 0
    said = capsys.readouterr().out
    assert "250 opened, 3 series" in said
    assert "0 opened, equal series: True" in said
    assert "pixels        100 files" in said


def test_headers_that_were_packed_away_give_the_same_series(archive, monkeypatch):
    """Room for two headers only, and two series whose files lie one by one between each other."""
    for one in (archive / "MR-1").iterdir():
        one.rename(archive / f"{one.stem}-a.dcm")
    for other in sorted((archive / "MR-2").iterdir()):
        other.rename(archive / f"{other.stem}-b.dcm")
    plain = find_series([archive], SETTINGS)
    packed = []
    original = gather.pickle.dumps
    monkeypatch.setattr(gather.pickle, "dumps", lambda *what: packed.append(what) or original(*what))
    monkeypatch.setattr(inventory, "Gathering", lambda: Gathering(open_at_most=2))
    assert find_series([archive], SETTINGS) == plain
    assert len(packed) > 10
