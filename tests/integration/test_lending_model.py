"""Lending, by the real scripts, with keeper, owner and receivers stopped and killed between any two steps.

The owner and the keeper are as small as can be: each rule is one store, one look or one command. What must
hold: no entry is started twice, but for the one that ran when its process was killed, and nothing is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from support_servers import Server

from rsq.streams.group import Group, merged, pack, pending_rows, taken
from rsq.streams.lending import Lending, Row, rows
from rsq.streams.waiting import Wait

STREAM, GROUP, OWNER, OTHERS = "events", "workers", "test:0", ("test:1", "test:2")


class Model:
    """One slot whose batch is lent from."""

    def __init__(self, server: Server) -> None:
        self.redis: Any = server.client()
        self.redis.delete(STREAM)
        self.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        self.group, self.lending = Group(STREAM, GROUP, OWNER), Lending(STREAM, GROUP)
        self.asked, self.asks = 0, 0
        # The journal: number of the batch, ids, index of the last mark; and `ASKED` as it was at the open.
        self.number, self.mark, self.known = 0, -1, 0
        self.running = self.begun = False
        self.batch: list[bytes] = []
        self.ahead: list[bytes] = []
        self.ahead_known = 0
        self.todo: list[bytes] = []
        self.ticks = 0
        self.step = 0  # of the keeper: looked, asked, read
        self.seen = (0, 0)
        self.rows: list[Row] = []
        self.late: list[bytes] = []  # scripts that are on their way
        self.started: Counter[bytes] = Counter()
        self.culprits: Counter[bytes] = Counter()
        self.finished: set[bytes] = set()
        self.pushed: list[bytes] = []
        self.lent = 0

    def run(self, packed: bytes) -> Any:
        connection = self.redis.connection_pool.get_connection()
        try:
            connection.send_packed_command([packed])
            return connection.read_response()
        finally:
            self.redis.connection_pool.release(connection)

    def age(self, ids: list[bytes], consumer: str) -> None:
        """Let what was touched have been touched some time ago, each time at another time."""
        self.ticks += 1
        idle_ms = 10**7 - 20 * self.ticks
        if ids:
            self.run(pack("XCLAIM", STREAM, GROUP, consumer, 0, *ids, "IDLE", idle_ms, "JUSTID"))

    def start(self, entry: bytes) -> None:
        self.started[entry] += 1
        assert self.started[entry] <= 1 + self.culprits[entry], "run twice"

    def ack(self, consumer: str, entry: bytes) -> None:
        assert self.run(Group(STREAM, GROUP, consumer).ack_own([entry])) == 1, "another's"
        self.finished.add(entry)

    # -- the owner ------------------------------------------------------------------------------------

    def deliver(self, number: int) -> list[bytes]:
        for _ in range(number):
            self.pushed.append(self.redis.xadd(STREAM, {"data": "1"}))
        reply = self.run(self.group.read(number, None))
        ids = [entry[0] for entry in reply[0][1]]
        self.age(ids, OWNER)
        return ids

    def open(self, ids: list[bytes]) -> None:
        self.known = self.asked
        self.number, self.batch, self.mark = self.number + 1, ids, -1

    @property
    def is_free(self) -> bool:
        return not self.running and not self.batch and not self.todo

    def read(self, number: int, ahead: int) -> None:
        if not self.is_free:
            return
        if self.ahead:
            ids, self.ahead = self.ahead, []
            if self.ahead_known != self.asked:
                self.todo.extend(ids)
                return
        else:
            ids = self.deliver(number)
        if ahead:
            self.ahead_known, self.ahead = self.asked, self.deliver(ahead)
        self.open(ids)

    def work(self) -> None:
        """The next store or look of the loop: a mark, or the comparison behind it and the start."""
        if not self.batch:
            return
        if not self.running:
            self.mark, self.running, self.begun = self.mark + 1, True, False
        elif not self.begun and self.known != self.asked:
            self.todo = self.batch[self.mark :] + self.todo
            self.batch, self.running = [], False
        elif not self.begun:
            self.begun = True
            self.start(self.batch[self.mark])

    def finish_entry(self) -> None:
        """The handler returns; the next mark says so."""
        if not self.running or not self.begun:
            return
        self.ack(OWNER, self.batch[self.mark])
        self.mark, self.begun = self.mark + 1, False
        if self.mark == len(self.batch):
            self.batch, self.running = [], False

    def claim(self, number: int) -> None:
        if self.running or self.batch or not self.todo:
            return
        page, self.todo = self.todo[:number], self.todo[number:]
        results = self.run(self.group.claim(dict.fromkeys(page, 1)))
        mine = [result[0] for result in results if not isinstance(result, int)]
        self.age(mine, OWNER)
        if mine:
            self.open(mine)

    def take_back(self) -> None:
        """What was let rest under the owner's name."""
        if self.is_free and not self.ahead:
            self.todo += self.take(OWNER)

    def kill(self) -> None:
        """The owner dies, and its successor finds what it held."""
        if self.running and self.begun:
            self.culprits[self.batch[self.mark]] += 1
        held = pending_rows(self.run(self.group.pending(OWNER, b"-", 1000)))
        self.batch, self.running, self.ahead = [], False, []
        self.todo = [row.entry for row in held if not row.rests]

    # -- the keeper -----------------------------------------------------------------------------------

    def keep(self, to: str) -> None:
        """The next step of the keeper: looks, asks, reads, looks again and sends."""
        if self.step == 0 and self.running:
            self.seen = self.number, self.mark
        elif self.step == 1:
            self.asks += 1
            self.asked = self.asks
        elif self.step == 2:
            self.rows = rows(self.run(self.lending.held(OWNER, b"-", 1000)))
        elif self.step == 3:
            over = set(self.batch[: self.mark + 1])
            part = [row for row in self.rows if row.entry not in over and not row.is_fresh]
            if part and self.running and self.seen == (self.number, self.mark):
                self.late.append(self.lending.lend(OWNER, to, part, old=self.asks % 3 == 0))
            self.step = 0
            return
        else:
            return
        self.step += 1

    def lend(self, draw: Random) -> None:
        """All steps of the keeper in turn, with things that happen before each of them and afterwards."""
        if self.is_free:
            self.read(4, draw.randrange(3))
        if not self.running:
            self.work()
        self.step = 0
        to = draw.choice((*OTHERS, OWNER))
        for at in range(5):
            for _ in range(draw.choice((0, 0, 1, 2))):
                draw.choice(ACTS)(self, draw)
            if at < 4:
                self.keep(to)

    def arrive(self, which: int) -> None:
        """A script comes, sooner or later."""
        if self.late:
            self.lent += sum(self.run(self.late.pop(which % len(self.late))))

    # -- who gets it ----------------------------------------------------------------------------------

    def take(self, consumer: str) -> list[bytes]:
        group = Group(STREAM, GROUP, consumer)
        resting = merged(map(self.run, group.resting(1000)))
        codes = self.run(group.take({row.entry: row.counter + 1 for row in resting})) if resting else []
        return [row.entry for row, code in zip(resting, taken(codes), strict=True) if isinstance(code, Wait)]

    def receive(self, who: str) -> None:
        for entry in self.take(who):
            self.start(entry)
            self.ack(who, entry)

    def go_on(self) -> None:
        """Everybody goes on to the end."""
        for turn in range(10_000):
            self.work()
            self.finish_entry()
            self.claim(2)
            self.take_back()
            if self.ahead and self.is_free:
                self.read(2, 0)
            if turn % 5 == 4:
                self.arrive(0)
                for who in OTHERS:
                    self.receive(who)
            if self.finished == set(self.pushed):
                break
        assert self.finished == set(self.pushed), "nobody came to it"
        assert all(self.started[entry] == 1 + self.culprits[entry] for entry in self.pushed)


def _goes_on(model: Model, _: Random) -> None:
    model.finish_entry()
    model.work()


def _goes_on_and_claims(model: Model, draw: Random) -> None:
    _goes_on(model, draw)
    model.claim(3)


ACTS: tuple[Callable[[Model, Random], None], ...] = (
    lambda model, _: model.work(),
    _goes_on,
    _goes_on_and_claims,
    lambda model, draw: model.read(draw.randrange(2, 5), draw.randrange(3)),
    lambda model, _: model.claim(2),
    lambda model, _: model.take_back(),
    lambda model, _: model.kill(),
    lambda model, draw: model.arrive(draw.randrange(4)),
    lambda model, draw: model.receive(draw.choice(OTHERS)),
)


def test_no_entry_runs_twice_whoever_is_late(server: Server) -> None:
    """Every seed is another order of the same small steps."""
    lent = 0
    for seed in range(120):
        draw = Random(seed)
        model = Model(server)
        for _ in range(12):
            model.lend(draw)
            for _ in range(draw.randrange(6)):
                draw.choice(ACTS)(model, draw)
        model.go_on()
        lent += model.lent
    assert lent > 100, "too little was lent to prove anything"
