"""Several pools under one root: one process tree, one port, one log, and each pool for itself."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from support_pool import numbers, until
from support_servers import Server
from support_several import Several

from rsq.ipc.cells import P

TWO = """
    [[pool]]
    stream = "orders"

    [[pool]]
    stream = "mails"
    workers = 1
    """
Make = Callable[..., Several]


@pytest.fixture
def make(server: Server, tmp_path: Path) -> Iterator[Make]:
    """Return a function (toml, handlers) -> Several."""
    made: list[Several] = []

    def several(toml: str = TWO, handlers: str = "", **more: str) -> Several:
        made.append(Several(server, tmp_path, toml, handlers, **more))
        return made[-1]

    yield several
    for one in made:
        one.discard()


def _title(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline()).strip()


def _exporter(pools: Several) -> int:
    """Return the pid of the exporter, once it has said who it is."""

    def found() -> int:
        children = psutil.Process(pools.pid).children()
        return next((child.pid for child in children if _title(child.pid).startswith("rsq: exporter")), 0)

    return until(found, "the exporter")


def test_each_pool_handles_its_stream(make: Make) -> None:
    pools = make().start(ready=2)
    orders, mails = pools.push("orders", numbers(300)), pools.push("mails", numbers(200))
    pools.wait_finished("orders", orders)
    pools.wait_finished("mails", mails)
    pools.wait_settled("orders", "mails")
    assert (len(pools.workers("orders")), len(pools.workers("mails"))) == (2, 1)
    assert pools.stop() == 0
    pools.assert_exact("orders", orders)
    pools.assert_exact("mails", mails)
    assert not pools.strays()


def test_the_process_tree(make: Make) -> None:
    """root -> masters and one exporter; each says who it is; the root has imported no handler."""
    pools = make().start(ready=2)
    root = psutil.Process(pools.pid)
    assert _title(pools.pid) == "rsq: root orders/workers, mails/workers"
    _exporter(pools)  # it may not have said yet who it is
    children = {_title(child.pid): child for child in root.children()}
    assert children.keys() == {
        "rsq: master orders/workers",
        "rsq: master mails/workers",
        "rsq: exporter orders/workers, mails/workers",
    }
    below = sorted(_title(child.pid) for child in children["rsq: master orders/workers"].children())
    assert below == [
        "rsq: keeper orders/workers",
        "rsq: worker test:0 orders/workers",
        "rsq: worker test:1 orders/workers",
    ]


def test_one_port_shows_all(make: Make) -> None:
    """Every family once, whoever reads it; ready when every slot of every pool is."""
    pools = make().start(ready=2)
    orders, mails = pools.push("orders", numbers(30)), pools.push("mails", numbers(20))
    pools.wait_finished("orders", orders)
    pools.wait_finished("mails", mails)
    until(lambda: pools.get("readyz") == (200, "ready: 2 of 2 pools, 3 slots\n"), "readiness")
    assert pools.get("healthz") == (200, "supervision is alive\n")
    pools.wait_settled("orders", "mails")

    def handled() -> dict[str, float]:
        _, page = pools.get("metrics")
        heads = [line for line in page.splitlines() if line.startswith("# TYPE")]
        assert len(heads) == len(set(heads))
        samples = [sample for family in parse(page) for sample in family.samples]
        keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
        assert len(keys) == len(set(keys)), "a series is there twice"
        found = [sample for sample in samples if sample.name == "rsq_messages_handled_total"]
        return {
            stream: sum(sample.value for sample in found if sample.labels["stream"] == stream)
            for stream in ("orders", "mails")
        }

    until(lambda: handled() == {"orders": 30, "mails": 20}, "exact numbers")
    os.kill(pools.master("mails"), signal.SIGSTOP)  # shown is what its memory says, whatever it does
    assert handled() == {"orders": 30, "mails": 20}
    os.kill(pools.master("mails"), signal.SIGCONT)


def test_status_is_grouped(make: Make) -> None:
    pools = make().start(ready=2)
    command = ("--runtime-dir", str(pools.runtime))
    code, said = pools.say("status", *command, "--json", module="rsq.supervisor.operate")
    views = json.loads(said)
    assert code == 0
    assert [(view["stream"], view["root"], view["ready"]) for view in views] == [
        ("mails", pools.pid, 1),
        ("orders", pools.pid, 2),
    ]
    assert {view["metrics_port"] for view in views} == {pools.port()}
    code, said = pools.say("status", *command, module="rsq.supervisor.operate")
    lines = said.splitlines()
    assert lines[0] == f"root {pools.pid}  2 pools, 3 of 3 slots ready, metrics on port {pools.port()}"
    assert [line.split()[1] for line in lines if " / workers @ test" in line] == ["mails", "orders"]
    code, said = pools.say("status", *command, "--stream", "orders", module="rsq.supervisor.operate")
    assert "orders / workers" in said
    assert "mails" not in said


def test_log_lines_name_the_pool(make: Make) -> None:
    """Those of masters and workers and, from the exporter, those about failures; as text and as JSON."""
    handlers = """
        def fails(message):
            raise ValueError("no")
        """
    toml = TWO + 'handler = "app:fails"\nmax-attempts = 1\n'
    pools = make(toml, handlers).start(ready=2)
    (entry,) = pools.push("mails", numbers(1))
    pools.wait_log(f"] mails/workers: slot 0: entry {entry} dead-lettered after 1 attempt")
    assert "] orders/workers: ready: 2 workers" in pools.log()
    assert pools.stop() == 0
    pools.start("--log-format", "json", ready=2)
    (entry,) = pools.push("mails", numbers(1))
    pools.wait_log(f"entry {entry} dead-lettered")
    rows = [json.loads(line) for line in pools.log().splitlines()]
    assert {row["pool"] for row in rows if "dead-lettered" in row["msg"]} == {"mails/workers"}
    assert {row.get("pool") for row in rows} == {None, "orders/workers", "mails/workers"}
    assert {row["logger"] for row in rows if "pool" not in row} == {"rsq.root"}


def test_one_pool_of_the_file_alone(make: Make) -> None:
    """--pool runs it as if there were no others."""
    pools = make().start("--pool", "mails/workers")
    pools.wait_log("ready: 1 workers")
    assert _title(pools.pid) == "rsq: master mails/workers"
    assert [segment.identity.stream for segment in pools.segments()] == ["mails"]
    assert pools.stop() == 0
    code, said = pools.say("--pool", "mail/workers")
    assert (code, said.count("\n")) == (78, 1)
    assert "--pool mail/workers: there is no such pool; there are: orders/workers, mails/workers" in said


def test_the_check_looks_at_all(make: Make) -> None:
    pools = make()
    code, said = pools.say("--check")
    assert (code, len(said.splitlines())) == (0, 2)
    assert said.startswith("good: app:plain for orders/workers on ")
    pools = make(TWO + 'handler = "app:nothing"\n')
    code, said = pools.say("--check")
    assert (code, said.splitlines()[-1].split(": ")[:3]) == (
        78,
        ["rsq-supervisor", "error", "pool mails/workers"],
    )


def test_a_worker_more_and_a_worker_fewer(make: Make) -> None:
    """TTIN and TTOU go to every pool; to a master alone they are its own."""
    pools = make().start(ready=2)
    pools.signal(signal.SIGTTIN)
    until(lambda: (pools.booted("orders"), pools.booted("mails")) == (3, 2), "a worker more in both")
    os.kill(pools.master("mails"), signal.SIGTTIN)
    until(lambda: (pools.booted("orders"), pools.booted("mails")) == (3, 3), "one more in one")
    pools.signal(signal.SIGTTOU)
    until(lambda: (len(pools.workers("orders")), len(pools.workers("mails"))) == (2, 2), "one fewer in both")
    assert pools.stop() == 0


def test_a_reload_takes_new_code_and_new_settings(make: Make) -> None:
    """Same root, same masters, new workers; pools that came are started, pools that went have ended."""
    pools = make().start(ready=2)
    ids = {stream: pools.push(stream, numbers(20)) for stream in ("orders", "mails")}
    pools.wait_finished("mails", ids["mails"])  # what it has not read when it ends, nobody will
    masters = pools.master("orders")
    old = pools.workers("orders")
    pools.settle("""
        [[pool]]
        stream = "orders"
        workers = 1

        [[pool]]
        stream = "bills"
        workers = 1
        """)
    pools.signal(signal.SIGHUP)
    pools.wait_log("reload done: 2 of 2 pools run")
    pools.wait_log("pool mails/workers: the settings have it no more: it ends")
    ids["bills"] = pools.push("bills", numbers(20))
    for stream, entries in ids.items():
        pools.wait_finished(stream, entries)
    until(lambda: len(pools.workers("orders")) == 1 and not pools.workers("mails"), "the new sizes")
    assert pools.master("orders") == masters
    assert not {*old} & {*pools.workers("orders")}
    until(lambda: pools.get("readyz") == (200, "ready: 2 of 2 pools, 2 slots\n"), "the new pools at the port")
    pools.wait_settled(*ids)
    assert pools.stop() == 0
    for stream, entries in ids.items():
        pools.assert_exact(stream, entries)


def test_a_reload_with_settings_that_are_wrong(make: Make) -> None:
    pools = make().start(ready=2)
    good = pools.config.read_text()
    for wrong, words in {
        good + "wokers = 3\n": "[[pool]] 2: there is no setting 'wokers'",
        good.replace('instance = "test"', 'instance = "other"'): "instance changed from test to other",
        good.replace('"mails"', '"orders"'): "pool orders/workers: it is there twice",
    }.items():
        pools.config.write_text(wrong)
        tries = pools.log().count("reload refused")
        pools.signal(signal.SIGHUP)
        pools.wait_log("reload refused", tries + 1)
        assert words in [line for line in pools.log().splitlines() if "reload refused" in line][-1]
    ids = pools.push("mails", numbers(5))
    pools.wait_finished("mails", ids)
    assert pools.stop() == 0


def test_it_ends_when_all_are_empty(make: Make) -> None:
    """Not before: the pool at the end of a chain is empty at first, and has work when the first one is."""
    handlers = """
        def first(message):
            started(message)
            if message.data["n"] == 99:
                time.sleep(1.0)
            ledger().xadd("second", {"data": b"1"})
            finished(message)
        def second(message):
            started(message)
            ledger().xadd("third", {"data": b"2"})
            finished(message)
        """
    pools = make(
        """
        [[pool]]
        stream = "third"
        [[pool]]
        stream = "second"
        handler = "app:second"
        [[pool]]
        stream = "first"
        handler = "app:first"
        """,
        handlers,
    )
    ids = pools.push("first", numbers(100))
    pools.start("--stop-when-empty")
    assert pools.wait() == 0
    assert "every stream is read and settled: ending" in pools.log()
    pools.assert_exact("first", ids)
    for stream in ("second", "third"):
        added = pools.redis.xrange(stream)
        assert len(added) == 100  # type: ignore[arg-type]
        pools.assert_exact(stream, [entry.decode() for entry, _ in added])  # type: ignore[union-attr]


def test_a_drained_pool_stays_away_until_a_reload(make: Make) -> None:
    """TERM for its master, or rsq drain, is for that pool alone; when all have ended, so has the root."""
    pools = make().start(ready=2)
    drained = pools.master("mails")
    os.kill(drained, signal.SIGTERM)
    until(lambda: "1 of 2" in pools.get("readyz")[1] or pools.get("readyz")[0] == 503, "one that is gone")
    until(lambda: not psutil.pid_exists(drained), "its end, of which the root knows")
    assert not pools.workers("mails")
    ids = pools.push("orders", numbers(10))
    pools.wait_finished("orders", ids)
    pools.signal(signal.SIGHUP)
    pools.wait_log("reload done: 2 of 2 pools run")
    for stream in ("orders", "mails"):
        os.kill(pools.master(stream), signal.SIGTERM)
    assert pools.wait() == 0
    assert "every pool has ended" in pools.log()


def test_an_embedded_server_is_shared(make: Make, tmp_path: Path) -> None:
    pools = make('\n    redis = "embedded:data"\n' + TWO)
    pools.start(ready=2)
    family = [_title(pid) for pid in pools.family()]
    assert sum("valkey-server" in title for title in family) == 1
    ids = [
        pools.say(
            "push",
            "orders",
            '{"n": 1}',
            "--redis",
            f"embedded:{tmp_path}/data",
            module="rsq.supervisor.operate",
        )
    ]
    assert ids[0][0] == 0
    until(lambda: pools.counters("orders")["HANDLED"] == 1, "the entry")
    assert pools.stop() == 0
    with pools.segment("orders") as segment:
        assert segment.pool.view[P.MASTER_PID]


def test_an_exporter_that_dies_is_replaced(make: Make) -> None:
    """It opens the memory of all pools itself: their numbers go on, and failures reach the log as before."""
    handlers = """
        def fails(message):
            raise ValueError("no")
        """
    pools = make(TWO + 'handler = "app:fails"\nmax-attempts = 1\n', handlers).start(ready=2)
    os.kill(_exporter(pools), signal.SIGKILL)
    pools.wait_log("exporter: its process died: SIGKILL; a new one starts in 0.0 s")
    until(lambda: pools.get("readyz") == (200, "ready: 2 of 2 pools, 3 slots\n"), "its successor")
    (entry,) = pools.push("mails", numbers(1))
    pools.wait_log(f"] mails/workers: slot 0: entry {entry} dead-lettered after 1 attempt")
    assert pools.stop() == 0
