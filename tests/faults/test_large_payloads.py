"""Payloads of 1 MiB, many of them, some of them rejected."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool

BATCH_BYTES = 16 << 20


def test_batches_stay_small_in_bytes(make_pool: Callable[..., Pool]) -> None:
    """A fast handler reads hundreds of small entries at once, but of large ones only a few."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] % 20 == 10:
                raise Reject("every twentieth")
            finished(message)
        """)
    text = "x" * (1 << 20)
    ids = pool.push({"n": n, "text": text} for n in range(200))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead=dict.fromkeys(ids[10::20], 1))
    assert all(len(letter.fields[0][1]) > 1 << 20 for letter in pool.dead().values())
    assert pool.largest_batch() <= 20, "more than about 16 MiB were read at once"
