"""A fleet's circuit breakers in Redis, on real servers: one order of events, one probe at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support_servers import Server

from rsq.streams import breaker as shared
from rsq.streams import keys
from rsq.streams.group import pack
from rsq.supervisor.breakers import Breakers, Contended
from rsq.worker.breaker import Asked, Breaker, Ended, Failed, Forced, Limits, Phase, runs

LIMITS = Limits(failures=5, window_ms=600_000, reset_ms=1, successes=3)
NAMES = ("orders", "mailer")


def caller(server: Server) -> Callable[..., list[Any]]:
    """What a keeper's line does: commands in one write, errors as values."""
    client: Any = server.client()
    connection = client.connection_pool.get_connection()

    def call(*commands: tuple[Any, ...]) -> list[Any]:
        connection.send_packed_command([b"".join(pack(*words) for words in commands)])
        replies = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except Exception as error:
                replies.append(error)
        return replies

    return call


@pytest.fixture
def call(server: Server) -> Callable[..., list[Any]]:
    return caller(server)


def breakers(call: Callable[..., list[Any]]) -> Breakers:
    return Breakers(*NAMES, call)


def test_what_one_keeper_sees_fail_opens_it_for_all(call: Callable[..., list[Any]]) -> None:
    one, other = breakers(call), breakers(call)
    one.apply("created", LIMITS, Failed(2))
    assert other.apply("created", LIMITS, Failed(2)).phase is Phase.CLOSED
    assert one.apply("created", LIMITS, Failed(1)).phase is Phase.OPEN
    assert other.look("created").phase is Phase.OPEN
    assert other.look("deleted") == Breaker()


def test_a_change_by_one_who_has_not_seen_the_last_is_refused(call: Callable[..., list[Any]]) -> None:
    def change(old: bytes | None, new: bytes | None) -> shared.Seen:
        return shared.seen(call(shared.change(*NAMES, "created", old, new))[0])

    assert change(None, b"1").done
    refused = change(None, b"2")
    assert (refused.done, refused.value) == (False, b"1")
    assert change(b"1", b"2").done
    assert change(b"2", None).done
    again = change(b"2", b"3")
    assert again.done
    assert call(shared.everything(*NAMES))[0] == [b"created", b"3"]
    assert shared.values([b"created", b"3"]) == {"created": b"3"}


def test_of_many_that_ask_at_once_one_may_probe(server: Server) -> None:
    """And of many failures that are counted at once none is lost."""
    limits = Limits(failures=800, window_ms=600_000, reset_ms=1)
    phases, granted = [], []
    lock = threading.Lock()

    def keeper(name: str) -> None:
        mine = breakers(caller(server))
        left = 50
        while left:
            with contextlib.suppress(Contended):  # as in a pool: what could not be told is told later
                mine.apply("created", limits, Failed(2))
                left -= 1
        found = mine.look("created")
        with lock:
            phases.append(found.phase)

    def run(*jobs: Callable[[], None]) -> None:
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run(*(lambda n=n: keeper(f"k{n}") for n in range(7)))
    found = breakers(caller(server)).look("created")
    assert (found.phase, len(found.failed_ms)) == (Phase.CLOSED, 700)
    run(lambda: keeper("k8"))
    assert phases[-1] is Phase.OPEN

    def prober(who: str) -> None:
        mine = breakers(caller(server))
        found = None
        while found is None or found.probe is None:
            with contextlib.suppress(Contended):
                found = mine.apply("created", limits, Asked(who, 60_000))
        with lock:
            granted.append((who, runs(found, who, mine.now_ms)))

    run(*(lambda n=n: prober(f"p{n}") for n in range(8)))
    assert sum(may for _, may in granted) == 1


def test_probes_in_turn_close_it(call: Callable[..., list[Any]]) -> None:
    one, other = breakers(call), breakers(call)
    one.apply("created", LIMITS, Failed(5))
    for number in range(3):
        who = f"web-1:{number}"
        while not runs(one.apply("created", LIMITS, Asked(who, 60_000)), who, one.now_ms):
            pass
        assert not runs(other.apply("created", LIMITS, Asked("web-2:0", 60_000)), "web-2:0", other.now_ms)
        other.apply("created", LIMITS, Ended(who, well=True))
    assert one.look("created") == Breaker(opened=1)


def test_an_operator_has_the_last_word(call: Callable[..., list[Any]]) -> None:
    one, other = breakers(call), breakers(call)
    one.apply("created", LIMITS, Forced(Phase.OPEN))
    assert other.apply("created", LIMITS, Asked("web-1:0", 1000)).phase is Phase.OPEN
    one.apply("created", LIMITS, Forced(Phase.CLOSED))
    assert other.look("created").phase is Phase.CLOSED


def test_a_server_that_refuses_says_why(server: Server, call: Callable[..., list[Any]]) -> None:
    server.client().set(keys.breakers(*NAMES), "x")
    with pytest.raises(RuntimeError, match=r"breaker of created: .*WRONGTYPE"):
        breakers(call).look("created")


def test_what_somebody_else_has_written_is_a_closed_breaker(
    server: Server, call: Callable[..., list[Any]]
) -> None:
    server.client().hset(keys.breakers(*NAMES), "created", "nonsense")
    assert breakers(call).look("created") == Breaker()
    assert breakers(call).apply("created", LIMITS, Failed(5)).phase is Phase.OPEN
