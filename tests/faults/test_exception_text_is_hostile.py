"""Exceptions whose text holds what no terminal, no UTF-8 and no C string can bear."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers

TEXTS = {1: "\0 NUL", 2: "\ud800 alone", 3: "\udcff byte", 4: "\x1b[2J\x1b]0;owned\x07", 5: "a\r\nb\u202e"}


def test_text_is_kept_and_prints_nothing_odd(make_pool: Callable[..., Pool]) -> None:
    """The dead letter holds the text, what is no UTF-8 as an escape; no control character is in the log."""
    pool = make_pool(f"""
        TEXTS = {TEXTS!r}
        def handle(message):
            started(message)
            if message.data["n"] in TEXTS:
                raise ValueError(TEXTS[message.data["n"]])
            finished(message)
        """)
    ids = pool.push(numbers(20))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids[6:])
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, dead={ids[n]: 3 for n in TEXTS})
    letters = pool.dead()
    for n, words in TEXTS.items():
        written = words.encode("utf-8", "backslashreplace").decode()
        assert letters[ids[n]].error == f"ValueError: {written}"
        assert f"ValueError: {written}" in letters[ids[n]].traceback
    assert not set(pool.log()) & set("\0\x1b\x07\u202e"), pool.log()
