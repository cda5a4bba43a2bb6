"""A real pool for tests: the command line program, its handler in a file, and a ledger of what it did.

Handlers write into Redis when they start and when they finish an entry, so a test can say exactly
how often each entry was run, whatever died in between.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
from support_servers import Server, end, is_gone, stand_still_below

from rsq.ipc.breakers import Shown
from rsq.ipc.cells import D, DeskState, K, P, PoolState, S
from rsq.ipc.exitcodes import Cause
from rsq.ipc.journal import Batch
from rsq.ipc.ledger import BATCH_BOUNDS, DEAD, C
from rsq.ipc.segment import Segment
from rsq.streams import keys
from rsq.streams.deadletter import DeadLetters
from rsq.streams.letter import DeadLetter
from rsq.streams.marks import Mark, read, split
from rsq.streams.producer import Producer

T = TypeVar("T")
DEADLINE_S = 120.0  # of what comes in milliseconds, on a machine that others use too

PROGRAM = (sys.executable, "-m", "rsq.supervisor.entry")

# What every handler file begins with. `started` and `finished` are durable before they return.
PREAMBLE = '''
import ctypes, os, signal, sys, time
import redis
from rsq import Reject, Retry, worker_start, worker_stop
_ledger = None
def ledger():
    global _ledger
    if _ledger is None or _ledger[0] != os.getpid():
        _ledger = (os.getpid(), redis.Redis.from_url(os.environ["LEDGER_URL"], protocol=2))
    return _ledger[1]
def started(message):
    ledger().hincrby("ledger:started", message.id, 1)
def finished(message):
    ledger().hincrby("ledger:finished", message.id, 1)
def wait_for(key):
    """Block until the test has set a key."""
    while not ledger().exists(key):
        time.sleep(0.005)
def segfault():
    ctypes.string_at(0)
'''


def until(condition: Callable[[], T], what: str = "the condition", deadline_s: float = DEADLINE_S) -> T:
    """Return the first true value of a condition that some other process brings about."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {deadline_s:g} s")
        time.sleep(0.005)


class Pool:
    """One `rsq-supervisor` process."""

    stream, group, target = "events", "workers", "app:handle"  # what `options` must say if it is another

    def __init__(
        self,
        server: Server,
        folder: Path,
        handler: str,
        *options: str,
        ledger: Server | None = None,
        **more: str,
    ) -> None:
        """Prepare; nothing runs yet.

        Arguments:
            server: where the stream is.
            folder: for the handler's file, logs and the runtime directory.
            handler: source of a module with a function `handle(message)`.
            options: of the command line, after the usual ones.
            ledger: where the ledger is, and the keys handlers wait for; None for the same server.
            more: environment variables.
        """
        self.server, self.folder = server, folder
        self.redis = server.client()
        self.books = ledger.client() if ledger else self.redis
        self.runtime = folder / "run"
        self.module = folder / "app.py"
        self.write(handler)
        self.options = [
            "--redis", server.url, "--workers", "1", "--metrics", "off", "--instance", "test",
            "--backoff-base", "0.05", "--runtime-dir", str(self.runtime), *options,
        ]  # fmt: skip
        self.environment = {
            **os.environ,
            "LEDGER_URL": (ledger or server).url,
            "PYTHONDONTWRITEBYTECODE": "1",
            **more,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def write(self, handler: str) -> None:
        """Write the handler's file anew."""
        self.module.write_text(PREAMBLE + textwrap.dedent(handler))

    # Running

    def start(self, *options: str, ready: bool = True, wrapper: Sequence[str] = ()) -> Pool:
        """Start it, inside another command if one is given, and wait until every slot has booted if asked."""
        self._starts += 1
        self.log_path = self.folder / f"log-{self._starts}"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *wrapper,
                    sys.executable,
                    "-m",
                    "rsq.supervisor.entry",
                    *self.options,
                    *options,
                    self.target,
                ],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ready:
            self.wait_log("ready: ")
        return self

    def run(self, *options: str) -> int:
        """Run it until the stream is read and settled; return its exit code."""
        return self.start("--stop-when-empty", *options, ready=False).wait()

    def say(self, *words: str) -> tuple[int, str]:
        """Run the program with the usual options and these words; return exit code and all it said."""
        done = subprocess.run(
            [*PROGRAM, *self.options, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def pid(self) -> int:
        """Pid of the master."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def stop(self) -> int:
        """TERM, and wait."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Return the exit code once it has ended."""
        assert self.process is not None
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the pool did not end within {deadline_s:g} s; its log:\n{self.log()}"
            ) from None

    def discard(self) -> None:
        """Make sure that nothing of it runs on."""
        if self.process is None:
            return
        family = []
        if self.process.poll() is None:
            family = stand_still_below(self.process.pid)
            self.process.kill()
            self.process.wait()
        family += self.holders()
        with contextlib.suppress(ValueError, psutil.Error):  # without a master it lives on while workers do
            if "rsq: keeper" in " ".join(psutil.Process(keeper := self.keeper()).cmdline()):
                family.append(keeper)
        end(family)

    def log(self) -> str:
        """Return what it has logged since its last start."""
        return self.log_path.read_text(errors="replace")

    def wait_log(self, words: str, times: int = 1, deadline_s: float = DEADLINE_S) -> None:
        """Wait until words stand in the log."""
        try:
            until(
                lambda: self.log().count(words) >= times or self._ended(), f"{words!r} in the log", deadline_s
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log()}") from None
        if self.log().count(words) < times:
            raise AssertionError(f"the pool ended before it logged {words!r}:\n{self.log()}")

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    # Looking into it

    def segment(self) -> Segment:
        """Open the pool's shared memory for reading."""
        (path,) = self.runtime.glob("*.seg")
        return Segment.attach(path)

    def worker(self, slot: int = 0) -> int:
        """Return the pid of the process that sits in a slot."""
        segment = self.segment()
        try:
            pid = segment.slot_holder(slot)
        finally:
            segment.close()
        assert pid, f"nobody sits in slot {slot}; the log:\n{self.log()}"
        return pid

    def holders(self) -> list[int]:
        """Return the pids of all processes that sit in a slot."""
        found = []
        for path in self.runtime.glob("*.seg"):
            segment = Segment.attach(path)
            try:
                pids = [segment.slot_holder(slot) for slot in range(segment.capacity)]
                found += [pid for pid in pids if pid]
            finally:
                segment.close()
        return found

    def seats(self) -> dict[int, int]:
        """Return slot -> pid of the process that sits in it."""
        segment = self.segment()
        try:
            pids = {slot: segment.slot_holder(slot) for slot in range(segment.capacity)}
        finally:
            segment.close()
        return {slot: pid for slot, pid in pids.items() if pid}

    def booted(self) -> dict[int, int]:
        """Return slot -> pid of the process that sits in it, of those that are ready to read."""
        return {slot: pid for slot, pid in self.seats().items() if self.is_booted(pid, slot)}

    def keep(self, cell: str) -> float:
        """Return a number that the keeper has written, by its name in `rsq.ipc.cells.K`."""
        segment = self.segment()
        try:
            real = cell in ("BEAT", "UNTIL")
            return segment.keep.real[K[cell]] if real else segment.keep.view[K[cell]]
        finally:
            segment.close()

    def keeper(self) -> int:
        """Return the pid of the keeper, as it wrote it down itself."""
        return int(self.keep("PID"))

    def term(self) -> int:
        """Return how often the instance lease was won anew."""
        return int(self.keep("TERM"))

    def port(self) -> int:
        """Return the port at which metrics are served."""
        segment = self.segment()
        try:
            return segment.pool.view[P.METRICS_PORT]
        finally:
            segment.close()

    def counters(self, only: int | None = None) -> dict[str, int]:
        """Return the sums over all slots, or those of one, by the names in `rsq.ipc.ledger.C`.

        Dead letters are there also as DEAD.
        """
        total: Counter[str] = Counter(dict.fromkeys(C.__members__, 0))
        segment = self.segment()
        try:
            for slot in range(segment.capacity):
                if segment.used(slot) and only in (None, slot):
                    sums, _, _ = segment.slot(slot).ledger.read()
                    for counter in C:
                        total[counter.name] += sums.counters[counter]
        finally:
            segment.close()
        total["DEAD"] = sum(total[counter.name] for counter in DEAD)
        return dict(total)

    def is_running_handler(self, slot: int = 0) -> bool:
        """Tell whether user code runs in a slot."""
        segment = self.segment()
        try:
            return bool(segment.slot(slot).desk.view[D.RUNNING])
        finally:
            segment.close()

    def desk_state(self, slot: int = 0) -> DeskState:
        """Return what the worker in a slot says that it is doing."""
        segment = self.segment()
        try:
            return DeskState(segment.slot(slot).desk.view[D.STATE])
        finally:
            segment.close()

    def is_booted(self, pid: int, slot: int = 0) -> bool:
        """Tell whether this process is ready to read in a slot."""
        segment = self.segment()
        try:
            desk = segment.slot(slot).desk
            return bool(desk.view[D.PID] == pid and desk.real[D.BOOTED])
        finally:
            segment.close()

    def is_connected(self, slot: int = 0) -> bool:
        """Tell whether a slot's worker has a connection to the server."""
        segment = self.segment()
        try:
            return bool(segment.slot(slot).desk.view[D.CONNECTED])
        finally:
            segment.close()

    def batch(self, slot: int = 0) -> Batch:
        """Return the newest batch in a slot's journal."""
        segment = self.segment()
        try:
            return segment.slot(slot).journal.batches()[-1]
        finally:
            segment.close()

    def place(self, slot: int = 0) -> int:
        """Return the journal's name for the start that was made last; it never repeats."""
        segment = self.segment()
        try:
            place = segment.slot(slot).journal.place()
            return place[0] if place else 0
        finally:
            segment.close()

    def waiting(self, slot: int = 0) -> dict[str, tuple[int, float]]:
        """Return id -> (next attempt, seconds until it is due) of the entries that wait in a slot."""
        segment = self.segment()
        try:
            rows = segment.slot(slot).waiting.load()
        finally:
            segment.close()
        now = time.monotonic()
        return {entry.decode(): (attempt, due - now) for entry, (attempt, due) in rows.items()}

    def breaker(self, event: str) -> set[Shown | None]:
        """Return what the slots are told of an event's circuit breaker; None where nothing was told yet."""
        told: set[Shown | None] = set()
        segment = self.segment()
        try:
            for slot in range(segment.capacity):
                if segment.used(slot):
                    strain, switches = segment.slot(slot).strain, segment.slot(slot).switches
                    rows = [row.name for row in strain.rows()]
                    known = event.encode() in rows and switches.registered == strain.registered
                    told.add(switches.state(rows.index(event.encode())).shown if known else None)
        finally:
            segment.close()
        return told

    def wait_open(self, event: str) -> None:
        """Wait until every slot is told that an event's circuit breaker is not closed.

        What is pushed after that is not started, but for one at a time to see if all is well again.
        """
        until(lambda: not self.breaker(event) & {None, Shown.CLOSED}, f"the breaker of {event}, open for all")

    def largest_batch(self) -> float:
        """Return the bucket (its upper bound) of the largest batch that any slot has read."""
        segment = self.segment()
        try:
            used = [slot for slot in range(segment.capacity) if segment.used(slot)]
            rows = [segment.slot(slot).ledger.read()[0].batch.read()[0] for slot in used]
        finally:
            segment.close()
        return max(
            bound
            for row in rows
            for bound, count in zip((*BATCH_BOUNDS, math.inf), row, strict=True)
            if count
        )

    def deferred(self) -> int:
        """Return how many entries wait for a circuit breaker just now."""
        segment = self.segment()
        try:
            used = [slot for slot in range(segment.capacity) if segment.used(slot)]
            return sum(segment.slot(slot).desk.view[D.DEFERRED] for slot in used)
        finally:
            segment.close()

    def kill_worker(self, slot: int = 0) -> int:
        """Kill -9 the process in a slot, and wait until it is gone; return its pid."""
        pid = self.worker(slot)
        os.kill(pid, signal.SIGKILL)
        until(lambda: is_gone(pid), f"the end of process {pid}")
        return pid

    def kill_master(self) -> None:
        """Kill -9 the master alone, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def release(self, key: str) -> None:
        """Let handlers go on that wait for a key."""
        self.books.set(key, 1)

    def wait_count(self, *, started: int = 0, finished: int = 0) -> None:
        """Wait until the handler was started with, or has returned for, so many different entries."""
        until(lambda: len(self.started()) >= started, f"the start of {started} entries")
        until(lambda: len(self.finished()) >= finished, f"the end of {finished} entries")

    def state(self) -> PoolState:
        """Return what the master says that the pool is doing."""
        segment = self.segment()
        try:
            return PoolState(segment.pool.view[P.STATE])
        finally:
            segment.close()

    def wait_state(self, state: PoolState) -> None:
        """Wait until the master says that the pool is doing this."""
        until(lambda: self.state() is state, f"a pool that is {state.name}")

    def wait_free(self) -> None:
        """Wait until nobody sits in any slot."""
        until(lambda: not self.holders(), "the end of all workers")

    def restarts(self) -> dict[str, int]:
        """Return how often processes ended in all slots, by the names in `rsq.ipc.exitcodes.Cause`."""
        segment = self.segment()
        try:
            rows = [
                segment.slot(slot).seat.view.tolist()
                for slot in range(segment.capacity)
                if segment.used(slot)
            ]
        finally:
            segment.close()
        counts = {cause.name: sum(row[S.RESTARTS + cause] for row in rows) for cause in Cause}
        return {name: count for name, count in counts.items() if count}

    def consumers(self) -> dict[str, int]:
        """Return consumer -> how many entries it has pending; a slot's, whatever their marks."""
        rows: Any = self.redis.xinfo_consumers(self.stream, self.group)
        found: dict[str, int] = {}
        for row in rows:
            name, _ = split(row["name"].decode())
            found[name] = found.get(name, 0) + row["pending"]
        return found

    def wait_successor(self, of: int, slot: int = 0) -> int:
        """Wait until another process is ready to read in a slot; return its pid."""

        def successor() -> int | None:
            new = [pid for pid in self.holders() if pid != of and self.is_booted(pid, slot)]
            return new[0] if new else None

        return until(successor, f"a successor of process {of}") or 0

    # The stream and the ledger

    def push(self, items: Iterable[Any], event: str | None = None) -> list[str]:
        """Add entries with JSON data and return their ids."""
        newest: Any = self.redis.xrevrange("events", count=1)
        with Producer(self.server.url) as producer:
            count = producer.push_many(items, event)
        added: Any = self.redis.xrange("events", min=b"(" + newest[0][0] if newest else "-")
        assert len(added) == count, "somebody else has added entries"
        return [entry.decode() for entry, _ in added]

    def add(self, fields: dict[bytes, bytes]) -> str:
        """Add one entry with these fields, as somebody else would, and return its id."""
        entry: Any = self.redis.xadd("events", fields)  # type: ignore[arg-type]
        return str(entry.decode())

    def started(self) -> dict[str, int]:
        """Return how often the handler was started with each entry."""
        return self.hash("ledger:started")

    def finished(self) -> dict[str, int]:
        """Return how often the handler returned, for each entry."""
        return self.hash("ledger:finished")

    def hash(self, key: str) -> dict[str, int]:
        """Return a hash that handlers have written beside the ledger: entry id -> number."""
        rows: Any = self.books.hgetall(key)
        return {entry.decode(): int(number) for entry, number in rows.items()}

    def wait_started(self, entry: str, times: int = 1) -> None:
        """Wait until the handler was started with an entry that often."""
        until(lambda: self.started().get(entry, 0) >= times, f"start {times} of entry {entry}")

    def wait_finished(self, entries: Iterable[str]) -> None:
        """Wait until the handler has returned for all these entries."""
        wanted = set(entries)
        until(lambda: wanted <= self.finished().keys(), f"the end of {len(wanted)} entries")

    def wait_settled(self) -> None:
        """Wait until nothing is unread and nothing is pending."""
        # In this order: between the two looks a read may turn what is unread into what is pending.
        until(lambda: self.unread() == 0 and self.pending() == 0, "nothing unread and an empty pending list")

    def pending(self) -> int:
        """Return the length of the group's pending list."""
        return int(self._group()["pending"])

    def unread(self) -> int:
        """Return how many entries the group has not delivered yet."""
        last: Any = self._group()["last-delivered-id"]
        return len(self.redis.xrange(self.stream, min=b"(" + last))  # type: ignore[arg-type]

    def _group(self) -> dict[str, Any]:
        (group,) = self.redis.xinfo_groups(self.stream)
        found: dict[str, Any] = {k.decode() if isinstance(k, bytes) else k: v for k, v in group.items()}
        return found

    def delivery_counts(self, consumer: str = "test:0") -> dict[str, int]:
        """Return entry id -> delivery counter of what a slot has pending."""
        rows: Any = self.redis.xpending_range("events", "workers", "-", "+", 10_000)
        mine = [row for row in rows if split(row["consumer"].decode())[0] == consumer]
        return {row["message_id"].decode(): row["times_delivered"] for row in mine}

    def resting(self, consumer: str = "test:0") -> list[Any]:
        """Return the rows of what rests in a slot, suspects too."""
        rows: Any = self.redis.xpending_range("events", "workers", "-", "+", 10_000)
        split_rows = ((row, *split(row["consumer"].decode())) for row in rows)
        return [
            row
            for row, slot, mark in split_rows
            if slot == consumer and read(mark, row["time_since_delivered"]).mark is not Mark.HELD
        ]

    def dead(self) -> dict[str, DeadLetter]:
        """Return the dead letters by the id of the original entry."""
        letters = [
            letter
            for letter in DeadLetters(self.redis, self.stream).iterate()
            if isinstance(letter, DeadLetter)
        ]
        found = {letter.origin_id: letter for letter in letters}
        assert len(found) == len(letters), "an entry was dead-lettered twice"
        return found

    # What every scenario ends with

    def assert_exact(
        self,
        pushed: Iterable[str],
        dead: dict[str, int] | None = None,
        restarted: dict[str, int] | None = None,
        lost: dict[str, int] | None = None,
        duplicates: Iterable[str] = (),
    ) -> None:
        """Check the ledger, the stream and the metrics against each other, exactly.

        Arguments:
            pushed: ids of all entries that were ever added.
            dead: id -> how often its handler was started before it was dead-lettered.
            restarted: id -> how often it was started with an entry that ended well but failed before.
            lost: id -> how often it was started with an entry that somebody deleted before it was done.
            duplicates: ids that are not handled, because another copy of the message was.
        """
        everything = list(pushed)
        dead, restarted, lost = dead or {}, restarted or {}, lost or {}
        copies = dict.fromkeys(duplicates, 0)
        wanted = dict.fromkeys(everything, 1) | copies | restarted | dead | lost
        assert self.started() == {entry: count for entry, count in wanted.items() if count}, self.log()
        assert self.finished() == {entry: 1 for entry in everything if entry not in {*dead, *lost, *copies}}
        self.assert_books(everything, dead, lost, copies)

    def assert_books(
        self,
        pushed: Iterable[str],
        dead: Iterable[str] = (),
        lost: Iterable[str] = (),
        duplicates: Iterable[str] = (),
    ) -> None:
        """Check the stream, the dead letters and the metrics against each other, without the ledger."""
        everything, dead, lost, copies = set(pushed), set(dead), set(lost), set(duplicates)
        assert self.dead().keys() == dead
        assert (self.pending(), self.unread()) == (0, 0)
        if not self._ended():  # what is acknowledged is counted while the answer is on its way
            ends = ("HANDLED", "DEAD", "LOST", "DUPLICATES")
            until(lambda: sum(self.counters()[name] for name in ends) >= len(everything), "all counted")
        counted = self.counters()
        assert counted["READ"] == len(everything)
        assert counted["HANDLED"] == len(everything) - len(dead) - len(lost) - len(copies)
        assert (counted["DEAD"], counted["LOST"]) == (len(dead), len(lost))
        assert counted["DUPLICATES"] == len(copies)
        found = accounted(counted, self.swept(), self.pending(), self.unread())
        assert sum(found.values()) == len(everything), found

    def swept(self) -> dict[str, int]:
        """Return what sweeps have done to the group, as Redis has it."""
        found: Any = self.redis.hgetall(keys.swept(self.stream, self.group))
        return {name.decode(): int(count) for name, count in found.items()}


def accounted(
    counted: Mapping[str, int], swept: Mapping[str, int], pending: int, unread: int
) -> dict[str, int]:
    """Return the parts that are all entries of the stream together, as docs/metrics.md names them.

    Arguments:
        counted: as `Pool.counters` returns it, of all pools.
        swept: as `Pool.swept` returns it.
        pending, unread: of the group.
    """
    names = {"handled": "HANDLED", "duplicates": "DUPLICATES", "ignored": "IGNORED"}
    slots = {name: counted.get(counter, 0) for name, counter in names.items()}
    slots |= {"dead_lettered": counted.get("DEAD", 0), "lost": counted.get("LOST", 0)}
    sweeps = {"buried": swept.get("buried", 0), "swept_lost": swept.get("lost", 0)}
    return slots | sweeps | {"pending": pending, "unread": unread}


def numbers(count: int) -> list[dict[str, int]]:
    """Return payloads {"n": 0}, {"n": 1}, ..."""
    return [json.loads(f'{{"n": {n}}}') for n in range(count)]


def made(server: Server, folder: Path, ledger: Server | None = None) -> Iterator[Callable[..., Pool]]:
    """Yield a function (handler source, *options) -> Pool; in the end discard what it made.

    Arguments:
        server: of their streams.
        folder: for their folders.
        ledger: see `Pool`.
    """
    pools: list[Pool] = []

    def make(handler: str, *options: str, **environment: str) -> Pool:
        own = folder / f"pool-{len(pools)}"
        own.mkdir()
        pools.append(Pool(server, own, handler, *options, ledger=ledger, **environment))
        return pools[-1]

    yield make
    for pool in pools:
        pool.discard()
