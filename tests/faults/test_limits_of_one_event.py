"""Events of a router with limits of their own: those hold, wherever an attempt ends, and nobody else's do."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers

ROUTER = """
    from rsq import Router, SoftTimeout
    handle = Router()
"""


def test_attempts(make_pool: Callable[..., Pool]) -> None:
    """Of one event a single one, of another four, of a third the pool's two: after exceptions and deaths."""
    pool = make_pool(
        ROUTER
        + """
    def fail(message):
        started(message)
        if message.data["n"] % 2:
            raise ValueError("no")
        os.kill(os.getpid(), signal.SIGKILL)
    handle.on("once", max_attempts=1)(fail)
    handle.on("often", max_attempts=4, backoff=(0.01, 0.02))(fail)
    @handle.default
    def other(message):
        if message.event == "fails":
            fail(message)
        started(message)
        finished(message)
    """,
        "--max-attempts", "2",
    )  # fmt: skip
    once, often = pool.push(numbers(2), "once"), pool.push(numbers(2), "often")
    fails, fine = pool.push(numbers(2), "fails"), pool.push(numbers(10))
    assert pool.run() == 0, pool.log()
    wanted = dict.fromkeys(once, 1) | dict.fromkeys(often, 4) | dict.fromkeys(fails, 2)
    pool.assert_exact([*once, *often, *fails, *fine], dead=wanted)
    reasons = {entry: letter.reason for entry, letter in pool.dead().items()}
    assert [reasons[ids[0]] for ids in (once, often, fails)] == ["crash: SIGKILL"] * 3
    assert [reasons[ids[1]] for ids in (once, often, fails)] == ["max_attempts"] * 3
    assert {entry: letter.attempts for entry, letter in pool.dead().items()} == wanted


def test_the_hard_limit(make_pool: Callable[..., Pool]) -> None:
    """The short one of its event kills; an event with a longer one than the pool's has its time."""
    pool = make_pool(
        ROUTER
        + """
    @handle.on("short", timeout=3, max_attempts=1)
    @handle.on("pool")
    @handle.on("long", timeout=60)
    def wait(message):
        started(message)
        time.sleep(message.data["s"])
        finished(message)
    """,
        "--timeout", "4", "--max-attempts", "2", "--workers", "3",
    )  # fmt: skip
    (short,) = pool.push([{"s": 60}], "short")
    (late,) = pool.push([{"s": 60}], "pool")
    (long,) = pool.push([{"s": 6}], "long")
    fine = pool.push([{"s": 0}] * 5, "short")
    assert pool.run() == 0, pool.log()
    pool.assert_exact([short, late, long, *fine], dead={short: 1, late: 2})
    assert {letter.reason for letter in pool.dead().values()} == {"timeout"}
    assert f"entry {short} ran longer than 3 s" in pool.log()
    assert f"entry {late} ran longer than 4 s" in pool.log()


def test_an_event_with_a_limit_in_a_pool_without(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        ROUTER
        + """
    @handle.on("short", timeout=0.3, max_attempts=1)
    @handle.default
    def wait(message):
        started(message)
        time.sleep(message.data["s"])
        finished(message)
    """,
        "--timeout", "0",
    )  # fmt: skip
    (short,) = pool.push([{"s": 600}], "short")
    (long,) = pool.push([{"s": 3}])
    assert pool.run() == 0, pool.log()
    pool.assert_exact([short, long], dead={short: 1})


def test_the_soft_limit(make_pool: Callable[..., Pool]) -> None:
    """Each has its own, in a timer or in an event loop, and the one without has none."""
    pool = make_pool(
        ROUTER
        + """
    import asyncio
    def note(message):
        begun = time.monotonic()
        started(message)
        try:
            while time.monotonic() < begun + message.data["s"]:
                time.sleep(0.001)
        except SoftTimeout as error:
            ledger().hset("limits", message.id, str(error))
            raise
        finished(message)
    handle.on("short", soft_timeout=1.5)(note)
    handle.on("long", soft_timeout=2)(note)
    handle.on("none", soft_timeout=0)(note)
    @handle.on("async", soft_timeout=1.5)
    async def later(message):
        started(message)
        try:
            await asyncio.sleep(600)
        finally:
            ledger().hset("limits", message.id, "cancelled")
    """,
        "--soft-timeout", "50", "--max-attempts", "1", "--batch-max", "8",
    )  # fmt: skip
    first = pool.push([{"s": 0}] * 20, "none")
    (none,) = pool.push([{"s": 2.5}], "none")
    (short,) = pool.push([{"s": 60}], "short")
    (long,) = pool.push([{"s": 60}], "long")
    (loop,) = pool.push([{"s": 60}], "async")
    (again,) = pool.push([{"s": 60}], "short")
    pool.start()
    worker = pool.worker()
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact([*first, none, short, long, loop, again], dead={short: 1, long: 1, loop: 1, again: 1})
    said: dict[bytes, bytes] = pool.books.hgetall("limits")  # type: ignore[assignment]
    assert {entry.decode(): words.decode() for entry, words in said.items()} == {
        short: "ran longer than 1.5 s",
        long: "ran longer than 2 s",
        again: "ran longer than 1.5 s",
        loop: "cancelled",
    }
