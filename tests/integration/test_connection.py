"""Connections to real servers, and what is said when there is none."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from support_servers import Server

from rsq.streams import connection


def ask(link: Any, *command: str) -> Any:
    link.send_command(*command)
    return link.read_response()


def explained(url: str, timeout_s: float = 5) -> str:
    """What is said about a connection that fails."""
    target = connection.target(url)
    with pytest.raises(redis.RedisError) as caught:
        connection.connect(target, name="rsq-test", timeout_s=timeout_s)
    return connection.explain(caught.value, target)


@pytest.mark.parametrize("way", ["unix", "tcp"])
def test_the_socket_of_a_connection_may_be_used_directly(server: Server, way: str) -> None:
    target = connection.target(server.url if way == "unix" else server.tcp_url)
    link = connection.connect(target, name="rsq-test", timeout_s=5)
    wire = connection.sock(link)
    wire.sendall(b"PING\r\n")
    assert wire.recv(100) == b"+PONG\r\n"
    link.disconnect()  # type: ignore[no-untyped-call]
    with pytest.raises(redis.ConnectionError):
        connection.sock(link)


def test_a_connection_has_name_database_resp2_and_nothing_else(server: Server) -> None:
    url = server.url.replace("db=0", "db=3")
    link: Any = connection.connect(connection.target(url), name="rsq: test ü", timeout_s=5)
    listed = ask(link, "CLIENT", "LIST").decode().splitlines()
    link.disconnect()
    (mine,) = [line for line in listed if "name=rsq:_test__ " in line]
    assert " db=3 " in mine
    assert "lib-name=redis-py" not in mine
    assert "resp=3" not in mine


def test_a_tcp_connection_is_kept_alive_and_not_delayed(server: Server) -> None:
    link: Any = connection.connect(connection.target(server.tcp_url), name="rsq-test", timeout_s=5)
    wire = connection.sock(link)
    assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    if hasattr(socket, "TCP_KEEPIDLE"):
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == connection.KEEPALIVE_IDLE_S
    link.disconnect()


def test_settings_in_the_url_do_not_override_ours(server: Server) -> None:
    url = f"{server.url}&socket_timeout=0.001&protocol=3&health_check_interval=1&decode_responses=true"
    link: Any = connection.connect(connection.target(url), name="rsq-test", timeout_s=5)
    assert connection.sock(link).gettimeout() == 5
    assert link.health_check_interval == 0
    assert ask(link, "ECHO", "x") == b"x"
    link.disconnect()


@pytest.mark.parametrize("decode", [True, False])
def test_clients_for_tools_work_and_show_their_name(server: Server, decode: bool) -> None:
    target = connection.target(server.url)
    with connection.client(target, name="rsq-tool", decode=decode) as client:
        assert client.set("a", "ü")
        assert client.get("a") == ("ü" if decode else "ü".encode())
        assert any(listed["name"] == "rsq-tool" for listed in server.client().client_list())


def test_a_client_sends_no_command_twice(own_server: Server) -> None:
    target = connection.target(own_server.tcp_url)
    with connection.client(target, timeout_s=3.0) as client:
        client.ping()
        with own_server.frozen(), pytest.raises(redis.TimeoutError):
            client.rpush("list", "once")  # the server reads it when it thaws
        assert own_server.client().lrange("list", 0, -1) == [b"once"]


def test_a_client_waits_a_moment_for_a_server_that_starts(own_server: Server) -> None:
    target = connection.target(own_server.url)
    with connection.client(target) as client:
        client.ping()
        own_server.kill()
        started = time.monotonic()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        assert time.monotonic() - started >= sum(connection.CONNECT_PAUSES_S)
        own_server.start()
        assert client.ping()


def test_a_wrong_password_is_not_tried_again(server: Server) -> None:
    server.client().acl_setuser("u", enabled=True, passwords=["+right"], commands=["+@all"])
    target = connection.target(f"redis://u:wrong@127.0.0.1:{server.port}/0")
    before = server.client().info("stats")["total_connections_received"]
    with connection.client(target) as client, pytest.raises(redis.AuthenticationError) as caught:
        client.ping()
    assert server.client().info("stats")["total_connections_received"] == before + 2
    assert connection.permanent(caught.value)
    told = connection.explain(caught.value, target)
    assert told.startswith(f"Redis at redis://u:***@127.0.0.1:{server.port}/0: user or password refused")
    assert "wrong" not in told


def test_a_missing_password_is_explained(own_server: Server) -> None:
    own_server.client().config_set("requirepass", "secret")
    link: Any = connection.connect(connection.target(own_server.url), name="", timeout_s=5)
    with pytest.raises(redis.RedisError) as caught:
        ask(link, "GET", "x")
    link.disconnect()
    assert connection.permanent(caught.value)
    assert "wants a password" in connection.explain(caught.value, None)
    assert "wants a password" in explained(own_server.url)


def test_missing_permission_a_wrong_key_and_no_memory_are_explained(server: Server) -> None:
    admin = server.client()
    admin.acl_setuser("u", enabled=True, nopass=True, commands=["+@all", "-get"], keys=["*"])
    admin.set("text", "x")
    link: Any = connection.connect(connection.target(server.url), name="rsq-test", timeout_s=5)
    ask(link, "AUTH", "u", "any")
    admin.config_set("maxmemory", 1)
    for command, expected, final in (
        (("GET", "x"), "grant it", True),
        (("XLEN", "text"), "not a stream", True),
        (("SET", "x", "y"), "out of memory", False),
    ):
        with pytest.raises(redis.RedisError) as caught:
            ask(link, *command)
        assert expected in connection.explain(caught.value, None)
        assert connection.permanent(caught.value) is final
    link.disconnect()


def test_a_replica_is_explained(own_server: Server) -> None:
    admin = own_server.client()
    admin.replicaof("127.0.0.1", 1)
    with pytest.raises(redis.RedisError) as caught:
        admin.set("x", "y")
    assert "replica" in connection.explain(caught.value, None)
    assert not connection.permanent(caught.value)


def test_a_server_that_is_gone_or_silent_is_explained(own_server: Server) -> None:
    with own_server.frozen():
        assert "no answer in time" in explained(own_server.tcp_url, timeout_s=0.2)
        assert "no answer in time" in explained(own_server.url, timeout_s=0.2)
    link: Any = connection.connect(connection.target(own_server.url), name="rsq-test", timeout_s=5)
    own_server.kill()
    with pytest.raises(redis.RedisError) as caught:
        ask(link, "PING")
    assert "closed by the other side" in connection.explain(caught.value, None)
    assert "connection refused" in explained(own_server.tcp_url)
    assert "connection refused" in explained(own_server.url)


def test_places_that_lead_nowhere_are_explained(tmp_path: Path) -> None:
    assert "no such socket" in explained(f"unix://{tmp_path}/none.sock")
    assert "unknown host" in explained("redis://nowhere.invalid:6379/0")


def test_tls_to_a_server_without_it_is_explained(server: Server) -> None:
    assert "not speak TLS" in explained(server.tcp_url.replace("redis://", "rediss://"), timeout_s=0.2)


def test_something_else_than_a_server_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            link, _ = listener.accept()
            link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            link.close()

        answering = threading.Thread(target=answer)
        answering.start()
        assert "no TLS" in explained(f"rediss://127.0.0.1:{port}", timeout_s=5)
        answering.join()


def test_a_probe_changes_nothing_and_tells_permanent_trouble(server: Server) -> None:
    target = connection.target(server.url)
    connection.probe(target, "orders", "workers", 5)
    assert server.client().keys() == []
    server.client().set("orders", "no stream")
    with pytest.raises(redis.RedisError) as caught:
        connection.probe(target, "orders", "workers", 5)
    assert connection.permanent(caught.value)
