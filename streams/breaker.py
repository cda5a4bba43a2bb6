"""Circuit breakers in Redis: one value per event of a group, changed only by who has seen the last one.

Commands as words, replies taken apart; what the values mean is the affair of whoever calls. Everybody reads,
steps and writes back, and of two that do so at once one is refused and begins again: so there is one order
of events for a whole fleet, by one clock, and one probe at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import keys
from .asking import Command

_SCRIPT = Path(__file__).with_name("scripts").joinpath("breaker.lua").read_bytes()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server said.

    Arguments:
        done: the change was made, or the value is as it was.
        now_ms: its clock.
        value: what stands there now where it was not done; None for nothing.
    """

    done: bool
    now_ms: int
    value: bytes | None = None


def change(stream: str, group: str, event: str, old: bytes | None, new: bytes | None) -> Command:
    """EVAL that changes a breaker if it still has a value; for `seen`.

    Arguments:
        stream, group: names.
        event: whose breaker.
        old: the value that was read, None where there was none.
        new: to write; None only looks.
    """
    key = keys.breakers(stream, group)
    return ("EVAL", _SCRIPT, 1, key, event, old or b"", new or b"")


def seen(reply: Any) -> Seen:
    """Return the answer to `change` as a value."""
    return Seen(bool(reply[0]), reply[1], reply[2] if len(reply) > 2 else None)


def milliseconds(reply: Any) -> int:
    """Return the answer to TIME, by which the times in all values go."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def everything(stream: str, group: str) -> Command:
    """HGETALL of all breakers of a group; for `values`."""
    return ("HGETALL", keys.breakers(stream, group))


def values(reply: Any) -> dict[str, bytes]:
    """Return event -> value."""
    return {
        name.decode("utf-8", "surrogateescape"): value
        for name, value in zip(reply[::2], reply[1::2], strict=True)
    }
