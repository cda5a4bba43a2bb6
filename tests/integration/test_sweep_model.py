"""Any interleaving of two leaders, hosts that die and come back, workers, and time: the sweep robs nobody.

Every write of a leader is compared with a full picture of the group before and after it. What a leader
looked at is old when it acts: before each of its deeds anything may happen that the model knows, above all
what makes the look wrong. At the end whoever is left must be able to finish everything.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from support_servers import Server
from support_sweep import (
    DLQ,
    GROUP,
    LEASE_MS,
    MOST,
    STREAM,
    THIRD_MS,
    TTL_MS,
    Field,
    pool,
    run_pass,
)  # fmt: skip

from rsq.streams import fleet, keys, lease, marks
from rsq.streams.group import Group, Pending, taken
from rsq.streams.letter import parse, write_command
from rsq.streams.marks import RESTING_MS, SUSPECT_MS, Mark
from rsq.streams.waiting import Wait
from rsq.supervisor.plan import seat
from rsq.supervisor.sweep import Deposed, Sweeper

HOSTS, SLOTS, STRANGER, KEPT = ("a", "b", "c"), (0, 1), "cron", 3
SEATS = tuple(keys.consumer(host, slot) for host in HOSTS for slot in SLOTS)
OTHERS = "audit"  # another group of the stream
TRIMS = ("acked", f"maxlen:{KEPT}")
TTLS_MS = (TTL_MS, 0)
ACTS = (
    "acks", "takes", "drains", "dies", "stops", "comes_back", "all_come_back", "all_but_one_die",
    "lead_moves", "deletes", "ages", "visits", "hands_again", "claims", "pardons", "charges",
)  # fmt: skip
ENDS = ("die", "stop", "drain and stop", "busy", "done and stop")
BETWEEN = st.lists(st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(SEATS)), max_size=3), max_size=5)
SLACK_MS = 2000  # between a picture and what the server sees then; no threshold is missed by so little


class Picture(NamedTuple):
    """All that a sweep may change."""

    rows: dict[bytes, Pending]
    stream: list[bytes]
    letters: dict[bytes, int]  # id -> attempts
    consumers: dict[bytes, int]  # name -> pending
    swept: dict[str, int]


class Model(RuleBasedStateMachine):
    """A group of three hosts, a stranger, another group, and two who take the lead from each other."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        server.flush()
        self.field = Field(server)
        self.url = server.url
        self.pushed: list[bytes] = []
        self.acked: set[bytes] = set()
        self.deleted: set[bytes] = set()
        self.unseen: set[bytes] = set()  # deleted, and dropped while somebody else than a leader touched it
        self.hands: dict[str, dict[bytes, int]] = {name: {} for name in (*SEATS, STRANGER)}
        self.alive: set[str] = set()
        self.leader, self.acting, self.epochs = 0, 0, [0, 0]
        self.between: list[list[Callable[[], object]]] = []  # what happens before each next deed of a leader
        self.sweepers = [self.sweeper(number) for number in (0, 1)]

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.field.close()

    # -- pictures ---------------------------------------------------------------------------------------

    def picture(self) -> Picture:
        found = [parse(entry, fields) for entry, fields in self.field.letters()]
        letters = [(letter.origin_id.encode(), letter.attempts) for letter in found if letter]
        assert len(dict(letters)) == len(letters) == len(found)
        rows = self.field.ask("XINFO", "CONSUMERS", STREAM, GROUP)
        return Picture(
            self.field.rows(),
            [entry for entry, _ in self.field.ask("XRANGE", STREAM, "-", "+")],
            dict(letters),
            {row[1]: row[3] for row in rows},
            self.field.swept(),
        )

    def sweeper(self, number: int) -> Sweeper:
        def call(*commands: bytes) -> list[Any]:
            if not any(command.split(b"\r\n", 3)[2] == b"EVAL" for command in commands):
                return self.field.call(*commands)
            for act in self.between.pop(0) if self.between else ():
                act()
            before = self.picture()
            replies = self.field.call(*commands)
            self.compare(number, before, self.picture())
            return replies

        return Sweeper(pool(self.url, trim=TRIMS[number], consumer_ttl=TTLS_MS[number] / 1000), call)

    def compare(self, number: int, before: Picture, after: Picture) -> None:
        """What one write of a leader has done is allowed."""
        if self.epochs[number] != self.epochs[self.leader]:
            assert after._replace(rows={}) == before._replace(rows={}), "a deposed leader acted"
            assert [row[:2] for row in after.rows.values()] == [row[:2] for row in before.rows.values()]
            return
        assert not after.rows.keys() - before.rows.keys()
        lost = 0
        for entry, row in before.rows.items():
            now = after.rows.get(entry)
            if now is None or now.consumer != row.consumer:
                self.allowed(row, TTLS_MS[number])
            if now is None and entry in self.deleted:
                lost += 1
                self.unseen.add(entry)
            elif now is None:
                assert after.letters[entry] == row.counter >= MOST
                assert row.is_suspect or not row.rests
            else:
                assert now.counter == row.counter
                if now.consumer != row.consumer:
                    found = seat(now.consumer.decode())
                    assert found
                    assert found[0] in self.alive, "given to the dead"
                    assert now.rests
                    assert now.is_suspect == (row.is_suspect or not row.rests)
                    assert not (now.is_suspect and now.counter >= MOST)
                else:
                    assert now.rests == row.rests
        assert after.swept.get("lost", 0) - before.swept.get("lost", 0) == lost
        assert after.letters.keys() - before.letters.keys() <= before.rows.keys() - after.rows.keys()
        gone = set(before.stream) - set(after.stream)
        if gone:
            unread = self.unread(OTHERS) | self.unread(GROUP)
            others = {row[0] for row in self.field.ask("XPENDING", STREAM, OTHERS, "-", "+", 1000)}
            assert not gone & (before.rows.keys() | unread | others), "trimmed what somebody needs"
            assert number == 0 or len(after.stream) >= KEPT
        for name in before.consumers.keys() - after.consumers.keys():
            if marks.split(name.decode())[1] is not Mark.HELD:
                continue  # it goes with its last entry: where that is now was looked at above
            assert before.consumers[name] == 0
            found = seat(name.decode())
            assert not found or found[0] not in self.alive

    def allowed(self, row: Pending, ttl_ms: int) -> None:
        """An entry may leave its owner."""
        found = seat(row.consumer.decode())
        if found and found[0] in self.alive:
            assert row.rests, "robbed from the living"
            used_up = row.is_suspect and row.counter >= MOST
            rested_ms = row.idle_ms - (SUSPECT_MS if row.is_suspect else RESTING_MS)
            assert used_up or rested_ms >= THIRD_MS - SLACK_MS, "robbed of what it is about to take"
        elif not row.rests:
            assert row.idle_ms >= (LEASE_MS if found else ttl_ms) - SLACK_MS, "taken too early"

    def unread(self, group: str) -> set[bytes]:
        (info,) = [row for row in self.field.ask("XINFO", "GROUPS", STREAM) if row[1] == group.encode()]
        last = tuple(
            map(int, dict(zip(info[::2], info[1::2], strict=True))[b"last-delivered-id"].split(b"-"))
        )
        return {entry for entry in self.pushed if tuple(map(int, entry.split(b"-"))) > last}

    def quietly(self, act: Callable[[], object]) -> None:
        """Do something that is no sweep: newer servers drop deleted entries on any claim."""
        before = self.field.rows()
        act()
        self.unseen |= (before.keys() - self.field.rows().keys()) & self.deleted

    # -- who acts ---------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.field.ask("XGROUP", "CREATE", STREAM, OTHERS, "0")
        for host in HOSTS:
            self.live(host)
        self.lead(0)

    def live(self, host: str, states: tuple[str, ...] = (fleet.IDLE, fleet.BUSY)) -> None:
        self.alive.add(host)
        self.field.host(host, dict(zip(SLOTS, states, strict=False)))

    @rule(number=st.integers(1, 5))
    def push(self, number: int) -> None:
        self.pushed += self.field.push(number)

    @rule(who=st.sampled_from((*SEATS, STRANGER)), number=st.integers(1, 4))
    def read(self, who: str, number: int) -> None:
        if who == STRANGER or who.split(":")[0] in self.alive:
            self.hands[who] |= dict.fromkeys(self.field.read(who, number), 1)

    @rule(who=st.sampled_from(SEATS))
    def take(self, who: str) -> None:
        """A worker takes what rests at its slot into hand: everything, or one suspect alone."""
        if who.split(":")[0] in self.alive:
            self.quietly(lambda: self._take(who))

    def _take(self, who: str) -> None:
        group = Group(STREAM, GROUP, who)
        mine = [row for row in self.field.rows().values() if row.consumer == who.encode() and row.rests]
        page = {row.entry: row.counter + 1 for row in mine if not row.is_suspect}
        if page:
            (codes,) = self.field.call(group.take(page))
            got = {e: page[e] for e, code in zip(page, taken(codes), strict=True) if isinstance(code, Wait)}
            self.field.call(group.claim(got))  # they may be started at any moment
            self.hands[who] |= got
        elif suspects := [row for row in mine if row.counter < MOST]:
            row = suspects[0]
            ((code,),) = self.field.call(group.claim_suspect(row.entry, row.counter + 1))
            if not isinstance(code, int):
                self.hands[who][row.entry] = row.counter + 1

    @rule(who=st.sampled_from((*SEATS, STRANGER)), number=st.integers(1, 4))
    def ack(self, who: str, number: int) -> None:
        """A handler returned: what a live slot has in hand is its own."""
        if who != STRANGER and who.split(":")[0] not in self.alive:
            return
        for entry in list(self.hands[who])[:number]:
            del self.hands[who][entry]
            (done,) = self.field.call(Group(STREAM, GROUP, who).ack_own([entry]))
            assert done or entry in self.deleted or who == STRANGER, "robbed from the living"
            if done:
                self.acked.add(entry)

    @rule(who=st.sampled_from(SEATS))
    def fail(self, who: str) -> None:
        if who.split(":")[0] not in self.alive:
            return
        for entry, attempt in list(self.hands[who].items())[:1]:
            if attempt < MOST:
                self.quietly(partial(self._count, who, entry, attempt + 1))
                self.hands[who][entry] = attempt + 1
                continue
            del self.hands[who][entry]
            words = write_command(
                STREAM, DLQ, GROUP, who, entry, attempts=attempt, reason="max_attempts", first_ms=1, last_ms=2
            )
            self.quietly(partial(self.field.ask, *words))

    def _count(self, who: str, entry: bytes, attempt: int) -> None:
        self.field.call(Group(STREAM, GROUP, who).set_counters({entry: attempt}))

    @rule(who=st.sampled_from(SEATS))
    def drain(self, who: str) -> None:
        if who.split(":")[0] not in self.alive:
            return
        back = {entry: max(0, attempt - 1) for entry, attempt in self.hands[who].items()}
        if back:
            self.quietly(lambda: self.field.call(Group(STREAM, GROUP, who).hand_back(back)))
        self.hands[who].clear()

    @rule(host=st.sampled_from(HOSTS))
    def die(self, host: str) -> None:
        """The host is gone, with its memory."""
        self.alive.discard(host)
        self.field.die(host)
        for slot in SLOTS:
            self.hands[keys.consumer(host, slot)].clear()

    @rule(host=st.sampled_from(HOSTS))
    def stop(self, host: str) -> None:
        """The host cannot reach the server for longer than its lease, but remembers what it has in hand."""
        self.alive.discard(host)
        self.field.die(host)

    @rule(host=st.sampled_from(HOSTS))
    def come_back(self, host: str) -> None:
        """A slot that finds held entries of its own without memory of them lets them rest as suspects."""
        if host in self.alive:
            return
        self.live(host)
        rows = self.field.rows()
        for slot in SLOTS:
            who = keys.consumer(host, slot)
            for entry, attempt in list(self.hands[who].items()):
                row = rows.get(entry)
                if row is None or row.rests or (row.consumer, row.counter) != (who.encode(), attempt):
                    del self.hands[who][entry]
        for slot in SLOTS:
            who = keys.consumer(host, slot)
            mine = [row for row in self.field.rows().values() if row.consumer == who.encode()]
            back = {
                row.entry: row.counter for row in mine if not row.rests and row.entry not in self.hands[who]
            }
            if back:
                words = Group(STREAM, GROUP, who).hand_back(back, suspect=True)
                self.quietly(partial(self.field.call, words))

    @rule(
        host=st.sampled_from(HOSTS),
        states=st.lists(st.sampled_from((fleet.IDLE, fleet.BUSY, fleet.DOWN)), max_size=2),
    )
    def report(self, host: str, states: list[str]) -> None:
        """A slot does something else now, or is closed."""
        if host in self.alive:
            self.live(host, tuple(states))

    @rule(entries=st.lists(st.integers(0, 30), min_size=1, max_size=2))
    def delete(self, entries: list[int]) -> None:
        unread = self.unread(GROUP)  # nobody will ever hear of these
        for entry in [self.pushed[at] for at in set(entries) if at < len(self.pushed)]:
            if entry not in unread and self.field.ask("XDEL", STREAM, entry):
                self.deleted.add(entry)

    @rule(how=st.sampled_from((LEASE_MS, TTL_MS)))
    def age(self, how: int) -> None:
        """Time passes for what is pending; for what rests, a third of a lease."""
        for entry, row in self.field.rows().items():
            if entry not in self.deleted:
                idle = how
                if row.rests:
                    idle = (SUSPECT_MS if row.is_suspect else RESTING_MS) + THIRD_MS
                self.field.old = self.pushed.index(entry) % 3 == 0  # some got their mark from another version
                self.field.set(row.consumer.decode(), [entry], idle, row.counter)

    @rule(number=st.integers(1, 6), ack=st.booleans())
    def others(self, number: int, *, ack: bool) -> None:
        """Another group reads, and acknowledges or not."""
        who = ("GROUP", OTHERS, "x", "COUNT", number, "STREAMS", STREAM, ">")
        reply = self.field.ask("XREADGROUP", *who)
        if ack and reply:
            self.field.ask("XACK", STREAM, OTHERS, *(entry for entry, _ in reply[0][1]))

    @rule(number=st.integers(0, 1))
    def lead(self, number: int) -> None:
        """Take the lead; who had it does not know."""
        names = keys.leader(STREAM, GROUP), keys.epoch(STREAM, GROUP)
        self.field.ask("DEL", names[0])
        (reply,) = self.field.call(lease.acquire(*names, f"t{number}", "x", 10**9))
        self.leader, self.epochs[number] = number, lease.term(reply).epoch
        self.sweepers[number].turn(self.epochs[number], 0.0)

    @rule(number=st.integers(0, 1), turns=st.integers(1, 12), between=BETWEEN)
    def sweep(self, number: int, turns: int, between: list[list[tuple[str, str]]]) -> None:
        """Some turns of a leader, maybe one that was deposed; things happen before each of its deeds."""
        if not self.epochs[number]:
            return
        self.acting = number
        self.between = [[partial(getattr(self, f"_{what}"), who) for what, who in acts] for acts in between]
        now = self.sweepers[number]._due
        try:
            for _ in range(turns):
                now = self.sweepers[number].turn(self.epochs[number], now)
        except Deposed:
            assert number != self.leader
            self.epochs[number] = 0
        self.between = []
        self.account()

    @rule(
        number=st.integers(0, 1),
        hosts=st.sets(st.sampled_from(HOSTS), min_size=1, max_size=2),
        attempts=st.integers(1, MOST),
        end=st.sampled_from(ENDS),
        between=BETWEEN,
    )
    def crisis(
        self, number: int, hosts: set[str], attempts: int, end: str, between: list[list[tuple[str, str]]]
    ) -> None:
        """Hosts get work and come to an end, and a whole pass follows: what a sweep is there for."""
        for host in HOSTS if end == "busy" else sorted(hosts):
            self.come_back(host)
            self.live(host)
        for host in sorted(hosts):
            self.push(3)
            for who in (keys.consumer(host, slot) for slot in SLOTS):
                self.take(who)
                self.read(who, 2)
                for _ in range(attempts - 1):
                    self.fail(who)
                if end.startswith("done"):
                    self.ack(who, 100)
                elif end in ("drain and stop", "busy"):
                    self.drain(who)
        self.age(LEASE_MS)
        for host in sorted(hosts):
            if end == "busy":
                self.live(host, (fleet.BUSY, fleet.BUSY))
            elif end == "die":
                self.die(host)
            else:
                self.stop(host)
        if number != self.leader or not self.epochs[number]:
            self.lead(number)
        self.sweepers[number].stop()
        self.sweep(number, 30, between)

    # -- what may happen between a leader's look and its deed --------------------------------------------

    def _acks(self, who: str) -> None:
        self.ack(who, 9)

    def _takes(self, _: str) -> None:
        for who in SEATS:
            self.take(who)

    def _drains(self, who: str) -> None:
        self.drain(who)

    def _dies(self, who: str) -> None:
        self.die(who.split(":")[0])

    def _stops(self, who: str) -> None:
        self.stop(who.split(":")[0])

    def _comes_back(self, who: str) -> None:
        self.come_back(who.split(":")[0])

    def _all_come_back(self, _: str) -> None:
        for host in HOSTS:
            self.come_back(host)

    def _all_but_one_die(self, who: str) -> None:
        for host in HOSTS:
            if host != who.split(":")[0]:
                self.die(host)

    def _lead_moves(self, _: str) -> None:
        self.lead(1 - self.acting)

    def _deletes(self, _: str) -> None:
        self.delete(list(range(0, 30, 4)))

    def _ages(self, _: str) -> None:
        self.age(LEASE_MS)

    def _visits(self, _: str) -> None:
        """Whoever is gone is there for a moment: works on what it has and reads, then it is gone again."""
        for host in [host for host in HOSTS if host not in self.alive]:
            self.come_back(host)
            self.push(2)
            for slot in SLOTS:
                who = keys.consumer(host, slot)
                self.take(who)
                self.read(who, 1)
                for entry, attempt in self.hands[who].items():
                    self.quietly(partial(self._count, who, entry, attempt))
            self.stop(host)

    def _hands_again(self, _: str) -> None:
        """Slots take what rests at them, and let it rest again."""
        for who in SEATS:
            self.take(who)
            self.drain(who)

    def _claims(self, who: str) -> None:
        """Somebody outside takes what the dead hold, as any consumer of the group may."""
        dead = [name for name in SEATS if name.split(":")[0] not in self.alive]
        for row in self.field.rows().values():
            if row.consumer.decode() in dead and row.entry not in self.deleted:
                self.field.set(STRANGER, [row.entry], LEASE_MS, row.counter)
                self.hands[STRANGER][row.entry] = row.counter

    def _pardons(self, _: str) -> None:
        """An operator gives what the dead have another attempt."""
        self._recount(MOST - 1)

    def _charges(self, _: str) -> None:
        """The dead were there again for a moment, and began the last attempt at what they hold."""
        self._recount(MOST)

    def _recount(self, counter: int) -> None:
        for row in self.field.rows().values():
            if row.consumer.decode().split(":")[0] not in self.alive and row.entry not in self.deleted:
                self.field.set(row.consumer.decode(), [row.entry], row.idle_ms, counter)

    # -- what must hold ---------------------------------------------------------------------------------

    def account(self) -> None:
        """Every entry is in one place, and what a live slot has in hand is still its own."""
        now = self.picture()
        unread = self.unread(GROUP)
        for entry in self.pushed:
            places = [
                entry in unread,
                entry in now.rows,
                entry in self.acked,
                entry in now.letters,
                entry in self.unseen,
            ]
            assert sum(places) == 1, (entry, places)
            assert entry in now.stream or entry in self.deleted or not (places[0] or places[1])
        assert self.unseen <= self.deleted
        for who in SEATS:
            for entry, attempt in self.hands[who].items() if who.split(":")[0] in self.alive else ():
                row = now.rows.get(entry)
                if row is not None:
                    assert (row.consumer, row.counter) == (who.encode(), attempt)
                else:
                    assert entry in self.unseen

    def finish(self) -> None:
        """One host is left, and finishes everything."""
        if not self.alive and not self.leader and not self.epochs[0]:
            return  # not even begun
        self.between = []
        for who in SEATS:
            self.drain(who)
        self.hands[STRANGER].clear()
        for host in HOSTS[1:]:
            self.die(host)
        self.come_back("a")
        for who in SEATS[:2]:
            self.ack(who, 100)
        self.live("a")
        self.lead(0)
        for _ in range(200):  # suspects go one at a time
            self.age(TTL_MS)
            run_pass(self.sweepers[0], self.epochs[0])
            for who in SEATS[:2]:
                self.read(who, 100)
                self.take(who)
                self.ack(who, 100)
            if not self.field.rows() and not self.unread(GROUP):
                break
        self.account()
        left = {entry for entry in self.field.rows() if entry not in self.deleted}
        assert not left, "entries that nobody came to"
        assert not self.unread(GROUP) - self.deleted


def test_no_interleaving_loses_or_robs(server: Server) -> None:
    run_state_machine_as_test(
        lambda: Model(server),  # type: ignore[arg-type]
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("end", ENDS)
def test_whatever_happens_before_a_deed(server: Server, end: str) -> None:
    """Each act before each of the first deeds, in every kind of crisis."""
    for act, number, attempts in product(ACTS, (0, 1), (1, MOST)):
        model = Model(server)
        model.begin()
        model.crisis(number, {"a"}, attempts, end, [[(act, "a:0")]] * 4)
        model.teardown()
