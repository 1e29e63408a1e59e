"""Small PNG files of pictures of this program: grey values and the few colours of the palette, one byte a pixel.

A picture of a study is a third as large as in full colour, and looks the same: 64 greys are as many as the eye tells
apart in a bone window, and the colours are those of `vertebra_core.report.palette`, fading into what lies behind them.
"""

import functools
import io
from typing import TYPE_CHECKING

from vertebra_core.report.palette import (
    CURVE_COLOUR,
    FAINT,
    GRADE_COLOURS,
    INK,
    OUTSIDE,
    PAPER,
    UNMEASURED_COLOUR,
)

if TYPE_CHECKING:
    from PIL.Image import Image

GREYS = 64
FADES, BACKGROUNDS = 8, (PAPER, "#5A5A5A", "#AAAAAA")
"""Steps from a colour to each of what it is drawn on: the sheet, soft tissue, bone."""
MOST_COLOURS = 256


def png_bytes(image: "Image", width: int | None = None) -> bytes:
    """The image as a PNG of at most so many pixels across; equal images give equal bytes.

    Parameters
    ----------
    image : PIL.Image.Image
    width : int, optional
        Default: as wide as it is.
    """
    from PIL.Image import Dither, Resampling

    image = image.convert("RGB")
    if width is not None and image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Resampling.LANCZOS)
    file = io.BytesIO()
    image.quantize(palette=_palette_image(), dither=Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def colours() -> list[tuple[int, ...]]:
    """The colours of the palette, each once, as red, green, blue from 0 to 255.

    Examples
    --------
    >>> len(colours()) <= MOST_COLOURS, (255, 255, 255) in colours()
    (True, True)
    """
    found = [(round(255 * i / (GREYS - 1)),) * 3 for i in range(GREYS)]
    for colour in map(rgb, (*GRADE_COLOURS.values(), CURVE_COLOUR)):
        for behind in map(rgb, BACKGROUNDS):
            for step in range(1, FADES + 1):
                found.append(tuple(round(b + (c - b) * step / FADES) for b, c in zip(behind, colour, strict=True)))
    found += map(rgb, (PAPER, INK, FAINT, OUTSIDE, UNMEASURED_COLOUR))
    return list(dict.fromkeys(found))


def rgb(colour: str) -> tuple[int, ...]:
    """Red, green and blue of "#RRGGBB".

    Examples
    --------
    >>> rgb("#0B0D10")
    (11, 13, 16)
    """
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


@functools.lru_cache(maxsize=1)
def _palette_image() -> "Image":
    from PIL.Image import new

    known = colours()
    filled = known + known[-1:] * (MOST_COLOURS - len(known))
    image = new("P", (1, 1))
    image.putpalette([part for colour in filled for part in colour])
    return image
