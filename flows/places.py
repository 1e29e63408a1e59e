"""Where a run reads and where it writes, checked before anything heavy is imported."""

from collections.abc import Sequence
from pathlib import Path

from vertebra_core.errors import WrongUse


def check_places(archives: Sequence[Path], cohort: Path) -> list[Path]:
    """Refuse a cohort inside an archive: inputs are never written to, and pictures are no studies."""
    if not archives:
        raise WrongUse("which archive? give at least one folder")
    for archive in archives:
        if not archive.exists():
            raise WrongUse(f"no such archive: {archive}")
        if cohort.resolve().is_relative_to(archive.resolve()):
            raise WrongUse(f"the cohort {cohort} may not lie inside the archive {archive}")
    if cohort.exists() and not cohort.is_dir():
        raise WrongUse(f"{cohort} is not a folder")
    return list(archives)
