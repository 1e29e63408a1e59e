"""Headers of one series put together, however many lie between them, in little memory.

A series is whole only when the last file of all archives has been seen: another folder may hold more of it. Its
headers take 1.6 kB each as Python objects, and a hundredth of that pickled and compressed. So those of series that were
not met for the longest time are packed away, and unpacked one series at a time when all has been seen.
"""

import pickle
import zlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

One = TypeVar("One")

OPEN_AT_MOST = 200_000
"""Headers that lie as they are: 0.3 GiB. Archives of fewer images never wait for packing."""
FASTEST = 1
"""Level of zlib: 4 microseconds a header, where reading one takes a millisecond."""


class Gathering(Generic[One]):
    """Lists by key, in the order in which keys were first met; each list in the order in which it grew.

    Examples
    --------
    >>> met = Gathering(open_at_most=2)
    >>> for key, header in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5)]:
    ...     met.add(key, header)
    >>> list(met.lists())
    [[1, 3, 5], [2], [4]]
    """

    def __init__(self, open_at_most: int = OPEN_AT_MOST) -> None:
        self._most, self._after = open_at_most, open_at_most // 2
        self._open: OrderedDict[Hashable, list[One]] = OrderedDict()
        self._packed: dict[Hashable, list[bytes]] = {}
        self._n_open = 0

    def add(self, key: Hashable, one: One) -> None:
        """Append to the list of a key."""
        if key in self._open:
            self._open[key].append(one)
            self._open.move_to_end(key)
        else:
            self._packed.setdefault(key, [])
            self._open[key] = [one]
        self._n_open += 1
        while self._n_open > self._most:
            self._pack()

    def lists(self) -> Iterator[list[One]]:
        """All lists, each only once: they are not kept."""
        for key in list(self._packed):
            packed = self._packed.pop(key)
            yield [one for part in packed for one in _unpacked(part)] + self._open.pop(key, [])

    def _pack(self) -> None:
        """Pack those that were not met for the longest time, until enough room is there to go on."""
        while self._n_open > self._after:
            key, members = self._open.popitem(last=False)
            self._packed[key].append(zlib.compress(pickle.dumps(members, pickle.HIGHEST_PROTOCOL), FASTEST))
            self._n_open -= len(members)


def _unpacked(part: bytes) -> list:
    return pickle.loads(zlib.decompress(part))
