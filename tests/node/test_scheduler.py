"""Which pieces are wanted first, whatever readers do."""

from hypothesis import given
from hypothesis import strategies as st

from torz.node.held import has_bit, set_bit
from torz.node.scheduler import BACKGROUND, FIRST, HELD_BACK, LATE, PLAIN, Plan, Reader, Scheduler

LENGTH = 1 << 20
COUNT = 100


class Wanted:
    """What an engine makes of plans."""

    def __init__(self, count: int = COUNT) -> None:
        self.priorities = [PLAIN] * count
        self.have = bytearray((count + 7) // 8)
        self.urgent: list[int] = []

    def follow(self, plan: Plan | None) -> Plan | None:
        if plan:
            if plan.everything is not None:
                self.priorities = [plan.everything] * len(self.priorities)
            for piece, priority in plan.priorities:
                self.priorities[piece] = priority
            self.urgent = plan.urgent or self.urgent
        return plan

    def get(self, piece: int) -> None:
        set_bit(self.have, piece)

    @property
    def missing(self) -> list[int]:
        return [piece for piece in range(len(self.priorities)) if not has_bit(self.have, piece)]


def test_the_piece_a_reader_waits_for_comes_first_and_alone_has_a_deadline() -> None:
    wanted, scheduler = Wanted(), Scheduler(LENGTH, COUNT)
    plan = wanted.follow(scheduler.read(1, Reader(10, COUNT), wanted.have, 0))
    assert plan
    assert plan.urgent == [10]
    assert wanted.priorities[10:27] == [7, 6, 6, 6, 6, 5, 5, 5, 5, 5, 5, 5, 5, 4, 4, 4, HELD_BACK]
    assert set(wanted.priorities[:10] + wanted.priorities[26:]) == {HELD_BACK}


def test_the_window_moves_on_without_new_deadlines() -> None:
    wanted, scheduler = Wanted(), Scheduler(LENGTH, COUNT)
    wanted.follow(scheduler.read(1, Reader(0, COUNT), wanted.have, 0))
    for piece in range(5):
        wanted.get(piece)
        plan = wanted.follow(scheduler.arrived(wanted.have, 0.1 * piece))
        assert plan
        assert not plan.urgent
        assert not plan.late
        assert wanted.priorities[piece + 1] == FIRST


def test_the_rest_is_held_back_until_something_is_buffered() -> None:
    wanted, scheduler = Wanted(), Scheduler(LENGTH, COUNT)
    wanted.follow(scheduler.read(1, Reader(0, COUNT), wanted.have, 0))
    for piece in range(8):
        assert wanted.priorities[99] == HELD_BACK
        wanted.get(piece)
        wanted.follow(scheduler.arrived(wanted.have, 0))
    assert wanted.priorities[99] == BACKGROUND


def test_a_seek_is_one_outside_the_window() -> None:
    wanted, scheduler = Wanted(), Scheduler(LENGTH, COUNT)
    wanted.follow(scheduler.read(1, Reader(0, COUNT), wanted.have, 0))
    near = wanted.follow(scheduler.read(1, Reader(2, COUNT), wanted.have, 0))
    assert near
    assert not near.urgent
    far = wanted.follow(scheduler.read(1, Reader(50, COUNT), wanted.have, 0))
    assert far
    assert far.urgent == [50]
    back = wanted.follow(scheduler.read(1, Reader(40, COUNT), wanted.have, 0))
    assert back
    assert back.urgent == [40]


def test_one_readers_seek_helps_those_who_starve_and_leaves_the_others_alone() -> None:
    wanted, scheduler = Wanted(), Scheduler(LENGTH, COUNT)
    wanted.follow(scheduler.read("starving", Reader(0, 20), wanted.have, 0))
    for piece in range(30, 34):
        wanted.get(piece)
    wanted.follow(scheduler.read("buffered", Reader(30, 60), wanted.have, 0))
    plan = wanted.follow(scheduler.read("seeking", Reader(70, COUNT), wanted.have, 0))
    assert plan
    assert plan.urgent == [0, 70]


def test_what_is_late_gets_a_deadline_once_a_second() -> None:
    wanted, scheduler = Wanted(), Scheduler(LENGTH, COUNT)
    scheduler.read(1, Reader(5, COUNT), wanted.have, 0)
    assert scheduler.arrived(wanted.have, LATE / 2) is None
    plan = scheduler.arrived(wanted.have, LATE)
    assert plan
    assert plan.late == [5]
    assert scheduler.arrived(wanted.have, LATE * 1.5) is None
    again = scheduler.arrived(wanted.have, LATE * 2)
    assert again
    assert again.late == [5]


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 3), st.integers(0, COUNT + 5), st.integers(0, COUNT + 5)),
        st.tuples(st.just("leave"), st.integers(0, 3), st.just(0), st.just(0)),
        st.tuples(st.just("get"), st.integers(0, COUNT - 1), st.just(0), st.just(0)),
        st.tuples(st.just("fetch"), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(MOVES)
def test_something_is_always_wanted_and_nothing_before_what_readers_wait_for(
    moves: list[tuple[str, int, int, int]],
) -> None:
    wanted, scheduler = Wanted(), Scheduler(LENGTH, COUNT)
    readers: dict[int, Reader] = {}
    for now, (move, one, first, stop) in enumerate(moves):
        if move == "read":
            readers[one] = Reader(first, stop)
            plan = scheduler.read(one, readers[one], wanted.have, now)
        elif move == "leave":
            readers.pop(one, None)
            plan = scheduler.leave(one, wanted.have, now)
        else:
            best = max(wanted.missing, key=lambda piece: wanted.priorities[piece], default=0)
            wanted.get(one if move == "get" else best)
            plan = scheduler.arrived(wanted.have, now)
        wanted.follow(plan)
        missing = wanted.missing
        assert not missing or any(wanted.priorities[piece] for piece in missing)
        for piece in plan.urgent + plan.late if plan else ():
            assert piece in missing
        for reader in readers.values():
            window = [p for p in missing if reader.first <= p < min(reader.stop, reader.first + 16)]
            if window:
                assert wanted.priorities[window[0]] == FIRST


@given(st.integers(16384, 64 << 20), st.integers(1, 300))
def test_a_reader_alone_gets_everything_in_order(piece_length: int, count: int) -> None:
    wanted, scheduler = Wanted(count), Scheduler(piece_length, count)
    got = []
    wanted.follow(scheduler.read(1, Reader(0, count), wanted.have, 0))
    while wanted.missing:
        best = max(wanted.missing, key=lambda piece: (wanted.priorities[piece], -piece))
        assert wanted.priorities[best] > 0
        got.append(best)
        wanted.get(best)
        wanted.follow(scheduler.read(1, Reader(best, count), wanted.have, 0))
    assert got == list(range(count))
