"""The floor: a hand-written loop on the bare protocol, without any guarantee, and the usual one-by-one loop.

python -m rsq.bench.raw ahead URL      orjson, COUNT 500, acknowledgement and next read in one write,
                                       the next read sent before the batch is handled
python -m rsq.bench.raw one URL        redis-py, one message read and acknowledged at a time
python -m rsq.bench.raw wait URL       a blocking read on the bare protocol, until a message says that it is
                                       the last; prints each one's seconds from XADD until it is decoded
python -m rsq.bench.raw work URL N     N messages at a time for the handler that works for milliseconds, the
                                       acknowledgement and the next read in one write; prints what it notes
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import hiredis
import orjson
import redis

from ..streams.entry import Message
from .handlers import busy, works
from .rig import GROUP, STREAM, cpu_s

COUNT = 500
_HEADS = tuple(b"\r\n$%d\r\n" % size for size in range(42))  # RESP, by the size of an id


def handle(data: Any) -> None:
    """Do nothing. It is not even counted: the loop knows how many entries it had."""


def dial(url: str) -> tuple[Any, Any]:
    """Return a connection whose socket blocks, and what receives the next reply from it."""
    connection: Any = redis.Redis.from_url(url, protocol=2).connection_pool.get_connection()
    connection.connect()
    sock = connection._sock
    sock.settimeout(None)
    reader: Any = hiredis.Reader()
    buffer = memoryview(bytearray(1 << 18))

    def receive() -> Any:
        while (reply := reader.gets()) is False:
            reader.feed(buffer, 0, sock.recv_into(buffer))
        return reply

    return connection, receive


def ahead(url: str) -> int:
    """Read, handle, acknowledge, always one read ahead; return how many entries there were."""
    pack_command: Any = hiredis.pack_command
    connection, receive = dial(url)
    send = connection._sock.sendall
    read = pack_command(("XREADGROUP", "GROUP", GROUP, "raw", "COUNT", COUNT, "STREAMS", STREAM, ">"))
    names = (len(STREAM), STREAM.encode(), len(GROUP), GROUP.encode())
    tail = b"\r\n$4\r\nXACK\r\n$%d\r\n%s\r\n$%d\r\n%s" % names
    loads = orjson.loads

    send(read)
    ack, owed, count = b"", False, 0
    while True:
        if owed:
            receive()
        batch = receive()
        if not batch:
            break
        send(ack + read)
        owed = bool(ack)
        entries = batch[0][1]
        for _, (_, data) in entries:
            handle(loads(data))
        ids = [entry for entry, _ in entries]
        count += len(ids)
        sizes = set(map(len, ids))
        if len(sizes) == 1:
            head = _HEADS[sizes.pop()]
            words = head + head.join(ids)
        else:
            words = b"".join([_HEADS[len(entry)] + entry for entry in ids])
        ack = b"*%d%s%s\r\n" % (3 + len(ids), tail, words)
    if ack:  # one of many loops may have got nothing
        send(ack)
        receive()
    return count


def wait(url: str) -> list[float]:
    """Block for the next message, note its delay, acknowledge it with the next read."""
    pack_command: Any = hiredis.pack_command
    connection, receive = dial(url)
    sock = connection._sock
    read = pack_command(
        ("XREADGROUP", "GROUP", GROUP, "raw", "COUNT", 1, "BLOCK", 10_000, "STREAMS", STREAM, ">")
    )
    delays: list[float] = []
    clock, loads = time.monotonic, orjson.loads
    sock.sendall(read)
    while True:
        ((_, ((entry, (_, data)),)),) = receive()
        number, added = loads(data)
        delays.append(clock() - added)
        ack = pack_command(("XACK", STREAM, GROUP, entry))
        if number < 0:
            sock.sendall(ack)
            receive()
            return delays
        sock.sendall(ack + read)
        receive()


def work(url: str, count: int) -> list[tuple[float, float, float, float]]:
    """Read, decode, let the handler work, acknowledge with the next read; return its starts and ends."""
    pack_command: Any = hiredis.pack_command
    connection, receive = dial(url)
    sock = connection._sock
    read = pack_command(("XREADGROUP", "GROUP", GROUP, "raw", "COUNT", count, "STREAMS", STREAM, ">"))
    sock.sendall(read)
    while batch := receive():
        entries = batch[0][1]
        for _, (_, data) in entries:
            works(cast("Message", SimpleNamespace(data=orjson.loads(data))))
        sock.sendall(pack_command(("XACK", STREAM, GROUP, *(entry for entry, _ in entries))) + read)
        receive()
    return busy


def one(url: str) -> int:
    """The loop that everybody writes first; return how many entries there were."""
    client: Any = redis.Redis.from_url(url, protocol=2)
    count = 0
    while batch := client.xreadgroup(GROUP, "raw", {STREAM: ">"}, count=1):
        for entry, fields in batch[0][1]:
            handle(json.loads(fields[b"data"]))
            client.xack(STREAM, GROUP, entry)
            count += 1
    return count


if __name__ == "__main__":
    if sys.argv[1] == "wait":
        print(json.dumps(wait(sys.argv[2])))
        sys.exit()
    if sys.argv[1] == "work":
        print(json.dumps(work(sys.argv[2], int(sys.argv[3]))))
        sys.exit()
    began, idle = time.monotonic(), cpu_s()  # the interpreter's start and the imports are not the loop's
    count = {"ahead": ahead, "one": one}[sys.argv[1]](sys.argv[2])
    print(json.dumps({"messages": count, "cpu_s": cpu_s() - idle, "wall_s": time.monotonic() - began}))
