"""What was learnt of the files of an archive, kept as a table, so that a second night opens only what is new.

A file is known by its path and version. Of each row the values that differ from slice to slice have columns of their
own; all others stand in two texts (JSON), ``study`` and ``shared``, which are the same for a whole series and are
stored once. The table names patients: it belongs in the private folder of a cohort.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.attributes import StudyAttributes
from vertebra_core.reading.files import ArchiveFile, LeftAlone
from vertebra_core.reading.headers import Header, Interned, ObjectHeader, SliceHeader, VolumeHeader
from vertebra_core.reading.volume_files import VolumeGrid
from vertebra_core.settings import ReadingSettings

READ_BY = (
    "attributes",
    "content",
    "file_header",
    "files",
    "headers",
    "index",
    "nifti",
    "packed",
    "text_headers",
    "volume_files",
)
"""Modules whose every change may change what a header says: a table that others wrote is not used."""
OWN = ("file", "study", "frame", "sop_instance_uid", "position", "in_order", "instance_number", "complete")
"""Fields of a `SliceHeader` with columns of their own; all others are ``shared``."""
SHARED = tuple(field.name for field in dataclasses.fields(SliceHeader) if field.name not in OWN)
NEVER_KEPT = {Reason.UNREADABLE}
"""A file that could not be opened may be open tomorrow, unchanged: permissions, a disk that comes back."""
TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    {
        "path": pa.binary(),
        "version": pa.binary(),
        "inner": pa.binary(),
        "kind": pa.int8(),
        "study": TEXT,
        "shared": TEXT,
        "frame": pa.int32(),
        "uid": pa.binary(),
        "x": pa.float64(),
        "y": pa.float64(),
        "z": pa.float64(),
        "in_order": pa.string(),
        "instance": pa.int64(),
        "complete": pa.bool_(),
    }
)
FORMAT, SETTINGS = b"vertebra.index.format", b"vertebra.index.settings"
SLICE, OBJECT, VOLUME, LEFT = range(4)
ROWS_AT_ONCE = 16_384
"""Rows that are turned into Python objects at a time."""


@cache
def index_format() -> str:
    """Digest of the code that reads headers."""
    digest = hashlib.sha256(metadata.version("pydicom").encode())
    for name in READ_BY:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def settings_digest(settings: ReadingSettings) -> str:
    """Digest of the settings by which volume files are judged."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode()).hexdigest()[:16]


# -- writing ------------------------------------------------------------------------------------------------------


class Recorder:
    """Takes down what is learnt of each file, in the order in which files are met.

    Parameters
    ----------
    settings : ReadingSettings
        By which volume files were judged.
    """

    def __init__(self, settings: ReadingSettings) -> None:
        self._settings = settings
        self._rows: dict[str, list] = {name: [] for name in SCHEMA.names}
        self._chunks: list[list[pa.Array]] = []
        self._texts: dict[str, dict[Any, int]] = {"study": {}, "shared": {}}
        self.n_files = 0

    def add(self, file: ArchiveFile, headers: Sequence[Header]) -> None:
        """Take down one listed file, with all its frames or, if it is a zip or tar file, all it holds."""
        if any(isinstance(header, LeftAlone) and header.reason in NEVER_KEPT for header in headers):
            return
        self.n_files += bool(headers)
        for header in headers:
            self._add(file, header)
        if len(self._rows["path"]) >= ROWS_AT_ONCE:
            self._close_chunk()

    def table(self) -> pa.Table:
        """Everything taken down so far."""
        self._close_chunk()
        texts = {name: pa.array([_to_text(key) for key in keys], pa.string()) for name, keys in self._texts.items()}
        columns = []
        for name, field in zip(SCHEMA.names, SCHEMA, strict=True):
            place = SCHEMA.get_field_index(name)
            parts = [chunk[place] for chunk in self._chunks]
            if name in texts:
                parts = [pa.DictionaryArray.from_arrays(part, texts[name]) for part in parts]
            columns.append(pa.chunked_array(parts, field.type))
        marks = {FORMAT: index_format().encode(), SETTINGS: settings_digest(self._settings).encode()}
        return pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata(marks))

    def _add(self, file: ArchiveFile, header: Header) -> None:
        kind, study, shared = _parts(header)
        own: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        if header.file.path != file.path:
            inner = [header.file.path[len(file.path) + 1 :], header.file.size, header.file.version]
            own["inner"] = _bytes(json.dumps(inner))
        if isinstance(header, SliceHeader):
            own |= dict(zip("xyz", header.position or (None,) * 3, strict=True))
            own |= {"frame": header.frame, "uid": _bytes(header.sop_instance_uid), "complete": header.complete}
            own |= {"in_order": json.dumps(header.in_order), "instance": header.instance_number}
        own |= {"path": _bytes(file.path), "version": _bytes(file.version), "kind": kind}
        for name, key in (("study", study), ("shared", shared)):
            own[name] = None if key is None else self._texts[name].setdefault(key, len(self._texts[name]))
        for name, values in self._rows.items():
            values.append(own[name])

    def _close_chunk(self) -> None:
        types = [pa.int32() if field.type == TEXT else field.type for field in SCHEMA]
        columns = zip(self._rows.values(), types, strict=True)
        self._chunks.append([pa.array(values, kind) for values, kind in columns])
        self._rows = {name: [] for name in SCHEMA.names}


def _parts(header: Header) -> tuple[int, StudyAttributes | None, tuple | None]:
    """Kind of a header, the attributes of its series, and what else it shares with others, as hashable values."""
    match header:
        case SliceHeader():
            return SLICE, header.study, tuple(getattr(header, name) for name in SHARED)
        case ObjectHeader():
            return OBJECT, header.study, None
        case VolumeHeader():
            return VOLUME, None, (header.file_format, *_judgement_to_plain(header.judged))
        case LeftAlone():
            return LEFT, None, (header.reason.code,)


def _judgement_to_plain(judged: VolumeGrid | NotEvaluable | None) -> tuple:
    if isinstance(judged, VolumeGrid):
        return tuple(map(tuple, judged.patient_from_voxel.tolist())), judged.shape_xyz
    return () if judged is None else (judged.reason.code, judged.detail)


def _to_text(key: Any) -> str:
    values = [getattr(key, f.name) for f in dataclasses.fields(key)] if dataclasses.is_dataclass(key) else key
    return json.dumps(values)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a file's name may be no text at all


# -- reading ------------------------------------------------------------------------------------------------------


class Memory:
    """What an earlier night learnt of the files of one archive.

    Parameters
    ----------
    table : pa.Table
        From `Recorder.table`.
    settings : ReadingSettings
        Volume files that were judged by others are not remembered.
    """

    def __init__(self, table: pa.Table, settings: ReadingSettings) -> None:
        self._table = table.combine_chunks()
        self._same_settings = (table.schema.metadata or {}).get(SETTINGS) == settings_digest(settings).encode()
        self._row_of = dict(_first_rows(self._table["path"]))
        self._decoded: dict[str, list] = {}
        self._begin = self._end = 0
        self._studies = [_study(text) for text in _dictionary(self._table["study"])]
        self._shared = [_tuples(json.loads(text)) for text in _dictionary(self._table["shared"])]

    def __len__(self) -> int:
        return len(self._row_of)

    def recall(self, file: ArchiveFile, interned: Interned) -> list[Header] | None:
        """Headers of a file as they were read before; None where it is new, or has changed since."""
        path, version = _bytes(file.path), _bytes(file.version)
        row = self._row_of.get(hash(path))
        if row is None or self._at(row, "path") != path or self._at(row, "version") != version:
            return None
        headers = []
        while row < self._table.num_rows and self._at(row, "path") == path:
            if self._at(row, "kind") == VOLUME and not self._same_settings:
                return None
            headers.append(self._header(row, file, interned))
            row += 1
        return headers

    def _at(self, row: int, column: str) -> Any:
        if not self._begin <= row < self._end:
            part = self._table.slice(row, ROWS_AT_ONCE)
            self._begin, self._end = row, row + part.num_rows
            self._decoded = {name: _plain(part[name].combine_chunks()) for name in SCHEMA.names}
        return self._decoded[column][row - self._begin]

    def _header(self, row: int, listed: ArchiveFile, interned: Interned) -> Header:
        get = {name: values[row - self._begin] for name, values in self._decoded.items()}
        file = listed
        if get["inner"] is not None:
            name, size, mark = json.loads(get["inner"])
            file = ArchiveFile(listed.archive, f"{listed.path}/{name}", size, mark, listed.changed_s)
        study = None if get["study"] is None else self._studies[get["study"]]
        study = interned.setdefault(study, study) if study is not None else None
        shared = None if get["shared"] is None else self._shared[get["shared"]]
        match get["kind"]:
            case 0:
                return SliceHeader(
                    file=file,
                    frame=get["frame"],
                    study=study,  # type: ignore[arg-type]
                    sop_instance_uid=get["uid"].decode("utf-8", "surrogatepass"),
                    position=None if get["x"] is None else (get["x"], get["y"], get["z"]),
                    in_order=tuple(json.loads(get["in_order"])),
                    instance_number=get["instance"],
                    complete=get["complete"],
                    **dict(zip(SHARED, shared, strict=True)),  # type: ignore[arg-type]
                )
            case 1:
                return ObjectHeader(file, study)  # type: ignore[arg-type]
            case 2:
                return VolumeHeader(file, shared[0], _judgement(shared[1:]))  # type: ignore[index]
        return LeftAlone(file, REASONS[shared[0]])  # type: ignore[index]


REASONS = {reason.code: reason for reason in Reason}


def usable(table: pa.Table) -> bool:
    """Whether a table was written by this version's code; anything else is read anew."""
    return (table.schema.metadata or {}).get(FORMAT) == index_format().encode() and table.schema.equals(SCHEMA)


def _first_rows(paths: pa.ChunkedArray) -> Iterator[tuple[int, int]]:
    """Hash of each path and the first row that has it; hashes, because the paths of millions of files fill memory."""
    before = None
    for start in range(0, len(paths), ROWS_AT_ONCE):
        for row, path in enumerate(paths.slice(start, ROWS_AT_ONCE).to_pylist(), start):
            if path != before:
                yield hash(path), row
            before = path


def _dictionary(column: pa.ChunkedArray) -> list[str]:
    return column.chunk(0).dictionary.to_pylist() if column.num_chunks else []


def _plain(array: pa.Array) -> list:
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else pa.concat_arrays(array.chunks)
    return (array.indices if isinstance(array, pa.DictionaryArray) else array).to_pylist()


def _study(text: str) -> StudyAttributes:
    return StudyAttributes(*_tuples(json.loads(text)))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _judgement(plain: tuple) -> VolumeGrid | NotEvaluable | None:
    if not plain:
        return None
    if isinstance(plain[0], str):
        return NotEvaluable(REASONS[plain[0]], plain[1])
    return VolumeGrid(np.array(plain[0]), plain[1])
