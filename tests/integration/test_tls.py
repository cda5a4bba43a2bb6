"""TLS to a real server: its certificate is checked, ours is shown, and what is wrong is said in a line."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support_pool import Pool, numbers
from support_producers import FACES, Make
from support_servers import found
from support_tls import Certificates, FrontedServer, Tls, TlsServer

from rsq.streams import connection


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.make()
    return made


@pytest.fixture(scope="module", params=["server", "front"])
def tls_server(files: Certificates, request: pytest.FixtureRequest) -> Iterator[Tls]:
    """A server of its own TLS, where one is found, and one behind a front."""
    made = _with_tls(files) if request.param == "server" else FrontedServer(found()[0], files)
    if made is None:
        pytest.skip("no server program on this machine was built with TLS")
    if made.process is None:
        made.start()
    yield made
    made.discard()


def _with_tls(files: Certificates) -> TlsServer | None:
    for binary in found():
        made = TlsServer(binary, files)
        try:
            made.start()
        except RuntimeError as error:
            made.discard()
            if "Bad directive" not in str(error) and "tls" not in str(error).lower():
                raise
        else:
            return made
    return None


def explained(url: str) -> str:
    target = connection.target(url)
    with connection.client(target, timeout_s=5) as client, pytest.raises(redis.RedisError) as caught:
        client.ping()
    told = connection.explain(caught.value, target)
    assert "\n" not in told
    return told


@pytest.mark.parametrize("make", FACES[:2])
def test_a_whole_pool_with_certificates(tls_server: Tls, tmp_path: Path, make: Make) -> None:
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


@pytest.mark.parametrize(
    ("authority", "certificate", "refused", "advice"),
    [
        ("old", "old-server", "key usage", "keyUsage=critical,keyCertSign"),
        ("ca", "bare-server", "Authority Key Identifier", "authorityKeyIdentifier=keyid"),
    ],
)
def test_what_a_self_made_certificate_lacks_is_explained(
    files: Certificates, authority: str, certificate: str, refused: str, advice: str
) -> None:
    """Python 3.13 and later refuse these unless told otherwise: the error says how to make better ones."""
    strict = ssl.create_default_context(cafile=files[f"{authority}.pem"])
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(files[f"{certificate}.pem"], files[f"{certificate}.key"])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = strict.wrap_bio(back, there, server_hostname="localhost")
    server = other.wrap_bio(there, back, server_side=True)
    for side in (client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError, match=refused) as caught:
        client.do_handshake()
    told = connection.explain(caught.value, None)
    assert "the server's certificate is refused" in told
    assert advice in told


def test_an_unknown_authority_is_explained(tls_server: Tls) -> None:
    for url in (tls_server.at(ssl_ca_certs="other.pem"), tls_server.at(ssl_ca_certs="")):
        told = explained(url)
        assert "the server's certificate is refused" in told
        assert "ssl_ca_certs=FILE" in told


def test_a_certificate_of_another_host_is_explained(tls_server: Tls) -> None:
    told = explained(tls_server.at("127.0.0.1"))
    assert "the server's certificate is refused" in told
    assert "127.0.0.1" in told
    unchecked = f"{tls_server.at('127.0.0.1')}&ssl_check_hostname=no"
    connection.connect(connection.target(unchecked), name="", timeout_s=5).disconnect()  # type: ignore[no-untyped-call]


def test_a_missing_client_certificate_is_explained(tls_server: Tls) -> None:
    told = explained(tls_server.at(ssl_certfile="", ssl_keyfile=""))
    assert "the server wants a client's certificate: ssl_certfile=FILE" in told


def test_a_key_of_another_certificate_is_a_wrong_configuration(tls_server: Tls) -> None:
    with pytest.raises(ValueError, match="no certificate \\(PEM\\) with the key that belongs to it"):
        connection.target(tls_server.at(ssl_keyfile="server.key"))


def test_every_question_of_a_search_is_tls_too(tls_server: Tls) -> None:
    """A server that is no cluster owns all keys: the way there is the same."""
    target = connection.target(tls_server.at(scheme="rediss+cluster", path="")).for_key("events")
    with connection.client(target) as client:
        assert client.ping()
    assert "certificate is refused" in explained(
        tls_server.at(scheme="rediss+cluster", path="", ssl_ca_certs="other.pem")
    )
