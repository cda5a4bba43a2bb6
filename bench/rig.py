"""The rig: a private server on one core, the measured process on another, and honest accounting.

Times on shared machines differ by a factor of two between hours; what counts is a ratio between
two things measured in turn in one run. CPU seconds come from the operating system's accounts: of a
worker from its fork to its end, boot and drain included; of a loop from its first connection on.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from ..streams import embedded_program
from .adapters.account import PAYLOAD as PAYLOAD

STREAM, GROUP = "events", "workers"


@dataclass(frozen=True)
class Cost:
    """What a run took: messages, CPU seconds of the measured process, wall seconds."""

    messages: int
    cpu_s: float
    wall_s: float

    @property
    def us(self) -> float:
        """CPU microseconds per message."""
        return self.cpu_s / self.messages * 1e6

    @property
    def per_core(self) -> float:
        """Messages per second that one full core would handle."""
        return self.messages / self.cpu_s


def cpu_s() -> float:
    """Return the CPU seconds of this process; a forked one begins at zero."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Void(Exception):
    """The run did not handle every message exactly once: its figures mean nothing."""


def cores() -> tuple[set[int], set[int]]:
    """Return the core of the server and the core of the measured process."""
    found = sorted(os.sched_getaffinity(0))
    return {found[0]}, {found[-1]}


def pin(core: set[int]) -> None:
    """Move this process, and what it will start, to a core."""
    os.sched_setaffinity(0, core)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def server(*, tcp: bool = False, data: Path | None = None, binary: str = "") -> Iterator[str]:
    """Run a server of our own, pinned; yield its URL.

    Arguments:
        tcp: listen on the loopback, for who cannot use a socket file.
        data: a snapshot to begin with, as SAVE writes it.
        binary: of the server; the one on the PATH or the embedded one if empty.
    """
    binary = binary or shutil.which("redis-server") or str(embedded_program.find().path)
    folder = Path(tempfile.mkdtemp(prefix="rsq-bench-"))
    core, _ = cores()
    port = free_port() if tcp else 0
    words = (
        f"--bind 127.0.0.1 --port {port} --unixsocket {folder}/s --save --appendonly no --dir {folder}"
        " --dbfilename dump.rdb --loglevel warning"
    ).split()
    if data is not None:
        shutil.copy(data, folder / "dump.rdb")
    process = subprocess.Popen(
        [binary, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: pin(core)
    )
    url = f"redis://127.0.0.1:{port}/0" if tcp else f"unix://{folder}/s"
    try:
        client: Any = redis.Redis.from_url(url)
        deadline = time.monotonic() + 30
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:  # which a server that still loads is, too
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def version(url: str) -> str:
    """Return the server's name and version."""
    said = redis.Redis.from_url(url, decode_responses=True).info("server")
    if "valkey_version" in said:
        return f"Valkey {said['valkey_version']}"
    return f"Redis {said['redis_version']}"


def servers() -> list[str]:
    """Return the server programs that are found: those that RSQ_TEST_SERVERS lists, and the PATH's."""
    named = os.environ.get("RSQ_TEST_SERVERS", "").split(":")
    found = [*filter(None, named), *filter(None, map(shutil.which, ("redis-server", "valkey-server")))]
    return list(dict.fromkeys(found)) or [str(embedded_program.find().path)]


def machine() -> dict[str, str]:
    """Return what a reader wants to know of where the figures were found."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    names = ("redis", "hiredis", "orjson")
    found = {name: importlib.metadata.version(name) for name in names}
    with server() as url:
        found["server"] = version(url)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **found,
    }


def preload(url: str, messages: int) -> None:
    """Empty the server, and fill the stream with JSON payloads of 100 bytes."""
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    body = json.dumps(PAYLOAD, separators=(",", ":")).encode()
    assert len(body) == 100, len(body)
    for start in range(0, messages, 1000):
        pipe = client.pipeline(transaction=False)
        for _ in range(min(1000, messages - start)):
            pipe.xadd(STREAM, {"data": body})
        pipe.execute()
    client.xgroup_create(STREAM, GROUP, "0")


def empty(url: str) -> None:
    """Empty the server, and begin a stream and its group."""
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    client.xgroup_create(STREAM, GROUP, "0", mkstream=True)


def check_all_acknowledged(url: str, messages: int) -> None:
    """Make sure that the group has read everything and has nothing pending.

    Raises:
        Void: it has not.
    """
    client: Any = redis.Redis.from_url(url, decode_responses=True)
    (group,) = client.xinfo_groups(STREAM)
    (last, _), *_ = client.xrevrange(STREAM, count=1)
    if client.xlen(STREAM) != messages or group["pending"] or group["last-delivered-id"] != last:
        raise Void(f"{group}, {client.xlen(STREAM)} entries of {messages}")


def wait_until_acknowledged(url: str, seconds: float) -> None:
    """Wait until the group has nothing unread and nothing pending.

    Raises:
        Void: that takes longer.
    """
    client: Any = redis.Redis.from_url(url, decode_responses=True)
    (last, _), *_ = client.xrevrange(STREAM, count=1)
    deadline = time.monotonic() + seconds
    while True:
        (group,) = client.xinfo_groups(STREAM)
        if group["last-delivered-id"] == last and not group["pending"]:
            return
        if time.monotonic() > deadline:
            raise Void(f"not done within {seconds:g} s: {group}")
        time.sleep(0.02)


def measured(arguments: Sequence[str], **environment: str) -> Cost:
    """Run `python arguments` pinned; it must print {"messages":, "cpu_s":, "wall_s":} as its last line."""
    _, core = cores()
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        preexec_fn=lambda: pin(core),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return Cost(**json.loads(done.stdout.strip().splitlines()[-1]))


def pool_cost(url: str, messages: int, *options: str) -> Cost:
    """Run one worker of a real pool, everything on, over the preloaded stream; count its CPU alone."""
    _, core = cores()
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        report = Path(folder, "report")
        command = [
            sys.executable, "-m", "rsq.supervisor.cli", "--workers", "1", "--redis", url, "--stop-when-empty",
            "--runtime-dir", folder, "--metrics", "127.0.0.1:0", "--log-level", "warning", *options,
            "rsq.bench.handlers:noop",
        ]  # fmt: skip
        subprocess.run(
            command,
            env={**os.environ, "RSQ_BENCH_REPORT": str(report)},
            preexec_fn=lambda: pin(core),
            check=True,
        )
        words = json.loads(report.read_text())
    if words["messages"] != messages:
        raise Void(f"the handler was called {words['messages']} times for {messages} messages")
    return Cost(**words)


@contextmanager
def pool(url: str, handler: str, *options: str, ready_s: float = 30.0, **environment: str) -> Iterator[int]:
    """Run a real pool, pinned beside the server, until the block is left; yield the pid of its master.

    Arguments:
        url: of the server.
        handler: `module:attribute`.
        options: of `rsq-supervisor`, beyond those that keep it private.
        ready_s: how long it may take until it is ready.
        environment: beyond ours.

    Raises:
        Void: it did not start, or did not end in good order.
    """
    _, core = cores()
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        log = Path(folder, "log")
        command = [
            sys.executable, "-m", "rsq.supervisor.cli", "--redis", url, "--runtime-dir", folder,
            "--metrics", "127.0.0.1:0", "--log-file", str(log), *options, handler,
        ]  # fmt: skip
        process = subprocess.Popen(command, env={**os.environ, **environment}, preexec_fn=lambda: pin(core))
        try:
            deadline = time.monotonic() + ready_s
            while "ready: " not in (log.read_text() if log.exists() else ""):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Void(f"the pool did not start:\n{log.read_text() if log.exists() else ''}")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            code = process.wait(30)
        if code:
            raise Void(f"the pool ended with {code}:\n{log.read_text()}")
