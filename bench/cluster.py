"""Servers of our own that work together: a cluster of some masters, a primary with its replica."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis
from redis.crc import key_slot

from ..streams import embedded_program
from . import rig

SLOTS = 16384
_WAIT_S = 20.0


@contextmanager
def node(*words: str) -> Iterator[int]:
    """Run a server on a loopback port, pinned to the servers' core; yield the port.

    Arguments:
        words: more of its command line.
    """
    binary = shutil.which("redis-server") or str(embedded_program.find().path)
    core, _ = rig.cores()
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        base = f"--port {port} --bind 127.0.0.1 --save --appendonly no --dir {folder} --loglevel warning"
        process = subprocess.Popen(
            [binary, *base.split(), *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: rig.pin(core),
        )  # fmt: skip
        try:
            wait(lambda: bool(client(port).ping()))
            yield port
        finally:
            process.kill()
            process.wait()


@contextmanager
def cluster(masters: int) -> Iterator[list[int]]:
    """Run a cluster whose masters share the slots evenly, in their order; yield their ports."""
    with ExitStack() as stack:
        words = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
        ports = [stack.enter_context(node(*words)) for _ in range(masters)]
        for number, port in enumerate(ports):
            one = client(port)
            one.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            one.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
            one.execute_command("CLUSTER", "ADDSLOTS", *_share(number, masters))
        for port in ports:
            wait(lambda port=port: _is_whole(port, masters))  # type: ignore[misc]
        yield ports


def partition(number: int, masters: int) -> str:
    """Return the name of a stream that lies on one of the masters, by its hash tag."""
    tags = (f"{rig.STREAM}:{{{tag}}}" for tag in range(SLOTS))
    return next(name for name in tags if key_slot(name.encode()) in _share(number, masters))


def client(port: int) -> Any:
    """Return a client of one server, whatever it is a part of."""
    return redis.Redis(host="127.0.0.1", port=port, protocol=2, decode_responses=True)


def wait(what: Callable[[], bool]) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError):
            if what():
                return
        time.sleep(0.02)
    raise TimeoutError(f"{what} was never so")


def _share(number: int, masters: int) -> range:
    return range(SLOTS * number // masters, SLOTS * (number + 1) // masters)


def _is_whole(port: int, masters: int) -> bool:
    found = client(port).execute_command("CLUSTER", "INFO")
    rows = found if isinstance(found, dict) else dict(row.split(":") for row in str(found).split())
    return rows["cluster_state"] == "ok" and rows["cluster_known_nodes"] == str(masters)


def _free_port() -> int:
    """Return a free port whose neighbour 10,000 above, the cluster's bus, is free too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 10_000))
                return port
