"""Annotated real CT for training: images of any supported format, each with its truth file."""

from collections.abc import Iterator
from pathlib import Path

from vertebra_core.errors import WrongUse
from vertebra_core.reading.formats import read_volume
from vertebra_core.reading.inventory import find_series
from vertebra_core.settings import ReadingSettings
from vertebra_core.truth import Truth, read_truth
from vertebra_core.volume import Volume


def annotated_volumes(images: Path, annotations: Path) -> Iterator[tuple[str, Volume, Truth]]:
    """Yield (name, volume, truth) of every truth file, one at a time.

    Parameters
    ----------
    images : Path
        Folder of studies.
    annotations : Path
        Folder of truth files whose `image` is a path below `images` or a SeriesInstanceUID.

    Raises
    ------
    WrongUse
        A truth file without its image, or no truth file at all.
    """
    files = sorted(Path(annotations).glob("*.json"))
    if not files:
        raise WrongUse(f"{annotations}: no truth files (*.json)")
    settings = ReadingSettings()
    series = [s for s in find_series([images], settings).series if s.decision is None]
    by_name = {name: s for s in series for name in (s.path, s.series_uid)}
    for file in files:
        truth = read_truth(file)
        found = by_name.get(truth.image.strip("/"))
        if found is None:
            raise WrongUse(f"{file}: no usable image {truth.image} below {images}")
        yield file.stem, read_volume(found, settings), truth
