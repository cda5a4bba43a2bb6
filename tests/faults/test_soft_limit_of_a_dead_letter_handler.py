"""The soft limit of a handler of dead letters."""

from __future__ import annotations

from collections.abc import Callable

from support_several import Several


def test_it_is_raised_inside(make_several: Callable[..., Several]) -> None:
    pools = make_several(
        """
        handler = "app:handle"
        dlq-handler = "app:dead"
        stream = "orders"
        max-attempts = 2
        soft-timeout = 3
        """,
        """
        def handle(message):
            started(message)
            raise ValueError("never")
        def dead(message):
            started(message)
            if message.attempt == 1:
                time.sleep(600)
            finished(message)
        """,
    )
    pools.push("orders", [{"n": 1}])
    pools.start("--stop-when-empty")
    assert pools.wait() == 0, pools.log()
    (letter,) = pools.letters("orders").values()
    assert pools.started("orders:dlq") == {letter.id: 2}
    assert pools.finished("orders:dlq") == {letter.id: 1}
