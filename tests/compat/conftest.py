"""One server for what people come from, the newest: how servers differ is tested with our own programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support_servers import Server, found


@pytest.fixture(scope="session")
def _shared_server() -> Iterator[Server]:
    server = Server(max(found(), key=lambda binary: binary.version), durable=False)
    try:
        server.start()
        yield server
    finally:
        server.discard()
