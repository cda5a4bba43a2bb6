"""The floor of a latency: a blocking read on a bare connection; the ack goes out with the next read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("redis", "hiredis")
SETTINGS = {"default": "XREADGROUP on a raw connection, COUNT 100, orjson, no guarantee"}
MESSAGES = {"default": 500_000}
CANNOT = ""


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    import orjson
    from redis import Redis

    client = Redis.from_url(url)
    for number in numbers:
        client.xadd("jobs", {"data": orjson.dumps(payload(number))})


def work(url: str, setting: str) -> None:
    """Consume until killed."""
    import hiredis
    import orjson
    import redis

    with contextlib.suppress(redis.ResponseError):
        redis.Redis.from_url(url).xgroup_create("jobs", "workers", "0", mkstream=True)
    connection: Any = redis.Redis.from_url(url, protocol=2).connection_pool.get_connection()
    sock = connection._sock
    sock.settimeout(None)
    reader = hiredis.Reader()
    pack: Any = hiredis.pack_command
    read = pack(("XREADGROUP", "GROUP", "workers", "bare", "COUNT", 100, "BLOCK", 0, "STREAMS", "jobs", ">"))
    sock.sendall(read)
    while True:
        while (reply := reader.gets()) is False:
            reader.feed(sock.recv(65536))
        if isinstance(reply, list):
            for _, fields in reply[0][1]:
                handled(orjson.loads(fields[1]))
            sock.sendall(pack(("XACK", "jobs", "workers", *(entry for entry, _ in reply[0][1]))) + read)
