"""A handler that puts the default action of SIGALRM back: from then on, the soft limit would kill."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_soft_limit_goes_on_as_an_exception(make_pool: Callable[..., Pool]) -> None:
    """The next batch has our own action again: a slow handler gets its exception, the process lives on."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 2:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
            while message.data["n"] == 25 and message.attempt == 1:
                time.sleep(0.001)
            finished(message)
        """,
        "--soft-timeout", "1.5", "--batch-max", "10",
    )  # fmt: skip
    ids = pool.push(numbers(30))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[25]: 2})
