"""The commands that look at a fleet and order it about, on real servers and fleets made by hand."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support_fleet import GROUP, STREAM, Fleet
from support_rsq import DEADLINE_S, Rsq, command, environment, failed
from support_servers import Server

from rsq import Fleet as Remote
from rsq.streams import keys
from rsq.streams.marks import RESTING_MS, SUSPECT_MS
from rsq.streams.orders import Orders, Vanished
from rsq.supervisor.breakers import Breakers
from rsq.supervisor.fleet import NotInTime
from rsq.worker.breaker import Breaker, Phase

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]\u202e"
HERE = {"RSQ_STREAM": STREAM, "RSQ_GROUP": GROUP}
NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def fleet(server: Server) -> Fleet:
    """Two living instances, one that is gone, and what they left."""
    made = Fleet(server)
    made.live("web-1", ttl_ms=60_000)
    made.live("web-2", ttl_ms=60_000, slots={0: "idle"})
    made.report("web-3")
    made.lead("web-2", ttl_ms=25_000)
    ids = made.push(12, age_s=60)
    made.read("web-1:0", 1)
    made.read("web-3:0", 3)
    made.read("tool", 1)
    made.claim("web-3:0", ids[1], idle_ms=40_000, attempts=2)
    made.claim("web-3:0", ids[2], idle_ms=RESTING_MS + 30_000)
    made.claim("web-3:0", ids[3], idle_ms=SUSPECT_MS + 5_000)
    return made


@pytest.fixture
def here(rsq: Rsq, fleet: Fleet) -> Rsq:
    """`rsq` with the names of the fleet in its environment."""
    assert fleet.stream == STREAM
    return lambda *args, **settings: rsq(*args, **(HERE | settings))


def orders(fleet: Fleet) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = fleet.client.hgetall(keys.orders(STREAM, GROUP))
    return found


def calls(fleet: Fleet, instance: str) -> int:
    count: int = fleet.client.llen(keys.inbox(STREAM, GROUP, instance))
    return count


# status


def test_status_shows_the_fleet(here: Rsq, server: Server) -> None:
    for ended in (
        here("status", "--redis", server.url),
        here("status", "--stream", STREAM),
        here("status", "--stream", STREAM, "--group", GROUP, RSQ_STREAM="x", RSQ_GROUP="y"),
    ):
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "orders / mailer" in ended.stdout
        assert "web-2 (leader)" in ended.stdout
        assert "1 other consumer" in ended.stdout


def test_status_as_json(here: Rsq, server: Server) -> None:
    seen = json.loads(here("status", "--redis", server.url, "--json").stdout)
    assert (seen["stream"], seen["group"], seen["pending"], seen["lag"]) == (STREAM, GROUP, 5, 7)
    assert [(one["name"], one["alive"], one["leader"]) for one in seen["instances"]] == [
        ("web-1", True, False),
        ("web-2", True, True),
        ("web-3", False, False),
    ]


def test_status_of_this_host_stays_what_it_was(here: Rsq, tmp_path: Path) -> None:
    """A server in the environment alone, or a filter that only pools of this host have, changes nothing."""
    for args in ((), ("--stream", STREAM, "--runtime-dir", str(tmp_path)), ("--instance", "web-1")):
        ended = here("status", *args, RSQ_RUNTIME_DIR=str(tmp_path))
        assert ended.returncode == 1
        assert "no pool found in" in ended.stderr


def test_status_takes_no_filter_of_this_host_with_a_server(here: Rsq, server: Server) -> None:
    assert failed(here("status", "--redis", server.url, "--instance", "web-1"), 78, "leave --redis out")


def test_status_of_a_group_that_is_not_there(rsq: Rsq, server: Server) -> None:
    ended = rsq("status", "--redis", server.url, "--stream", "nope")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "there is no such stream" in ended.stdout


def test_status_reads_the_url_from_a_file(rsq: Rsq, server: Server, tmp_path: Path, fleet: Fleet) -> None:
    file = tmp_path / "url"
    file.write_text(server.url)
    assert (
        rsq("status", "--redis-file", str(file), "--stream", fleet.stream, "--group", GROUP).returncode == 0
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_status_on_a_terminal_lives_until_it_is_interrupted(
    fleet: Fleet, terminal: Any, columns: int
) -> None:
    shown = terminal("status", "--stream", STREAM, "--group", GROUP, "--watch", columns=columns)
    shown.wait_for("web-2 (leader)")
    fleet.call("HSET", keys.orders(STREAM, GROUP), "pause", b'{"by":"ann","at":1,"reason":"deploy"}')
    shown.wait_for("deploy")
    shown.process.send_signal(signal.SIGINT)
    assert shown.end() == 0


@pytest.fixture
def watching(own_server: Server) -> Iterator[subprocess.Popen[str]]:
    args = ("status", "--redis", own_server.url, "--stream", STREAM, "--group", GROUP, "--watch", "--json")
    pipe = subprocess.PIPE
    process = subprocess.Popen(command(*args), stdout=pipe, stderr=pipe, env=environment(), text=True)
    yield process
    process.kill()
    process.communicate()


def test_a_watch_outlives_the_server(own_server: Server, watching: subprocess.Popen[str]) -> None:
    assert watching.stdout is not None
    assert watching.stderr is not None
    assert json.loads(watching.stdout.readline())["group_exists"] is False
    own_server.kill()
    assert "rsq: Redis at unix:" in watching.stderr.readline()
    own_server.start()
    Fleet(own_server)
    while not json.loads(watching.stdout.readline())["group_exists"]:
        pass
    watching.send_signal(signal.SIGINT)
    assert watching.wait(DEADLINE_S) == 0


# check


def test_check_is_good(here: Rsq) -> None:
    ended = here("check", "--max-lag", "7", "--max-pending", "5", "--max-idle", "3000", "--max-dlq", "0")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("GOOD orders / mailer: 8 checks\n")


@pytest.mark.parametrize(
    ("option", "limit", "check"),
    [("--max-lag", "6", "lag"), ("--max-pending", "4", "pending"), ("--max-idle", "35", "idle")],
)
def test_check_warns(here: Rsq, option: str, limit: str, check: str) -> None:
    ended = here("check", option, limit)
    assert ended.returncode == 1
    assert re.search(rf"^warning   {check} ", ended.stdout, re.MULTILINE)
    value = json.loads(here("check", option, limit, "--json").stdout)
    assert (value["status"], value["code"]) == ("warning", 1)
    assert [one["check"] for one in value["findings"] if one["grade"] != "good"] == [check]


def test_check_knows_a_lag_up_to_the_limit_on_every_server(here: Rsq, fleet: Fleet) -> None:
    fleet.push(3000)
    assert here("check", "--max-lag", "3007").returncode == 0
    assert here("check", "--max-lag", "3006").returncode == 1


def test_check_is_critical(here: Rsq, fleet: Fleet) -> None:
    assert here("check", RSQ_GROUP="nope").returncode == 2
    assert here("check", RSQ_STREAM="nope").returncode == 2
    for name in ("web-1", "web-2"):
        fleet.die(name)
    ended = here("check")
    assert ended.returncode == 2
    assert ended.stdout.startswith("CRITICAL orders / mailer: no living instance")


def test_check_of_a_server_that_is_away(here: Rsq) -> None:
    ended = here("check", "--redis", NOWHERE)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert "connection refused" in ended.stdout
    value = json.loads(here("check", "--redis", NOWHERE, "--json").stdout)
    assert (value["status"], [one["check"] for one in value["findings"]]) == ("critical", ["server"])


def test_check_of_a_server_that_does_not_answer(own_server: Server, rsq: Rsq) -> None:
    with own_server.frozen():
        ended = rsq("check", "--redis", own_server.url, "--timeout", "0.3")
    assert (ended.returncode, ended.stderr) == (2, "")
    assert "no answer in time" in ended.stdout


def test_check_of_a_key_that_is_no_stream(rsq: Rsq, server: Server) -> None:
    server.client().set("events", "no stream")
    ended = rsq("check")
    assert ended.returncode == 2
    assert "not a stream" in ended.stdout


def test_bad_usage_is_another_code(here: Rsq) -> None:
    assert failed(here("check", "--max-lag", "much"), 78, "--max-lag")
    assert failed(here("check", "--redis", "http://x"), 78, "expected redis://")


# pending


def test_pending_lists_who_has_what(here: Rsq) -> None:
    ended = here("pending")
    assert (ended.returncode, ended.stderr) == (0, "")
    heading, *rows = [line.split("\t") for line in ended.stdout.splitlines()]
    assert heading == ["id", "age", "owner", "instance", "state", "attempts"]
    assert [(row[2], row[3], row[4].split()[0], row[5]) for row in rows] == [
        ("web-1:0", "alive", "held,", "1"),
        ("web-3:0", "gone", "held,", "2"),
        ("web-3:0", "gone", "rests", "1"),
        ("web-3:0", "gone", "suspect", "1"),
        ("tool", "foreign", "held,", "1"),
    ]


def test_pending_selects(here: Rsq) -> None:
    def listed(*args: str) -> list[str]:
        return [json.loads(line)["state"] for line in here("pending", "--json", *args).stdout.splitlines()]

    assert listed() == ["held", "held", "resting", "suspect", "held"]
    assert listed("--limit", "2") == ["held", "held"]
    assert listed("--min-idle", "25") == ["held", "resting"]
    assert listed("--min-idle", "3000") == []
    assert listed("--consumer", "web-3:0", "--limit", "0") == ["held", "resting", "suspect"]
    assert listed("--consumer", "nobody") == []


def test_pending_without_a_group(here: Rsq) -> None:
    assert failed(here("pending", RSQ_GROUP="nope"), 66, "no group nope on stream orders")
    assert failed(here("pending", RSQ_STREAM="nope"), 66, "no group mailer on stream nope")


def test_hostile_names_are_harmless_on_a_terminal(server: Server, terminal: Any) -> None:
    fleet = Fleet(server)
    fleet.live(HOSTILE, host=HOSTILE, version=HOSTILE, slots={0: HOSTILE})
    fleet.lead(HOSTILE)
    fleet.push(2)
    fleet.read(f"{HOSTILE}:0", 1)
    fleet.read(HOSTILE, 1)
    for args in (("status",), ("pending",), ("check",), ("drain", "nobody")):
        shown = terminal(*args, "--stream", STREAM, "--group", GROUP, columns=200)
        shown.end()
        seen = re.sub(r"\x1b\[[0-9;]*m", "", shown.seen)  # rich's own colours
        assert "owned" in seen
        assert not re.search("[^\\x20-\\x7e\r\n…●─]", seen), repr(seen)


# pause, resume


def test_pause_and_resume_may_be_said_twice(here: Rsq, fleet: Fleet) -> None:
    ended = here("pause", "--reason", "deploy")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (
        "paused: 2 instances, 3 slots; resume with: rsq resume --stream orders --group mailer\n"
    )
    stands = json.loads(orders(fleet)[b"pause"])
    assert set(stands) == {"by", "at", "reason"}
    assert stands["reason"] == "deploy"
    assert "@" in stands["by"]
    assert [calls(fleet, name) for name in ("web-1", "web-2", "web-3")] == [1, 1, 0]
    again = here("pause", "--reason", "other")
    assert again.returncode == 0
    assert again.stdout.startswith(f"already paused by {stands['by']} ")
    assert json.loads(orders(fleet)[b"pause"]) == stands
    assert "paused" in here("status", "--stream", STREAM).stdout
    assert here("check").returncode == 0
    assert here("resume").stdout == "resumed: 2 instances, 3 slots\n"
    assert orders(fleet) == {}
    assert here("resume").stdout == "was not paused: 2 instances, 3 slots\n"


def test_pause_of_a_group_that_is_not_there(here: Rsq, server: Server) -> None:
    assert failed(here("pause", RSQ_GROUP="nope"), 66, "no group nope on stream orders")
    assert failed(here("resume", RSQ_GROUP="nope"), 66, "no group nope on stream orders")
    assert not server.client().exists(keys.orders(STREAM, "nope"))


def test_orders_to_a_server_that_is_away(here: Rsq) -> None:
    for args in (("pause",), ("resume",), ("drain", "web-1"), ("pending",), ("status",)):
        assert failed(here(*args, "--redis", NOWHERE), 69, "connection refused")


@pytest.fixture
def keeper(fleet: Fleet) -> Iterator[Callable[..., None]]:
    """Do something once an instance is called, as its keeper would."""
    threads = []

    def obey(name: str, act: Callable[[], None]) -> None:
        def run() -> None:
            assert fleet.client.blpop(keys.inbox(STREAM, GROUP, name), timeout=15)
            act()

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield obey
    for thread in threads:
        thread.join()


def test_pause_waits_for_handlers(here: Rsq, fleet: Fleet, keeper: Callable[..., None]) -> None:
    beat = time.time()
    keeper("web-1", lambda: (fleet.report("web-1", beat=beat + 1, slots={0: "idle", 1: "idle"}), None)[1])
    keeper("web-2", lambda: (fleet.report("web-2", beat=beat + 1, slots={0: "idle"}), None)[1])
    ended = here("pause", "--wait")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "done")


def test_pause_does_not_wait_for_ever(here: Rsq, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0

    def sleep(_: float) -> None:
        """All hear of it and report, and then the time is over."""
        nonlocal clock
        for name, state in (("web-1", "busy"), ("web-2", "idle")):
            assert fleet.client.lpop(keys.inbox(STREAM, GROUP, name))
            fleet.report(name, beat=time.time() + 1, slots={0: state})
        clock += 3.0

    with monkeypatch.context() as patched:
        stopped = SimpleNamespace(monotonic=lambda: clock, sleep=sleep, time=time.time)
        patched.setattr("rsq.supervisor.fleet.time", stopped)
        ended = here("pause", "--wait", "--timeout", "2")
    assert failed(ended, 75, "the order stands", "1 busy slot")
    assert failed(here("resume", "--wait", "--timeout", "0.1"), 75, "no word yet from web-1, web-2")


# drain


def test_drain_tells_an_instance(here: Rsq, fleet: Fleet) -> None:
    ended = here("drain", "web-1")
    assert (ended.returncode, ended.stdout) == (0, "web-1 told to drain: 1 busy slot\n")
    assert list(orders(fleet)) == [b"drain:web-1"]
    assert [calls(fleet, name) for name in ("web-1", "web-2")] == [1, 0]
    assert here("drain", "web-1").stdout.startswith("web-1 had been told to drain")
    assert "draining" in here("status", "--stream", STREAM).stdout
    assert here("drain", "web-1", "--cancel").stdout == "web-1 need not drain any more\n"
    assert orders(fleet) == {}


def test_drain_refuses_who_cannot_hear_it(here: Rsq, fleet: Fleet) -> None:
    assert failed(here("drain", "web-3"), 66, "instance web-3 is gone; alive: web-1, web-2")
    assert failed(here("drain", "web-9"), 66, "there is no instance web-9")
    assert orders(fleet) == {}


def test_drain_waits_until_the_lease_is_gone(here: Rsq, fleet: Fleet, keeper: Callable[..., None]) -> None:
    keeper("web-1", lambda: fleet.die("web-1"))
    ended = here("drain", "web-1", "--wait")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "done")
    assert orders(fleet) == {}
    ended = here("drain", "web-2", "--wait", "--timeout", "0.1")
    assert failed(ended, 75, "web-2 has 0 busy slots")
    assert list(orders(fleet)) == [b"drain:web-2"]


def test_drain_tells_of_its_waiting_on_a_terminal(fleet: Fleet, terminal: Any) -> None:
    shown = terminal("drain", "web-1", "--wait", "--stream", STREAM, "--group", GROUP)
    shown.wait_for("waiting: web-1 has 1 busy slot")
    fleet.die("web-1")
    shown.wait_for("done")
    assert shown.end() == 0


def test_a_breaker_that_a_pool_cannot_go_by_is_told(fleet: Fleet, here: Rsq) -> None:
    """It stands in Redis, which is not what somebody wants who turns it."""
    fleet.client.hset(keys.breakers(STREAM, GROUP), "mail", Breaker(Phase.OPEN, opened=1).encode())
    assert here("breaker", "open", "mail").returncode == 0
    fleet.report("web-1", trouble={"breakers": "circuit breakers are as they were, for 9 s: MOVED"})
    fleet.report("web-3", trouble={"breakers": "gone"})
    ended = here("breaker", "close", "mail")
    assert ended.stdout == f"{STREAM} / {GROUP}: mail is closed\n"
    assert failed(ended, 75, "not every pool can go by it: web-1: circuit breakers are as they were")
    assert "web-3" not in ended.stderr
    assert here("check").stdout.startswith(f"WARNING {STREAM} / {GROUP}: web-1: circuit breakers are")


@pytest.mark.parametrize("order", ["pause", "resume", "scale"])
def test_an_order_that_does_not_stand_is_no_success(
    server: Server, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """As after a failover that has undone it: what was confirmed is read again."""
    found = b"{}" if order == "resume" else None
    monkeypatch.setattr(Orders, "_standing", lambda *_: found)
    with Remote(server.url, STREAM, GROUP) as remote, pytest.raises(Vanished, match="does not stand"):
        remote.scale(3, ["web-1"]) if order == "scale" else getattr(remote, order)()


def test_a_turned_breaker_is_read_again(
    server: Server, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.client.hset(keys.breakers(STREAM, GROUP), "mail", Breaker().encode())
    monkeypatch.setattr(Breakers, "look", lambda *_: Breaker())
    with Remote(server.url, STREAM, GROUP) as remote, pytest.raises(NotInTime, match="is closed"):
        remote.breakers.open("mail")
