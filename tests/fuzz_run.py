"""Run the fuzzer: ``python tests/fuzz_run.py --series 5000 --volumes 500``; what comes out is told in docs/fuzzing.md.

Each mutated series is written, found and read in a child with a deadline and a memory limit, and what comes out is
held against the truth. A child that dies names its seed.
"""

import argparse
import json
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from fuzz_bases import Base, base, base_names
from fuzz_elements import parse, write
from fuzz_mutations import Mutated, mutate
from fuzz_volumes import mutate_volume

from tasks.child import Child, ChildDied, DeadlineExceeded
from tasks.method import Method
from vertebra_core.errors import NotEvaluable, Reason
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.reading.select import choose_index_series
from vertebra_core.settings import ReadingSettings, Settings
from vertebra_core.volume import Volume

DEADLINE_S = 20.0
"""For one series of 14 small slices; sound ones take a twentieth of a second."""
MEMORY_MIB = 512
"""What one series may add to the memory of its process; sound ones add fewer than 10."""
ADDRESS_SPACE_GIB = 6
MOVED = 0.1
"""Share of the slice spacing by which an untouched slice may lie off its place: what rounding is granted."""
SPOILT_HU = 100.0
"""A slice of a touched file may hold other values, but not be another picture unless a repair says so (median, HU)."""
SAME_SPACING = 0.02
"""A volume file's voxels are as large as they were, or it is refused: a height is wrong by no more than this share."""
SETTINGS = ReadingSettings()


@dataclass(frozen=True)
class Ending:
    """How one mutated series ended.

    Parameters
    ----------
    codes : tuple of str
        Of every series row: "measured" or a reason; of every file left alone: "left alone: reason".
    complaints : tuple of str
        What must not be: an exception, a wrong place, a file that is nowhere.
    """

    number: int
    base: str
    story: str
    codes: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    seconds: float = 0.0
    mib: float = 0.0


def mutated(kind: str, number: int, own_identity: bool = False) -> tuple[Base, Mutated]:
    """The mutated series, or volume file, of a number; with the number in its UIDs where asked."""
    names = base_names(kind)
    made = [name for name in names if base_is_made(name)]
    others = [name for name in names if not base_is_made(name)]
    # Of five series four are of the made ones, whose truth is known.
    name = others[number // 5 % len(others)] if others and number % 5 == 4 else made[number % len(made)]
    start = base(name)
    if own_identity and start.hu is not None:
        start = replace(start, files={name: numbered(content, number) for name, content in start.files.items()})
    return start, (mutate if kind == "dicom" else mutate_volume)(start, number)


def numbered(content: bytes, number: int) -> bytes:
    """A made file as that of another patient, study and series."""
    file = parse(content)
    own = {
        (0x0010, 0x0020): b"P%07d" % number,
        (0x0020, 0x000D): b"1.2.826.0.1.3680043.10.2.%d" % number,
        (0x0020, 0x000E): b"1.2.826.0.1.3680043.10.3.%d" % number,
    }
    elements = tuple(
        replace(e, value=value + b"\0" * (len(value) % 2)) if (value := own.get(e.tag)) else e for e in file.elements
    )
    return write(replace(file, elements=elements))


def base_is_made(name: str) -> bool:
    """Whether a base was made here, with its truth."""
    return not name.endswith(".dcm")


def examine(kind: str, number: int) -> Ending:
    """Write one mutated series, find it, read it, and hold what comes out against the truth."""
    start, changed = mutated(kind, number)
    blank = Ending(number, start.name, changed.story)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name, content in changed.files.items():
            Path(folder, name).write_bytes(content)
        reset_peak()
        before, began = resident("VmRSS"), time.monotonic()
        try:
            codes, complaints = _outcome(Path(folder), start, changed)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(place.filename)}:{place.lineno}"
            return replace(blank, complaints=(f"{type(error).__name__} at {where}: {error}"[:300],))
        seconds, mib = time.monotonic() - began, resident("VmHWM") - before
    if mib > MEMORY_MIB:
        complaints.append(f"{mib:.0f} MiB of memory")
    return replace(blank, codes=codes, complaints=tuple(complaints), seconds=seconds, mib=mib)


def _outcome(folder: Path, start: Base, changed: Mutated) -> tuple[tuple[str, ...], list[str]]:
    inventory = find_series([folder], SETTINGS)
    codes = [f"left alone: {reason.code}" for reason, n in inventory.left_alone.items() for _ in range(n)]
    complaints = []
    if inventory.files_seen != len(changed.files):
        complaints.append(f"{inventory.files_seen} files accounted for of {len(changed.files)}")
    for series in choose_index_series(inventory.series):
        reason = series.decision
        if reason is None:
            try:
                volume = read_volume(series, SETTINGS)
                complaints += wrongs(volume, start, changed)
            except NotEvaluable as refusal:
                reason = refusal.reason
        if reason in (Reason.FAILED, Reason.OUT_OF_MEMORY):
            complaints.append(f"reason {reason.code}")
        codes.append(reason.code if reason else "measured")
    return tuple(codes), complaints


def wrongs(volume: Volume, start: Base, changed: Mutated) -> list[str]:
    """Where a volume is silently wrong.

    Planes that equal a plane of the truth must lie where that plane lies, unless all files may have been moved; and
    all others must come from a touched file, or be filled in, unless all may have been recoloured.
    """
    found = []
    if start.hu is None or start.affine is None:
        return found
    if not np.isfinite(volume.patient_from_voxel).all():
        return ["an affine that is not finite"]
    if start.kind == "nifti":
        spacing = np.linalg.norm(start.affine[:3, :3], axis=0)
        if volume.hu.shape == start.hu.shape and (np.abs(volume.spacing / spacing - 1.0) > SAME_SPACING).any():
            found.append(f"voxels of {volume.spacing.round(3).tolist()} mm")
    where = {plane.tobytes(): k for k, plane in enumerate(np.asarray(start.hu, np.float32))}
    planes = np.asarray(volume.hu, np.float32)
    known = {k: where[plane.tobytes()] for k, plane in enumerate(planes) if plane.tobytes() in where}
    if not changed.may_move:
        spacing = np.linalg.norm(start.affine[:3, 2])
        corners = np.array([[x, y, 0, 1] for x in (0, planes.shape[2] - 1) for y in (0, planes.shape[1] - 1)], float)
        for k, true in known.items():
            here, there = corners + np.array([0, 0, k, 0]), corners + np.array([0, 0, true, 0])
            off = np.abs((here @ volume.patient_from_voxel.T - there @ start.affine.T)[:, :3]).max()
            if off > MOVED * spacing:
                found.append(f"plane {true} lies {off:.2f} mm off")
                break
    if not changed.may_recolour:
        strange = len(planes) - len(known) - len(volume.filled_slices)
        if strange > len(changed.touched):
            found.append(f"{strange} planes are not of the truth, {len(changed.touched)} files touched")
        found += _spoilt(volume, start)
    return found


def _spoilt(volume: Volume, start: Base) -> list[str]:
    """Planes that are another picture than the truth at their place, and are not recorded as filled in."""
    if start.hu is None or start.affine is None or volume.hu.shape[1:] != start.hu.shape[1:]:
        return []
    z = volume.patient_from_voxel[2, 3] + volume.patient_from_voxel[2, 2] * np.arange(len(volume.hu))
    at = np.rint((z - start.affine[2, 3]) / start.affine[2, 2]).astype(int)
    if (at < 0).any() or (at >= len(start.hu)).any():
        return ["planes outside of the truth"]
    off = np.median(np.abs(volume.hu.astype(float) - start.hu[at]).reshape(len(at), -1), 1)
    off[list(volume.filled_slices)] = 0.0
    return [f"plane {int(off.argmax())} is another picture, {off.max():.0f} HU off"] if off.max() > SPOILT_HU else []


# -- memory and children ------------------------------------------------------------------------------------------


def reset_peak() -> None:
    """Forget the peak of this process's memory (man proc: clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process, MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def prepare() -> None:
    """Bound a child and keep it quiet."""
    limit = ADDRESS_SPACE_GIB * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # C libraries speak their mind


def run(kind: str, numbers: Iterable[int], deadline_s: float = DEADLINE_S) -> Iterator[Ending]:
    """Examine many in a child that is replaced when it dies."""
    new_child = partial(Child, multiprocessing.get_context("fork"), prepare, [])
    child = new_child()
    for number in numbers:
        try:
            yield child.ask(examine, [kind, number], deadline_s)
        except (DeadlineExceeded, ChildDied) as death:
            child = new_child()
            start, changed = mutated(kind, number)
            what = "longer than the deadline" if isinstance(death, DeadlineExceeded) else f"killed: {death.exit_code}"
            yield Ending(number, start.name, changed.story, complaints=(what,), seconds=deadline_s)
    child.close()


def summary(endings: list[Ending]) -> dict:
    """Figures of a run."""
    measured = [ending for ending in endings if "measured" in ending.codes]
    return {
        "mutated": len(endings),
        "gave a volume": len(measured),
        "refused or left alone": len(endings) - len(measured),
        "complaints": sum(bool(ending.complaints) for ending in endings),
        "longest s": round(max(ending.seconds for ending in endings), 2),
        "most memory MiB": round(max(ending.mib for ending in endings)),
        "endings": dict(Counter(code for ending in endings for code in set(ending.codes)).most_common()),
    }


def run_product(folder: Path, numbers: Iterable[int]) -> list[str]:
    """Screen an archive of mutated studies, one folder each, with the plain loop; say what went wrong.

    Every study met must end as one row, and none by an error that nobody foresaw.
    """
    from flows.screen import screen_archives
    from flows.settings import load_settings

    for number in numbers:
        _, changed = mutated("dicom", number, own_identity=True)
        for name, content in changed.files.items():
            path = folder / "archive" / f"{number:05d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    flags = {
        "run.settle_minutes": 0,
        "run.memory_gb": 1.0,
        "run.deadline_s": 60.0,
        "run.workers": 1,
        "run.pictures": False,
    }
    lines: list[str] = []
    settings = load_settings(flags=flags)
    night = screen_archives(
        [folder / "archive"], folder / "cohort", settings, "loop", "fuzz_run:only_read", lines.append
    )
    settled = night.settled
    ends = settled.measured + settled.refused + settled.failed
    n_files = sum(path.is_file() for path in (folder / "archive").rglob("*"))
    complaints = [f"{key}: {code}" for key, code in settled.failures if code in NEVER]
    complaints += [f"{settled.left} studies left"] * bool(settled.left)
    complaints += [f"{ends} ends of {settled.seen} studies"] * (ends != settled.seen)
    complaints += [f"{night.files_seen} files seen of {n_files}"] * (night.files_seen != n_files)
    print(json.dumps({"product": {"files": n_files, "studies": settled.seen, "reasons": settled.reasons}}, indent=1))
    return complaints


NEVER = {reason.code for reason in (Reason.FAILED, Reason.WORKER_DIED, Reason.DEADLINE, Reason.OUT_OF_MEMORY)}
"""Ends of the engine; a file must never lead to one."""


def only_read() -> Method:
    """A method that measures nothing: what is tried is all before it."""
    return Method("digest-of-nothing", lambda device: _refuse)


def _refuse(volume: Volume, settings: Settings, watch: Callable[[str], None]) -> NoReturn:
    raise NotEvaluable(Reason.NO_SPINE)


def main() -> int:
    """Run, print the figures, and tell of every complaint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--volumes", type=int, default=500)
    parser.add_argument("--studies", type=int, default=300, help="of the whole product")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    wanted = parser.parse_args()
    bad = 0
    for kind, count in (("dicom", wanted.series), ("volume", wanted.volumes)):
        endings: list[Ending] = []
        for ending in run(kind, range(wanted.first, wanted.first + count)):
            endings.append(ending)
            if ending.complaints:
                print(f"{kind} {ending.number} ({ending.base}; {ending.story}): {'; '.join(ending.complaints)}")
        if endings:
            print(json.dumps({kind: summary(endings)}, indent=1), flush=True)
        bad += sum(bool(ending.complaints) for ending in endings)
    if wanted.studies:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            complaints = run_product(Path(folder), range(wanted.first, wanted.first + wanted.studies))
        print(*complaints, sep="\n")
        bad += len(complaints)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
