"""The pages about moving here: their code runs as it stands there, and their tables leave nothing out."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import redis_stream_queue as rsqueue
import redis_streams.consumer
import redis_streams.monitor
import redis_streams.producer
import streamix_queue
from redis_streams.scaler import Scaler
from streamix_queue.consumer import ConsumerEngine
from streamix_queue.transport import RedisStreamTransport
from support_migrate import PAGES, Move, blocks, commands, orders, page, rows
from support_pool import Pool, until
from support_servers import Server

from rsq import Fleet
from rsq.supervisor.cli import command as supervisor
from rsq.supervisor.operate import cli as operate

TESTS = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")
COMMANDS = [
    (name, at)
    for name in NAMES
    for at, words in enumerate(words for words in commands(name) if words[0] == "rsq-supervisor")
    if "--dlq-handler" not in words
]
# Pages whose consumers read what the pool reads.
BOTH = ["redis-stream-queue", "streamix-queue", "redis-streams", "hand-written", "pipelines"]
# Those whose queue no pool can read, and when that is empty, as the page says.
EMPTY: dict[str, Callable[[Any], bool]] = {
    "celery": lambda redis: not redis.llen("celery") and not redis.hlen("unacked"),
    "rq": lambda redis: not redis.llen("rq:queue:orders") and not redis.zcard("rq:wip:orders"),
    "dramatiq": lambda redis: (
        not redis.hlen("dramatiq:default.msgs") + redis.hlen("dramatiq:default.DQ.msgs")
    ),
}
QUEUES = list(EMPTY)
READERS = ["redis-stream-queue", "pipelines"]  # whose consumers read what our producer writes
ATTEMPTS = {"streamix-queue": 4, "pipelines": 5}  # of a page's router, where they are not the pool's
Mover = Callable[..., Move]


@pytest.fixture
def moved(server: Server, tmp_path: Path) -> Iterator[Mover]:
    """Return a function (page, command=0) -> Move."""
    made: list[Move] = []

    def make(name: str, command: int = 0) -> Move:
        made.append(Move(server, tmp_path / str(len(made)), name, command))
        return made[-1]

    yield make
    for move in made:
        move.discard()


@pytest.mark.parametrize("name", BOTH)
def test_there_and_back(moved: Mover, name: str) -> None:
    """Old consumers alone, beside the pool, the pool alone, and old ones again: each order once."""
    move = moved(name)
    worker = move.run("worker.py")
    move.wait_group()
    move.place(orders(0, 20))
    move.wait_finished(range(20))
    move.pool.start()
    move.place(orders(20, 200))
    move.wait_finished(range(200))
    move.pool.wait_settled()  # it may have booked an order and not acknowledged it
    worker.stop()
    move.place(orders(200, 220), side="after" if name in READERS else "before")
    move.place(orders(220, 240))
    move.wait_finished(range(240))
    move.pool.wait_settled()
    assert move.pool.stop() == 0
    handled = move.pool.counters()["HANDLED"]
    assert 40 <= handled <= 220
    move.run("worker.py")
    move.place(orders(240, 260))
    move.wait_finished(range(260))
    move.pool.wait_settled()
    assert move.started() == move.finished() == dict.fromkeys(range(260), 1)
    assert move.pool.counters()["HANDLED"] == handled
    assert move.pool.dead() == {}


@pytest.mark.parametrize("name", BOTH)
def test_what_it_had_in_hand_is_taken_over(moved: Mover, name: str) -> None:
    """An old consumer is killed with an order in hand, which nobody else has; the pool books it."""
    move = moved(name)
    worker = move.run("worker.py")
    move.wait_group()
    move.place([{"order": 1, "waits": 1}])
    until(lambda: move.started() == {1: 1}, "the start of the order")
    worker.kill()
    move.pool.release("go")
    move.pool.start("--lease", "1", "--consumer-ttl", "1")
    move.wait_finished([1])
    move.pool.wait_settled()
    until(lambda: all(name.startswith("test:") for name in move.pool.consumers()), "its removal")
    assert move.pool.stop() == 0
    assert (move.started(), move.finished()) == ({1: 2}, {1: 1})
    assert move.pool.counters()["HANDLED"] == 1


@pytest.mark.parametrize("name", BOTH)
def test_what_the_pool_hands_back_is_taken_over(moved: Mover, server: Server, name: str) -> None:
    """The pool stops while an order waits for its retry; old consumers book it, and the rest."""
    if name == "redis-stream-queue" and server.version < (7,):
        pytest.skip("before Redis 7 it cannot take anything over")
    move = moved(name)
    worker = move.run("worker.py")
    move.wait_group()
    worker.stop()
    move.pool.start("--backoff-base", "600", "--backoff-max", "600")
    move.place([{"order": 1, "bad": 1}, {"order": 2}])
    until(lambda: move.started().keys() == {1, 2} and move.pool.counters()["FAILED"] == 1, "the failure")
    assert move.pool.stop() == 0
    assert move.pool.pending() == 1
    move.pool.release("mended")
    move.run("worker.py")
    if (move.before / "monitor.py").exists():  # nobody else takes anything over
        until(lambda: all(idle >= 1500 for idle in idle_ms(move.pool).values()), "slots that are idle")
        move.wait_group("worker-1")
        move.run("-c", "import monitor; monitor.clean(1500)").end()
    move.place([{"order": 3}])
    move.wait_finished([1, 2, 3])
    move.pool.wait_settled()
    assert (move.started(), move.finished()) == ({1: 2, 2: 1, 3: 1}, {1: 1, 2: 1, 3: 1})


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_only_the_culprits_are_dead_letters(moved: Mover, name: str, command: int) -> None:
    """Of a hundred orders one raises and one kills: those two are tried to the last, the others once."""
    move = moved(name, command)
    placed = orders(0, 100)
    placed[30]["bad"] = placed[60]["kills"] = 1
    move.place(placed, side="before" if name in BOTH else "after")
    ids = [entry.decode() for entry, _ in move.pool.redis.xrange(move.pool.stream)]  # type: ignore[union-attr]
    assert len(ids) == 100
    assert move.pool.run() == 0, move.pool.log()
    move.pool.assert_books(ids, dead=[ids[30], ids[60]])
    assert move.pool.dead()[ids[60]].reason == "crash: SIGKILL"
    finished = set(range(100)) - {30, 60}
    assert move.finished().keys() == finished
    if "list" not in move.pool.target:  # the first call of a list may be repeated, one by one
        assert move.finished() == dict.fromkeys(finished, 1)
        assert move.started() == dict.fromkeys(finished, 1) | dict.fromkeys((30, 60), ATTEMPTS.get(name, 3))


@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_is_emptied_while_producers_switch(moved: Mover, name: str) -> None:
    """Old workers and a pool, each with its own queue; then the pool alone, and the old ones again."""
    pytest.importorskip(name)
    move = moved(name)
    old = move.run(*move.worker)
    move.place(orders(0, 10))
    move.wait_finished(range(10))
    move.pool.start()
    move.place(orders(10, 20), side="after")
    move.place(orders(20, 30))
    move.wait_finished(range(30))
    until(lambda: EMPTY[name](move.pool.redis), "its empty queue")
    old.stop()
    move.place(orders(30, 40), side="after")
    move.wait_finished(range(40))
    move.pool.wait_settled()
    assert move.pool.stop() == 0
    assert move.pool.counters()["HANDLED"] == 20
    move.run(*move.worker)
    move.place(orders(40, 50))
    move.wait_finished(range(50))
    assert move.started() == move.finished() == dict.fromkeys(range(50), 1)


def test_dead_letters_reach_their_handler(moved: Mover) -> None:
    """Each of the two that are given up is told of once, with its reason; the others are booked once."""
    move = moved("redis-stream-queue", 2)
    placed = orders(0, 20)
    placed[3]["bad"] = placed[6]["kills"] = 1
    move.place(placed)
    assert move.pool.run() == 0, move.pool.log()
    told: Any = move.pool.redis.lrange("shop:told", 0, -1)
    wanted = {f"max_attempts {placed[3]}", f"crash: SIGKILL {placed[6]}"}
    assert sorted(word.decode() for word in told) == sorted(wanted)
    assert move.finished() == dict.fromkeys(set(range(20)) - {3, 6}, 1)
    assert {letter.reason for letter in move.pool.dead().values()} == {"max_attempts", "crash: SIGKILL"}


def test_replay(moved: Mover, server: Server) -> None:
    """What one group has handled, another handles once more, and ends; so did the loop, in its own way."""
    move = moved("hand-written", 0)
    move.place(orders(0, 50))
    assert move.pool.run() == 0, move.pool.log()
    before = move.pool.redis.xinfo_groups("orders")
    again = moved("hand-written", 1)
    assert again.pool.start(ready=False).wait() == 0, again.pool.log()
    assert move.started() == move.finished() == dict.fromkeys(range(50), 2)
    groups: Any = move.pool.redis.xinfo_groups("orders")
    assert [group for group in groups if group["name"] == b"mailer"] == before
    assert [group["pending"] for group in groups] == [0, 0]
    old = "import worker; old = worker.Processor(sys.argv[1], 'orders', 'mailer'); old.replay()"
    move.run("-c", f"import sys; {old}; assert old.health()['pending'] == 0", server.tcp_url).end()
    assert move.started() == move.finished() == dict.fromkeys(range(50), 3)


def test_the_breaker_opens_and_nothing_is_lost(moved: Mover, server: Server) -> None:
    """What the orders depend on is down: they wait, and are booked when it is back."""
    move = moved("pipelines")
    move.place([{"order": n, "bad": 1} for n in range(60)])
    move.pool.start("--backoff-base", "3")
    move.pool.wait_log("circuit breaker of order.created is open: 20 failures within 60 s")
    move.place(orders(60, 80), side="after")
    until(lambda: move.pool.counters()["DEFERRED"] >= 20, "orders that are deferred")
    move.pool.release("mended")
    with Fleet(server.url, "orders", "mailer") as fleet:
        fleet.breakers.close("order.created")
    move.wait_finished(range(80))
    move.pool.wait_settled()
    assert move.pool.stop() == 0
    assert move.finished() == dict.fromkeys(range(80), 1)
    assert move.pool.dead() == {}


@pytest.mark.parametrize("name", NAMES)
def test_all_code_compiles(name: str) -> None:
    found = re.findall(r"```python\n(.*?)```", page(name), re.DOTALL)
    assert found
    assert len(found) == len(blocks(name)), "a block of Python has no name of a file"
    for source in found:
        compile(source, name, "exec")


def idle_ms(pool: Pool) -> dict[str, int]:
    """Return slot -> milliseconds since its last command, in the group."""
    rows: Any = pool.redis.xinfo_consumers(pool.stream, pool.group)
    return {row["name"].decode(): row["idle"] for row in rows if row["name"].startswith(b"test:")}


# The tables


SETTINGS: list[tuple[str, str, list[Any]]] = [
    ("redis-stream-queue", "ConsumerConfig", [rsqueue.ConsumerConfig]),
    ("redis-stream-queue", "StreamConsumer", [rsqueue.StreamConsumer]),
    ("redis-stream-queue", "ConsumerMetrics", [rsqueue.ConsumerMetrics]),
    (
        "redis-stream-queue",
        "ConsumerGroup",
        [rsqueue.ConsumerGroup, *(vars(rsqueue.ConsumerGroup)[name] for name in ("stats", "health_check"))],
    ),
    (
        "redis-stream-queue",
        "StreamStats",
        [rsqueue.StreamStats, rsqueue.ConsumerInfo, rsqueue.PendingEntry],
    ),
    ("redis-stream-queue", "StreamProducer", [rsqueue.StreamProducer]),
    ("redis-stream-queue", "ProducerMetrics", [rsqueue.ProducerMetrics]),
    (
        "redis-stream-queue",
        "StreamClient",
        [rsqueue.StreamClient, rsqueue.StreamClient.from_url, rsqueue.StreamClient.from_cluster],
    ),
    ("redis-stream-queue", "RetryHandler", [rsqueue.RetryHandler]),
    ("streamix-queue", "consume", [streamix_queue.consume]),
    ("streamix-queue", "publish", [streamix_queue.publish]),
    ("streamix-queue", "ConsumerEngine", [ConsumerEngine, RedisStreamTransport]),
    ("redis-streams", "Consumer", [redis_streams.consumer.Consumer]),
    ("redis-streams", "Producer", [redis_streams.producer.Producer]),
    ("redis-streams", "Monitor", [redis_streams.monitor.Monitor]),
    ("redis-streams", "Monitor's ConsumerMetrics", [redis_streams.monitor.ConsumerMetrics]),
    ("redis-streams", "Scaler", [Scaler, Scaler.get_scale_decision]),
]


def _names(thing: Any) -> set[str]:
    """Return the names of what a function takes, or of what a value consists of."""
    if dataclasses.is_dataclass(thing):
        return {field.name for field in dataclasses.fields(thing)}
    return inspect.signature(thing).parameters.keys() - {"self"}


def _needs(name: str) -> Any:
    """Import a task queue of the version that its page is about, or skip: the bench installs it, and any."""
    found: Any = pytest.importorskip(name)
    (version,) = re.findall(r"^Version ([\d.]+\d)", page(name), re.MULTILINE)
    if not importlib.metadata.version(name).startswith(f"{version}."):
        pytest.skip(f"the page is about {name} {version}")
    return found


def _rows_of_options(name: str, section: str, commands: list[click.Command]) -> None:
    """Check that every option of these commands has its row, by one of its names."""
    theirs = _theirs(name, section)
    options = [one.opts for command in commands for one in command.params if isinstance(one, click.Option)]
    assert len(options) > 25
    assert [opts for opts in options if not theirs.intersection(opts)] == []


def test_every_option_of_celery_has_its_row() -> None:
    _needs("celery")
    from celery.app import defaults
    from celery.bin.worker import worker

    _rows_of_options("celery", "celery worker", [worker])
    for prefix in ("worker", "task"):
        assert set(defaults.NAMESPACES[prefix]) - _theirs("celery", f"Settings {prefix}_") == set()


def test_every_option_of_rq_has_its_row() -> None:
    rq = _needs("rq")
    from rq.cli.cli import main

    _rows_of_options("rq", "rq worker and", [main.commands["worker"], main.commands["worker-pool"]])
    for section, *things in (
        ("Queue", rq.Queue),
        ("enqueue", rq.Queue.enqueue_call, rq.Retry),
        ("Worker", rq.Worker),
    ):
        assert set().union(*map(_names, things)) - _theirs("rq", section) == set()


def test_every_option_of_dramatiq_has_its_row() -> None:
    dramatiq = _needs("dramatiq")
    from dramatiq import middleware
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.cli import make_argument_parser

    theirs = _theirs("dramatiq", "dramatiq")
    options = [one.option_strings for one in make_argument_parser()._actions if one.option_strings]
    assert [names for names in options if not theirs.intersection(names)] == [["-h", "--help"]]
    wanted = _names(dramatiq.actor) | set().union(
        *(part().actor_options for part in middleware.default_middleware)
    )
    assert wanted - {"options"} - _theirs("dramatiq", "Options of an actor") == set()
    assert _names(RedisBroker) - _theirs("dramatiq", "RedisBroker") == set()
    parts = {name for name in middleware.__all__ if hasattr(vars(middleware)[name], "after_worker_boot")}
    assert len(parts) == 10
    assert parts - {"Middleware"} - _theirs("dramatiq", "Middleware") == set()
    source = inspect.getsource(importlib.import_module("dramatiq.middleware.prometheus"))
    metrics = set(re.findall(r'"(dramatiq_\w+)"', source))
    assert len(metrics) == 10
    assert metrics - _theirs("dramatiq", "Metrics") == set()


def _theirs(name: str, section: str) -> set[str]:
    """Return all names in the first column of the tables of a section."""
    cells = " ".join(row[0] for row in rows(name, section))
    return set(re.findall(r"`[-(]*([\w-]+)", cells)) | set(re.findall(r"`(--?[\w-]+)", cells))


@pytest.mark.parametrize(
    ("name", "section", "things"), SETTINGS, ids=lambda part: part if isinstance(part, str) else ""
)
def test_every_setting_has_its_row(name: str, section: str, things: list[Any]) -> None:
    wanted = set().union(*map(_names, things))
    assert wanted
    assert wanted - _theirs(name, section) == set()


def _options(command: click.Command) -> set[str]:
    """Return the options of a command and of all below it."""
    found = {word for one in command.params for word in (*one.opts, *one.secondary_opts)}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*map(_options, below))


@pytest.mark.parametrize("name", [*NAMES, "README"])
def test_what_it_names_of_ours_exists(name: str) -> None:
    """Options in the commands and in the last column of the tables, metrics and tests anywhere."""
    cells = [row[-1] for row in rows(name, "")]
    words = {word for cell in cells for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", cell)}
    words |= {
        word
        for command in commands(name)
        if command[0].startswith("rsq")
        for word in command
        if word.startswith("--")
    }
    assert words - _options(supervisor) - _options(operate) == set()
    known = set(re.findall(r"`(rsq_\w+)`", (PAGES.parent / "metrics.md").read_text()))
    metrics = set(re.findall(r"\brsq_\w+", page(name)))
    assert {metric.removesuffix("_count") for metric in metrics} - known == set()
    for file, test in re.findall(
        r"`((?:compat|faults|integration|unit)/\w+\.py)(?:::(test_\w+))?`", page(name)
    ):
        assert re.search(rf"^def {test or 'test_'}", (TESTS / file).read_text(), re.MULTILINE), (file, test)
