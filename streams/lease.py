"""Leases: who may act, for how long, and under which fencing token. Commands packed, replies taken apart.

One primitive for both: the name of an instance, and the lead over a group. A lease is a key with a time to
live; every change of hands takes a new epoch from one counter, so a later holder always has a greater one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .group import pack

_SCRIPTS = Path(__file__).with_name("scripts")
SCRIPT = _SCRIPTS.joinpath("lease.lua").read_bytes()  # goes in front of scripts that acquire
_DIGITS = 18  # more do not come from a counter
_ACQUIRE = SCRIPT + b"\nreturn acquire(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])"
_RELEASE = _SCRIPTS.joinpath("release.lua").read_bytes()


@dataclass(frozen=True, slots=True)
class Term:
    """What the server said about a lease.

    Arguments:
        held: it is ours now.
        unbroken: it was ours all the time; without it, others may have held it since we last did.
        epoch: the fencing token, of ours; 0 when another holds it.
        holder: who holds it, in words.
        left_ms: how long another's lease runs, unless it is renewed.
    """

    held: bool
    unbroken: bool
    epoch: int
    holder: str
    left_ms: int


def acquire(lease: str, epochs: str, token: str, holder: str, ttl_ms: int) -> bytes:
    """EVAL that takes a lease if it is free, and goes on with it if it is the token's.

    Arguments:
        lease, epochs: keys, of one hash slot.
        token: random; no spaces.
        holder: what people are told.
        ttl_ms: how long it is given for.
    """
    return pack("EVAL", _ACQUIRE, 2, lease, epochs, token, holder, ttl_ms)


def release(lease: str, token: str) -> bytes:
    """EVAL that lets a lease go, if it is the token's."""
    return pack("EVAL", _RELEASE, 1, lease, token)


def term(reply: Any) -> Term:
    """Return the reply to `acquire` as a value."""
    code, epoch, left_ms, value = reply
    return Term(code > 0, code == 2, epoch, holder(value), left_ms)


def holder(value: bytes) -> str:
    """Return whom a lease's value names."""
    return value.split(b" ", 2)[-1].decode("utf-8", "replace")


def epoch(value: bytes) -> int:
    """Return the fencing token in a lease's value, 0 if it is not one of ours."""
    word = value.split(b" ", 1)[0]
    return int(word) if word.isdigit() and len(word) <= _DIGITS else 0
