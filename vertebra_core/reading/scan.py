"""Headers of all files of the archives: listed, recalled from an earlier night or read, some at a time, in order."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.files import ArchiveFile, LeftAlone, walk
from vertebra_core.reading.headers import Header, Interned, SliceHeader, VolumeHeader, read_headers
from vertebra_core.reading.index import Memory, Recorder
from vertebra_core.reading.remote import AT_ONCE
from vertebra_core.reading.volume_files import volume_grid
from vertebra_core.settings import ReadingSettings
from vertebra_core.storage import is_url

BLOCK = 128
"""Files that are handed out together."""
BLOCKS_AHEAD = 4
"""Blocks per process that may be under way or wait to be taken: what bounds the memory of a scan."""
PROCESSES_FROM = 2000
"""Files to be read before processes are started for them: three seconds of reading, twice what starting them takes."""

SPAWNED = multiprocessing.get_context("spawn")
"""The fork server of this process is not ours to start: the sandbox has it import its own modules first."""

Progress = Callable[[int], None]
"""Hears how many files have been looked at."""


def silent(files_seen: int) -> None:
    """Ignore the progress."""


@dataclass
class Notes:
    """What is known of the archives from an earlier night, and what this one learns.

    Parameters
    ----------
    load : callable
        Gives what is known of an archive, or None; asked once for each.
    learnt : dict
        `Recorder` by archive; filled by the scan.
    opened, recalled : int
        Files that were read, and files of which all was known.
    """

    load: Callable[[str], Memory | None] = lambda archive: None
    learnt: dict[str, Recorder] = field(default_factory=dict)
    opened: int = 0
    recalled: int = 0
    _known: dict[str, Memory | None] = field(default_factory=dict)

    def memory(self, archive: str) -> Memory | None:
        """What was known of an archive before."""
        if archive not in self._known:
            self._known[archive] = self.load(archive)
        return self._known[archive]


def scan_headers(
    archives: Sequence[Path | str],
    settings: ReadingSettings,
    on_progress: Progress = silent,
    notes: Notes | None = None,
    processes: int = 1,
) -> Iterator[Header]:
    """Headers of every file of the archives, in a stable order.

    Parameters
    ----------
    archives : sequence of path or URL
    settings : ReadingSettings
        By which volume files are judged.
    on_progress : callable
    notes : Notes, optional
        What is known already; takes down what is learnt. Without it every file is read and nothing is taken down.
    processes : int
        Processes that read files of this machine, once there are enough of them; objects of a bucket are read by
        threads.

    Raises
    ------
    WrongUse
        An archive that does not exist.
    CouldNotRun
        A store that does not answer. Nothing else: whatever a file holds, it becomes a header or a reason.
    """
    interned: Interned = {}
    met = _in_order(walk(archives), settings, interned, notes, processes)
    for seen, (found, headers) in enumerate(met, 1):
        if isinstance(found, ArchiveFile) and notes is not None:
            notes.learnt.setdefault(found.archive, Recorder(settings)).add(found, headers)
        yield from headers
        on_progress(seen)


Found = ArchiveFile | LeftAlone
Answers = Callable[[], list[list[Header]]]


def _in_order(
    found: Iterable[Found], settings: ReadingSettings, interned: Interned, notes: Notes | None, processes: int
) -> Iterator[tuple[Found, list[Header]]]:
    """Every file met, with its headers. Blocks are read ahead, and taken in the order of the listing."""
    found, waiting = iter(found), deque[tuple[list[Found], list[list[Header] | None], Answers]]()
    with ExitStack() as stack:
        readers = _Readers(stack, settings, interned, processes)
        while True:
            while len(waiting) < readers.blocks_ahead and (block := list(islice(found, BLOCK))):
                known = [_known(one, notes, interned) for one in block]
                new = [one for one, headers in zip(block, known, strict=True) if headers is None]
                waiting.append((block, known, readers.ask(new)))  # type: ignore[arg-type]
                _count(notes, block, new)
            if not waiting:
                return
            block, known, answers = waiting.popleft()
            read = iter(answers())
            yield from ((one, next(read) if headers is None else headers) for one, headers in zip(block, known))  # noqa: B905


def _known(one: Found, notes: Notes | None, interned: Interned) -> list[Header] | None:
    if isinstance(one, LeftAlone):
        return [one]
    memory = notes.memory(one.archive) if notes else None
    return memory.recall(one, interned) if memory else None


def _count(notes: Notes | None, block: Sequence[Found], new: Sequence[Found]) -> None:
    if notes is not None:
        notes.opened += len(new)
        notes.recalled += sum(isinstance(one, ArchiveFile) for one in block) - len(new)


class _Readers:
    """Who reads the files of a block: this process, its threads, or other processes; started when first needed."""

    def __init__(self, stack: ExitStack, settings: ReadingSettings, interned: Interned, processes: int) -> None:
        self._stack, self._interned, self._processes = stack, interned, processes
        self._read = partial(read_and_judge, settings=settings)
        self._threads: Executor | None = None
        self._workers: Executor | None = None
        self._asked = 0

    @property
    def blocks_ahead(self) -> int:
        """Blocks to have under way: one while this process reads by itself."""
        return BLOCKS_AHEAD * self._processes if self._workers or self._threads else 1

    def ask(self, files: Sequence[ArchiveFile]) -> Answers:
        """Have files read; the answers are asked for later."""
        self._asked += len(files)
        if not files:
            return list
        if is_url(files[0].archive):
            self._threads = self._threads or self._stack.enter_context(ThreadPoolExecutor(AT_ONCE))
            pending = [self._threads.submit(self._read, file, self._interned) for file in files]
            return lambda: [one.result() for one in pending]
        if self._processes > 1 and self._asked > PROCESSES_FROM:
            self._workers = self._workers or self._stack.enter_context(ProcessPoolExecutor(self._processes, SPAWNED))
            return partial(self._from_workers, files, self._workers, self._submit(self._workers, files))
        return lambda: [self._read(file, self._interned) for file in files]

    def _submit(self, workers: Executor, files: Sequence[ArchiveFile]) -> Future | None:
        try:
            return workers.submit(_read_batch, files, self._read)
        except BrokenExecutor:
            return None

    def _from_workers(
        self, files: Sequence[ArchiveFile], workers: Executor, batch: Future | None
    ) -> list[list[Header]]:
        try:
            read = batch.result() if batch else None
        except BrokenExecutor:  # a file killed its reader: who it was shows when each is read by itself
            read = None
        if read is None:
            self._workers = None if self._workers is workers else self._workers
            read = [self._alone(file) for file in files]
        return [[_shared(header, self._interned) for header in headers] for headers in read]

    def _alone(self, file: ArchiveFile) -> list[Header]:
        with ProcessPoolExecutor(1, SPAWNED) as worker:
            try:
                return worker.submit(_read_batch, [file], self._read).result()[0]
            except BrokenExecutor:
                return [LeftAlone(file, Reason.UNREADABLE)]


def read_and_judge(file: ArchiveFile, interned: Interned, settings: ReadingSettings) -> list[Header]:
    """Headers of one file; what a volume file is judged to be is a part of them."""
    return [_judged(header, settings) for header in read_headers(file, interned)]


def _judged(header: Header, settings: ReadingSettings) -> Header:
    if not isinstance(header, VolumeHeader):
        return header
    try:
        grid = volume_grid(header.file.archive, header.file.path, header.file_format, settings)
    except NotEvaluable as refusal:
        return replace(header, judged=refusal)
    return replace(header, judged=grid)


def _read_batch(files: Sequence[ArchiveFile], read: Callable) -> list[list[Header]]:
    interned: Interned = {}
    return [read(file, interned) for file in files]


def _shared(header: Header, interned: Interned) -> Header:
    """The header with attributes that it shares with others of its series; other processes share with nobody."""
    if not isinstance(header, SliceHeader):
        return header
    return replace(header, study=interned.setdefault(header.study, header.study))
