"""The metrics file of a run: written when it begins, while it runs, and when it is over in whatever way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.places import check_beside
from tasks.metrics import write_metrics
from vertebra_core.cohort.layout import Layout
from vertebra_core.storage import Place, place_of


@contextmanager
def telling_metrics(
    archives: Sequence[str | Path], cohort: str | Place, file: str | None
) -> Iterator[Callable[[], None]]:
    """Write the state of a cohort when the block is over; what it gets does so in between.

    Raises
    ------
    WrongUse
        The file cannot be one, or would lie inside an archive.
    """
    if file is None:
        yield lambda: None
        return
    path = Path(file)
    check_beside(path, archives, "metrics file")
    layout = Layout(place_of(cohort))

    def tell() -> None:
        """Write the state as it is now."""
        write_metrics(layout, path)

    try:
        yield tell
    except BaseException:
        with suppress(Exception):  # the first error is to be told
            tell()
        raise
    tell()
