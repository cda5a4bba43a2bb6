"""A stream with ever new event names, as when an id gets into the name by mistake."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool

from rsq.ipc.ledger import EVENTS_MAX


def test_metrics_do_not_grow_with_them(make_pool: Callable[..., Pool]) -> None:
    """5,000 names: the first have a histogram each, the others share one, and together they count all."""
    pool = make_pool("""
        def handle(message):
            started(message)
            finished(message)
        """)
    with pool.redis.pipeline(transaction=False) as pipeline:
        for n in range(5000):
            pipeline.xadd("events", {b"data": b"{}", b"event": b"order-%d.created" % n})
        ids = [entry.decode() for entry in pipeline.execute()]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    segment = pool.segment()
    try:
        slot = segment.slot(0)
        sums, names = slot.ledger.read()[0], slot.events.names()
        counts = [sum(sums.handler(row).read()[0]) for row in range(EVENTS_MAX + 1)]
    finally:
        segment.close()
    assert names == [f"order-{n}.created" for n in range(EVENTS_MAX - 1)]
    assert counts == [0, *[1] * (EVENTS_MAX - 1), 5000 - (EVENTS_MAX - 1)]
