"""The fixtures of fault tests: pools that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_pool import Pool, made
from support_proxy import Proxy
from support_servers import Binary, Server, found
from support_several import Several
from support_topology import Cluster, Everywhere, Watched

MakePool = Callable[..., Pool]


@pytest.fixture
def make_own_pool(own_server: Server, ledger_server: Server, tmp_path: Path) -> Iterator[MakePool]:
    """Return a function (handler source, *options) -> Pool on a server of this test alone.

    Its ledger is on another server: handlers can write there whatever happens to the first.
    """
    yield from made(own_server, tmp_path, ledger_server)


@pytest.fixture
def proxy(own_server: Server) -> Iterator[Proxy]:
    """A network that can be broken, to the server of this test alone."""
    between = Proxy(own_server.port)
    try:
        yield between
    finally:
        between.close()


@pytest.fixture
def make_far_pool(make_own_pool: MakePool, proxy: Proxy) -> MakePool:
    """Return a function (handler source, *options) -> Pool that reaches its server through the proxy.

    The test itself, and the ledger, go around it.
    """
    return lambda handler, *options, **more: make_own_pool(handler, "--redis", proxy.url, *options, **more)


MakeEverywhere = Callable[..., Everywhere]


@pytest.fixture(params=found(), ids=lambda binary: binary.name)
def binary(request: pytest.FixtureRequest) -> Binary:
    """Each server program in turn."""
    chosen: Binary = request.param
    return chosen


@pytest.fixture
def cluster(binary: Binary) -> Iterator[Cluster]:
    """Three masters; the owner of `events` has a replica."""
    made = Cluster(binary, replica=True)
    yield made
    made.discard()


@pytest.fixture
def watched(binary: Binary) -> Iterator[Watched]:
    """A primary, a replica, three sentinels."""
    made = Watched(binary)
    yield made
    made.discard()


@pytest.fixture
def make_everywhere(ledger_server: Server, tmp_path: Path) -> Iterator[MakeEverywhere]:
    """Return a function (topology, handler source, *options) -> pool on it, the ledger elsewhere."""
    made: list[Everywhere] = []

    def make(topology: Cluster | Watched, handler: str, *options: str, **environment: str) -> Everywhere:
        own = tmp_path / f"pool-{len(made)}"
        own.mkdir()
        made.append(Everywhere(topology, own, handler, *options, ledger=ledger_server, **environment))
        return made[-1]

    yield make
    for pool in made:
        pool.discard()


@pytest.fixture
def make_several(server: Server, tmp_path: Path) -> Iterator[Callable[..., Several]]:
    """Return a function (TOML of the pools, source of handlers) -> Several on the shared server."""
    made: list[Several] = []

    def make(toml: str, handlers: str = "", **environment: str) -> Several:
        own = tmp_path / f"pools-{len(made)}"
        own.mkdir()
        made.append(Several(server, own, toml, handlers, **environment))
        return made[-1]

    yield make
    for one in made:
        one.discard()


@pytest.fixture(scope="session")
def _ledger_server() -> Iterator[Server]:
    server = Server(found()[0], durable=False)
    try:
        server.start()
        yield server
    finally:
        server.discard()


@pytest.fixture
def ledger_server(_ledger_server: Server) -> Iterator[Server]:
    """A running server without data, of one version only."""
    _ledger_server.flush()
    yield _ledger_server
    _ledger_server.close_clients()
