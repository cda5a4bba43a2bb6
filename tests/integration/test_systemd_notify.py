"""What the service manager hears from a pool, over a real notification socket."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_pool import DEADLINE_S, Pool
from support_servers import Server
from support_several import Several

HANDLER = """
def handle(message):
    assert "NOTIFY_SOCKET" not in os.environ
    started(message)
    finished(message)
"""


class Manager:
    """The receiving end of the protocol."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(DEADLINE_S)

    def wait_for(self, word: str) -> dict[str, str]:
        """Return the first message that has a line of this name, and all lines of those before it."""
        heard: dict[str, str] = {}
        while word not in heard:
            lines = self._socket.recv(4096).decode().splitlines()
            heard |= dict(line.split("=", 1) for line in lines)
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(server: Server) -> Iterator[Manager]:
    made = Manager(server.directory / "notify")
    yield made
    made.close()
    made.path.unlink()


@pytest.fixture
def pool(server: Server, tmp_path: Path, manager: Manager) -> Iterator[Pool]:
    made = Pool(server, tmp_path, HANDLER, "--workers", "2")
    made.environment |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "2000000"}
    yield made
    made.discard()


def test_the_life_of_a_pool(pool: Pool, manager: Manager) -> None:
    """READY when every slot has booted, WATCHDOG, RELOADING and READY again, STOPPING."""
    pool.start(ready=False)
    heard = manager.wait_for("READY")
    assert heard["MAINPID"] == str(pool.pid)
    assert len(pool.holders()) == 2
    assert manager.wait_for("STATUS")["STATUS"] == "2 of 2 workers run"
    manager.wait_for("WATCHDOG")
    (entry,) = pool.push([{"n": 1}])
    pool.wait_finished([entry])
    pool.signal(signal.SIGHUP)
    assert int(manager.wait_for("RELOADING")["MONOTONIC_USEC"]) > 0
    manager.wait_for("READY")
    manager.wait_for("WATCHDOG")  # the new program in the same process goes on with it
    pool.signal(signal.SIGTERM)
    manager.wait_for("STOPPING")
    assert pool.wait() == 0


def test_a_refused_reload_is_over(pool: Pool, manager: Manager) -> None:
    """RELOADING is followed by READY even when the new code is no good, or systemctl reload would hang."""
    pool.start()
    manager.wait_for("READY")
    pool.write("def handle(message:\n")
    pool.signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    manager.wait_for("READY")
    assert "reload refused" in pool.log()
    assert pool.stop() == 0


def test_the_root_speaks_for_several_pools(server: Server, tmp_path: Path, manager: Manager) -> None:
    """READY when all are; the watchdog; a reload is over when every pool's is; one refused is over too."""
    pools = Several(server, tmp_path, '[[pool]]\nstream = "orders"\n[[pool]]\nstream = "mails"\n')
    pools.environment |= {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "2000000"}
    try:
        pools.start()
        heard = manager.wait_for("READY")
        assert (heard["MAINPID"], heard["STATUS"]) == (str(pools.pid), "2 of 2 pools run")
        assert (pools.booted("orders"), pools.booted("mails")) == (2, 2)
        manager.wait_for("WATCHDOG")
        old = {*pools.workers("orders"), *pools.workers("mails")}
        pools.signal(signal.SIGHUP)
        assert int(manager.wait_for("RELOADING")["MONOTONIC_USEC"]) > 0
        manager.wait_for("READY")
        assert not old & {*pools.workers("orders"), *pools.workers("mails")}
        manager.wait_for("WATCHDOG")
        pools.settle("wrong = 1\n")
        pools.signal(signal.SIGHUP)
        manager.wait_for("RELOADING")
        manager.wait_for("READY")
        assert "reload refused" in pools.log()
        pools.signal(signal.SIGTERM)
        manager.wait_for("STOPPING")
        assert pools.wait() == 0
    finally:
        pools.discard()


def test_not_ready_without_a_server(pool: Pool, manager: Manager, server: Server) -> None:
    """A pool that waits for Redis asks for patience and does not call itself ready."""
    pool.options += ["--redis", f"unix://{server.directory}/nothing-here"]
    pool.start(ready=False)
    heard = manager.wait_for("EXTEND_TIMEOUT_USEC")
    assert "READY" not in heard
    assert pool.stop() == 0
