"""TLS to a real server: its certificate is checked, ours is shown, and what is wrong is said in a line."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from support_pool import Pool, numbers
from support_producers import FACES, Make
from support_servers import found, free_port
from support_topology import Node

from rsq.streams import connection


@dataclass(frozen=True)
class Certificates:
    """Files: an authority, a server's certificate for one name, a client's, and an authority of others.

    The authority named "old" says nothing of its key's usage, as many self-made ones.
    """

    folder: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def make(self) -> None:
        for authority in ("ca", "other", "old"):
            usage = [] if authority == "old" else ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
            names = ["-subj", f"/CN={authority}", "-days", "2"]
            self._openssl("req", "-x509", *self._new(authority), *names, *usage)
        for name, authority in (("server", "ca"), ("client", "ca"), ("old-server", "old")):
            alternative = "DNS:client" if name == "client" else "DNS:localhost"
            (self.folder / f"{name}.ext").write_text(
                f"subjectAltName={alternative}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
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


class TlsServer(Node):
    """A server that wants clients to show a certificate."""

    def __init__(self, files: Certificates) -> None:
        self.tls_port, self.files = free_port(), files
        super().__init__(
            found()[-1],
            *(
                "--tls-port",
                str(self.tls_port),
                "--tls-auth-clients",
                "yes",
                "--tls-ca-cert-file",
                files["ca.pem"],
            ),
            *("--tls-cert-file", files["server.pem"], "--tls-key-file", files["server.key"]),
        )

    def at(self, host: str = "localhost", scheme: str = "rediss", path: str = "/0", **options: str) -> str:
        """The URL of its port, with the good certificates unless others are given ("" is none)."""
        good = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
        chosen = {name: self.files[file] for name, file in {**good, **options}.items() if file}
        query = "&".join(f"{name}={value}" for name, value in chosen.items())
        return f"{scheme}://{host}:{self.tls_port}{path}?{query}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.make()
    return made


@pytest.fixture(scope="module")
def tls_server(files: Certificates) -> Iterator[TlsServer]:
    server = TlsServer(files)
    try:
        server.start()
    except RuntimeError as error:
        server.discard()
        if "Bad directive" in str(error) or "tls" in str(error).lower():
            pytest.skip("no server program on this machine was built with TLS")
        raise
    yield server
    server.discard()


def explained(url: str) -> str:
    target = connection.target(url)
    with connection.client(target, timeout_s=5) as client, pytest.raises(redis.RedisError) as caught:
        client.ping()
    told = connection.explain(caught.value, target)
    assert "\n" not in told
    return told


@pytest.mark.parametrize("make", FACES[:2])
def test_a_whole_pool_with_certificates(tls_server: TlsServer, tmp_path: Path, make: Make) -> None:
    """Every entry once, also over a connection whose reads and writes are TLS records."""
    tls_server.flush()
    handler = "def handle(message):\n    started(message)\n    finished(message)\n"
    pool = Pool(tls_server, tmp_path, handler)
    try:
        with make(tls_server.at()) as producer:
            producer.push_many([{"n": n["n"], "padding": "x" * 5000} for n in numbers(500)])
        ids = sorted(entry.decode() for entry, _ in pool.redis.xrange("events"))  # type: ignore[union-attr]
        assert pool.run("--redis", tls_server.at()) == 0
        pool.assert_exact(ids)
    finally:
        pool.discard()


def test_an_authority_without_key_usage_is_explained(files: Certificates) -> None:
    """Python 3.13 and later refuse it unless told otherwise: the error says how to make a better one."""
    strict = ssl.create_default_context(cafile=files["old.pem"])
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(files["old-server.pem"], files["old-server.key"])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = strict.wrap_bio(back, there, server_hostname="localhost")
    server = other.wrap_bio(there, back, server_side=True)
    for side in (client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        client.do_handshake()
    told = connection.explain(caught.value, None)
    assert "the server's certificate is refused" in told
    assert "keyUsage=critical,keyCertSign" in told


def test_an_unknown_authority_is_explained(tls_server: TlsServer) -> None:
    for url in (tls_server.at(ssl_ca_certs="other.pem"), tls_server.at(ssl_ca_certs="")):
        told = explained(url)
        assert "the server's certificate is refused" in told
        assert "ssl_ca_certs=FILE" in told


def test_a_certificate_of_another_host_is_explained(tls_server: TlsServer) -> None:
    told = explained(tls_server.at("127.0.0.1"))
    assert "the server's certificate is refused" in told
    assert "127.0.0.1" in told
    unchecked = f"{tls_server.at('127.0.0.1')}&ssl_check_hostname=no"
    connection.connect(connection.target(unchecked), name="", timeout_s=5).disconnect()  # type: ignore[no-untyped-call]


def test_a_missing_client_certificate_is_explained(tls_server: TlsServer) -> None:
    told = explained(tls_server.at(ssl_certfile="", ssl_keyfile=""))
    assert "the server wants a client's certificate: ssl_certfile=FILE" in told


def test_a_key_of_another_certificate_is_a_wrong_configuration(tls_server: TlsServer) -> None:
    with pytest.raises(ValueError, match="no certificate \\(PEM\\) with the key that belongs to it"):
        connection.target(tls_server.at(ssl_keyfile="server.key"))


def test_every_question_of_a_search_is_tls_too(tls_server: TlsServer) -> None:
    """A server that is no cluster owns all keys: the way there is the same."""
    target = connection.target(tls_server.at(scheme="rediss+cluster", path="")).for_key("events")
    with connection.client(target) as client:
        assert client.ping()
    assert "certificate is refused" in explained(
        tls_server.at(scheme="rediss+cluster", path="", ssl_ca_certs="other.pem")
    )
