"""The next study is read while this one is measured: one study ahead, by one thread of the sandbox's child.

Worth it where the measuring thread waits for something else than this CPU (a GPU), or the reading thread does (a
store). On a CPU alone both want the same core. At most two volumes are held: the next is read once this one has been.
"""

from concurrent.futures import Future, ThreadPoolExecutor

from tasks.plan import StudyOrder
from vertebra_core.settings import ReadingSettings
from vertebra_core.volume import Volume


class ReadAhead:
    """Reads studies, and the one that will be asked for next before it is."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[tuple[str, str], Future[Volume]] | None = None

    def read(self, order: StudyOrder, settings: ReadingSettings) -> Volume:
        """The volume of a study.

        What went wrong while it was read ahead is not believed, as another study was in memory: it is read again.
        """
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == _name(order) and ahead[1].exception() is None:
            return ahead[1].result()
        del ahead
        return _read(order, settings)

    def begin(self, order: StudyOrder, settings: ReadingSettings) -> None:
        """Begin to read the study that will be asked for next."""
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._next = _name(order), self._thread.submit(_read, order, settings)

    def held_bytes(self) -> int | None:
        """Memory of the volume that was read ahead; None while it is being read, when nobody can tell."""
        if self._next is None:
            return 0
        future = self._next[1]
        if not future.done():
            return None
        return 0 if future.exception() else future.result().hu.nbytes


def _name(order: StudyOrder) -> tuple[str, str]:
    return order.key, order.input_digest


def _read(order: StudyOrder, settings: ReadingSettings) -> Volume:
    from vertebra_core.reading.formats import read_volume

    return read_volume(order.series, settings)
