"""How much memory of the server a pending entry needs, by its version."""

from __future__ import annotations

from typing import Any

import redis

from . import rig
from .answer import Answer, Figure, Scale, Table, number

QUESTION = "How much memory does a pending entry need, on each server?"
METHOD = (
    "On every server that is found (the PATH's, and those that RSQ_TEST_SERVERS lists) 100,000 messages of"
    " 100 bytes are pushed, and eight consumers of a group read them in pages of 500, as workers do. What"
    " used_memory grows by meanwhile is divided by their number. So is what it grows by with the push: that"
    " is an entry in the stream."
)
MESSAGES, CONSUMERS, PAGE = 100_000, 8, 500
_ADD = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'data', ARGV[2]) end"


def measure(url: str, messages: int) -> tuple[float, float]:
    """Return the bytes of an entry in the stream, and those of a pending one beside it."""
    client: Any = redis.Redis.from_url(url)
    client.xgroup_create(rig.STREAM, rig.GROUP, "0", mkstream=True)
    for number_of in range(CONSUMERS):
        client.xgroup_createconsumer(rig.STREAM, rig.GROUP, f"web:{number_of}")
    payload = "x" * 100
    client.eval(_ADD, 1, rig.STREAM, PAGE, payload)  # what is needed once is there then
    client.xreadgroup(rig.GROUP, "web:0", {rig.STREAM: ">"}, count=PAGE)
    empty = client.info("memory")["used_memory"]
    for _ in range(0, messages, PAGE):
        client.eval(_ADD, 1, rig.STREAM, PAGE, payload)
    filled = client.info("memory")["used_memory"]
    read = 0
    while batch := client.xreadgroup(
        rig.GROUP, f"web:{read // PAGE % CONSUMERS}", {rig.STREAM: ">"}, count=PAGE
    ):
        read += len(batch[0][1])
    whole = client.info("memory")["used_memory"]
    return (filled - empty) / read, (whole - filled) / read


def answer(scale: Scale) -> Answer:
    """Measure beside each server, once: the figures are the same in every run."""
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    for binary in rig.servers():
        with rig.server(binary=binary) as url:
            name = rig.version(url)
            if any(row[0] == name for row in rows):
                continue  # found twice
            allocator = str(redis.Redis.from_url(url, decode_responses=True).info("memory")["mem_allocator"])
            entry, pending = measure(url, scale.messages(MESSAGES))
        figures.append(Figure(f"a pending entry, {name}", (pending,), "bytes"))
        rows.append((name, allocator, number(entry), number(pending)))
    table = Table(
        "Bytes", ("server", "allocator", "an entry in the stream", "pending, beside that"), tuple(rows)
    )
    return Answer("pending", QUESTION, METHOD, tuple(figures), (table,))
