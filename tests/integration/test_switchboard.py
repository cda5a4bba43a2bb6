"""The keeper's part in circuit breakers, on real servers: what it tells, and how its successor goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_pool import until
from support_servers import Server

from rsq.ipc.breakers import How, Row, Shown, Switch
from rsq.ipc.cells import P
from rsq.ipc.segment import Identity, Segment
from rsq.streams.group import pack
from rsq.streams.wire import Lost
from rsq.supervisor.breakers import Breakers
from rsq.supervisor.switchboard import _PATIENCE_MS, Switchboard
from rsq.worker.breaker import Breaker, Failed, Forced, Limits, Phase

NAMES = ("orders", "mailer")
MAIL = Row(b"mail", 3, 60_000, 20, 1, 60_000)
LIMITS = Limits(3, 60_000, 20, 1)


class Line:
    """A line to the server, that counts what is sent and can be cut."""

    def __init__(self, server: Server) -> None:
        client: Any = server.client()
        self.connection = client.connection_pool.get_connection()
        self.sent, self.is_cut, self.trouble = 0, False, "cut"

    def connect(self, *, rest: bool) -> bool:
        assert not rest
        return not self.is_cut

    def call(self, *packed: bytes) -> list[Any]:
        if self.is_cut:
            raise Lost("cut")
        self.sent += len(packed)
        self.connection.send_packed_command([b"".join(packed)])
        return [self.connection.read_response() for _ in packed]


class Pool:
    """A pool of two slots whose workers have registered a breaker, and its keeper."""

    def __init__(self, server: Server, folder: Path, instance: str) -> None:
        self.segment = Segment.create(folder, Identity(*NAMES, instance), 2)
        self.segment.pool.view[P.WORKERS] = 2
        for number in (0, 1):
            self.segment.open_slot(number)
            self.segment.slot(number).desk.view[0] = 1  # used
            self.segment.slot(number).strain.register([MAIL])
        self.line, self.woken = Line(server), 0
        self.start_keeper()

    def start_keeper(self) -> None:
        """Begin anew, as after the death of the last one."""
        untyped: Any = self.line
        self.keeper = Switchboard("orders/mailer", NAMES, self.segment, untyped, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def glance(self) -> float:
        return self.keeper.glance(may_act=True)

    def strain(self, slot: int = 0) -> Any:
        return self.segment.slot(slot).strain

    def switch(self, slot: int = 0) -> Switch:
        parts = self.segment.slot(slot)
        return parts.switches.get(parts.strain.registered, 0)

    def granted(self, slot: int = 0) -> int:
        return self.segment.slot(slot).switches.granted


@pytest.fixture
def make(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Pool]]:
    """Return a function instance -> Pool. Its slots are held by living processes."""
    monkeypatch.setattr(Segment, "slot_holder", lambda *_: 4711)
    pools: list[Pool] = []

    def made(instance: str) -> Pool:
        pools.append(Pool(server, tmp_path, instance))
        return pools[-1]

    yield made
    for pool in pools:
        pool.segment.close()


def shared(server: Server) -> Breakers:
    line = Line(server)

    def call(*commands: tuple[Any, ...]) -> list[Any]:
        return line.call(*(pack(*words) for words in commands))

    return Breakers(*NAMES, call)


def opened(pool: Pool) -> None:
    pool.glance()
    pool.strain().failed(0, 3)
    pool.glance()
    assert pool.switch() in (Switch.OPEN, Switch.READY)


def test_slots_hear_of_their_breakers_at_once(make: Callable[[str], Pool], server: Server) -> None:
    pool = make("web-1")
    assert (pool.switch(0), pool.switch(1)) == (Switch.UNKNOWN, Switch.UNKNOWN)
    assert pool.keeper.glance(may_act=False) > time.monotonic() + 3600
    assert pool.line.sent == 0
    pool.glance()
    assert (pool.switch(0), pool.switch(1)) == (Switch.CLOSED, Switch.CLOSED)
    assert shared(server).everything() == {"mail": Breaker()}, "others cannot see it"
    pool.strain(1).register([MAIL])
    assert pool.switch(1) is Switch.UNKNOWN
    pool.glance()
    assert pool.switch(1) is Switch.CLOSED


def test_nothing_is_asked_while_nothing_happens(make: Callable[[str], Pool]) -> None:
    pool = make("web-1")
    before = time.monotonic()
    due = pool.glance()
    assert before + 0.5 < due < time.monotonic() + 5
    due = pool.keeper._look = before + 3600  # it looks no more what others do, however long this takes
    sent = pool.line.sent
    for _ in range(20):
        assert pool.glance() == due
    assert pool.line.sent == sent


def test_failures_of_all_slots_and_pools_are_one_sum(make: Callable[[str], Pool], server: Server) -> None:
    one, other = make("web-1"), make("web-2")
    one.glance()
    other.glance()
    one.strain(0).failed(0)
    one.strain(1).failed(0)
    one.glance()
    assert one.switch() is Switch.CLOSED
    other.strain(0).failed(0)
    other.glance()
    assert other.switch() is not Switch.CLOSED
    assert one.switch() is Switch.CLOSED, "it cannot know yet"
    until(lambda: one.glance() and one.switch() is not Switch.CLOSED, "what the other did")
    assert (one.woken, other.woken) == (1, 1)
    assert shared(server).look("mail").opened == 1


def test_a_probe_from_question_to_end(make: Callable[[str], Pool], server: Server) -> None:
    """Two ask, one is answered; its end is told once, and costs nothing afterwards."""
    pool = make("web-1")
    opened(pool)
    until(lambda: pool.switch() is Switch.READY, "the time for a probe")
    pool.keeper._look = time.monotonic() + 3600  # from now on it asks only if there is a reason
    numbers = [pool.strain(slot).ask(0) for slot in (0, 1)]
    pool.glance()
    assert [pool.granted(0), pool.granted(1)] == [numbers[0], 0]
    assert pool.segment.slot(0).switches.state(0).shown is Shown.HALF_OPEN
    sent = pool.line.sent
    pool.glance()
    assert pool.line.sent == sent
    pool.strain(0).end(numbers[0], How.WELL)
    pool.glance()
    assert shared(server).look("mail") == Breaker(opened=1)
    assert (pool.switch(0), pool.switch(1)) == (Switch.CLOSED, Switch.CLOSED)
    pool.strain(1).end(numbers[1], How.NOT_RUN)
    pool.glance()
    sent = pool.line.sent
    pool.glance()
    assert pool.line.sent == sent
    assert pool.woken == 2


def test_a_successor_hears_the_end_of_the_probe(make: Callable[[str], Pool], server: Server) -> None:
    pool = make("web-1")
    opened(pool)
    until(lambda: pool.switch() is Switch.READY, "the time for a probe")
    number = pool.strain().ask(0)
    pool.glance()
    pool.start_keeper()
    pool.glance()
    pool.strain().end(number, How.BADLY)
    pool.start_keeper()
    pool.glance()
    assert (shared(server).look("mail").phase, shared(server).look("mail").opened) == (Phase.OPEN, 2)


def test_a_successor_counts_no_failure_twice_and_loses_none(
    make: Callable[[str], Pool], server: Server
) -> None:
    pool = make("web-1")
    pool.glance()
    pool.strain().failed(0)
    pool.glance()
    pool.start_keeper()
    pool.glance()
    assert len(shared(server).look("mail").failed_ms) == 1
    pool.strain().failed(0)
    pool.start_keeper()
    pool.glance()
    assert len(shared(server).look("mail").failed_ms) == 2


def test_a_probe_is_put_off_while_its_process_lives(
    make: Callable[[str], Pool], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make("web-1")
    opened(pool)
    until(lambda: pool.switch() is Switch.READY, "the time for a probe")
    pool.strain().ask(0)
    pool.glance()
    seen = []
    for holder in (4711, None):
        monkeypatch.setattr(Segment, "slot_holder", lambda *_, found=holder: found)
        before = shared(server).look("mail").probe
        assert before is not None
        past = before.until_ms - _PATIENCE_MS + 1  # else it may be put off to the same time
        until(lambda past=past: pool.keeper._breakers.now_ms > past, "another time")  # type: ignore[misc]
        pool.start_keeper()  # who does not know when it began puts it off at once
        pool.glance()
        after = shared(server).look("mail").probe
        assert after is not None
        seen.append(after.until_ms > before.until_ms)
    assert seen == [True, False]


def test_while_the_server_is_away_the_last_word_holds(make: Callable[[str], Pool], server: Server) -> None:
    pool = make("web-1")
    opened(pool)
    pool.line.is_cut = True
    pool.strain().failed(0)
    assert time.monotonic() < pool.glance() < time.monotonic() + 5
    assert pool.switch() is not Switch.CLOSED
    pool.line.is_cut = False
    shared(server).apply("mail", LIMITS, Forced(Phase.CLOSED))
    until(lambda: pool.glance() and pool.switch() is Switch.CLOSED, "the end of the trouble")


def test_a_value_that_is_no_hash_is_told(
    make: Callable[[str], Pool], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make("web-1")
    opened(pool)
    server.client().set("rsq:{orders}:mailer:breakers", "x")
    pool.strain().failed(0)
    caplog.clear()
    untyped: Any = pool.line.connection
    read = untyped.read_response

    def reply() -> Any:
        try:
            return read()
        except Exception as error:
            return error

    untyped.read_response = reply
    for _ in range(3):
        pool.glance()
    assert [record.getMessage() for record in caplog.records if "WRONGTYPE" in record.getMessage()]
    assert pool.switch() is not Switch.CLOSED


def test_by_hand_and_by_failures_are_told_apart(
    make: Callable[[str], Pool], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pool = make("web-1")
    opened(pool)
    shared(server).apply("mail", LIMITS, Forced(Phase.OPEN))
    shared(server).apply("mail", LIMITS, Failed(9))
    until(lambda: pool.glance() and pool.switch() is Switch.OPEN, "what the operator did")
    until(lambda: pool.glance() and "by hand" in caplog.text, "a line about it")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition("; ")[0] for line in lines] == [
        "orders/mailer: circuit breaker of mail is open: 3 failures within 60 s",
        "orders/mailer: circuit breaker of mail is open by hand, until it is closed by hand",
    ]
