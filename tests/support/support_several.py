"""A real root with several pools for tests, and a ledger for each stream.

Handlers write into Redis when they start and when they finish an entry, as those of `support_pool` do, but
under the name of its stream: ids of two streams may be the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
from support_pool import DEADLINE_S, PREAMBLE, until
from support_servers import Server, end, stand_still_below

from rsq.ipc.cells import D, K, P, PoolState
from rsq.ipc.ledger import DEAD, C
from rsq.ipc.segment import Segment
from rsq.streams.deadletter import DeadLetters
from rsq.streams.letter import DeadLetter
from rsq.streams.producer import Producer

PREAMBLE += """
def started(message):
    ledger().hincrby(f"started:{message.stream}", message.id, 1)
def finished(message):
    ledger().hincrby(f"finished:{message.stream}", message.id, 1)
def plain(message):
    started(message)
    finished(message)
"""
GROUP = "workers"


class Several:
    """One `rsq-supervisor` process with a TOML file."""

    def __init__(self, server: Server, folder: Path, toml: str, handlers: str = "", **more: str) -> None:
        """Prepare; nothing runs yet.

        Arguments:
            server: where the streams are.
            folder: for the handlers' file, settings, logs and the runtime directory.
            toml: settings of the pools; handlers are in the module `app`, which has `plain` already.
            handlers: source of more handlers.
            more: environment variables.
        """
        self.server, self.folder = server, folder
        self.redis = server.client()
        self.runtime = folder / "run"
        self.config = folder / "pools.toml"
        self.write(handlers)
        self.settle(toml)
        self.environment = {
            **os.environ, "LEDGER_URL": server.url, "PYTHONDONTWRITEBYTECODE": "1",
            **more,
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def write(self, handlers: str) -> None:
        """Write the handlers' file anew."""
        (self.folder / "app.py").write_text(PREAMBLE + textwrap.dedent(handlers))

    def settle(self, toml: str) -> None:
        """Write the settings anew, those of all pools that tests want above them."""
        usual = f"""
            redis = "{self.server.url}"
            workers = 2
            instance = "test"
            group = "{GROUP}"
            handler = "app:plain"
            backoff-base = 0.05
            metrics = "127.0.0.1:0"
            runtime-dir = "{self.runtime}"
            """
        keys = [line.split("=")[0].strip() for line in textwrap.dedent(toml).split("[[")[0].splitlines()]
        kept = [
            line for line in textwrap.dedent(usual).splitlines() if line.split("=")[0].strip() not in keys
        ]
        self.config.write_text("\n".join([*kept, textwrap.dedent(toml)]))

    def command(self, *options: str) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "rsq.supervisor.entry", "--config", str(self.config), *options]

    def start(self, *options: str, ready: int = 0) -> Several:
        """Start it, and wait until so many pools run if asked."""
        self._starts += 1
        self.log_path = self.folder / f"log-{self._starts}"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(*options),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ready:
            self.wait_log(f"ready: {ready} pools")
        return self

    def say(self, *words: str, module: str = "") -> tuple[int, str]:
        """Run the program, or another module of ours, to its end; return exit code and all it said."""
        command = [sys.executable, "-m", module] if module else self.command()
        done = subprocess.run(
            [*command, *words],
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
        """Pid of the root."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send the root a signal."""
        os.kill(self.pid, number)

    def stop(self) -> int:
        """TERM, and wait."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Return the exit code once the root has ended."""
        assert self.process is not None
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the root did not end; its log:\n{self.log()}") from None

    def log(self) -> str:
        """Return what it has logged since its last start."""
        return self.log_path.read_text(errors="replace")

    def wait_log(self, words: str, times: int = 1, deadline_s: float = DEADLINE_S) -> None:
        """Wait until words stand in the log."""

        def found() -> bool:
            assert self.process is not None
            return self.log().count(words) >= times or self.process.poll() is not None

        try:
            until(found, f"{words!r} in the log", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log()}") from None
        assert self.log().count(words) >= times, f"it ended before it logged {words!r}:\n{self.log()}"

    def discard(self) -> None:
        """Make sure that nothing of it runs on."""
        family = []
        if self.process is not None and self.process.poll() is None:
            family = stand_still_below(self.process.pid)
            self.process.kill()
            self.process.wait()
        end([*family, *self.strays()])

    def family(self) -> list[int]:
        """Return the pids of all processes below the root, with it."""
        if self.process is None or self.process.poll() is not None:
            return []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [self.process.pid, *(child.pid for child in children)]
        return []

    def strays(self) -> list[int]:
        """Return the pids of masters, keepers and workers that the segments know and that live."""
        found = []
        for segment in self.segments():
            pids = [segment.slot_holder(slot) for slot in range(segment.capacity)]
            pids += [segment.pool.view[P.MASTER_PID], int(segment.keep.view[K.PID])]
            for pid in filter(None, pids):
                with contextlib.suppress(psutil.Error):
                    if "rsq: " in " ".join(psutil.Process(pid).cmdline()):
                        found.append(pid)
        return found

    # Looking into it

    def segments(self) -> Iterator[Segment]:
        """Open each pool's shared memory for reading, one after the other."""
        for path in self.runtime.glob("*.seg"):
            segment = Segment.attach(path)
            try:
                yield segment
            finally:
                segment.close()

    @contextlib.contextmanager
    def segment(self, stream: str, group: str = GROUP) -> Iterator[Segment]:
        """Open the shared memory of one pool."""
        for segment in self.segments():
            if (segment.identity.stream, segment.identity.group) == (stream, group):
                yield segment
                return
        raise AssertionError(f"there is no segment of {stream}/{group}")

    def master(self, stream: str) -> int:
        """Return the pid of a pool's master."""
        with self.segment(stream) as segment:
            return segment.pool.view[P.MASTER_PID]

    def workers(self, stream: str) -> list[int]:
        """Return the pids of the processes that sit in a pool's slots."""
        with self.segment(stream) as segment:
            return [pid for slot in range(segment.capacity) if (pid := segment.slot_holder(slot))]

    def state(self, stream: str) -> PoolState:
        """Return what a master says that its pool is doing."""
        with self.segment(stream) as segment:
            return PoolState(segment.pool.view[P.STATE])

    def booted(self, stream: str) -> int:
        """Return how many slots of a pool have a process that is ready to read."""
        with self.segment(stream) as segment:
            found = 0
            for slot in range(segment.capacity):
                pid = segment.slot_holder(slot)
                desk = segment.slot(slot).desk if pid else None
                found += desk is not None and desk.view[D.PID] == pid and bool(desk.real[D.BOOTED])
            return found

    def counters(self, stream: str) -> dict[str, int]:
        """Return the sums over all slots of a pool, by the names in `rsq.ipc.ledger.C` and DEAD."""
        total: Counter[str] = Counter(dict.fromkeys(C.__members__, 0))
        with self.segment(stream) as segment:
            for slot in range(segment.capacity):
                if segment.used(slot):
                    sums, _, _ = segment.slot(slot).ledger.read()
                    for counter in C:
                        total[counter.name] += sums.counters[counter]
        total["DEAD"] = sum(total[counter.name] for counter in DEAD)
        return dict(total)

    def port(self) -> int:
        """Return the port at which the root serves metrics."""
        return max(segment.pool.view[P.METRICS_PORT] for segment in self.segments())

    def get(self, page: str) -> tuple[int, str]:
        """Return status and body of a page."""
        connection = HTTPConnection("127.0.0.1", self.port(), timeout=DEADLINE_S)
        try:
            connection.request("GET", f"/{page}")
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    # Streams and ledgers

    def push(self, stream: str, items: Iterable[Any]) -> list[str]:
        """Add entries with JSON data and return their ids."""
        newest: Any = self.redis.xrevrange(stream, count=1)
        with Producer(self.server.url, stream) as producer:
            producer.push_many(items)
        added: Any = self.redis.xrange(stream, min=b"(" + newest[0][0] if newest else "-")
        return [entry.decode() for entry, _ in added]

    def started(self, stream: str) -> dict[str, int]:
        """Return how often the handler was started with each entry of a stream."""
        return self.hash(f"started:{stream}")

    def finished(self, stream: str) -> dict[str, int]:
        """Return how often the handler returned, for each entry of a stream."""
        return self.hash(f"finished:{stream}")

    def hash(self, key: str) -> dict[str, int]:
        """Return a hash that handlers have written: entry id -> number."""
        rows: Any = self.redis.hgetall(key)
        return {entry.decode(): int(number) for entry, number in rows.items()}

    def wait_finished(self, stream: str, entries: Iterable[str]) -> None:
        """Wait until the handler has returned for all these entries."""
        wanted = set(entries)
        try:
            until(
                lambda: wanted <= self.finished(stream).keys(),
                f"the end of {len(wanted)} entries of {stream}",
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log()}") from None

    def rest(self, stream: str) -> tuple[int, int]:
        """Return how many entries of a stream are unread, and how many pending."""
        found: Any = self.redis.xinfo_groups(stream)
        (group,) = ({_text(k): v for k, v in one.items()} for one in found)
        unread: Any = self.redis.xrange(stream, min=b"(" + group["last-delivered-id"])
        return len(unread), int(group["pending"])

    def wait_settled(self, *streams: str) -> None:
        """Wait until nothing of them is unread or pending."""
        until(lambda: all(self.rest(stream) == (0, 0) for stream in streams), "settled streams")

    def letters(self, stream: str) -> dict[str, DeadLetter]:
        """Return the dead letters of a stream by the id of the original entry."""
        found = [one for one in DeadLetters(self.redis, stream).iterate() if isinstance(one, DeadLetter)]
        assert len({one.origin_id for one in found}) == len(found), "an entry was dead-lettered twice"
        return {one.origin_id: one for one in found}

    def assert_exact(
        self, stream: str, pushed: Iterable[str], dead: Iterable[str] = (), restarted: Iterable[str] = ()
    ) -> None:
        """Check ledger, stream and metrics of one pool against each other, exactly.

        Arguments:
            stream: whose.
            pushed: ids of all entries that were ever added.
            dead: of those that are among the dead letters, started as often as may be.
            restarted: of those that were started once more than they finished.
        """
        everything, gone = set(pushed), set(dead)
        assert self.finished(stream) == dict.fromkeys(everything - gone, 1), self.log()
        counts = {entry: count for entry, count in self.started(stream).items() if entry not in gone}
        assert counts == {entry: 1 + (entry in set(restarted)) for entry in everything - gone}, self.log()
        assert self.letters(stream).keys() == gone
        assert self.rest(stream) == (0, 0)
        counted = self.counters(stream)
        assert (counted["READ"], counted["DEAD"], counted["LOST"]) == (len(everything), len(gone), 0)
        assert counted["HANDLED"] == len(everything) - len(gone)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
