"""The fixtures of fault tests: pools that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_pool import Pool
from support_servers import Server, found

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(server: Server, tmp_path: Path) -> Iterator[MakePool]:
    """Return a function (handler source, *options) -> Pool on the shared server."""
    yield from _maker(server, tmp_path, None)


@pytest.fixture
def make_own_pool(own_server: Server, ledger_server: Server, tmp_path: Path) -> Iterator[MakePool]:
    """Return a function (handler source, *options) -> Pool on a server of this test alone.

    Its ledger is on another server: handlers can write there whatever happens to the first.
    """
    yield from _maker(own_server, tmp_path, ledger_server)


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


def _maker(server: Server, folder: Path, ledger: Server | None) -> Iterator[MakePool]:
    made: list[Pool] = []

    def make(handler: str, *options: str, **environment: str) -> Pool:
        own = folder / f"pool-{len(made)}"
        own.mkdir()
        made.append(Pool(server, own, handler, *options, ledger=ledger, **environment))
        return made[-1]

    yield make
    for pool in made:
        pool.discard()
