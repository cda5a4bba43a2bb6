"""Redis refuses a dead letter, and then the pool, slot, worker or host that has it comes to its end."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from support_hosts import Fleet, kill_all
from support_pool import Pool, numbers, until
from support_servers import Server

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        wait_for("go")
        if message.data["n"] % 2:
            raise Reject("no such customer")
        raise ValueError("boom")
"""
REASONS = Counter({"rejected": 1, "max_attempts": 1})


def refused(pool: Pool, count: int = 2) -> list[str]:
    """Start a pool, and let it have so many dead letters that Redis does not take."""
    pool.start()
    ids = pool.push(numbers(count))
    pool.wait_started(ids[0])
    pool.redis.config_set("maxmemory", 1)
    pool.books.set("go", 1)
    for entry in ids:
        pool.wait_log(f"entry {entry} cannot be dead-lettered")
    assert "dead-lettered after" not in pool.log(), "said before it is true"
    return ids


def assert_written(pools: Sequence[Pool], ids: Sequence[str]) -> None:
    """Check that each letter is written once, with its story, counted once, and told once."""
    letters = pools[0].dead()
    assert letters.keys() == set(ids)
    assert Counter(letter.reason for letter in letters.values()) == REASONS
    assert {letter.attempts for letter in letters.values()} == {1}
    errors = sorted(letter.error for letter in letters.values())
    assert errors == ["Reject: no such customer", "ValueError: boom"]
    assert all("in handle" in letter.traceback for letter in letters.values())
    until(lambda: sum(pool.counters()["DEAD"] for pool in pools) >= len(ids), "all counted")
    assert Fleet(*pools).swept().get("buried", 0) == 0
    assert pools[0].redis.xlen("events:dlq") == len(ids)
    pools_log = "".join(pool.log() for pool in pools)
    for entry in ids:
        assert pools_log.count(f"entry {entry} dead-lettered after 1 attempt") == 1, pools_log


def test_pool_drained(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """Another pool writes them, and the first one, when it is back, counts nothing of theirs."""
    options = ("--max-attempts", "1", "--lease", "4")
    gone = make_own_pool(HANDLER, "--instance", "gone", *options)
    other = make_own_pool(HANDLER, "--instance", "other", *options)
    ids = refused(gone)
    assert gone.stop() == 0
    gone.redis.config_set("maxmemory", 0)
    other.start()
    until(lambda: other.dead().keys() == set(ids), "both letters")
    for entry in ids:
        other.wait_log(f"entry {entry} dead-lettered")
    gone.start()
    gone.wait_settled()
    assert_written((other, gone), ids)
    Fleet(other, gone).stop()
    Fleet(other, gone).assert_exact(ids, dead=dict.fromkeys(ids, 1))


def test_host_lost(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """The same, and the first one comes back with its memory, when its lease has run out."""
    options = ("--max-attempts", "1", "--lease", "4")
    lost = make_own_pool(HANDLER, "--instance", "lost", *options)
    other = make_own_pool(HANDLER, "--instance", "other", *options)
    ids = refused(lost)
    until(lambda: lost.redis.hlen("rsq:{events}:workers:stories") == 2, "what Redis has to know")
    kill_all(lost)
    lost.redis.config_set("maxmemory", 0)
    other.start()
    until(lambda: other.dead().keys() == set(ids), "both letters")
    for entry in ids:
        other.wait_log(f"entry {entry} dead-lettered")
    lost.start()
    lost.wait_settled()
    assert_written((other, lost), ids)
    Fleet(other, lost).stop()
    Fleet(other, lost).assert_exact(ids, dead=dict.fromkeys(ids, 1))


def test_slot_closed(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """The other slot writes them; the slot, when it is opened again, counts nothing of theirs."""
    pool = make_own_pool(HANDLER, "--workers", "2", "--max-attempts", "1", "--batch-max", "1")
    pool.start()
    ids = pool.push(numbers(2))
    for entry in ids:
        pool.wait_started(entry)
    pool.redis.config_set("maxmemory", 1)
    pool.books.set("go", 1)
    for entry in ids:
        pool.wait_log(f"entry {entry} cannot be dead-lettered")
    pool.signal(signal.SIGTTOU)
    until(lambda: pool.seats().keys() == {0}, "the end of slot 1")
    pool.redis.config_set("maxmemory", 0)
    until(lambda: pool.dead().keys() == set(ids), "both letters")
    pool.signal(signal.SIGTTIN)
    until(lambda: pool.booted().keys() == {0, 1}, "slot 1")
    for entry in ids:
        pool.wait_log(f"entry {entry} dead-lettered")
    assert_written((pool,), ids)
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dict.fromkeys(ids, 1))


def test_worker_killed(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """Its successor has the story from the file beside the segment."""
    pool = make_own_pool(HANDLER, "--max-attempts", "1")
    ids = refused(pool)
    pool.wait_successor(pool.kill_worker())
    pool.redis.config_set("maxmemory", 0)
    until(lambda: pool.dead().keys() == set(ids), "both letters")
    for entry in ids:
        pool.wait_log(f"entry {entry} dead-lettered")
    assert_written((pool,), ids)
    until(lambda: not list(pool.runtime.glob("*.letters-*")), "no story left")
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dict.fromkeys(ids, 1))


def test_redis_is_away(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """The pool ends without it, and the next one on this host has the stories from the file."""
    pool = make_own_pool(HANDLER, "--max-attempts", "1", "--lease", "60")
    pool.start()
    ids = pool.push(numbers(1))
    pool.wait_started(ids[0])
    own_server.stop()
    pool.books.set("go", 1)
    pool.wait_log(f"entry {ids[0]} cannot be dead-lettered")
    assert pool.stop() == 0
    assert "dead-lettered after" not in pool.log()
    own_server.start()
    pool.start()
    until(lambda: pool.dead().keys() == set(ids), "the letter")
    pool.wait_log(f"entry {ids[0]} dead-lettered")
    (letter,) = pool.dead().values()
    assert (letter.reason, letter.attempts, letter.error) == ("max_attempts", 1, "ValueError: boom")
    assert "in handle" in letter.traceback
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dict.fromkeys(ids, 1))
