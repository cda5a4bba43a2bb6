"""The web server of the exporter: three pages about one pool or all of a root, for machines and for people.

It has to answer whatever else connects: each connection has a fixed time for all it does, there are
only so many, and when one more comes the oldest has to go.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from .exposition import OPENMETRICS, TEXT
from .gallery import Gallery
from .metrics import Metrics
from .reading import snapshot
from .view import FRESH_S, PoolView

log = logging.getLogger("rsq.exporter")

CONNECTIONS_MAX = 32
CONNECTION_S = 5.0
_FINISH_EVERY_S = 0.005
_PLAIN = "text/plain; charset=utf-8"


class Server(ThreadingHTTPServer):
    """Serves a pool's pages on a socket that is already listening. `handle_request` takes one connection."""

    daemon_threads = True
    block_on_close = False
    timeout = 0

    def __init__(self, gallery: Gallery, listener: socket.socket) -> None:
        """Serve from segments; the listener is made non-blocking."""
        super().__init__(listener.getsockname()[:2], _Page, bind_and_activate=False)
        self.socket.close()
        listener.setblocking(False)  # a client may be gone again before it is accepted
        self.socket = listener
        self.gallery = gallery
        self.metrics = Metrics(gallery)
        self._open: dict[socket.socket, float] = {}

    def expire(self, now: float) -> float | None:
        """Cut connections whose time is up. Return when the next one's is, None when there is none."""
        for connection, deadline in self._connections():
            if deadline <= now:
                self._cut(connection)
        return min((deadline for _, deadline in self._connections()), default=None)

    def finish(self, deadline: float) -> None:
        """Accept no more, and wait until those that were accepted have their answer.

        After a reload the next exporter listens on the same socket: no scrape must fall between the two.
        """
        while self._open and time.monotonic() < deadline:
            time.sleep(_FINISH_EVERY_S)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread of its own."""
        for oldest, _ in self._connections()[: 1 - CONNECTIONS_MAX]:
            self._cut(oldest)
        self._open[request] = time.monotonic() + CONNECTION_S
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that is done."""
        self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note that a connection broke: clients do that, it is no event."""
        log.debug("a request from %s was not answered: %r", client_address, sys.exception())

    def _connections(self) -> list[tuple[socket.socket, float]]:
        """Return the connections, oldest first: a copy, for threads take theirs away at any time."""
        return list(self._open.items())

    def _cut(self, connection: socket.socket) -> None:
        """Wake the thread that serves a connection: it finds the end of it."""
        self._open.pop(connection, None)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class _Page(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = CONNECTION_S

    def do_GET(self) -> None:
        """Answer with the page."""
        page = {
            "/": self._index,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }.get(urlsplit(self.path).path)
        if page is None:
            self._reply(HTTPStatus.NOT_FOUND, f"no such page; {_INDEX}")
        else:
            page()

    do_HEAD = do_GET  # noqa: N815 - the base class finds methods by this name

    def _index(self) -> None:
        self._reply(HTTPStatus.OK, _INDEX)

    def _metrics(self) -> None:
        accepted = ",".join(self.headers.get_all("Accept", ())).split(",")
        openmetrics = any(one.split(";")[0].strip() == "application/openmetrics-text" for one in accepted)
        page = self.server.metrics.page(openmetrics=openmetrics)
        self._send(HTTPStatus.OK, page, OPENMETRICS if openmetrics else TEXT)

    def _healthz(self) -> None:
        age_s = self.server.gallery.heartbeat_s()
        if age_s < FRESH_S:
            self._reply(HTTPStatus.OK, "supervision is alive")
        else:
            self._reply(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"supervision is stuck: {self.server.gallery.who}'s last pass was {age_s:.1f} s ago",
            )

    def _readyz(self) -> None:
        gallery = self.server.gallery
        views = {name: snapshot(segment) for name, segment in gallery.pools()}
        faults = {name: _fault(views[name]) if name in views else "not started" for name in gallery.names}
        missing = [f"{name}: {words}" if name else words for name, words in faults.items() if words]
        slots = sum(view.workers for view in views.values())
        ready = sum(slot.ready for view in views.values() for slot in view.slots[: view.workers])
        if missing:
            self._reply(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {'; '.join(missing)}")
        elif gallery.names == ("",):
            self._reply(HTTPStatus.OK, f"ready: {ready} of {slots} slots")
        else:
            self._reply(HTTPStatus.OK, f"ready: {len(views)} of {len(views)} pools, {ready} slots")

    def _reply(self, status: HTTPStatus, words: str) -> None:
        self._send(status, f"{words}\n".encode("utf-8", "backslashreplace"), _PLAIN)

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response_only(status)  # without the name and version of the software
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request of ours in one line; the base class would send a page."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.close_connection = True
        self._reply(status, message or explain or status.phrase)

    def log_message(self, *_: Any) -> None:
        """Keep quiet: scrapes are no news."""


def _fault(view: PoolView) -> str:
    """Return why a pool is not ready, empty when it is."""
    needed = view.workers if view.sizes.least is None else min(view.sizes.least, view.workers)
    missing = [slot for slot in view.slots if slot.slot < view.workers and not slot.ready]
    if view.workers - len(missing) >= needed:  # those that a pool has added for a load do not count yet
        missing = []
    if view.state == "gone":
        return "the pool is gone"
    if not view.lease_s:
        return "waiting for the instance lease"
    if missing:
        return ", ".join(
            f"slot {slot.slot} {'booting' if slot.state == 'running' else slot.state}" for slot in missing
        )
    return "" if view.state in ("running", "reloading") else f"the pool is {view.state}"


_INDEX = "rsq: /metrics /healthz /readyz"
