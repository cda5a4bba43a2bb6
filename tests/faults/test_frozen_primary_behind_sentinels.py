"""A primary behind sentinels freezes, another takes its place, and it wakes up without knowing it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest
from support_pool import numbers, until
from support_topology import Everywhere, Watched, ask

from rsq.streams.producer import Producer, PushError

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


class Push(threading.Thread):
    """One push, and what came of it."""

    def __init__(self, producer: Producer) -> None:
        super().__init__(daemon=True)
        self._producer, self.entry = producer, ""
        self.error: PushError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.entry = self._producer.push({"n": -1})
        except PushError as error:
            self.error = error


def test_nobody_stays_with_it(watched: Watched, make_everywhere: Callable[..., Everywhere]) -> None:
    """For some ten seconds it goes on confirming what is lost when the sentinels make it a replica."""
    pool = make_everywhere(watched, HANDLER, "--workers", "2")
    pool.start()
    with Producer(watched.url, timeout_s=60.0) as producer, Producer(watched.url) as other:
        early = [producer.push({"n": 0}), other.push({"n": 1})]  # both have a connection to it now
        pool.wait_finished(early)
        pool.wait_settled()
        pool.redis.set("mark", 1)
        assert pool.redis.wait(1, 10_000) == 1
        first = watched.first
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)
        try:
            late = Push(producer)
            watched.hurry()
            until(lambda: watched.primary() is watched.second, "a failover", 60)
        finally:
            first.process.send_signal(signal.SIGCONT)
        ids = [other.push({"n": n}) for n in range(20)]
        late.join(60)
    assert not late.is_alive()
    assert late.error is None or late.error.unsure == 1, "it may be there, or not: nobody knows"
    pool.wait_finished(ids)
    confirmed = {*early, *ids, *([late.entry] if late.entry else [])}
    assert confirmed <= pool.entries(), "a push was confirmed by a server that was replaced"
    pool.wait_finished(pool.push(numbers(20)))
    pool.wait_settled()
    until(lambda: names(first) == [], "a server that everybody has left")
    assert pool.stop() == 0


def names(server: object) -> list[str]:
    """Return who of a pool has a connection to a server."""
    rows = ask(server, "CLIENT", "LIST").decode().splitlines()  # type: ignore[arg-type]
    return [row for row in rows if "name=test:" in row]
