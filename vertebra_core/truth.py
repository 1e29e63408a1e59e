"""The file format ``vertebra-truth/1``: keypoints of the vertebrae of one image, by a reader or by a phantom.

The same JSON is what ``vertebra show --export`` writes and ``vertebra evaluate`` reads.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from vertebra_core.errors import WrongUse

FORMAT = "vertebra-truth/1"


@dataclass(frozen=True)
class Truth:
    """Keypoints of k vertebrae of one image, from the top down.

    Parameters
    ----------
    image : str
        Relative path or SeriesInstanceUID of the image.
    reader : str
    points : array [k, 6, 3]
        LPS mm.
    complete : array [k], bool
        False for a vertebra cut by the edge of the scan: neither a miss nor a false positive.
    levels : tuple of (str or None)
        Names such as "T7".
    """

    image: str
    reader: str
    points: Float[np.ndarray, "k 6 3"]
    complete: Bool[np.ndarray, "k"]
    levels: tuple[str | None, ...]


def read_truth(path: Path) -> Truth:
    """Read a truth file.

    Raises
    ------
    WrongUse
        Not this format, another frame or unit, or points that are not six by three finite numbers.
    """
    try:
        document = json.loads(Path(path).read_text())
        if (document.get("format"), document.get("frame"), document.get("unit")) != (FORMAT, "LPS", "mm"):
            raise WrongUse(f"{path}: expected format {FORMAT}, frame LPS and unit mm")
        vertebrae = document["vertebrae"]
        points = [np.array(v["keypoints"], float) for v in vertebrae]
        complete = [v.get("complete", True) for v in vertebrae]
        levels = tuple(v.get("level") for v in vertebrae)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongUse(f"{path}: not a {FORMAT} file ({type(error).__name__}: {error})") from error
    if not all(six.shape == (6, 3) and np.isfinite(six).all() for six in points):
        raise WrongUse(f"{path}: every vertebra needs six finite keypoints [x, y, z]")
    if not all(isinstance(whole, bool) for whole in complete):
        raise WrongUse(f"{path}: complete must be true or false")
    if not all(level is None or isinstance(level, str) for level in levels):
        raise WrongUse(f"{path}: level must be a name such as T7, or null")
    image, reader = str(document.get("image", "")), str(document.get("reader", ""))
    return Truth(image, reader, np.array(points).reshape(-1, 6, 3), np.array(complete, bool), levels)


def truth_document(truth: Truth) -> dict:
    """The JSON document of a truth; coordinates to a hundredth of a millimetre."""
    vertebrae = [
        {"level": level, "complete": bool(whole), "keypoints": np.round(six, 2).tolist()}
        for level, whole, six in zip(truth.levels, truth.complete, truth.points, strict=True)
    ]
    head = {"format": FORMAT, "image": truth.image, "frame": "LPS", "unit": "mm", "reader": truth.reader}
    return {**head, "vertebrae": vertebrae}


def write_truth(truth: Truth, path: Path) -> None:
    """Write a truth file."""
    Path(path).write_text(json.dumps(truth_document(truth), indent=1) + "\n")
