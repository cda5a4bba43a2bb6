"""Somebody else listens on the port for metrics."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
from support_pool import Pool, numbers, until
from support_servers import is_gone

from rsq.ipc.cells import P
from rsq.supervisor.settings import DEFAULT_METRICS

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_an_address_that_was_asked_for(make_pool: Callable[..., Pool], taken: str) -> None:
    """One line, exit code 78, nothing was read."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(3))
    code, output = pool.say("--metrics", taken, "app:handle")
    assert code == 78
    (line,) = output.splitlines()
    assert f"metrics cannot be served on {taken}: Address already in use" in line
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run() == 0
    pool.assert_exact(ids)


def test_the_default_address(make_pool: Callable[..., Pool]) -> None:
    """A warning: the pool works without metrics over HTTP."""
    pool = make_pool(HANDLER)
    at = pool.options.index("--metrics")
    del pool.options[at : at + 2]
    ids = pool.push(numbers(3))
    with _at_the_default():
        assert pool.run() == 0
    assert "WARNING" in pool.log()
    assert f"metrics cannot be served on {DEFAULT_METRICS}: Address already in use" in pool.log()
    pool.assert_exact(ids)


@contextlib.contextmanager
def _at_the_default() -> Iterator[None]:
    """Listen at the default address, or find that somebody else does so for good."""
    host, _, port = DEFAULT_METRICS.rpartition(":")

    def listen() -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_server((host, int(port)))
        return None

    try:
        listener = until(listen, "an end of the other test that listens there", 60)
    except AssertionError:
        listener = None
    try:
        yield
    finally:
        if listener:
            listener.close()


def test_an_exporter_that_hangs_goes_with_its_master(make_pool: Callable[..., Pool]) -> None:
    """Stopped, it would keep the port: the next master could not start."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    pool = make_pool(HANDLER, "--metrics", address)
    pool.start()
    segment = pool.segment()
    exporter = segment.pool.view[P.EXPORTER_PID]
    segment.close()
    os.kill(exporter, signal.SIGSTOP)
    pool.signal(signal.SIGKILL)
    pool.wait()
    until(lambda: is_gone(exporter), "the end of the exporter")
    ids = pool.push(numbers(3))
    pool.start()
    pool.wait_finished(ids)
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_a_port_that_is_free_in_time(make_pool: Callable[..., Pool]) -> None:
    """Who has it may be about to end: that is waited for, and nothing is said."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(3))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        pool.start("--metrics", address, ready=False)
        until(lambda: list(pool.runtime.glob("*.seg")), "the segment")  # the port is next
    pool.wait_log("ready: ")
    pool.wait_finished(ids)
    assert pool.stop() == 0
    pool.assert_exact(ids)
