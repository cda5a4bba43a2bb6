"""streamix-queue 0.1.0: its producer writes, a pool reads; its consumer and a pool share one group."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamix_queue import publish as their_publish
from streamix_queue.consumer import ConsumerEngine
from streamix_queue.schemas import StreamMessage
from streamix_queue.transport import RedisStreamTransport
from support_pool import Pool, numbers, until
from support_servers import Server

from rsq.streams.envelope import ENVELOPES
from rsq.streams.producer import Producer

HANDLER = """
    import json
    def handle(message):
        started(message)
        seen = [message.event, message.data, message.key, message.attempt]
        ledger().hset("seen", message.id, json.dumps(seen))
        if message.data.get("n") == "wait":
            wait_for("go")
        if message.data.get("n") == "raise":
            raise ValueError("no")
        if message.data.get("n") == "crash":
            segfault()
        finished(message)
    """
_text = st.text(st.characters(exclude_categories=["Cs"]))
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=8,
)


class Theirs:
    """Their producer and their consumer, on one connection."""

    def __init__(self, server: Server) -> None:
        client = server.client(decode_responses=True)
        self.transport = RedisStreamTransport("", "events", "workers", redis_client=client)
        self.messages: dict[str, StreamMessage] = {}  # by the id of the entry
        self.handled: list[str] = []  # ids of messages

    def publish(self, event: str, data: dict[str, Any], retries: int = 0) -> str:
        message = StreamMessage.new(event, data, retries)
        entry: str = self.transport.publish(message)
        self.messages[entry] = message
        return entry

    def consume(self, event: str = "e", *, fail: bool = False, count: int = 10) -> int:
        """Let their consumer do one pass; return how many it got."""

        def handle(_data: Any, message: StreamMessage) -> None:
            self.handled.append(message.id)
            if fail:
                raise ValueError("theirs")

        engine = ConsumerEngine(self.transport, event, handle, "theirs", batch_size=count, block_ms=100)
        return int(engine.consume_once())


@pytest.fixture
def theirs(server: Server) -> Theirs:
    return Theirs(server)


def seen(pool: Pool) -> dict[str, Any]:
    rows: Any = pool.books.hgetall("seen")
    return {entry.decode(): json.loads(words) for entry, words in rows.items()}


@given(_text.filter(bool), st.dictionaries(_text, _json, max_size=4), st.integers(0, 10))
def test_whatever_it_writes_is_read(event: str, data: dict[str, Any], retries: int) -> None:
    message = StreamMessage.new(event, data, retries)
    fields = [part.encode() for pair in message.to_stream_fields().items() for part in pair]
    for name in ("auto", "streamix"):
        envelope = ENVELOPES[name]
        content = envelope.unwrap(fields)
        assert (content.payload, content.data, content.retries) == (None, data, retries)
        assert (envelope.event(fields), envelope.key(fields)) == (event.encode(), message.id.encode())
        assert envelope.headers(fields) == message.to_dict()["timestamps"]


@pytest.mark.parametrize("options", [(), ("--envelope", "streamix"), ("--serializer", "msgpack")])
def test_all_events_reach_the_handler(
    make_pool: Callable[..., Pool], theirs: Theirs, options: tuple[str, ...]
) -> None:
    """Also those that were published before the group was there, and whatever their names are."""
    rows: list[tuple[str, dict[str, Any]]] = [("e", {"n": 1}), ("Zoë", {}), ("e", {"n": [None, {"a": 1.5}]})]
    ids = [theirs.publish(event, data) for event, data in rows]
    pool = make_pool(HANDLER, *options)
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    for entry, (event, data) in zip(ids, rows, strict=True):
        assert seen(pool)[entry] == [event, data, theirs.messages[entry].id, 1]
    segment = pool.segment()
    try:
        assert segment.slot(0).events.names() == ["e", "Zoë"]
    finally:
        segment.close()


def test_a_router_handles_each_event_by_a_function_of_its_own(
    make_pool: Callable[..., Pool], theirs: Theirs
) -> None:
    """With their signatures, plain and async, or gathered; what nobody handles is counted."""
    pool = make_pool("""
        from rsq import Router, adapters
        handle = Router()
        def note(kind, message):
            started(message)
            ledger().hset("kind", message.id, kind)
            finished(message)
        @handle.on("user.created")
        @adapters.data_and_message
        def created(data, message):
            assert (data, message.event) == ({"n": data["n"]}, "user.created")
            note("created", message)
        @handle.on("user.gone", "user.left")
        @adapters.data_only
        async def gone(data):
            assert data["n"] < 9
            ledger().incr("gone")
        @handle.batch("user.seen", size=3, wait=3)
        def seen(messages):
            ledger().rpush("sizes", len(messages))
            for message in messages:
                note("seen", message)
            return [message.id for message in messages]
        """)
    names = ["user.created", "user.gone", "user.seen", "user.left", "user.other"]
    ids = [theirs.publish(names[n % 5], {"n": n % 9}) for n in range(25)]
    assert pool.run() == 0, pool.log()
    found: Any = pool.books.hgetall("kind")
    kinds = {entry.decode(): kind.decode() for entry, kind in found.items()}
    assert kinds == dict.fromkeys(ids[0::5], "created") | dict.fromkeys(ids[2::5], "seen")
    assert set(pool.started().values()) == set(pool.finished().values()) == {1}
    assert (pool.books.get("gone"), pool.books.lrange("sizes", 0, -1)) == (b"10", [b"3", b"2"])
    assert (pool.counters()["HANDLED"], pool.counters()["IGNORED"], pool.dead()) == (20, 5, {})


@pytest.mark.parametrize("gathered", [False, True])
def test_an_event_s_limit_counts_the_attempts_that_it_has_had(
    make_pool: Callable[..., Pool], theirs: Theirs, gathered: bool
) -> None:
    """Its retry limit is that of the event, also in a batch, where each message has its own."""
    decorator = (
        '@handle.batch("e", size=9, wait=0.2, max_attempts=3)'
        if gathered
        else '@handle.on("e", max_attempts=3)'
    )
    pool = make_pool(f"""
        from rsq import Router
        handle = Router()
        {decorator}
        def work(messages):
            for message in messages if isinstance(messages, list) else [messages]:
                ledger().rpush("attempts:" + message.id, message.attempt)
            raise ValueError("never")
        """)
    ids = [theirs.publish("e", {}, retries) for retries in (0, 1, 2, 5)]
    assert pool.run() == 0, pool.log()
    attempts: list[Any] = [pool.books.lrange("attempts:" + entry, 0, -1) for entry in ids]
    own = [sorted({int(n) for n in had}) for had in attempts]
    assert own == [[1, 2, 3], [2, 3], [3], [6]]
    assert {entry: letter.attempts for entry, letter in pool.dead().items()} == dict(
        zip(ids, (3, 3, 3, 6), strict=True)
    )


def test_its_publish_function_is_read(make_pool: Callable[..., Pool], server: Server) -> None:
    pool = make_pool(HANDLER, "--stream", "app.events", "--group", "app.workers")
    message = their_publish("e", {"n": 1}, redis_url=server.tcp_url)
    assert pool.run() == 0, pool.log()
    assert list(seen(pool).values()) == [["e", {"n": 1}, message.id, 1]]


def test_a_malformed_entry_stops_nobody(make_pool: Callable[..., Pool], theirs: Theirs) -> None:
    pool = make_pool(HANDLER, "--envelope", "streamix")
    before = theirs.publish("e", {})
    bad = [
        pool.add(fields)
        for fields in ({b"message": b"{"}, {b"message": b"[]"}, {b"other": b""}, {b"message": b'{"id": "1"}'})
    ]
    after = theirs.publish("e", {})
    assert pool.run() == 0, pool.log()
    pool.assert_exact([before, *bad, after], dead=dict.fromkeys(bad, 0))
    assert {letter.reason for letter in pool.dead().values()} == {"decode_error"}


@pytest.mark.parametrize(("data", "reason"), [("raise", "max_attempts"), ("crash", "crash: SIGSEGV")])
def test_what_it_has_tried_twice_is_tried_once_more(
    make_pool: Callable[..., Pool], theirs: Theirs, data: str, reason: str
) -> None:
    """Its consumer adds each retry as a new entry, which tells of the ones before; crashes count as well."""
    pool = make_pool(HANDLER, "--max-attempts", "3")
    theirs.transport.ensure_group()
    first = [theirs.publish("e", {"n": data}), theirs.publish("e", {"n": 1})]
    assert [theirs.consume(fail=True) for _ in range(2)] == [2, 2]
    entries: Any = pool.redis.xrange("events")
    ids = [entry.decode() for entry, _ in entries][4:]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[0]: 1})
    assert [seen(pool)[entry][2:] for entry in ids] == [[theirs.messages[entry].id, 3] for entry in first]
    letter = pool.dead()[ids[0]]
    assert (letter.attempts, letter.reason) == (3, reason)


def test_a_retry_adds_no_entry(make_pool: Callable[..., Pool], theirs: Theirs) -> None:
    """So there is no moment at which a message is there twice, or not at all."""
    pool = make_pool(HANDLER, "--max-attempts", "4")
    ids = [theirs.publish("e", {"n": "raise"}), theirs.publish("e", {"n": "crash"}), theirs.publish("e", {})]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[0]: 4, ids[1]: 4})
    assert pool.redis.xlen("events") == 3


def test_a_retry_that_was_added_and_not_acknowledged_is_handled_once(
    make_pool: Callable[..., Pool], theirs: Theirs
) -> None:
    """Their consumer died between the two: the message is there twice, pending and new."""
    theirs.transport.ensure_group()
    theirs.publish("e", {"n": 1})
    ((_, message),) = theirs.transport.read_group("theirs", block_ms=100)
    added = theirs.transport.publish(message.with_retry(1))
    pool = make_pool(HANDLER, "--once", "1h", "--lease", "1").start()
    pool.wait_finished([added])
    assert pool.stop() == 0
    pool.start("--consumer-ttl", "1")  # only now does it take over what they have left
    until(lambda: sum(pool.counters()[name] for name in ("HANDLED", "DUPLICATES")) == 2, "both entries")
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == pool.finished() == {added: 1}
    counted = pool.counters()
    assert (counted["HANDLED"], counted["DUPLICATES"], pool.dead()) == (1, 1, {})
    assert seen(pool)[added] == ["e", {"n": 1}, message.id, 2]


def test_a_pool_and_its_consumer_split_the_work(make_pool: Callable[..., Pool], theirs: Theirs) -> None:
    """Each entry is handled once, by one of them; what fails there comes here with its attempt counted."""
    pool = make_pool(HANDLER)
    ids = [theirs.publish("e", {"n": "wait"})]
    pool.start()
    pool.wait_started(ids[0])
    ids += [theirs.publish("e", {"n": n}) for n in range(100)]
    assert theirs.consume(count=30) == 30
    assert theirs.consume(count=10, fail=True) == 10
    pool.release("go")
    until(lambda: len(pool.finished()) == 71, "the pool's part")
    pool.wait_settled()
    assert pool.stop() == 0
    names = {theirs.messages[entry].id for entry in ids}
    ours = {words[2]: words[3] for words in seen(pool).values()}
    assert ours.keys() | set(theirs.handled) == names
    assert set(pool.started().values()) == set(pool.finished().values()) == {1}
    assert sorted(ours.keys() & set(theirs.handled)) == sorted(theirs.handled[30:])
    assert ours == {name: 2 if name in theirs.handled[30:] else 1 for name in ours}


def test_a_worker_outlives_an_idle_time(make_pool: Callable[..., Pool]) -> None:
    """Longer than the time-outs of redis-py, in one read."""
    pool = make_pool(HANDLER, "--block-ms", "60000").start()
    worker = pool.worker()
    until(lambda: _idle_s(pool) >= 6, "a read that has waited for six seconds")
    ids = pool.push(numbers(1))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker() == worker
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.counters()["RECONNECTS"] == 0


def test_our_producer_keeps_its_connection(server: Server) -> None:
    client = server.client()
    before = _connections(client)
    with Producer(server.url) as producer:
        for n in range(200):
            producer.push(n)
    assert _connections(client) - before <= 2


def _idle_s(pool: Pool) -> int:
    rows: Any = pool.redis.client_list()
    return max((int(row["idle"]) for row in rows if row["name"] == "test:0"), default=0)


def _connections(client: Any) -> int:
    return int(client.info("stats")["total_connections_received"])
