"""A handler that closes every file descriptor, as code that makes daemons does."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_a_new_process_goes_on_and_nothing_is_run_twice(make_pool: Callable[..., Pool]) -> None:
    """Connections that handlers open then get the numbers of ours: we write into none of them."""
    pool = make_pool("""
        opened, url = [], os.environ["LEDGER_URL"]
        def handle(message):
            started(message)
            if message.data["n"] == 5:
                os.closerange(3, 4096)
                for _ in range(64):
                    opened.append(redis.Redis.from_url(url, protocol=2, single_connection_client=True))
            finished(message)
            for client in opened:
                assert client.ping() is True
        """)
    ids = pool.push(numbers(40))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    assert "closed file descriptors" in pool.log()
    assert pool.counters()["FAILED"] == 0
