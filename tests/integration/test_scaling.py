"""A pool that scales itself, and `rsq scale`, on real servers with real processes."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError
from support_fleet import GROUP, STREAM, Fleet
from support_pool import Pool, numbers, until
from support_rsq import Rsq, failed
from support_servers import Server

from rsq.ipc.cells import P, Why
from rsq.streams import keys
from rsq.streams.orders import WORKERS_MAX, size

HANDLER = """
def handle(message):
    started(message)
    time.sleep(0.005)
    finished(message)
"""
EVENTS = ("--stream", "events", "--group", "workers")


@pytest.fixture
def make_pool(server: Server, tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    made: list[Pool] = []

    def make(*options: str) -> Pool:
        folder = tmp_path / f"pool-{len(made)}"
        folder.mkdir()
        made.append(Pool(server, folder, HANDLER, *options))
        return made[-1]

    yield make
    for pool in made:
        pool.discard()


def changes(pool: Pool) -> dict[str, int]:
    segment = pool.segment()
    try:
        return {why.name: segment.pool.view[P.SCALED + 2 * why] for why in Why}
    finally:
        segment.close()


def test_a_backlog_makes_a_pool_grow_to_its_most_and_shrink_to_its_least(
    make_pool: Callable[..., Pool],
) -> None:
    """Every entry is handled once; the log says why each time; the numbers are in the metrics."""
    pool = make_pool(
        "--workers", "1-4", "--scale-target", "1", "--scale-step", "2", "--scale-cooldown", "0.3",
        "--metrics", "127.0.0.1:0",
    )  # fmt: skip
    ids = pool.push(numbers(3000))
    pool.start()
    until(lambda: pool.booted().keys() == {0, 1, 2, 3}, "a pool of four")
    assert "workers: 1 to 3, " in pool.log()
    assert "entries wait and would take 1 workers " in pool.log()
    pool.wait_finished(ids)
    until(lambda: pool.seats().keys() == {0}, "a pool of one")
    assert "1 were enough for 1 s" in pool.log()
    counted = changes(pool)
    assert counted["BACKLOG"] >= 2
    assert counted["IDLE"] >= 2
    assert counted["HAND"] == counted["MEMORY"] == 0
    page = urllib.request.urlopen(f"http://127.0.0.1:{pool.port()}/metrics").read().decode()
    names = 'stream="events",group="workers",instance="test"'
    assert f"rsq_workers{{{names}}} 1\n" in page
    assert f"rsq_workers_most{{{names}}} 4\n" in page
    assert f'rsq_scalings_total{{{names},reason="backlog"}} {counted["BACKLOG"]}\n' in page
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_where_the_server_does_not_know_the_lag_the_pool_grows_and_shrinks_all_the_same(
    make_pool: Callable[..., Pool],
) -> None:
    """An unread entry in the middle is deleted: newer servers forget the lag then, older never knew it."""
    pool = make_pool(
        "--workers", "1-3", "--scale-target", "1", "--scale-step", "2", "--scale-cooldown", "0.3"
    )
    pool.redis.xgroup_create("events", "workers", "0", mkstream=True)
    ids = pool.push(numbers(2500))
    assert pool.redis.xdel("events", ids[2000]) == 1
    rows: Any = pool.redis.xinfo_groups("events")
    assert rows[0].get("lag") is None
    pool.start()
    until(lambda: pool.booted().keys() == {0, 1, 2}, "a pool of three")
    assert "at least " in pool.log()
    del ids[2000]
    pool.wait_finished(ids)
    until(lambda: pool.seats().keys() == {0}, "a pool of one")
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_a_lag_where_nothing_is_unread_is_not_believed(make_pool: Callable[..., Pool]) -> None:
    """Some servers get it wrong after entries were removed, and stay wrong."""
    pool = make_pool("--workers", "1-3", "--scale-target", "1", "--lease", "1")
    pool.push(numbers(100))
    client: Any = pool.redis
    client.xgroup_create("events", "workers", "$")
    with contextlib.suppress(ResponseError):  # before 7.0 there is no such option, and no lag
        client.execute_command("XGROUP", "SETID", "events", "workers", "$", "ENTRIESREAD", 5)
        assert client.xinfo_groups("events")[0]["lag"] == 95
    pool.start()
    until(lambda: pool.keep("UNREAD_AT"), "a measure")
    assert pool.keep("UNREAD") == 0
    assert pool.stop() == 0


def test_a_pool_that_may_use_little_memory_does_not_grow(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        "--workers", "2-6", "--scale-target", "1", "--scale-cooldown", "0.1", "--max-memory", "1M"
    )
    ids = pool.push(numbers(2000))
    pool.start()
    pool.wait_log("; there is no memory for one more")
    pool.wait_finished(ids)
    assert pool.seats().keys() == {0, 1}
    assert pool.stop() == 0


def test_a_pool_knows_how_many_workers_its_fleet_has(make_pool: Callable[..., Pool], server: Server) -> None:
    """Those of instances that live; it takes its share of what is unread, not all of it."""
    fleet = Fleet(server, "events", "workers")
    fleet.live("web-8", ttl_ms=60_000, slots=dict.fromkeys(range(5), "busy"))
    fleet.report("web-9", slots=dict.fromkeys(range(50), "busy"))
    pool = make_pool("--workers", "2-4", "--lease", "1")
    pool.start()
    until(lambda: pool.keep("FLEET") == 7, "seven slots")
    fleet.die("web-8")
    until(lambda: pool.keep("FLEET") == 2, "two slots")
    assert pool.stop() == 0


def test_a_paused_pool_keeps_its_size(make_pool: Callable[..., Pool], rsq: Rsq) -> None:
    """Whatever waits: nobody may work on it."""
    pool = make_pool("--workers", "1-4", "--scale-target", "1", "--scale-cooldown", "0.1", "--lease", "1")
    pool.start()
    assert rsq("pause", *EVENTS, "--wait").returncode == 0
    pool.push(numbers(5000))
    beats = pool.keep("BEAT")
    until(lambda: pool.keep("BEAT") > beats + 3, "three seconds of a keeper's life")
    assert pool.seats().keys() == {0}
    assert rsq("resume", *EVENTS).returncode == 0
    until(lambda: pool.booted().keys() == {0, 1, 2, 3}, "a pool of four")


def test_scale_by_hand_and_back(make_pool: Callable[..., Pool], rsq: Rsq) -> None:
    """An order outlives the master; auto ends it, and what TTIN has done too."""
    pool = make_pool("--workers", "2-4")
    pool.start()
    ended = rsq("scale", "6", *EVENTS, "--wait")
    assert (ended.returncode, ended.stdout) == (0, "test: 6 workers each\ndone\n")
    assert pool.booted().keys() == set(range(6))
    shown = json.loads(rsq("status", "--json", "--runtime-dir", str(pool.runtime)).stdout)[0]
    assert (shown["workers"], shown["scaling"]["by_hand"], shown["scaling"]["most"]) == (6, True, 4)
    assert "6 of 6 slots ready (2-4, by hand)" in rsq("status", "--runtime-dir", str(pool.runtime)).stdout
    pool.kill_master()
    pool.wait_free()
    pool.start()
    until(lambda: pool.booted().keys() == set(range(6)), "six again")
    assert rsq("scale", "auto", *EVENTS).stdout == "test: as many workers as configured\n"
    until(lambda: pool.seats().keys() == set(range(4)), "a pool of four")
    pool.signal(signal.SIGTTIN)
    until(lambda: pool.booted().keys() == set(range(5)), "a pool of five")
    assert rsq("scale", "auto", *EVENTS).returncode == 0
    until(lambda: pool.seats().keys() == set(range(4)), "a pool of four")
    assert pool.stop() == 0


def test_a_pool_of_a_fixed_size_is_scaled_by_hand_too(make_pool: Callable[..., Pool], rsq: Rsq) -> None:
    pool = make_pool("--workers", "2")
    pool.start()
    assert rsq("scale", "3", *EVENTS, "--instance", "test").returncode == 0
    until(lambda: pool.booted().keys() == {0, 1, 2}, "a pool of three")
    assert rsq("scale", "auto", *EVENTS, "--all").returncode == 0
    until(lambda: pool.seats().keys() == {0, 1}, "a pool of two")
    assert pool.stop() == 0


# Orders to a fleet made by hand


@pytest.fixture
def fleet(server: Server) -> Fleet:
    made = Fleet(server)
    made.live("web-1", ttl_ms=60_000, rate=10.0, busy=1.0)
    made.live("web-2", ttl_ms=60_000, rate=10.0, busy=2.0)
    made.report("web-3")
    return made


@pytest.fixture
def here(rsq: Rsq, fleet: Fleet) -> Rsq:
    assert fleet.stream == STREAM
    return lambda *args: rsq(*args, RSQ_STREAM=STREAM, RSQ_GROUP=GROUP)


def ordered(fleet: Fleet) -> dict[bytes, int | None]:
    found: dict[bytes, bytes] = fleet.client.hgetall(keys.orders(STREAM, GROUP))
    return {name: size(raw) for name, raw in found.items()}


def test_who_is_meant_has_to_be_said(here: Rsq, fleet: Fleet) -> None:
    assert failed(here("scale", "3"), 78, "which one?", "web-1, web-2")
    assert failed(here("scale", "3", "--instance", "web-3"), 66, "no living instance web-3")
    assert failed(here("scale", "3", "--instance", "web-1", "--all"), 78, "not both")
    assert ordered(fleet) == {}
    assert here("scale", "3", "--instance", "web-1").stdout == "web-1: 3 workers each\n"
    assert ordered(fleet) == {b"scale:web-1": 3}
    assert here("scale", "auto", "--all").returncode == 0
    assert ordered(fleet) == {b"scale:web-1": 0, b"scale:web-2": 0}


@pytest.mark.parametrize("words", ["0", "-1", "many", "1.5", str(WORKERS_MAX + 1), "٣"])
def test_what_is_no_number_of_workers(here: Rsq, fleet: Fleet, words: str) -> None:
    ended = here("scale", "--all", "--", words)
    assert failed(ended, 78, "from 1 to 4096")


def test_a_number_or_a_suggestion(here: Rsq) -> None:
    assert failed(here("scale"), 78, "--suggest")
    assert failed(here("scale", "3", "--suggest"), 78, "--suggest")


def test_a_suggestion_for_scalers_outside(here: Rsq, fleet: Fleet) -> None:
    ended = here("scale", "--suggest")
    assert ended.stdout == "NO_SCALE 0.00 4 workers, 4 wanted: 0 entries wait and take 0 s\n"
    fleet.push(2400)
    words = here("scale", "--suggest").stdout.split()
    found = json.loads(here("scale", "--suggest", "--json", "--target", "15").stdout)
    assert (found["decision"], found["workers"], found["instances"]) == ("OUT", 4, 2)
    if found["exact"]:
        assert words[:6] == ["OUT", "2.00", "4", "workers,", "8", "wanted:"]
        assert (found["rate"], found["takes_s"], found["backlog"]) == (4.0, 60.0, 2400)
        assert (found["wanted"], found["wanted_instances"]) == (16, 8)
    else:
        assert found["backlog"] >= 1000
    limited = json.loads(here("scale", "--suggest", "--json", "--most", "5").stdout)
    assert limited["wanted"] <= 5


def test_a_suggestion_for_a_group_that_nobody_serves(here: Rsq, fleet: Fleet) -> None:
    for name in ("web-1", "web-2"):
        fleet.die(name)
    assert here("scale", "--suggest").stdout.startswith("NO_SCALE 0.00 0 workers, 0 wanted: ")
    fleet.push(1)
    assert here("scale", "--suggest").stdout.startswith("OUT - 0 workers, 1 wanted: ")
    assert failed(here("scale", "2"), 66, "no instance lives")


def test_the_example_of_the_page(server: Server, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.push(2400)
    page = Path(__file__).parents[2].joinpath("docs", "autoscaling.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(compile(code.replace("redis://localhost:6379/0", server.url), "autoscaling.md", "exec"), {})
    assert capsys.readouterr().out.split()[0] in ("OUT", "NO_SCALE")
