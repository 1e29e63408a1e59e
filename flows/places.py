"""Where a run reads and where it writes, checked before anything heavy is imported."""

from collections.abc import Sequence
from pathlib import Path

from vertebra_core.errors import WrongUse
from vertebra_core.reading.files import archive_exists
from vertebra_core.storage import Place, place_of

COHORT_STORES = ("s3", "s3a")
"""Kinds of store a cohort may lie in: those with the conditional writes that keep two runs apart."""


def check_places(archives: Sequence[str | Path], cohort: str | Place) -> list[str | Path]:
    """The archives as they are read: folders as paths, URLs as text.

    Raises
    ------
    WrongUse
        An archive that is not there; a cohort in a kind of store that cannot hold one, or inside an archive: inputs
        are never written to, and pictures are no studies.
    """
    if not archives:
        raise WrongUse("which archive? give at least one folder")
    home = cohort_place(cohort)
    found = []
    for archive in archives:
        place = place_of(archive)
        found.append(place if isinstance(place, Path) else str(archive))
        if not archive_exists(found[-1]):
            raise WrongUse(f"no such archive: {archive}")
        if _is_inside(home, place):
            raise WrongUse(f"the cohort {home} may not lie inside the archive {archive}")
    return found


def cohort_place(cohort: str | Place) -> Place:
    """The place of a cohort that may be new.

    Raises
    ------
    WrongUse
        A file, or a kind of store that cannot hold one.
    """
    place = place_of(cohort)
    if isinstance(place, Path) and place.exists() and not place.is_dir():
        raise WrongUse(f"{place} is not a folder")
    if not isinstance(place, Path) and place.protocol not in COHORT_STORES:
        raise WrongUse(f"{place}: a cohort lies in a folder or in an S3 bucket (s3://BUCKET/PREFIX)")
    return place


def check_beside(file: Path, archives: Sequence[str | Path], what: str) -> None:
    """Whether a file may be written at all.

    Raises
    ------
    WrongUse
        Its folder is not there, or it would lie inside an archive.
    """
    if not file.absolute().parent.is_dir() or file.is_dir():
        raise WrongUse(f"{what} {file}: expected a file in a folder that is there")
    if inside := [archive for archive in archives if _is_inside(file.absolute(), place_of(archive))]:
        raise WrongUse(f"{what} {file} may not lie inside the archive {inside[0]}")


def _is_inside(place: Place, folder: Place) -> bool:
    if isinstance(place, Path) and isinstance(folder, Path):
        return place.resolve().is_relative_to(folder.resolve())
    if isinstance(place, Path) or isinstance(folder, Path) or place.protocol != folder.protocol:
        return False
    return f"{place.path.rstrip('/')}/".startswith(f"{folder.path.rstrip('/')}/")
