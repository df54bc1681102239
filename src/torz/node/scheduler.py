"""Which pieces are wanted first, so that readers wait little: pure decisions, no engine.

What is measured stands in the engine's facts: a deadline only where a reader waits, graded priorities behind it, the
rest held back until something is buffered, and never nothing wanted.
"""

from collections.abc import Iterable

import msgspec

FIRST, NEAR, NEXT, WINDOW, BACKGROUND, HELD_BACK, PLAIN = 7, 6, 5, 4, 1, 0, 4
"""Priorities: the piece a reader waits for, the next 4, the next 8, the rest of its window, the rest of the torrent
while somebody reads, the same while a reader starves, and everything as long as nobody has."""
_NEAR_COUNT, _NEXT_COUNT = 4, 8
WINDOW_BYTES = 16 << 20
ENOUGH = 8 << 20
"""Bytes ahead of a reader after which the rest of the torrent is fetched too."""
LATE = 1.0
"""Seconds after which the piece a reader waits for is asked of other peers as well."""


class Reader(msgspec.Struct):
    """Pieces `first` up to and without `stop` are read in order."""

    first: int
    stop: int


class Plan(msgspec.Struct, frozen=True):
    """What the engine is to be told."""

    priorities: list[tuple[int, int]]
    """Changes only: piece and priority."""
    everything: int | None
    """A priority for all pieces that is to be set before those."""
    urgent: list[int]
    """Pieces to be had at once; everything not urgent is asked for again after them."""
    late: list[int]
    """Pieces that are overdue: asked of other peers too, without disturbing what is on its way."""


class Scheduler:
    """The readers of one torrent. Every method gives the plan that follows, or None when nothing changes."""

    def __init__(self, piece_length: int, count: int) -> None:
        self._count = count
        self._window = max(4, -(-WINDOW_BYTES // piece_length))
        self._enough = max(1, -(-ENOUGH // piece_length))
        self._readers: dict[object, Reader] = {}
        self._given: dict[int, int] = {}
        self._rest = PLAIN
        self._waiting: dict[object, tuple[int, float]] = {}

    @property
    def has_readers(self) -> bool:
        return bool(self._readers)

    @property
    def readers(self) -> list[Reader]:
        return list(self._readers.values())

    def read(self, id: object, reader: Reader, have: bytearray, now: float) -> Plan | None:
        """A reader comes or moves."""
        before = self._readers.get(id)
        self._readers[id] = reader
        seeks = before is None or not before.first <= reader.first <= before.first + self._window
        return self._plan(have, now, seeking=id if seeks else None)

    def leave(self, id: object, have: bytearray, now: float) -> Plan | None:
        """A reader is gone."""
        self._waiting.pop(id, None)
        if self._readers.pop(id, None) is None:
            return None
        return self._plan(have, now)

    def arrived(self, have: bytearray, now: float) -> Plan | None:
        """A piece came, or time passed."""
        return self._plan(have, now) if self._readers or self._given else None

    def fetch_all(self) -> Plan | None:
        """Everything that was wanted is here: go on with the rest, unless more is wanted already."""
        if self._given or self._rest == BACKGROUND:
            return None
        self._rest = BACKGROUND
        return Plan([], BACKGROUND, [], [])

    def _plan(self, have: bytearray, now: float, *, seeking: object = None) -> Plan | None:
        firsts = {id: self._first_missing(reader, have) for id, reader in self._readers.items()}
        if self._readers:
            wanted = self._windows(firsts.values(), have)
        else:  # players close and open all the time: what was wanted stays so until somebody puts it back
            wanted = {piece: grade for piece, grade in self._given.items() if not _bit(have, piece)}
        rest = self._rest_priority(firsts, bool(wanted))
        everything = rest if rest != self._rest else None
        given = {} if everything is not None else self._given
        changes = [(piece, priority) for piece, priority in wanted.items() if given.get(piece) != priority]
        changes += [(piece, rest) for piece in given if piece not in wanted]
        late = self._late(firsts, now)
        urgent = self._urgent(firsts, seeking)
        self._given, self._rest = wanted, rest
        if everything is None and not changes and not urgent and not late:
            return None
        return Plan(changes, everything, urgent, [piece for piece in late if piece not in urgent])

    def _first_missing(self, reader: Reader, have: bytearray) -> int | None:
        stop = min(reader.stop, self._count, reader.first + self._window)
        return next((p for p in range(reader.first, stop) if not _bit(have, p)), None)

    def _windows(self, firsts: Iterable[int | None], have: bytearray) -> dict[int, int]:
        """The missing pieces of every reader's window; where windows overlap the higher priority counts."""
        wanted: dict[int, int] = {}
        for reader, first in zip(self._readers.values(), firsts, strict=True):
            if first is None:
                continue
            stop = min(reader.stop, self._count, reader.first + self._window)
            missing = [piece for piece in range(first, stop) if not _bit(have, piece)]
            for place, piece in enumerate(missing):
                wanted[piece] = max(wanted.get(piece, 0), _grade(place))
        return wanted

    def _rest_priority(self, firsts: dict[object, int | None], something_wanted: bool) -> int:
        starving = any(
            first is not None and first - self._readers[id].first < self._enough for id, first in firsts.items()
        )
        return HELD_BACK if starving and something_wanted else BACKGROUND

    def _urgent(self, firsts: dict[object, int | None], seeking: object) -> list[int]:
        """What the one who seeks waits for, and what those wait for who have nothing left: the others' requests are
        taken back when a deadline is set."""
        if seeking is None or firsts[seeking] is None:
            return []
        starved = (first for id, first in firsts.items() if id == seeking or first == self._readers[id].first)
        return sorted({first for first in starved if first is not None})

    def _late(self, firsts: dict[object, int | None], now: float) -> list[int]:
        late = []
        for id, first in firsts.items():
            if first is None:
                self._waiting.pop(id, None)
                continue
            piece, since = self._waiting.get(id, (None, now))
            if piece != first:
                self._waiting[id] = (first, now)
            elif now - since >= LATE and first == self._readers[id].first:
                late.append(first)
                self._waiting[id] = (first, now)
        return late


def _grade(place: int) -> int:
    if place == 0:
        return FIRST
    if place <= _NEAR_COUNT:
        return NEAR
    return NEXT if place <= _NEAR_COUNT + _NEXT_COUNT else WINDOW


def _bit(bits: bytearray, index: int) -> bool:
    return bool(bits[index >> 3] & (0x80 >> (index & 7)))
