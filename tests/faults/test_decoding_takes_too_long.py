"""A payload whose decoding does not end, with a serializer of the user's own."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_limits_hold_there_too(make_pool: Callable[..., Pool]) -> None:
    """The soft limit is a failure that may pass, not a payload that nobody can read; the hard one kills."""
    pool = make_pool(
        """
        import orjson
        class Slow:
            def encode(self, value): return orjson.dumps(value)
            def decode(self, data):
                value = orjson.loads(data)
                while value["n"] == 5: time.sleep(0.001)
                while value["n"] == 8:
                    try: time.sleep(1000)
                    except BaseException: pass
                return value
        def handle(message):
            started(message)
            finished(message)
        """,
        "--serializer", "app:Slow", "--soft-timeout", "1.5", "--timeout", "3", "--max-attempts", "2",
    )  # fmt: skip
    ids = pool.push(numbers(20))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[5]: 0, ids[8]: 0})
    letters = pool.dead()
    assert (letters[ids[5]].reason, letters[ids[5]].attempts) == ("max_attempts", 2)
    assert letters[ids[5]].error == "SoftTimeout: ran longer than 1.5 s"
    assert (letters[ids[8]].reason, letters[ids[8]].attempts) == ("timeout", 2)
    assert pool.counters()["FAILED"] == 4, pool.log()
