"""Entries whose payload the serializer refuses: no JSON, nothing at all, half of it, nested beyond reason."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers

PAYLOADS = (b"{", b"", b"\xff\xfe", b"\0", b"[" * 200_000, b'{"n": 1} trailing', b'"\xed\xa0\x80"')


def test_dead_letter_at_once(make_pool: Callable[..., Pool]) -> None:
    """The handler never sees them, they are not tried again, and their neighbours are handled."""
    pool = make_pool("""
        def handle(message):
            started(message)
            finished(message)
        """)
    ids = pool.push(numbers(10))
    bad = [pool.add({b"data": payload}) for payload in PAYLOADS]
    ids += bad + pool.push(numbers(10))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead=dict.fromkeys(bad, 0))
    for entry, payload in zip(bad, PAYLOADS, strict=True):
        letter = pool.dead()[entry]
        assert (letter.reason, letter.attempts) == ("decode_error", 1)
        assert letter.error.startswith("DecodeError: ")
        assert letter.fields == ((b"data", payload),)
    counted = pool.counters()
    assert (counted["FAILED"], counted["DEAD_DECODE"]) == (0, len(bad))


def test_a_serializer_is_asked_once(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        """
        class Theirs:
            def encode(self, value): return b""
            def decode(self, data):
                ledger().incr("decoded")
                raise ValueError("no")
        def handle(message): pass
        """,
        "--serializer", "app:Theirs",
    )  # fmt: skip
    bad = [pool.add({b"data": b"{}"}), pool.add({b"first": b"", b"data": b"{}"})]
    assert pool.run() == 0, pool.log()
    assert int(pool.redis.get("decoded") or 0) == len(bad)
    assert {letter.error for letter in pool.dead().values()} == {"DecodeError: ValueError: no"}
