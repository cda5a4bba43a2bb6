"""The scripts of dead letters on real servers: nothing is lost, doubled or taken from its owner."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from support_servers import Server

from rsq.streams import connection
from rsq.streams.deadletter import DeadLetter, DeadLetters, Foreign, Written, write_command

STREAM, DLQ, GROUP, CONSUMER = "orders", "orders:dlq", "workers", "web-1:0"
Fields = list[tuple[bytes, bytes]]


class Bench:
    """A stream with a group, and the few things tests do to them; replies are as the server sends them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.client()
        for command in ("XRANGE", "XPENDING", "XREADGROUP"):
            self.client.set_response_callback(command, lambda reply, **_: reply)
        untyped: Any = self.client
        self.call = untyped.execute_command
        self.call("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
        self.letters = DeadLetters(self.client, STREAM)

    def pend(self, fields: Fields, consumer: str = CONSUMER) -> bytes:
        """Add an entry and let a consumer read it."""
        entry_id: bytes = self.call("XADD", STREAM, "*", *(part for pair in fields for part in pair))
        self.call("XREADGROUP", "GROUP", GROUP, consumer, "STREAMS", STREAM, ">")
        return entry_id

    def bury(self, entry_id: bytes, consumer: str = CONSUMER, **changed: Any) -> Written:
        """Write the dead letter of an entry."""
        usual: dict[str, Any] = {"attempts": 3, "reason": "max_attempts", "first_ms": 1000, "last_ms": 2000}
        return Written(self.call(*write_command(STREAM, DLQ, GROUP, consumer, entry_id, **(usual | changed))))

    def pending(self) -> int:
        return int(self.call("XPENDING", STREAM, GROUP)[0])

    def fields(self, key: str) -> list[Fields]:
        """The fields of all entries of a stream."""
        return [
            list(zip(flat[::2], flat[1::2], strict=True)) for _, flat in self.call("XRANGE", key, "-", "+")
        ]

    def bury_many(self, count: int, reason: str = "timeout") -> list[str]:
        """Dead letters with the fields n=0, n=1, ..., and no entry left in the stream."""
        for number in range(count):
            assert self.bury(self.pend([(b"n", b"%d" % number)]), reason=reason) is Written.LETTER
        self.call("XTRIM", STREAM, "MAXLEN", 0)
        return [entry.id for entry in self.letters.iterate(reason)]


@pytest.fixture
def bench(server: Server) -> Bench:
    return Bench(server)


def many(count: int) -> Fields:
    return [(b"field-%d" % number, b"%d" % (number * 7)) for number in range(count)]


PAYLOADS: dict[str, Fields] = {
    "usual": [(b"data", b'{"a":1}'), (b"event", b"order.created")],
    "repeated names": [(b"a", b"1"), (b"a", b"2"), (b"a", b"1")],
    "empty": [(b"", b""), (b"x", b"")],
    "not text": [(b"\xff\x00\r\n", bytes(range(256)))],
    "our own names": [(b"rsq:v", b"9"), (b"rsq:packed", b"1"), (b"rsq:fields", b"x"), (b"rsq:stream", b"y")],
    "numbers": [(b"1", b"2"), (b"3.0", b"1e400"), (b"-0", b"nan")],
    "1 MiB": [(b"data", b"\xfe" * 2**20), (b"b", b"y" * 2**20)],
    "just not packed": many(1988),
    "just packed": many(1989),
    "10,000 fields": many(10_000),
    "packed and not text": [(b"\xff%d" % number, b"\x00\xc3") for number in range(5000)],
    "packed and long": [*many(2000), (b"", b""), (b"big", b"\x80" * 2**20)],
}


@pytest.mark.parametrize("fields", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_an_entry_survives_its_death_and_its_replay_whole(bench: Bench, fields: Fields) -> None:
    entry_id = bench.pend(fields)
    assert bench.bury(entry_id, reason="crash: SIGSEGV", error="E: é", traceback="T\n  t") is Written.LETTER
    assert bench.pending() == 0
    (found,) = bench.letters.iterate()
    assert found == DeadLetter(
        id=found.id,
        origin_id=entry_id.decode(),
        stream=STREAM,
        group=GROUP,
        consumer=CONSUMER,
        attempts=3,
        reason="crash: SIGSEGV",
        error="E: é",
        traceback="T\n  t",
        first_ms=1000,
        last_ms=2000,
        fields=tuple(fields),
    )
    bench.call("XDEL", STREAM, entry_id)

    (outcome,) = bench.letters.replay(everything=True)
    assert outcome.result == "replayed"
    assert bench.fields(STREAM) == [fields]
    assert bench.call("XRANGE", STREAM, "-", "+")[0][0].decode() == outcome.new_id
    assert bench.letters.count() == 0


@pytest.mark.parametrize("fields", [PAYLOADS["usual"], PAYLOADS["just not packed"]], ids=["2", "1988"])
def test_a_person_sees_the_original_fields_in_the_dead_letter(bench: Bench, fields: Fields) -> None:
    bench.bury(bench.pend(fields))
    assert bench.fields(DLQ)[0][12:] == fields


def test_many_fields_are_one_in_the_dead_letter(bench: Bench) -> None:
    bench.bury(bench.pend(PAYLOADS["just packed"]))
    assert [name for name, _ in bench.fields(DLQ)[0][11:]] == [b"rsq:packed", b"rsq:fields"]


def test_an_entry_of_another_consumer_is_left_alone(bench: Bench) -> None:
    entry_id = bench.pend([(b"a", b"b")], consumer="web-2:0")
    assert bench.bury(entry_id) is Written.NOTHING
    assert bench.pending() == 1
    assert bench.letters.count() == 0


def test_an_entry_that_is_done_or_was_never_read_is_left_alone(bench: Bench) -> None:
    entry_id = bench.pend([(b"a", b"b")])
    bench.call("XACK", STREAM, GROUP, entry_id)
    assert bench.bury(entry_id) is Written.NOTHING
    assert bench.bury(bench.call("XADD", STREAM, "*", "a", "b")) is Written.NOTHING
    assert bench.letters.count() == 0


def test_a_second_writer_comes_too_late(bench: Bench) -> None:
    """Whose answer was lost finds that the letter is its own; another finds that there is nothing to do."""
    entry_id = bench.pend([(b"a", b"b")])
    assert bench.bury(entry_id) is Written.LETTER
    assert bench.bury(entry_id) is Written.BEFORE
    assert bench.bury(entry_id, consumer="another") is Written.NOTHING
    assert bench.letters.count() == 1


def test_an_entry_deleted_while_pending_is_settled_as_lost(bench: Bench) -> None:
    entry_id = bench.pend([(b"a", b"b")])
    bench.call("XDEL", STREAM, entry_id)
    assert bench.pending() == 1
    assert bench.bury(entry_id) is Written.LOST
    assert bench.pending() == 0
    assert bench.letters.count() == 0


def refuse_by_type(bench: Bench) -> None:
    bench.call("SET", DLQ, "no stream")


def refuse_by_memory(bench: Bench) -> None:
    bench.call("CONFIG", "SET", "maxmemory", "1")


@pytest.mark.parametrize(
    ("refuse", "word"), [(refuse_by_type, "WRONGTYPE"), (refuse_by_memory, "OOM")], ids=["type", "memory"]
)
def test_a_letter_that_cannot_be_written_leaves_the_entry_pending(
    bench: Bench, refuse: Any, word: str
) -> None:
    entry_id = bench.pend([(b"a", b"b")])
    refuse(bench)
    with pytest.raises(redis.ResponseError) as caught:
        bench.bury(entry_id)
    assert word in connection.explain(caught.value, None)
    assert connection.permanent(caught.value) is (word == "WRONGTYPE")
    assert bench.pending() == 1


def test_a_user_without_permission_for_the_letter_leaves_the_entry_pending(bench: Bench) -> None:
    entry_id = bench.pend([(b"a", b"b")])
    bench.call("ACL", "SETUSER", "w", "on", ">pw", "~*", "+@all", "-xadd")
    limited: Any = bench.server.client(username="w", password="pw")
    with pytest.raises(redis.ResponseError) as caught:
        limited.execute_command(
            *write_command(
                STREAM, DLQ, GROUP, CONSUMER, entry_id, attempts=1, reason="timeout", first_ms=1, last_ms=1
            )
        )
    assert "NOPERM" in connection.explain(caught.value, None)
    assert connection.permanent(caught.value)
    assert bench.pending() == 1


def test_a_group_that_is_gone_is_an_error(bench: Bench) -> None:
    entry_id = bench.pend([(b"a", b"b")])
    bench.call("XGROUP", "DESTROY", STREAM, GROUP)
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        bench.bury(entry_id)
    assert bench.letters.count() == 0


def test_replay_takes_ids_a_reason_or_everything(bench: Bench) -> None:
    timeouts = bench.bury_many(3, "timeout")
    bench.bury_many(3, "crash: SIGSEGV")
    assert [o.result for o in bench.letters.replay([timeouts[1], timeouts[1], "1-1"])] == [
        "replayed",
        "gone",
        "gone",
    ]
    assert bench.fields(STREAM) == [[(b"n", b"1")]]
    assert [o.result for o in bench.letters.replay(reason="crash")] == ["replayed"] * 3
    assert len(bench.fields(STREAM)) == 4
    assert [o.id for o in bench.letters.replay(everything=True)] == [timeouts[0], timeouts[2]]
    assert bench.letters.count() == 0
    assert bench.pending() == 0


def test_replayed_entries_are_read_by_the_group(bench: Bench) -> None:
    bench.bury_many(2)
    list(bench.letters.replay(everything=True))
    ((_, entries),) = bench.call("XREADGROUP", "GROUP", GROUP, CONSUMER, "STREAMS", STREAM, ">")
    assert [flat for _, flat in entries] == [[b"n", b"0"], [b"n", b"1"]]


def test_replay_does_not_chase_letters_written_meanwhile(bench: Bench) -> None:
    bench.bury_many(50)
    replayed = 0
    for outcome in bench.letters.replay(everything=True):
        replayed += outcome.result == "replayed"
        assert replayed <= 50
        bench.bury(bench.pend([(b"again", b"1")]))
    assert replayed == 50


def test_two_replays_at_once_put_back_each_letter_once(bench: Bench) -> None:
    bench.bury_many(400)
    start = threading.Barrier(4)
    results: list[str] = []

    def replay_all() -> None:
        letters = DeadLetters(bench.server.client(), STREAM)
        start.wait(20)
        results.extend(outcome.result for outcome in letters.replay(everything=True))

    threads = [threading.Thread(target=replay_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("replayed") == 400
    assert sorted(int(fields[0][1]) for fields in bench.fields(STREAM)) == list(range(400))


def test_a_stream_that_takes_no_entries_leaves_the_letters(bench: Bench) -> None:
    bench.bury_many(3)
    bench.call("DEL", STREAM)
    bench.call("SET", STREAM, "no stream")
    with pytest.raises(redis.ResponseError) as caught:
        list(bench.letters.replay(everything=True))
    assert connection.permanent(caught.value)
    assert bench.letters.count() == 3


def test_foreign_entries_and_letters_of_other_streams_are_left_alone(bench: Bench) -> None:
    bench.bury_many(1)
    foreign = bench.call("XADD", DLQ, "*", "who", "me", "who", "again").decode()
    other = DeadLetters(bench.client, "mails", DLQ)
    assert [entry.id for entry in other.iterate()] == [foreign]
    assert [o.result for o in other.replay(everything=True)] == ["foreign"]
    (letter, _) = bench.letters.iterate()
    assert [o.result for o in other.replay([letter.id])] == ["foreign"]
    assert [o.result for o in bench.letters.replay(everything=True)] == ["replayed", "foreign"]
    assert bench.letters.get(foreign) == Foreign(foreign, ((b"who", b"me"), (b"who", b"again")))
    assert bench.letters.count() == 1


def test_a_client_that_decodes_replies_will_do(bench: Bench) -> None:
    fields = [(b"\xff", b"\xfe")]
    bench.bury(bench.pend(fields))
    letters = DeadLetters(bench.server.client(decode_responses=True), STREAM)
    (found,) = letters.iterate(newest_first=True)
    assert found.fields == tuple(fields)
    bench.call("DEL", STREAM)
    assert [o.result for o in letters.replay([found.id])] == ["replayed"]
    assert bench.fields(STREAM) == [fields]


def test_purge_deletes_for_good(bench: Bench) -> None:
    ids = bench.bury_many(45)
    assert [(o.id, o.result) for o in bench.letters.purge(ids[:1])] == [(ids[0], "purged")]
    assert [(o.id, o.result) for o in bench.letters.purge(everything=True)] == [
        (one, "purged") for one in ids[1:]
    ]
    assert bench.letters.count() == 0
    assert bench.fields(STREAM) == []


def test_names_that_are_not_utf8_come_through(bench: Bench) -> None:
    stream, group = "caf\udce9", "gr\udcff"
    key, group_key = b"caf\xe9", b"gr\xff"
    bench.call("XGROUP", "CREATE", key, group_key, "0", "MKSTREAM")
    entry_id = bench.call("XADD", key, "*", "a", "b")
    bench.call("XREADGROUP", "GROUP", group_key, CONSUMER, "STREAMS", key, ">")
    letters = DeadLetters(bench.client, stream)
    bench.call(
        *write_command(
            stream,
            letters.dlq,
            group,
            CONSUMER,
            entry_id,
            attempts=1,
            reason="timeout",
            first_ms=1,
            last_ms=1,
        )
    )
    (found,) = letters.iterate()
    assert isinstance(found, DeadLetter)
    assert (found.stream, found.group) == (stream, group)
    assert [o.result for o in letters.replay(everything=True)] == ["replayed"]
    assert len(bench.fields("caf\udce9".encode("utf-8", "surrogateescape"))) == 2  # type: ignore[arg-type]
