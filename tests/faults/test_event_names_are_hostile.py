"""Event names that are no UTF-8, empty, enormous, or full of control characters."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool

NAMES = (b"\xff\xfe", b"", b"x" * 100_000, b"a\0b", b"\x1b[2J", b'quo"te\n', "Zoë".encode(), b"\xed\xa0\x80")


def test_handled_and_dead_lettered_like_any_other(make_pool: Callable[..., Pool]) -> None:
    """Half of them are rejected: their names go through the log, the pipe and the dead letters too."""
    pool = make_pool("""
        def handle(message):
            started(message)
            ledger().hset("seen", message.id, repr(message.event))
            if message.data["bad"]:
                raise Reject(message.event)
            finished(message)
        """)
    good = [pool.add({b"event": name, b"data": b'{"bad": false}'}) for name in NAMES]
    bad = [pool.add({b"data": b'{"bad": true}', b"event": name}) for name in NAMES]
    pool.start()
    worker = pool.worker()
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(good + bad, dead=dict.fromkeys(bad, 1))
    for entry, name in zip(good + bad, NAMES * 2, strict=True):
        assert pool.books.hget("seen", entry) == repr(name.decode("utf-8", "backslashreplace")).encode()
    for entry, name in zip(bad, NAMES, strict=True):
        assert dict(pool.dead()[entry].fields)[b"event"] == name
    assert not set(pool.log()) & set("\0\x1b"), pool.log()
