"""Fixtures of all tests: real servers.

    server      one per program found and test run, emptied before each test: for tests that leave it running
    own_server  one per test, keeps its data over stop, kill and start: for tests of faults
    make_pool   makes pools on `server` that leave nothing behind

A test that uses one of them runs beside the oldest program, the newest, and those listed in
RSQ_TEST_SERVERS. Tests of faults run beside one each, and take turns: those that depend on the server
(`every_server`) beside the oldest or the newest, and beside each that is listed. `--every-server` runs all
beside all.
"""

from __future__ import annotations

import compileall
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# A machine that does other things too makes an example slow, and no test wrong.
hypothesis.settings.register_profile("rsq", deadline=None)
hypothesis.settings.load_profile("rsq")

SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(SUPPORT))
pytest.register_assert_rewrite(*(module.stem for module in SUPPORT.glob("support_*.py")))  # says the values

from support_pool import Pool, made  # noqa: E402  rewritten first
from support_servers import Binary, Server, edges, found, listed  # noqa: E402

ROOT = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Take signals as on a terminal, and compile the product once.

    Processes inherit what is ignored: a test run in the background of a script would start all pools deaf to
    SIGINT. Each process of a pool would compile the product where Python may write no bytecode.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        for room in ("ipc", "streams", "worker", "supervisor"):
            compileall.compile_dir(ROOT / room, quiet=1)
        compileall.compile_dir(ROOT, maxlevels=0, quiet=1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-server",
        action="store_true",
        help="run each test beside every server found",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave each test beside the servers whose turn it is."""
    if config.getoption("every_server"):
        return
    others = {item for item in items if _is_for_another(item)}
    config.hook.pytest_deselected(items=[item for item in items if item in others])
    items[:] = [item for item in items if item not in others]


def _is_for_another(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    servers = [value for value in call.params.values() if isinstance(value, Binary)] if call else []
    if not servers:
        return False
    server, depends = servers[0], item.get_closest_marker("every_server") is not None
    in_turns = item.path.parent.name == "faults" or item.get_closest_marker("one_server") is not None
    if server in listed() and (depends or not in_turns):
        return False
    if not in_turns:
        return server not in edges()
    choice = edges() if depends else found()
    return server is not choice[zlib.crc32(item.nodeid.replace(server.name, "").encode()) % len(choice)]


@pytest.fixture(scope="session", params=found(), ids=lambda binary: binary.name)
def _shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    binary: Binary = request.param
    server = Server(binary, durable=False)
    try:
        server.start()
        yield server
    finally:
        server.discard()


@pytest.fixture
def server(_shared_server: Server) -> Iterator[Server]:
    """A running server without data, shared with other tests: do not stop it."""
    _shared_server.flush()
    yield _shared_server
    _shared_server.close_clients()


@pytest.fixture(params=found(), ids=lambda binary: binary.name)
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server of this test alone, with an append-only file: stop it, kill it, start it again."""
    binary: Binary = request.param
    server = Server(binary, durable=True)
    try:
        server.start()
        yield server
    finally:
        server.discard()


@pytest.fixture
def make_pool(server: Server, tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    """Return a function (handler source, *options) -> Pool on the shared server."""
    yield from made(server, tmp_path)
