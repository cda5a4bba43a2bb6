"""A handler of dead letters that itself raises, crashes, or is given what nobody can decode."""

from __future__ import annotations

from collections.abc import Callable

from support_several import Several

from rsq.streams.deadletter import DeadLetter, DeadLetters

HANDLERS = """
    def handle(message):
        started(message)
        if message.data["n"] % 2:
            raise ValueError(f"odd: {message.data['n']}")
        finished(message)
    def dead(message):
        started(message)
        if message.letter.reason == "decode_error":
            assert message.data == b"not JSON", message.data
        elif message.data["n"] == 3:
            raise RuntimeError("the handler of dead letters is at its end")
        elif message.data["n"] == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        finished(message)
    """
ONE = """
    handler = "app:handle"
    dlq-handler = "app:dead"
    stream = "orders"
    max-attempts = 2
    """


def test_what_it_fails_at_goes_one_stream_further_and_no_further(
    make_several: Callable[..., Several],
) -> None:
    """Each letter is handled once or lies, whole, in a stream without a handler; the first one stays too."""
    pools = make_several(ONE, HANDLERS)
    ids = pools.push("orders", [{"n": n} for n in range(8)])
    broken = pools.redis.xadd("orders", {"data": b"not JSON"})
    ids.append(broken.decode())  # type: ignore[union-attr]
    pools.start("--stop-when-empty")
    assert pools.wait() == 0, pools.log()
    letters = pools.letters("orders")
    assert letters.keys() == {*ids[1:8:2], ids[8]}
    assert pools.rest("orders") == (0, 0)
    mine = {letter.origin_id: letter.id for letter in letters.values()}
    failed = [mine[ids[3]], mine[ids[5]]]
    pools.assert_exact("orders:dlq", mine.values(), dead=failed)
    assert [pools.started("orders:dlq")[entry] for entry in failed] == [2, 2]
    again = pools.letters("orders:dlq")
    assert again.keys() == {*failed}
    assert again[failed[0]].error == "RuntimeError: the handler of dead letters is at its end"
    assert again[failed[1]].reason == "crash: SIGKILL"
    assert dict(again[failed[0]].fields)[b"rsq:id"] == ids[3].encode()
    assert pools.redis.xlen("orders:dlq") == 5, "letters stay until somebody purges or replays them"
    assert not pools.redis.exists("orders:dlq:dlq:dlq")
    outcomes = list(DeadLetters(pools.redis, "orders:dlq").replay(everything=True))
    assert [outcome.result for outcome in outcomes] == ["replayed", "replayed"]
    back = [one for one in DeadLetters(pools.redis, "orders").iterate() if isinstance(one, DeadLetter)]
    assert sorted(letter.origin_id for letter in back) == sorted([*letters, ids[3], ids[5]])


def test_two_groups_of_one_stream(make_several: Callable[..., Several]) -> None:
    """Their letters lie in one stream; each handler gets those of its own group."""
    pools = make_several(
        """
        stream = "orders"
        max-attempts = 1
        [[pool]]
        group = "mailer"
        handler = "app:first"
        dlq-handler = "app:dead_first"
        [[pool]]
        group = "audit"
        handler = "app:second"
        dlq-handler = "app:dead_second"
        """,
        """
        def first(message):
            if message.data["n"] < 5:
                raise ValueError
        def second(message):
            if message.data["n"] > 2:
                raise ValueError
        def dead_first(message):
            assert message.letter.group == "mailer"
            ledger().hincrby("first", message.letter.origin_id, 1)
        async def dead_second(message):
            assert message.letter.group == "audit"
            ledger().hincrby("second", message.letter.origin_id, 1)
        """,
    )
    ids = pools.push("orders", [{"n": n} for n in range(8)])
    pools.start("--stop-when-empty")
    assert pools.wait() == 0, pools.log()
    assert pools.hash("first") == dict.fromkeys(ids[:5], 1)
    assert pools.hash("second") == dict.fromkeys(ids[3:], 1)
    assert not pools.redis.exists("orders:dlq:dlq")
