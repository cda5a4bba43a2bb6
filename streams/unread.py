"""What a group has not read, asked by a keeper: commands packed, replies taken apart. Pure.

A server that does not know the lag (before 7.0, and after some commands) is asked to count, in small steps,
as far as somebody needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import keys
from .entry import parse_id
from .fleet import Report, report
from .group import info_rows, pack

SCRIPT = Path(__file__).with_name("scripts").joinpath("unread.lua").read_bytes()


def groups(stream: str) -> bytes:
    """XINFO GROUPS; for `lag`."""
    return pack("XINFO", "GROUPS", stream)


def lag(reply: Any, group: str) -> tuple[int | None, bytes] | None:
    """Return how many entries a group has not read, None where the server does not know, and its last id.

    None when there is no such group.
    """
    name = group.encode("utf-8", "surrogateescape")
    row = next((row for row in info_rows(reply) if row[b"name"] == name), None)
    if row is None:
        return None
    known = row.get(b"lag")
    return (None if known is None else max(0, known)), row[b"last-delivered-id"]


def first(stream: str, after: bytes) -> tuple[bytes, bytes]:
    """TIME, and XRANGE of the first entry after an id; for `age_s`."""
    return pack("TIME"), pack("XRANGE", stream, b"(" + after, "+", "COUNT", 1)


def age_s(clock: Any, found: Any) -> float:
    """Return how old that entry is by its id, in seconds; 0 when there is none."""
    if not found:
        return 0.0
    return max(0.0, int(clock[0]) + int(clock[1]) / 1e6 - parse_id(found[0][0])[0] / 1000)


def count(stream: str, after: bytes, most: int, size: int) -> bytes:
    """EVAL that counts entries after an id; see the script for its result.

    Arguments:
        stream: name.
        after: id.
        most: count no further than to this.
        size: nor past so many bytes of payload.
    """
    return pack("EVAL", SCRIPT, 1, stream, after, most, size)


def instances(stream: str, group: str) -> bytes:
    """HGETALL of the reports of a group; for `reports`."""
    return pack("HGETALL", keys.instances(stream, group))


def reports(reply: Any) -> dict[bytes, Report]:
    """Return the reports that can be read, by instance, of the living and of the gone."""
    found = {name: report(raw) for name, raw in zip(reply[::2], reply[1::2], strict=True)}
    return {name: said for name, said in found.items() if said is not None}


def leases(stream: str, group: str, names: Sequence[bytes]) -> bytes:
    """MGET of the leases of instances: nil for those that are gone."""
    texts = (name.decode("utf-8", "surrogateescape") for name in names)
    return pack("MGET", *(keys.lease(stream, group, name) for name in texts))
