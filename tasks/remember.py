"""The index of each archive in a cohort: what earlier runs learnt of its files, so that only new ones are opened.

It holds identifiers of patients and lies in the cohort's private folder, mode 0600. A file that is damaged, or that
another version wrote, counts as absent: then every file of that archive is opened once more.
"""

from vertebra_core.cohort.commit import private_folder, replace
from vertebra_core.cohort.identity import Pseudonyms
from vertebra_core.cohort.layout import Layout
from vertebra_core.reading.index import Memory, usable
from vertebra_core.reading.scan import Notes
from vertebra_core.settings import ReadingSettings

SAVED_EVERY = 100_000
"""Files opened in a first night between two savings of what was learnt: about two minutes of one core."""


def recall(layout: Layout, pseudonyms: Pseudonyms, settings: ReadingSettings) -> Notes:
    """Notes that know what the cohort's index says; each archive's part is read when its first file is met."""

    def _load(archive: str) -> Memory | None:
        try:
            data = layout.index(pseudonyms.archive_key(archive)).read_bytes()
        except FileNotFoundError:
            return None
        return Memory(data, settings) if usable(data) else None

    return Notes(_load)


def keep(layout: Layout, pseudonyms: Pseudonyms, notes: Notes) -> None:
    """Write what was learnt in place of what was known, whole or not at all; nothing where nothing is new."""
    for archive, recorder in notes.learnt.items():
        memory = notes.memory(archive)
        if memory is None or notes.opened or len(memory) != recorder.n_files:
            path = layout.index(pseudonyms.archive_key(archive))
            private_folder(layout.private)
            private_folder(path.parent)
            replace(path, recorder.parquet(), mode=0o600)


class Saver:
    """Hears how far a first night is and saves what was learnt now and then, so that a killed one need not begin anew.

    Parameters
    ----------
    layout : Layout
    pseudonyms : Pseudonyms
    notes : Notes
    """

    def __init__(self, layout: Layout, pseudonyms: Pseudonyms, notes: Notes) -> None:
        self._layout, self._pseudonyms, self._notes = layout, pseudonyms, notes
        self._saved = 0

    def __call__(self, files_seen: int) -> None:
        if self._notes.opened - self._saved < SAVED_EVERY:
            return
        self._saved = self._notes.opened
        if not self._notes.recalled:  # a partial index would take the place of a whole one
            keep(self._layout, self._pseudonyms, self._notes)
