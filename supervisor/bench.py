"""The measuring of `rsq bench`: real pools on a stream that is thrown away."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ipc.cells import D
from ..ipc.segment import Identity, Segment, SegmentError
from ..streams import embedded, keys
from ..streams.connection import RedisError, Target, client, explain, permanent
from ..streams.producer import Producer, PushError
from ..worker import dummy
from .failing import Failure
from .reading import snapshot
from .runtime import runtime_dir

BATCHES = (1, 10, 100, 500, 1000)
DEFAULT_BATCH = 500
ENOUGH = 0.9  # of the best rate: what a larger batch-max adds beyond is not worth its longer batches
_INSTANCE = "bench"
_LATENCIES, _LATENCY_PAUSE_S = 50, 0.02
_LOOK_S = 0.01
_STUCK_S = 30.0
_END_S = 15.0
_PUSH_AT_ONCE = 5000
_EMBEDDED_S = 60.0

Tell = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Arguments:
        workers: of each pool.
        messages: in the stream; every pool begins with the first.
        payload_size: bytes of JSON in each.
        seconds: after which a pool has shown enough.
    """

    workers: int
    messages: int
    payload_size: int
    seconds: float


@dataclass(frozen=True)
class Rate:
    """What a pool has reached.

    Arguments:
        batch_max: its setting.
        messages: how many were handled while it was watched.
        seconds: how long that was.
        cpu_s: what all its workers used in that time.
        server_s: CPU seconds of the server in that time, for whomever; None if it does not tell.
    """

    batch_max: int
    messages: int
    seconds: float
    cpu_s: float
    server_s: float | None

    @property
    def per_s(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def worker_us(self) -> float:
        """CPU microseconds of a worker for a message."""
        return self.cpu_s / self.messages * 1e6

    @property
    def server_share(self) -> float | None:
        """How busy the server was, 1 for a whole core."""
        return None if self.server_s is None else self.server_s / self.seconds


def best_of(rates: list[Rate]) -> list[Rate]:
    """Return the better of several for each batch-max: others use the machine too."""
    best: dict[int, Rate] = {}
    for rate in rates:
        best[rate.batch_max] = max(rate, best.get(rate.batch_max, rate), key=lambda one: one.per_s)
    return list(best.values())


def suits(rates: list[Rate]) -> Rate:
    """Return the smallest batch-max that is about as good as the best; the default one if that is."""
    best = max(rate.per_s for rate in rates)
    enough = [rate for rate in rates if rate.per_s >= ENOUGH * best]
    return next((rate for rate in enough if rate.batch_max == DEFAULT_BATCH), enough[0])


@dataclass(frozen=True)
class _Look:
    """A pool at one moment; it began with what it has handled when the first of its workers had booted."""

    at: float
    booted: float
    handled: int
    cpu_s: float


class Bench:
    """A stream of our own on somebody's server, and pools that read it."""

    def __init__(self, server: Target, wanted: Wanted, tell: Tell, folder: Path) -> None:
        """Prepare; nothing is asked of the server yet. Use `opened`."""
        self.stream = f"rsq-bench-{secrets.token_hex(8)}"
        self._server, self._wanted, self._tell, self._folder = (
            server.for_key(self.stream),
            wanted,
            tell,
            folder,
        )
        self._client: Any = client(self._server, name="rsq bench")
        self._groups: list[str] = []
        self._tells_cpu = True  # the server does, as far as is known
        self.begun = False  # there may be something to throw away

    def fill(self) -> None:
        """Push the messages, the first one by itself: who may not push is denied once.

        Raises:
            Failure: it could not be thrown away afterwards.
        """
        self._may_throw_away()
        body = b'{"text":"%s"}' % (b"x" * max(0, self._wanted.payload_size - len('{"text":""}')))
        with Producer(self._client, self.stream, serializer="raw") as producer:
            try:
                producer.push(body)
            except PushError as error:
                self.begun = bool(error.unsure)
                raise
            self.begun = True
            for done in range(1, self._wanted.messages, _PUSH_AT_ONCE):
                self._tell("filling a stream", done, self._wanted.messages)
                producer.push_many([body] * min(_PUSH_AT_ONCE, self._wanted.messages - done))

    def _may_throw_away(self) -> None:
        try:
            self._client.unlink(self.stream)
        except RedisError as error:
            words = explain(error, self._server)
            if permanent(error):
                needs = "it needs a user who may use the keys rsq-bench-* and rsq:*, and UNLINK"
                raise Failure(f"{words}; nothing was made. {needs}", os.EX_CONFIG) from error
            raise

    def rate(self, batch_max: int) -> Rate:
        """Let a pool handle the messages for a while."""
        words, messages = f"--batch-max {batch_max}", self._wanted.messages
        with self._pool(batch_max, "ignore", "0") as look:
            server_s, seen = self._server_s(), look()
            booted_s = 0.0 if seen.handled else seen.cpu_s
            # Of a worker that waited for a core all the time there is nothing to tell: it has longer.
            while seen.handled < messages and (
                not seen.handled or seen.at < seen.booted + self._wanted.seconds
            ):
                self._tell(words, seen.handled, messages)
                time.sleep(_LOOK_S)
                seen = look()
            used_s = self._server_s()
        used_s = None if used_s is None or server_s is None else used_s - server_s
        return Rate(batch_max, seen.handled, seen.at - seen.booted, seen.cpu_s - booted_s, used_s)

    def latencies(self) -> list[float]:
        """Return seconds from the push of a message to the call of its handler in an idle pool, ascending."""
        times = Path(self._folder, "times")
        times.touch(mode=0o600)
        pushed: list[float] = []
        with (
            self._pool(DEFAULT_BATCH, "note", "$", {dummy.TIMES: str(times)}) as look,
            Producer(self._client, self.stream) as producer,
        ):
            for number in range(_LATENCIES):
                self._tell("latency", number, _LATENCIES)
                pushed.append(time.monotonic())
                producer.push({"n": number})
                while look().handled <= number:
                    time.sleep(_LATENCY_PAUSE_S)
        called = [float(line) for line in times.read_text().splitlines()]
        return sorted(there - here for here, there in zip(pushed, called, strict=True))

    def throw_away(self) -> None:
        """Delete every key that there can be because of us."""
        names = [self.stream, keys.dead_letter(self.stream, cluster=self._server.cluster)]
        for group in self._groups:
            names += [make(self.stream, group) for make in (keys.leader, keys.epoch, keys.instances)]
            names += [make(self.stream, group) for make in (keys.orders, keys.swept)]
            names += [make(self.stream, group, _INSTANCE) for make in (keys.lease, keys.inbox)]
        self._client.unlink(*names)
        self._client.close()

    @contextlib.contextmanager
    def _pool(
        self, batch_max: int, handler: str, start_id: str, more: dict[str, str] | None = None
    ) -> Iterator[Callable[[], _Look]]:
        """Run a pool; yield what looks at it, once it is ready."""
        group = f"group-{len(self._groups)}"
        self._groups.append(group)
        settings = {
            "REDIS": self._server.url, "STREAM": self.stream, "GROUP": group, "INSTANCE": _INSTANCE,
            "WORKERS": str(self._wanted.workers), "BATCH_MAX": str(batch_max), "START_ID": start_id,
            "RUNTIME_DIR": str(self._folder), "METRICS": "off", "LOG_LEVEL": "warning",
        }  # fmt: skip
        # Nothing of the user's own pools, and nobody's service manager.
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("RSQ_", "NOTIFY_", "WATCHDOG_"))
        }
        ours = {f"RSQ_{name}": value for name, value in settings.items()}
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(  # noqa: S603 - our own program, our own arguments
                [sys.executable, "-m", f"{__package__}.cli", f"{dummy.__name__}:{handler}"],
                env=inherited | ours | (more or {}), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                preexec_fn=embedded.die_with_parent(),  # noqa: PLW1509 - we have no threads that hold locks
            )  # fmt: skip
            try:
                yield self._watch(process, group, said)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _watch(self, process: subprocess.Popen[bytes], group: str, said: Any) -> Callable[[], _Look]:
        """Wait until a pool is ready; return what looks at it, and fails when it gets nowhere."""
        path = self._folder / Identity(self.stream, group, _INSTANCE).filename
        since, last = time.monotonic(), -1

        def check() -> None:
            if process.poll() is None and time.monotonic() < since + _STUCK_S:
                return
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
            raise Failure(
                f"a pool gets nowhere: {lines[-1] if lines else 'it says nothing'}", os.EX_UNAVAILABLE
            )

        def look() -> _Look:
            nonlocal since, last
            slots = snapshot(segment).slots
            handled = sum(slot.counters["handled"] for slot in slots)
            if handled != last:
                since, last = time.monotonic(), handled
            check()
            booted = min(segment.slot(slot.slot).desk.real[D.BOOTED] for slot in slots)
            return _Look(time.monotonic(), booted, handled, sum(slot.cpu_s or 0.0 for slot in slots))

        while True:
            check()
            with contextlib.suppress(SegmentError):  # not there yet
                segment = Segment.attach(path)
                if sum(slot.ready for slot in snapshot(segment).slots) >= self._wanted.workers:
                    break
                segment.close()  # it may have been without its slots when we mapped it
            time.sleep(_LOOK_S)
        return look

    def _server_s(self) -> float | None:
        """Return the CPU seconds that the server has used so far, None if it does not say."""
        if not self._tells_cpu:
            return None
        try:
            used = self._client.info("cpu")
        except RedisError as error:
            self._tells_cpu = not permanent(error)
            return None
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


@contextlib.contextmanager
def opened(server: Target, wanted: Wanted, tell: Tell) -> Iterator[Bench]:
    """Yield a bench; afterwards, whatever has happened, nothing of it is left.

    Arguments:
        server: where to measure; an embedded one is started if nobody has.
        wanted: what.
        tell: called now and then with what is being done, and how far it is.

    Raises:
        Failure: nothing could be measured, or not everything could be deleted.
        redis.exceptions.RedisError: the server refuses, or is not there.
    """
    with contextlib.ExitStack() as stack:
        if server.data is not None and embedded.lock_free(server.data):
            process = embedded.start(server.data)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            embedded.wait_ready(server.data, time.monotonic() + _EMBEDDED_S)
        # Where pools have their memory, in a folder that `rsq status` does not look into.
        made = tempfile.TemporaryDirectory(prefix="bench-", dir=runtime_dir(None))
        bench = Bench(server, wanted, tell, Path(stack.enter_context(made)))
        try:
            yield bench
        finally:
            try:
                if bench.begun:
                    bench.throw_away()
            except RedisError as error:
                words = f"{explain(error, server)}; the stream {bench.stream} is left there: delete it"
                raise Failure(words, os.EX_UNAVAILABLE) from error
