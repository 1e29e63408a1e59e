"""Which studies a report shows, and their pictures made small enough to be carried inside the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.cohort.layout import Layout
from vertebra_core.report.png import png_bytes
from vertebra_core.storage import read_ahead, read_whole

GALLERY = 6
"""Pictures of the worst studies and as many of random ones: enough to see whether the worst are fractures or errors,
and what an ordinary study looks like."""
SEED = 0
"""Of the random choice, so that the same snapshot shows the same studies."""
WIDTH_PX = 640
"""Width of a picture in the page: the levels can be read, in about 80 kB."""
GALLERY_COLUMNS = ("study_key", "min_g", "min_g_level", "worst_grade", "n_vertebrae")


@dataclass(frozen=True)
class Shown:
    """A study of the gallery; what is known of it without its picture."""

    study_key: str
    min_g: float
    min_g_level: str | None
    worst_grade: str
    n_vertebrae: int


@dataclass(frozen=True)
class Gallery:
    """The index studies with the lowest G, ascending, and others drawn at random; nobody is in both."""

    worst: tuple[Shown, ...]
    random: tuple[Shown, ...]


def choose(people: pa.Table, n: int, seed: int = SEED) -> Gallery:
    """Choose studies to look at.

    Parameters
    ----------
    people : pa.Table
        Index studies with `GALLERY_COLUMNS`.
    n : int
        Of each kind.
    seed : int
    """
    measured = people.filter(pc.field("min_g").is_valid()).select(list(GALLERY_COLUMNS))
    ordered = measured.sort_by([("min_g", "ascending"), ("study_key", "ascending")])
    worst, rest = ordered.slice(0, n), ordered.slice(n).sort_by("study_key")
    drawn = np.random.default_rng(seed).choice(rest.num_rows, min(n, rest.num_rows), replace=False)
    return Gallery(_shown(worst), _shown(rest.take(pa.array(np.sort(drawn)))))


def pictures_of(layout: Layout, gallery: Gallery) -> dict[str, str]:
    """Pictures by study key, as data URIs; studies without one are left out."""
    return thumbnails(layout, [one.study_key for one in (*gallery.worst, *gallery.random)])


def thumbnails(layout: Layout, study_keys: Sequence[str], width: int = WIDTH_PX) -> dict[str, str]:
    """Pictures of studies made small, as data URIs; studies without one are left out."""

    def picture(key: str) -> str | None:
        """None where none was drawn."""
        try:
            return data_uri(small_png(read_whole(layout.picture(key)), width))
        except FileNotFoundError:
            return None

    found = zip(study_keys, read_ahead(layout.root, picture, study_keys), strict=True)
    return {key: uri for key, uri in found if uri is not None}


def small_png(png: bytes, width: int = WIDTH_PX) -> bytes:
    """The same picture in at most so many pixels across; equal bytes for equal bytes."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return png_bytes(image, width)


def data_uri(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _shown(rows: pa.Table) -> tuple[Shown, ...]:
    return tuple(Shown(**row) for row in rows.to_pylist())
