"""An entry is rejected, and the one right behind it kills the process."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_the_story_is_not_lost_with_the_process(make_pool: Callable[..., Pool]) -> None:
    """A dead letter is written, with error and traceback, before the next handler is called."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == 100:
                raise Reject("not wanted")
            if message.data["n"] == 101:
                segfault()
            finished(message)
        """)
    ids = pool.push(numbers(300))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[100]: 1, ids[101]: 3})
    letter = pool.dead()[ids[100]]
    assert (letter.reason, letter.error) == ("rejected", "Reject: not wanted")
    assert "in handle" in letter.traceback
