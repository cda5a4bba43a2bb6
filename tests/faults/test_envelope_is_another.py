"""Entries that are not in the envelope that the pool was told to expect, or in a damaged one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from support_pool import Pool

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.event == "crash":
            segfault()
        if message.event == "raise":
            raise ValueError("no")
        finished(message)
    """
ENTRIES = {
    "rsq": {b"event": b"e", b"data": b"{}"},
    "data": {b"data": b"{}"},
    "streamix": {b"message": b'{"id":"1","event":"e","data":{},"retries":0,"timestamps":{}}'},
    "fields": {b"user": b"7", b"message": b"{}"},
}
FITS = {"rsq": {"rsq", "data"}, "data": {"rsq", "data"}, "streamix": {"streamix"}, "fields": set(ENTRIES)}


@pytest.mark.parametrize("envelope", FITS)
def test_dead_letter_that_names_both(make_pool: Callable[..., Pool], envelope: str) -> None:
    """What was expected, and what was found; the bytes are kept, and what fits is handled."""
    pool = make_pool(HANDLER, "--envelope", envelope)
    ids = {name: pool.add(fields) for name, fields in ENTRIES.items()}
    dead = {ids[name]: name for name in ENTRIES.keys() - FITS[envelope]}
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids.values(), dead=dict.fromkeys(dead, 0))
    for entry, name in dead.items():
        letter = pool.dead()[entry]
        assert letter.reason == "decode_error"
        assert letter.error.startswith(f"DecodeError: expected the envelope {envelope}, ")
        assert letter.error.endswith(
            "found the fields " + ", ".join(field.decode() for field in ENTRIES[name])
        )
        assert dict(letter.fields) == ENTRIES[name]


def test_everything_is_recognised_by_itself(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER)
    ids = [pool.add(ENTRIES[name]) for name in (*ENTRIES, *reversed(ENTRIES)) for _ in range(3)]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)


@pytest.mark.parametrize("serializer", ["json", "msgpack", "raw", "app:Theirs"])
def test_a_damaged_envelope_is_a_dead_letter(make_pool: Callable[..., Pool], serializer: str) -> None:
    """No serializer is asked for what is in an envelope of streamix-queue, or in plain fields."""
    theirs = """
    class Theirs:
        def encode(self, value): return b""
        def decode(self, data): raise ValueError("asked")
    """
    pool = make_pool(HANDLER + theirs, "--serializer", serializer)
    good = [pool.add(ENTRIES["streamix"]), pool.add(ENTRIES["fields"])]
    whole = json.loads(ENTRIES["streamix"][b"message"])
    broken = [whole | {"id": 1}, whole | {"retries": "x"}]
    bad = [pool.add({b"message": json.dumps(told).encode()}) for told in broken]
    assert pool.run() == 0, pool.log()
    pool.assert_exact([*good, *bad], dead=dict.fromkeys(bad, 0))
    assert {letter.error for letter in pool.dead().values()} == {
        "DecodeError: streamix envelope: `id` must be a text that is not empty",
        "DecodeError: streamix envelope: `retries` must be a number",
    }


@pytest.mark.parametrize("event", ["raise", "crash"])
@pytest.mark.parametrize("retries", [0, 1, 2, 7])
def test_attempts_made_elsewhere_count(make_pool: Callable[..., Pool], event: str, retries: int) -> None:
    """With two behind it, the third is the last; it has one here in any case. So it is after a crash, too."""
    pool = make_pool(HANDLER, "--max-attempts", "3", "--backoff-max", "0.1")
    told = {"id": "1", "event": event, "data": {}, "retries": retries, "timestamps": {}}
    entry = pool.add({b"message": json.dumps(told).encode()})
    others = [pool.add(ENTRIES["data"]) for _ in range(10)]
    assert pool.run() == 0, pool.log()
    here = max(1, 3 - retries)
    pool.assert_exact([entry, *others], dead={entry: here})
    assert pool.dead()[entry].attempts == pool.hash("attempts")[entry] == retries + here
    assert pool.dead()[entry].reason == ("max_attempts" if event == "raise" else "crash: SIGSEGV")


@pytest.mark.parametrize("envelope", ["auto", "streamix"])
def test_any_bytes_are_handled_or_dead(make_pool: Callable[..., Pool], envelope: str) -> None:
    pool = make_pool(
        """
        def handle(message):
            said = message.event, message.key, message.headers, message.traceparent, message.fields
            ledger().hincrby("attempts", message.attempt, 1)
        """,
        "--envelope", envelope, "--once", "1h", "--soft-timeout", "60",
    )  # fmt: skip
    dice = random.Random(5)
    whole = json.loads(ENTRIES["streamix"][b"message"])
    odd: list[Any] = [None, 1, "", "x", [], {}, True, 1e300, 10**40, "\ud800", "9" * 5000]
    ids = []
    for _ in range(300):
        told = {name: dice.choice([value] * 4 + [dice.choice(odd)]) for name, value in whole.items()}
        values = [json.dumps(told).encode(), dice.randbytes(dice.randrange(20)), b"{", b"[" * 50_000, b"{}"]
        names = [b"message", b"data", b"event", b"key", b"traceparent", b"", dice.randbytes(3)]
        ids.append(pool.add({dice.choice(names): dice.choice(values) for _ in range(dice.randint(1, 4))}))
    assert pool.run() == 0, pool.log()
    counted, dead = pool.counters(), pool.dead()
    assert (pool.pending(), pool.unread(), counted["READ"]) == (0, 0, len(ids))
    assert counted["HANDLED"] + counted["DUPLICATES"] + counted["DEAD"] == len(ids)
    assert counted["FAILED"] == counted["LOST"] == 0
    assert {letter.reason for letter in dead.values()} == {"decode_error"}
    assert min(counted["HANDLED"], counted["DUPLICATES"], len(dead)) >= 2, "nothing is tested"
