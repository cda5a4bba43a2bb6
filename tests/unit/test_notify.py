"""What systemd hears: the right words, over a real socket, and never at the price of the pool."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from rsq.supervisor.notify import Notifier

ME = str(os.getpid())
Make = Callable[..., Notifier]


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket, named in the environment of the service."""
    address = (
        str(tmp_path / "notify") if request.param == "path" else f"\0rsq-test-{ME}-{time.monotonic_ns()}"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(5)
        os.environ["NOTIFY_SOCKET"] = address.replace("\0", "@")
        yield listening
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)


@pytest.fixture
def made() -> Iterator[Make]:
    """Make notifiers, which are closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(environment: Mapping[str, str] | None = None) -> Notifier:
            notifier = Notifier(environment)
            stack.callback(notifier.close)
            return notifier

        yield make


def _heard(systemd: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in systemd.recv(65536).decode().split("\n"))


def _nothing_more(systemd: socket.socket) -> bool:
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1)
    return True


def test_the_life_of_a_service(systemd: socket.socket, made: Make) -> None:
    notifier = made()
    notifier.status("starting: 0 of 4 slots have booted")
    assert _heard(systemd) == {"STATUS": "starting: 0 of 4 slots have booted"}
    notifier.ready("4 of 4 slots work")
    assert _heard(systemd) == {"READY": "1", "MAINPID": ME, "STATUS": "4 of 4 slots work"}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    said = _heard(systemd)
    assert said.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert before <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.ready()
    assert _heard(systemd) == {"READY": "1", "MAINPID": ME}
    notifier.extend_timeout(30.5)
    assert _heard(systemd) == {"EXTEND_TIMEOUT_USEC": "30500000"}
    notifier.stopping("draining")
    assert _heard(systemd) == {"STOPPING": "1", "STATUS": "draining"}
    assert _nothing_more(systemd)


def test_a_status_is_one_line(systemd: socket.socket, made: Make) -> None:
    notifier = made()
    notifier.status("a\nREADY=1\r\n  b \udcff" + "x" * 5000)
    said = _heard(systemd)
    assert said.keys() == {"STATUS"}
    assert said["STATUS"].startswith("a READY=1 b ?xxx")
    assert len(said["STATUS"]) < 2000
    notifier.status("")
    assert _nothing_more(systemd)


def test_the_watchdog_is_fed_at_half_of_its_time(systemd: socket.socket, made: Make) -> None:
    os.environ["WATCHDOG_USEC"], os.environ["WATCHDOG_PID"] = "30000000", ME
    notifier = made()
    assert notifier.watchdog_interval_s == 15.0
    notifier.watchdog()
    assert _heard(systemd) == {"WATCHDOG": "1"}


@pytest.mark.parametrize(
    ("usec", "pid"),
    [("30000000", "1"), ("0", ME), ("nonsense", ME), ("", ""), ("-5", "")],
    ids=["of another process", "off", "no number", "empty", "negative"],
)
def test_a_watchdog_that_is_not_ours_is_not_fed(
    systemd: socket.socket, made: Make, usec: str, pid: str
) -> None:
    os.environ["WATCHDOG_USEC"], os.environ["WATCHDOG_PID"] = usec, pid
    notifier = made()
    assert notifier.watchdog_interval_s is None
    notifier.watchdog()
    assert _nothing_more(systemd)


def test_children_inherit_nothing_and_a_new_program_everything(systemd: socket.socket, made: Make) -> None:
    os.environ["WATCHDOG_USEC"], os.environ["WATCHDOG_PID"] = "20000000", ME
    notifier = made()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    assert not os.get_inheritable(notifier.fileno)
    successor = made(notifier.export())
    assert successor.watchdog_interval_s == 10.0
    successor.ready()
    assert _heard(systemd)["READY"] == "1"


def test_a_child_can_let_go_of_the_socket(systemd: socket.socket, made: Make) -> None:
    notifier = made()
    assert notifier.fileno >= 0
    notifier.close()
    assert notifier.fileno == -1
    notifier.ready()
    notifier.close()
    assert _nothing_more(systemd)


def test_a_manager_that_does_not_listen_costs_no_time_and_hears_the_newest_state_later(
    systemd: socket.socket, made: Make
) -> None:
    """The socket's queue is full: a READY that went missing would end in a start that timed out."""
    os.environ["WATCHDOG_USEC"] = "1000000"
    notifier = made()
    sent = 0
    while not notifier._owed:
        notifier.status(f"filling {sent}")
        sent += 1
        assert sent < 100_000, "the queue is never full here"
    assert not os.get_blocking(notifier.fileno), "a send would wait for the manager"
    notifier.reloading("rolling")
    notifier.ready("all work")
    notifier.watchdog()
    notifier.extend_timeout(5)
    notifier.status("still all work")
    for _ in range(sent - 1):
        assert _heard(systemd)["STATUS"].startswith("filling")
    assert _nothing_more(systemd)
    systemd.settimeout(5)
    notifier.status("heard again")
    assert _heard(systemd) == {"READY": "1", "MAINPID": ME, "STATUS": "heard again"}
    notifier.status("and only once")
    assert _heard(systemd) == {"STATUS": "and only once"}


def test_a_manager_that_has_gone_is_no_error(systemd: socket.socket, made: Make) -> None:
    notifier = made()
    systemd.close()
    notifier.ready("nobody hears this")
    notifier.stopping()


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path", "/nowhere/at/all", "@" + "x" * 200])
def test_without_a_usable_address_every_call_does_nothing(made: Make, address: str) -> None:
    notifier = made({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notifier.ready("x")
    notifier.reloading()
    notifier.status("x")
    notifier.watchdog()
    notifier.extend_timeout(1)
    notifier.stopping()
    notifier.close()


def test_without_systemd(made: Make) -> None:
    assert "NOTIFY_SOCKET" not in os.environ
    notifier = made()
    assert notifier.export() == {}
    assert notifier.fileno == -1
    assert notifier.watchdog_interval_s is None
    notifier.ready()
