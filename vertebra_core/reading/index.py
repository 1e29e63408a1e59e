"""What was learnt of the files of an archive, kept as a table, so that a second night opens only what is new.

A file is known by its path and version. Of each row the values that differ from slice to slice have columns of their
own; all others stand in two texts (JSON), ``study`` and ``shared``, which are the same for a whole series and are
stored once. The table names patients: it belongs in the private folder of a cohort.
"""

import dataclasses
import hashlib
import json
from array import array
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
"""Rows that are Python objects at a time, and a row group of the file."""
COMPRESSION = "zstd"


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
        self._chunks: list[pa.Buffer] = []
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

    def parquet(self) -> bytes:
        """Everything taken down so far as a Parquet file; what was taken down in one batch is one row group of it."""
        self._close_chunk()
        marks = {FORMAT: index_format().encode(), SETTINGS: settings_digest(self._settings).encode()}
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(
            sink, SCHEMA.with_metadata(marks), compression=COMPRESSION, write_page_checksum=True
        ) as writer:
            for chunk in self._chunks:
                writer.write_table(pa.ipc.open_stream(chunk).read_all().replace_schema_metadata(marks))
        return sink.getvalue().to_pybytes()

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
        own |= {"study": study, "shared": shared}
        for name, values in self._rows.items():
            values.append(own[name])

    def _close_chunk(self) -> None:
        """Put a batch away, compressed: a tenth of what it takes as values, and millions of files are many batches."""
        if not self._rows["path"]:
            return
        columns = [_column(values, field) for values, field in zip(self._rows.values(), SCHEMA, strict=True)]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression=COMPRESSION)) as writer:
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
        self._chunks.append(sink.getvalue())
        self._rows = {name: [] for name in SCHEMA.names}


def _column(values: list, field: pa.Field) -> pa.Array:
    """Values as an array; each different one of a column of texts is written out once."""
    if field.type != TEXT:
        return pa.array(values, field.type)
    places: dict[Any, int] = {}
    indices = [None if key is None else places.setdefault(key, len(places)) for key in values]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(map(_to_text, places), pa.string()))


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
    """What an earlier night learnt of the files of one archive; only a batch of it at a time is unpacked.

    Parameters
    ----------
    data : bytes
        From `Recorder.parquet`, and `usable`.
    settings : ReadingSettings
        Volume files that were judged by others are not remembered.
    """

    def __init__(self, data: bytes, settings: ReadingSettings) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        self._same_settings = self._file.schema_arrow.metadata.get(SETTINGS) == settings_digest(settings).encode()
        groups = range(self._file.num_row_groups)
        sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._begins = np.cumsum([0, *sizes])
        self._hashes, self._rows = _first_rows(self._file)
        self._next = -1
        self._decoded: dict[str, list] = {}
        self._begin = self._end = 0

    def __len__(self) -> int:
        return len(self._rows)

    def recall(self, file: ArchiveFile, interned: Interned) -> list[Header] | None:
        """Headers of a file as they were read before; None where it is new, or has changed since, or damaged here."""
        path, version = _bytes(file.path), _bytes(file.version)
        try:
            row = self._row_of(path)
            if row is None or self._at(row, "version") != version:
                return None
            headers = []
            while row < self._end and self._at(row, "path") == path:  # those of a file lie in one batch
                if self._at(row, "kind") == VOLUME and not self._same_settings:
                    return None
                headers.append(self._header(row, file, interned))
                row += 1
        except (OSError, pa.ArrowException):
            return None
        self._next = row
        return headers

    def _row_of(self, path: bytes) -> int | None:
        """The first row of a path: mostly the one after those of the file that was recalled before."""
        if self._begin <= self._next < self._end and self._at(self._next, "path") == path:
            return self._next
        place = int(np.searchsorted(self._hashes, hash(path)))
        if place == len(self._hashes) or self._hashes[place] != hash(path):
            return None
        row = int(self._rows[place])
        return row if self._at(row, "path") == path else None

    def _at(self, row: int, column: str) -> Any:
        if not self._begin <= row < self._end:
            group = int(np.searchsorted(self._begins, row, side="right")) - 1
            part = self._file.read_row_group(group)
            self._begin, self._end = int(self._begins[group]), int(self._begins[group + 1])
            self._decoded = {name: _plain(part[name]) for name in SCHEMA.names}
            self._studies = {text: _study(text) for text in set(self._decoded["study"]) - {None}}
            self._shared = {text: _tuples(json.loads(text)) for text in set(self._decoded["shared"]) - {None}}
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


def usable(data: bytes) -> bool:
    """Whether a file was written whole and by this version's code; otherwise all is read anew."""
    try:
        schema = pq.read_schema(pa.BufferReader(data))
    except (OSError, pa.ArrowException):
        return False
    return (schema.metadata or {}).get(FORMAT) == index_format().encode() and schema.equals(SCHEMA)


def _first_rows(file: pq.ParquetFile) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each path, sorted, and the first row that has it: 12 bytes a file, for paths of millions fill memory."""
    hashes, rows, start, before = array("q"), array("i"), 0, None
    for group in range(file.num_row_groups):
        try:
            paths = file.read_row_group(group, ["path"])["path"].to_pylist()
        except (OSError, pa.ArrowException):
            paths = []
        for row, path in enumerate(paths, start):
            if path != before:
                hashes.append(hash(path))
                rows.append(row)
            before = path
        start += file.metadata.row_group(group).num_rows
    order = np.argsort(np.array(hashes), kind="stable")
    return np.array(hashes)[order], np.array(rows)[order]


def _plain(column: pa.ChunkedArray) -> list:
    return [value for chunk in column.chunks for value in _values(chunk)]


def _values(array: pa.Array) -> list:
    """Plain values; equal texts are one object."""
    if not isinstance(array, pa.DictionaryArray):
        return array.to_pylist()
    texts = array.dictionary.to_pylist()
    return [None if index is None else texts[index] for index in array.indices.to_pylist()]


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
