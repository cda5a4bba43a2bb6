"""What a server remembers of producers, so that it adds no message twice: `XADD` with IDMP. Pure.

It is in Redis from 8.6 on, and used from 8.6.2 on: before that replicas crash with it, and the server forgets
ids too early or never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from .letter import text_of
from .trouble import elsewhere

SINCE = (8, 6, 2)
# One with a hundred ids costs the server 9 kB. So many are not those of processes that live.
PRODUCERS_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Memory:
    """What a server remembers of the producers of a stream.

    Arguments:
        ids: how many of one producer; 0 if none, or not for long enough.
        producers: of how many producers it remembers any.
    """

    ids: int = 0
    producers: int = 0

    @property
    def is_too_large(self) -> bool:
        """Tell whether it remembers producers that must be long gone."""
        return self.producers > PRODUCERS_MOST


def memory(stream: Any, timeout_s: float = 0.0) -> Memory | None:
    """Return what a server remembers, by its answer to XINFO STREAM; None if that is not known yet.

    Arguments:
        stream: the answer; an error means that there is no stream yet, or that we may not ask.
        timeout_s: how long one attempt may take.
    """
    if isinstance(stream, RedisError):
        refused = isinstance(stream, ResponseError) and not elsewhere(stream)
        return Memory() if refused and "no such key" not in str(stream) else None
    known = _fields(stream)
    # One attempt that hangs, the next one, and as much to spare.
    lasts = known.get("idmp-duration", 0) >= 3 * timeout_s
    return Memory(int(known.get("idmp-maxsize", 0)) if lasts else 0, int(known.get("pids-tracked", 0)))


def fault(hello: Any) -> str:
    """Return why what a server remembers must not be relied on, by its answer to HELLO; empty if it may.

    No command tells the servers with the faults from those without them, so the version has to.
    """
    if isinstance(hello, RedisError):
        return "its version is not known: it refuses HELLO"
    known = _fields(hello)
    product, said = text_of(known.get("server", "")), text_of(known.get("version", ""))
    numbers = [int(part) if part.isdigit() else 0 for part in said.split(".")[:3]]
    if product == "redis" and tuple(numbers) < SINCE:
        return f"it is Redis {said}"
    return ""


def _fields(reply: Any) -> dict[str, Any]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {text_of(name): value for name, value in pairs}
