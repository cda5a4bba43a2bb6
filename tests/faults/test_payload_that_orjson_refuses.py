"""JSON that Python's own library reads and orjson does not: NaN, for one."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_it_is_handled_like_any_other(make_pool: Callable[..., Pool]) -> None:
    """The short cut of the worker's loop refuses it, the serializer has the last word."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] != message.data["n"]:
                ledger().set("nan", message.id)
            finished(message)
        """)
    ids = [*pool.push(numbers(2)), pool.add({b"data": b'{"n": NaN}'}), *pool.push(numbers(2))]
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.books.get("nan") == ids[2].encode()
