"""TLS: certificates, a real server that was built with it, and a front for a server that was not.

The programs that wheels ship know no TLS. Our side of it is what is tested, so TLS in front will do.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from support_servers import Binary, free_port
from support_topology import Node

CHUNK = 1 << 16
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Certificates:
    """Files: an authority, a server's certificate for one name, a client's, and an authority of others.

    As many self-made ones, the authority named "old" says nothing of its key's usage, and the certificate of
    "bare-server" nothing of the authority's key.
    """

    folder: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def make(self) -> None:
        for authority in ("ca", "other", "old"):
            usage = [] if authority == "old" else ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
            names = ["-subj", f"/CN={authority}", "-days", "2"]
            self._openssl("req", "-x509", *self._new(authority), *names, *usage)
        signed_by = (("server", "ca"), ("client", "ca"), ("old-server", "old"), ("bare-server", "ca"))
        for name, authority in signed_by:
            alternative = "DNS:client" if name == "client" else "DNS:localhost"
            identifier = "none" if name == "bare-server" else "keyid"
            (self.folder / f"{name}.ext").write_text(
                f"subjectAltName={alternative}\n"
                f"subjectKeyIdentifier=hash\nauthorityKeyIdentifier={identifier}\n"
            )
            self._openssl("req", *self._new(name, "csr"), "-subj", f"/CN={name}")
            signed = ["-CA", self[f"{authority}.pem"], "-CAkey", self[f"{authority}.key"], "-CAcreateserial"]
            files = ["-in", self[f"{name}.csr"], "-out", self[f"{name}.pem"], "-extfile", self[f"{name}.ext"]]
            self._openssl("x509", "-req", *files, *signed, "-days", "2")

    def _new(self, name: str, ending: str = "pem") -> list[str]:
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        return [*kind, "-keyout", self[f"{name}.key"], "-out", self[f"{name}.{ending}"]]

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)


class Tls(Node):
    """A server that is reached with TLS and wants clients to show a certificate."""

    tls_port: int
    files: Certificates

    def at(self, host: str = "localhost", scheme: str = "rediss", path: str = "/0", **options: str) -> str:
        """The URL of its port, with the good certificates unless others are given ("" is none)."""
        good = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
        chosen = {name: self.files[file] for name, file in {**good, **options}.items() if file}
        query = "&".join(f"{name}={value}" for name, value in chosen.items())
        return f"{scheme}://{host}:{self.tls_port}{path}?{query}"


class TlsServer(Tls):
    """A program that was built with TLS; to start another one is a RuntimeError."""

    def __init__(self, binary: Binary, files: Certificates) -> None:
        self.tls_port, self.files = free_port(), files
        super().__init__(
            binary,
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "yes"),
            *("--tls-ca-cert-file", files["ca.pem"]),
            *("--tls-cert-file", files["server.pem"], "--tls-key-file", files["server.key"]),
        )


class FrontedServer(Tls):
    """Any program, behind a front in threads of the test."""

    def __init__(self, binary: Binary, files: Certificates) -> None:
        super().__init__(binary)
        self.files = files
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(files["ca.pem"])
        self._context.load_cert_chain(files["server.pem"], files["server.key"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.tls_port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # wakes who waits in accept
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        super().discard()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(PATIENCE_S)
        tls = self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        with tls, contextlib.suppress(OSError):
            try:
                tls.do_handshake()
            except ssl.SSLError:  # the client has been told why: let it read that before the end
                _let_it_read(tls)
                return
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                _pass_on(tls, server)


def _let_it_read(tls: ssl.SSLSocket) -> None:
    """Close a connection whose other side may still be writing: an end with unread bytes is a reset."""
    socket.socket.shutdown(tls, socket.SHUT_WR)
    while socket.socket.recv(tls, CHUNK):
        pass


def _pass_on(tls: ssl.SSLSocket, server: socket.socket) -> None:
    """Pass on until one side ends."""
    while True:
        ready = [tls] if tls.pending() else select.select([tls, server], [], [])[0]
        for source, sink in ((tls, server), (server, tls)):
            if source in ready:
                data = source.recv(CHUNK)
                if not data:
                    return
                sink.sendall(data)
