"""Two pools under load while harm is done to them, and the proof from the ledger that nothing went wrong.

`tests/soak.py` does one thing at a time, `tests/pairs.py` two at once.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
from support_pool import Pool, until
from support_proxy import Proxy
from support_servers import Server, found

from rsq.ipc.cells import K, P, PoolState
from rsq.streams import keys
from rsq.streams.deadletter import DeadLetters
from rsq.streams.letter import DeadLetter
from rsq.streams.producer import Producer, PushError

LEASE_S = 2.0
WORKERS = 3
QUIET_S = 60.0  # for the next thing to happen in the end
HANDLER = """
import random

def handle(message):
    started(message)
    what = message.data["what"]
    if what == "sleep":
        time.sleep(message.data["s"])
    elif what == "fail" and message.attempt < 3:
        raise ValueError("not yet")
    elif what == "reject":
        raise Reject("never")
    elif what == "poison":
        raise ValueError("always")
    elif what == "segfault":
        segfault()
    elif what == "crash once" and message.attempt == 1:
        os._exit(3)
    ledger().rpush("ledger:attempts", f"{message.id} {message.attempt}")
    finished(message)
"""
POISON = ("reject", "poison", "segfault")
KINDS = {"quick": 900, "sleep": 40, "fail": 20, "crash once": 4, "reject": 3, "poison": 3, "segfault": 2}


class Soak:
    """Two pools, a server, a load, and a seed."""

    def __init__(self, seed: int, folder: Path, version: str) -> None:
        """Start the servers; nothing else runs yet."""
        self.random = random.Random(seed)
        binary = next((b for b in found() if version in b.name), found()[-1])
        self.server, self.ledger = Server(binary, durable=True), Server(found()[0], durable=False)
        self.server.start()
        self.ledger.start()
        self.pools: list[Pool] = []
        self.proxies: list[Proxy] = []
        for name in ("web-1", "web-2"):
            proxy = Proxy(self.server.port)
            own = folder / name
            own.mkdir()
            options = ("--instance", name, "--workers", str(WORKERS), "--lease", str(LEASE_S))
            more = ("--max-attempts", "6", "--block-ms", "500", "--timeout", "20", "--backoff-max", "1")
            pool = Pool(self.server, own, HANDLER, *options, *more, ledger=self.ledger)
            pool.options[pool.options.index("--redis") + 1] = f"redis://127.0.0.1:{proxy.port}/0"
            self.pools.append(pool)
            self.proxies.append(proxy)
        self.begun = time.monotonic()
        self.done: list[str] = []
        self.count: Counter[str] = Counter()
        self.faults: dict[str, Callable[[], None]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }
        self.stop_pushing = threading.Event()

    # The load

    def push(self) -> None:
        """Push until told to stop. What an error leaves open is seen in the stream itself."""
        draw = random.Random(self.random.random())
        names, weights = list(KINDS), list(KINDS.values())
        while not self.stop_pushing.wait(0.05):
            kinds = draw.choices(names, weights, k=draw.randint(1, 12))
            items = [{"what": kind, "s": round(draw.uniform(0.05, 2.5), 2)} for kind in kinds]
            with (
                contextlib.suppress(PushError, redis.RedisError, OSError),
                Producer(self.server.url) as producer,
            ):
                producer.push_many(items)

    # The faults. Each leaves everything able to come back.

    def tell(self, what: str) -> None:
        line = f"{time.monotonic() - self.begun:8.2f} s  {what}"
        self.done.append(line)
        print(line, flush=True)

    def one(self) -> Pool:
        return self.random.choice(self.pools)

    def nap(self, low: float, high: float) -> None:
        time.sleep(self.random.uniform(low, high))

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def keeper(self, pool: Pool) -> int:
        if not list(pool.runtime.glob("*.seg")):
            return 0  # it has lost its memory and not begun again
        segment = pool.segment()
        try:
            return segment.keep.view[K.PID]
        finally:
            segment.close()

    def do_kill_worker(self) -> None:
        for pid in self.random.sample(self.one().holders() or [0], 1):
            if pid:
                self.kill(pid)

    def do_kill_keeper(self) -> None:
        if pid := self.keeper(self.one()):
            self.kill(pid)

    def do_kill_master(self) -> None:
        pool = self.one()
        self.kill(pool.pid)
        pool.wait()
        self.nap(0, 1.5 * LEASE_S)
        pool.start(ready=False)

    def do_kill_pool(self) -> None:
        pool = self.one()
        self.kill_family(pool)
        self.nap(0, 3 * LEASE_S)
        pool.start(ready=False)

    def do_lose_host(self) -> None:
        """The pool and its memory: what it had in hand are suspects."""
        pool = self.one()
        self.keep_counters(pool)
        self.kill_family(pool)
        until(lambda: not pool.holders(), "the end of a pool")
        for path in pool.runtime.iterdir():
            path.unlink()
        self.nap(0, 3 * LEASE_S)
        pool.start(ready=False)

    def kill_family(self, pool: Pool) -> None:
        family = [pool.pid]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [child.pid for child in psutil.Process(pool.pid).children(recursive=True)]
        for pid in family:
            self.kill(pid)
        pool.wait()

    def do_stop_worker(self) -> None:
        pool = self.one()
        for pid in self.random.sample(pool.holders() or [0], 1):
            if pid:
                self.kill(pid, signal.SIGSTOP)
                self.nap(0.1, 2 * LEASE_S)
                self.kill(pid, signal.SIGCONT)

    def do_stop_keeper(self) -> None:
        if pid := self.keeper(self.one()):
            self.kill(pid, signal.SIGSTOP)
            self.nap(0.1, 2 * LEASE_S)
            self.kill(pid, signal.SIGCONT)

    def do_stop_pool(self) -> None:
        pool = self.one()
        with contextlib.suppress(psutil.NoSuchProcess):
            master = psutil.Process(pool.pid)
            family = [master, *master.children(recursive=True)]
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for process in family:
                    self.kill(process.pid, number)
                if number == signal.SIGSTOP:
                    self.nap(0.1, 3 * LEASE_S)

    def do_restart(self) -> None:
        pool = self.one()
        pool.signal(signal.SIGTERM)
        pool.wait(60)
        pool.start(ready=False)

    def do_reload(self) -> None:
        self.signal(signal.SIGHUP)

    def do_scale(self) -> None:
        self.signal(self.random.choice((signal.SIGTTIN, signal.SIGTTOU)))

    def signal(self, number: int) -> None:
        """Tell a master, not an interpreter that is still loading one: that would end by it."""
        pool = self.one()
        if list(pool.runtime.glob("*.seg")) and pool.state() is not PoolState.GONE:
            segment = pool.segment()
            try:
                if segment.pool.view[P.MASTER_PID] == pool.pid:
                    pool.signal(number)
            finally:
                segment.close()

    def do_cut(self) -> None:
        self.random.choice(self.proxies).cut()

    def do_stall(self) -> None:
        self.spoil("stall")

    def do_refuse(self) -> None:
        self.spoil("refuse")

    def do_lose_bytes(self) -> None:
        self.spoil("drop", self.random.choice(("to_server", "to_client")))

    def spoil(self, how: str, *arguments: Any) -> None:
        proxy = self.random.choice(self.proxies)
        getattr(proxy, how)(*arguments)
        self.nap(0.1, 2 * LEASE_S)
        proxy.heal()
        proxy.cut()

    def do_kill_connections(self) -> None:
        with contextlib.suppress(redis.RedisError):
            self.server.client().client_kill_filter(_type="normal")

    def do_kill_server(self) -> None:
        self.server.kill()
        self.nap(0, 2 * LEASE_S)
        self.server.start()

    def do_freeze_server(self) -> None:
        with self.server.frozen():
            self.nap(0.1, 2 * LEASE_S)

    def do_flush_scripts(self) -> None:
        with contextlib.suppress(redis.RedisError):
            self.server.client().script_flush()

    # The run

    def run(self, seconds: float) -> None:
        """Do harm for so long."""
        for pool in self.pools:
            pool.start()
        pusher = threading.Thread(target=self.push)
        pusher.start()
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self.nap(0.2, 3.0)
                name = self.random.choice(sorted(self.faults))
                self.tell(name)
                self.count[name] += 1
                self.faults[name]()
                self.look_after()
        finally:
            self.stop_pushing.set()
            pusher.join()

    def look_after(self) -> None:
        """A pool that has ended by itself is a failure of its own."""
        for pool in self.pools:
            if pool.process is not None and pool.process.poll() is not None:
                raise AssertionError(
                    f"a pool ended with code {pool.process.returncode}:\n{pool.log()[-4000:]}"
                )

    def keep_counters(self, pool: Pool) -> None:
        """Remember the metrics of a memory that is about to be lost."""
        self.incomplete = True

    incomplete = False

    def prove(self) -> None:
        """Let everything come to rest, and compare."""
        for proxy in self.proxies:
            proxy.heal()
        client: Any = self.server.client()
        pool = self.pools[0]
        self.wait_for_rest(pool)
        for each in self.pools:
            assert each.stop() == 0, each.log()[-3000:]
        pushed = {entry.decode(): fields[b"data"] for entry, fields in self.pages(client, "events")}
        letters = [one for one in DeadLetters(client, "events").iterate() if isinstance(one, DeadLetter)]
        dead = Counter(letter.origin_id for letter in letters)
        started, finished = pool.started(), pool.finished()
        poison = {
            entry for entry, data in pushed.items() if any(f'"{what}"'.encode() in data for what in POISON)
        }
        swept = {k.decode(): int(v) for k, v in client.hgetall(keys.swept("events", "workers")).items()}
        again = {entry: count for entry, count in finished.items() if count > 1}
        print(
            f"\npushed {len(pushed)}, finished {len(finished)}, dead {len(letters)}, finished again"
            f" {len(again)}, swept {swept}, faults {dict(self.count)}"
        )
        assert not [entry for entry, count in dead.items() if count > 1], "two letters for one entry"
        assert finished.keys() | dead.keys() == pushed.keys(), "lost or made up: " + " ".join(
            sorted((finished.keys() | dead.keys()) ^ pushed.keys())[:20]
        )
        assert poison <= dead.keys(), f"poison that is no letter: {sorted(poison - dead.keys())[:20]}"
        innocent = {one.origin_id: one.reason for one in letters if one.origin_id not in poison}
        assert not innocent, f"innocent entries dead-lettered: {innocent}"
        # Its process or host was lost before that was on record: the attempt was charged. Never without.
        books: Any = pool.books
        attempts: Counter[str] = Counter(row.decode() for row in books.lrange("ledger:attempts", 0, -1))
        twice = [row for row, count in attempts.items() if count > 1]
        assert not twice, f"finished, and run again in the same attempt: {twice[:20]}"
        assert swept.get("lost", 0) == 0
        handled = sum(each.counters()["HANDLED"] for each in self.pools)
        buried = sum(each.counters()["DEAD"] for each in self.pools) + swept.get("buried", 0)
        if not self.incomplete:
            assert buried == len(letters), f"{buried} counted, {len(letters)} letters"
            least = len(pushed) - len(letters)
            assert least <= handled <= least + sum(finished.values()) - len(finished), (handled, least)
        assert sum(started.values()) >= len(pushed)

    def wait_for_rest(self, pool: Pool) -> None:
        """Wait until all is done; on a busy machine that may take long, but something must always happen."""
        done, since = -1, time.monotonic()
        while pool.pending() or pool.unread():
            now = sum(pool.finished().values()) + len(pool.dead())
            if now != done:
                done, since = now, time.monotonic()
            stuck = {
                entry: count
                for name in pool.consumers()
                for entry, count in pool.delivery_counts(name).items()
            }
            assert time.monotonic() - since < QUIET_S, f"nothing happens any more; pending: {stuck}"
            time.sleep(0.5)

    def pages(self, client: Any, stream: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        first = "-"
        while page := client.xrange(stream, first, "+", 1000):
            yield from page
            first = b"(" + page[-1][0]

    def end(self) -> None:
        """Leave nothing behind."""
        for pool in self.pools:
            pool.discard()
        for proxy in self.proxies:
            proxy.close()
        for server in (self.server, self.ledger):
            server.discard()
