"""How fast an archive is taken stock of: the first night opens every file, the second only what is new.

``python -m benchmarks.discovery FOLDER --files 100000`` writes that many small CT slices below FOLDER (a path or a URL)
unless they are there already, takes stock of them twice, and prints files a second, memory and the ratio of the two
nights. ``--processes 2`` reads with more than one process. With ``--pixels N`` it also reads N series with their
pixels.
"""

import argparse
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

SLICES = 100
"""Files of a series; two series make a study, and ten studies lie in one folder of the archive."""
SIDE = 64
"""Pixels along an edge: a file has 9 kB, so that what is measured is the work for each file and not the disk."""


def slice_template(number: int) -> bytes:
    """One slice of a series as a DICOM file, with marks of fixed length where slices differ."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    root = f"1.2.826.0.1.3680043.10.77.{number // 2 + 1}"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.SOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    ds.SOPInstanceUID = f"{root}.{number % 2 + 1}.100000"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = root, f"{root}.{number % 2 + 1}"
    ds.FrameOfReferenceUID = f"{root}.9"
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientAge = f"MADE{number // 2:06d}", "Made^Up", "F", "067Y"
    ds.PatientBirthDate, ds.StudyDate, ds.StudyTime, ds.AcquisitionTime = "19570101", "20240301", "101500", "101530"
    ds.AccessionNumber, ds.InstitutionName, ds.StudyDescription = "A0001", "Made up", "CT thorax"
    ds.Modality, ds.ImageType, ds.Manufacturer = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "VERTEBRA BENCHMARK"
    ds.ManufacturerModelName, ds.ConvolutionKernel = "Writer", "STANDARD" if number % 2 else "BONE"
    ds.SeriesDescription, ds.SeriesNumber, ds.AcquisitionNumber = "THORAX 1.0", number % 2 + 1, 1
    ds.KVP, ds.ReconstructionDiameter, ds.SliceThickness = 120, 400, 2.5
    ds.InstanceNumber = 100000
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-200, -200, "1000.000"], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [5.0, 5.0]
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    hu = np.random.default_rng(number).normal(40, 20, (SIDE, SIDE))
    hu[:8] = -1000
    ds.PixelData = np.rint(hu + 1024).astype("<u2").tobytes()
    sink = BytesIO()
    ds.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def series_files(number: int, slices: int) -> list[tuple[str, bytes]]:
    """Path below the archive and content of the files of one series."""
    template, folder = slice_template(number), f"{number // 20:04d}/{number // 2:06d}/{number % 2}"
    return [
        (
            f"{folder}/IM{i:05d}",
            template.replace(b".100000", b".%06d" % (100000 + i))
            .replace(b"100000 ", b"%-7d" % (i + 1))
            .replace(b"1000.000", b"%08.3f" % (1000 - 2.5 * i)),
        )
        for i in range(slices)
    ]


def write_archive(place: str, files: int) -> None:
    """Write the archive, unless its last series is there."""
    from vertebra_core.reading.remote import filesystem
    from vertebra_core.storage import is_url

    def write(name: str, data: bytes) -> None:
        if is_url(place):
            filesystem(place).pipe_file(f"{place}/{name}", data)
        else:
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    series = -(-files // SLICES)
    last = f"{place}/{series_files(series - 1, 1)[0][0]}"
    if filesystem(place).exists(last) if is_url(place) else os.path.exists(last):
        return
    with ThreadPoolExecutor(16) as pool:
        for number in reversed(range(series)):
            content = series_files(number, min(SLICES, files - number * SLICES))
            list(pool.map(lambda one: write(*one), content) if is_url(place) else (write(*one) for one in content))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discovery", description=__doc__)
    parser.add_argument("place", help="folder or URL for the archive")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--pixels", type=int, default=0, help="series whose pixels are read too")
    wanted = parser.parse_args()
    from vertebra_core.reading.files import root_of, walk
    from vertebra_core.reading.formats import read_volume
    from vertebra_core.reading.index import Memory
    from vertebra_core.reading.inventory import find_series
    from vertebra_core.reading.scan import Notes
    from vertebra_core.settings import ReadingSettings

    settings, place = ReadingSettings(), root_of(wanted.place)
    write_archive(place, wanted.files)
    _, listing = timed(lambda: sum(1 for _ in walk([place])))
    told("listing alone", wanted.files, listing)
    notes, before = Notes(), peak_mb()
    found, first = timed(lambda: find_series([place], settings, notes=notes, processes=wanted.processes))
    told("first night", found.files_seen, first)
    print(f"  {notes.opened} opened, {len(found.series)} series, peak memory {before:.0f} -> {peak_mb():.0f} MB")
    data, kept = timed(lambda: notes.learnt[place].parquet())
    print(
        f"  index of {len(data) / 1e6:.1f} MB written in {kept.wall:.2f} s: {len(data) / wanted.files:.0f} bytes a file"
    )

    def second_night():
        again = Notes(lambda _: Memory(data, settings))
        return find_series([place], settings, notes=again, processes=wanted.processes), again

    (repeated, again), second = timed(second_night)
    told("second night", repeated.files_seen, second)
    print(f"  {again.opened} opened, equal series: {repeated == found}, peak memory {peak_mb():.0f} MB")
    ratios = second.wall / (first.wall + kept.wall), second.cpu / (first.cpu + kept.cpu)
    print(f"  second over first: {ratios[0]:.3f} by the clock, {ratios[1]:.3f} of CPU")
    if wanted.pixels:
        chosen = [one for one in found.series if one.decision is None][: wanted.pixels]
        _, pixels = timed(lambda: [read_volume(one, settings) for one in chosen])
        told("pixels", sum(len(one.files) for one in chosen), pixels)
    return 0


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and seconds of all cores by this process and its children."""

    wall: float
    cpu: float


def timed(work):
    """What the work returns, and what it took."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    result = work()
    return result, Spent(time.perf_counter() - start, sum(os.times()[:4]) - before)


def told(what: str, files: int, spent: Spent) -> None:
    """Print a rate; on a busy machine the one of the CPU says more."""
    rate = f"{files / spent.wall:.0f} files/s"
    cpu = f"CPU {spent.cpu:.2f} s, {files / max(spent.cpu, 1e-3):.0f} a second"
    print(f"{what:<14}{files} files, {spent.wall:.2f} s, {rate}; {cpu}")
    sys.stdout.flush()


def peak_mb() -> float:
    """Largest memory this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
