"""Faults in pairs: a condition lasts, and meanwhile something else goes wrong. From a seed.

    python tests/pairs.py [--seconds 1200] [--seed N] [--server 8.6] [--only drain+kill_worker]

A round has two pools on a new server, under load, and six pairs: a drain in which a worker dies, a reload
without free descriptors, a restart while Redis refuses writes, a host that is lost while entries wait for
a retry, a crash while nobody reads the log, a lease that is lost while a circuit breaker is open, and all
others that the lists below can form. Each round ends as the soak does: with the proof from the ledger.
Where no lease was lost, it also proves that only killed processes explain what ran to its end twice.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "support"))

import psutil
import redis
from support_pool import Pool, until
from support_proxy import Proxy
from support_servers import Server, found
from support_soak import LEASE_S, WORKERS, Soak

from rsq.streams.producer import Producer, PushError

PAIRS = 6  # of a round
# After these no other pool may be given what one holds: what runs to its end twice was cut off by a kill.
# Half of the rounds have no others.
HARMLESS = {
    "drain", "reload", "no_descriptors", "oom", "log_stalls", "dependency_is_down", "kill_worker",
    "kill_exporter", "kill_connections", "flush_scripts", "scale", "restart", "cut",
}  # fmt: skip
HANDLER = """
from rsq import Breaker, Router
handle = Router()

def entry(message):
    started(message)
    what = message.data["what"]
    if what == "sleep":
        time.sleep(message.data["s"])
    elif what == "fail" and message.attempt < 3:
        raise ValueError("not yet")
    elif what == "later" and message.attempt == 1:
        raise Retry("later", delay=message.data["s"] * 2)
    elif what == "reject":
        raise Reject("never")
    elif what == "poison":
        raise ValueError("always")
    elif what == "segfault":
        segfault()
    elif what == "crash once" and message.attempt == 1:
        os._exit(3)
    elif what == "dep" and ledger().exists("down"):
        raise ConnectionError("down")
    ledger().rpush("ledger:attempts", f"{message.id} {message.attempt}")
    finished(message)

handle.default()(entry)
handle.on("dep", breaker=Breaker(failures=3, window="1m", reset="500ms"), max_attempts=1000)(entry)
"""
KINDS = {
    "quick": 700, "sleep": 60, "fail": 20, "later": 30, "dep": 60, "crash once": 4, "reject": 3, "poison": 3,
    "segfault": 2,
}  # fmt: skip


class PipedPool(Pool):
    """A pool whose log goes through a pipe, which can be left unread."""

    reading: threading.Event

    def start(self, *options: str, **more: Any) -> Pool:
        """Start it as `Pool` does, its output into a pipe that a thread reads."""
        fifo = self.folder / f"log-{self._starts + 1}"
        os.mkfifo(fifo)
        self.text = self.folder / f"text-{self._starts + 1}"
        self.text.touch()
        self.reading = threading.Event()
        self.reading.set()
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        pump = threading.Thread(target=self._pump, args=(reader, self.text, self.reading), daemon=True)
        started = super().start(*options, ready=False)
        pump.start()
        if more.get("ready", True):
            self.wait_log("ready: ")
        return started

    @staticmethod
    def _pump(reader: int, text: Path, reading: threading.Event) -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe, text.open("ab") as out:
            while reading.wait() and (piece := pipe.read(65536)):
                out.write(piece)
                out.flush()

    def log(self) -> str:
        """Return what was read of the log so far."""
        return self.text.read_text(errors="replace")


class Round(Soak):
    """Two pools, a server, a load, and a few pairs."""

    def __init__(self, seed: int, folder: Path, version: str) -> None:
        """Start the servers; nothing else runs yet."""
        self.random = random.Random(seed)
        binary = next((b for b in found() if version in b.name), found()[-1])
        self.server, self.ledger = Server(binary, durable=True), Server(found()[0], durable=False)
        self.server.start()
        self.ledger.start()
        self.pools = []
        self.proxies = []
        for name in ("web-1", "web-2"):
            proxy = Proxy(self.server.port)
            own = folder / name
            own.mkdir()
            options = ("--instance", name, "--workers", str(WORKERS), "--lease", str(LEASE_S))
            more = ("--max-attempts", "6", "--block-ms", "500", "--timeout", "20", "--backoff-max", "1")
            pool = PipedPool(
                self.server, own, HANDLER, *options, *more, "--drain-timeout", "4", ledger=self.ledger
            )
            pool.options[pool.options.index("--redis") + 1] = f"redis://127.0.0.1:{proxy.port}/0"
            self.pools.append(pool)
            self.proxies.append(proxy)
        self.begun = time.monotonic()
        self.done: list[str] = []
        self.count: Counter[str] = Counter()
        self.kills = 0  # processes that may have been killed between a handler's end and its record
        self.harmless = not seed % 2
        self.stop_pushing = threading.Event()
        self.conditions: dict[str, Callable[[], Any]] = self._named("while_")
        self.faults = self._named("do_")

    def _named(self, prefix: str) -> dict[str, Callable[[], Any]]:
        return {
            name.removeprefix(prefix): getattr(self, name) for name in dir(self) if name.startswith(prefix)
        }

    def push(self) -> None:
        """Push until told to stop; what depends on something has an event of its own."""
        draw = random.Random(self.random.random())
        names, weights = list(KINDS), list(KINDS.values())
        while not self.stop_pushing.wait(0.05):
            kinds = draw.choices(names, weights, k=draw.randint(1, 30))
            items = [{"what": kind, "s": round(draw.uniform(0.05, 2.5), 2)} for kind in kinds]
            with (
                contextlib.suppress(PushError, redis.RedisError, OSError),
                Producer(self.server.url) as producer,
            ):
                producer.push_many(item for item in items if item["what"] != "dep")
                producer.push_many((item for item in items if item["what"] == "dep"), event="dep")

    target: Pool | None = None  # to which the condition of this pair has happened

    def one(self) -> Pool:
        """Return a pool, mostly the one to which something happens already."""
        if self.target is None or self.random.random() < 0.2:
            self.target = super().one()
        return self.target

    # Conditions: each is entered, lasts while something else happens, and is over

    @contextlib.contextmanager
    def while_drain(self) -> Iterator[None]:
        """A pool is told to end, and comes back later."""
        pool = self.one()
        self.ensure(pool)
        pool.signal(signal.SIGTERM)
        told = pool.process
        yield
        if pool.process is told:  # else it was killed meanwhile, and another one runs
            pool.wait(90)
        self.nap(0, 2 * LEASE_S)
        self.ensure(pool)

    @contextlib.contextmanager
    def while_reload(self) -> Iterator[None]:
        """A pool takes new code."""
        self.signal(signal.SIGHUP)
        yield
        self.nap(0, 1)

    @contextlib.contextmanager
    def while_no_descriptors(self) -> Iterator[None]:
        """A master can open nothing more."""
        pool = self.one()
        self.ensure(pool)
        with contextlib.suppress(psutil.Error, OSError):
            _, hard = resource.prlimit(pool.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pool.pid, resource.RLIMIT_NOFILE, (psutil.Process(pool.pid).num_fds(), hard))
        yield
        with contextlib.suppress(psutil.Error, OSError):
            resource.prlimit(pool.pid, resource.RLIMIT_NOFILE, (hard, hard))
            for child in psutil.Process(pool.pid).children(recursive=True):
                resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (hard, hard))

    @contextlib.contextmanager
    def while_oom(self) -> Iterator[None]:
        """Redis refuses all that takes memory."""
        self.config("maxmemory", 1)
        yield
        self.nap(0, LEASE_S)
        self.config("maxmemory", 0)

    @contextlib.contextmanager
    def while_log_stalls(self) -> Iterator[None]:
        """Nobody reads the log of a pool."""
        pool: Any = self.one()
        reading = pool.reading
        reading.clear()
        yield
        self.nap(0, 2)
        reading.set()

    @contextlib.contextmanager
    def while_lease_is_lost(self) -> Iterator[None]:
        """A pool does not reach Redis for longer than its lease."""
        proxy = self.proxies[self.pools.index(self.one())]
        proxy.stall()
        self.nap(LEASE_S, 1.5 * LEASE_S)
        yield
        self.nap(0, 0.5 * LEASE_S)
        proxy.heal()
        proxy.cut()

    @contextlib.contextmanager
    def while_dependency_is_down(self) -> Iterator[None]:
        """What an event depends on is down: its breaker opens."""
        self.pools[0].books.set("down", 1)
        self.nap(0.5, 2)
        yield
        self.pools[0].books.delete("down")

    @contextlib.contextmanager
    def while_host_is_lost(self) -> Iterator[None]:
        """A host and its memory are gone for longer than the lease."""
        pool = self.one()
        self.ensure(pool)
        self.keep_counters(pool)
        self.kill_family(pool)
        until(lambda: not pool.holders(), "the end of a pool")
        for path in pool.runtime.iterdir():
            path.unlink()
        yield
        self.nap(0, 2 * LEASE_S)
        self.ensure(pool)

    @contextlib.contextmanager
    def while_keeper_stands(self) -> Iterator[None]:
        """A keeper is frozen."""
        pid = self.keeper(self.one())
        if pid:
            self.kill(pid, signal.SIGSTOP)
        yield
        if pid:
            self.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def while_server_is_frozen(self) -> Iterator[None]:
        """Redis answers nobody."""
        with self.server.frozen() if self.server.process else contextlib.nullcontext():
            yield
            self.nap(0, LEASE_S)

    # Faults of an instant: those of the soak, but that pools here may have ended already

    def do_kill_master(self) -> None:
        """Kill -9 of a master alone."""
        pool = self.one()
        if pool.process is not None and pool.process.poll() is None:
            self.kill(pool.pid)
            pool.wait()
        self.nap(0, LEASE_S)
        self.ensure(pool)

    def do_kill_pool(self) -> None:
        """Kill -9 of all processes of a pool, whose memory stays."""
        pool = self.one()
        self.kill_family(pool)
        self.nap(0, 2 * LEASE_S)
        self.ensure(pool)

    def do_restart(self) -> None:
        """End a pool and start it again."""
        pool = self.one()
        self.ensure(pool)
        pool.signal(signal.SIGTERM)
        pool.wait(90)
        self.ensure(pool)

    def do_kill_server(self) -> None:
        """Kill -9 of Redis."""
        if self.server.process is not None:
            os.kill(self.server.pid, signal.SIGCONT)
            super().do_kill_server()

    def do_freeze_server(self) -> None:
        """Freeze Redis for a while."""
        if self.server.process is not None:
            super().do_freeze_server()

    def do_kill_exporter(self) -> None:
        """Kill -9 of an exporter or any other helper that carries that title."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.one().pid).children():
                if "exporter" in " ".join(child.cmdline()):
                    self.kill(child.pid)

    def kill_family(self, pool: Pool) -> None:
        """Kill -9 of a pool, if it runs."""
        self.kills += WORKERS
        if pool.process is not None and pool.process.poll() is None:
            super().kill_family(pool)

    def do_kill_worker(self) -> None:
        """Kill -9 of one worker."""
        self.kills += 1
        super().do_kill_worker()

    def config(self, name: str, value: object) -> None:
        """Set an option of the server, if it is there."""
        with contextlib.suppress(redis.RedisError):
            self.server.client().config_set(name, str(value))

    def signal(self, number: int) -> None:
        """Send a signal to a master that runs."""
        with contextlib.suppress(AssertionError, ProcessLookupError, ValueError, OSError):
            super().signal(number)

    def ensure(self, pool: Pool) -> None:
        """Start a pool if it does not run."""
        if pool.process is not None and pool.process.poll() is not None:
            pool.start(ready=False)

    # The run

    def run_pairs(self, only: str) -> None:
        """Start all, and do harm in pairs."""
        self.tell(f"on {self.server.name}")
        for pool in self.pools:
            pool.start()
        pusher = threading.Thread(target=self.push)
        pusher.start()
        try:
            for _ in range(PAIRS):
                self.nap(0.5, 2.5)
                first, second = self.draw(only)
                self.tell(f"{first} + {second}")
                self.pair(first, second)
                for pool in self.pools:
                    self.ensure(pool)
        finally:
            self.stop_pushing.set()
            pusher.join()

    def draw(self, only: str) -> tuple[str, str]:
        """Return two different names, the first one of a condition."""
        if only:
            first, _, second = only.partition("+")
            return first, second
        conditions, everything = {*self.conditions}, {*self.conditions, *self.faults}
        if self.harmless:
            conditions, everything = conditions & HARMLESS, everything & HARMLESS
        first = self.random.choice(sorted(conditions))
        return first, self.random.choice(sorted(everything - {first}))

    def pair(self, first: str, second: str) -> None:
        """Let the second happen while the first lasts."""
        self.target = None
        with self.conditions[first]():
            self.nap(0, 1)
            if second in self.conditions:
                with self.conditions[second]():
                    self.nap(0, 2)
            else:
                self.faults[second]()

    def prove(self) -> None:
        """Prove what the soak proves, and that kills explain what ran again to its end."""
        self.config("maxmemory", 0)
        for pool in self.pools:
            self.ensure(pool)
        super().prove()
        again = sum(count - 1 for count in self.pools[0].finished().values())
        texts = [text for pool in self.pools for text in pool.folder.glob("text-*")]
        self.kills += sum(text.read_text(errors="replace").count(" is cut off") for text in texts)
        if self.harmless:
            assert again <= self.kills, f"{again} finished again, {self.kills} processes killed"


def main() -> int:
    """Run rounds for so long; return 0 when all is proved, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--server", default="", help="part of a server's name; empty takes them in turn")
    parser.add_argument("--only", default="", help="one pair, as drain+kill_worker")
    given = parser.parse_args()
    end, number, failed = time.monotonic() + given.seconds, 0, []
    while time.monotonic() < end:
        seed = given.seed + number
        name = given.server or found()[number % len(found())].name
        number += 1
        folder = Path(tempfile.mkdtemp(prefix="rsq-pairs-"))
        print(f"\nseed {seed}", flush=True)
        each = Round(seed, folder, name)
        try:
            each.run_pairs(given.only)
            each.prove()
        except Exception as error:  # the next round may tell more
            print(f"FAILED with seed {seed}; logs in {folder}: {error}", flush=True)
            failed.append(seed)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            each.end()
    print(f"\n{number} rounds, {len(failed)} failed: {failed}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
