"""An operator opens and closes a circuit breaker: that is the last word, and everybody can see it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from support_pool import Pool, numbers, until
from support_rsq import command, environment, failed

from rsq import Fleet
from rsq.ipc.breakers import Shown
from rsq.supervisor.exposition import labels
from rsq.supervisor.fleet import NoBreaker
from rsq.supervisor.gallery import One
from rsq.supervisor.metrics import Metrics

HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=3, window="1m", reset="100ms"))
    @handle.on("other", breaker=Breaker())
    def mail(message):
        started(message)
        finished(message)
    """


def rsq(pool: Pool, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        env=environment(RSQ_REDIS=pool.server.url),
        capture_output=True,
        text=True,
        check=False,
    )


def sample(pool: Pool, name: str, **more: str) -> float:
    segment = pool.segment()
    try:
        page = Metrics(One(segment)).page().decode()
    finally:
        segment.close()
    where = labels({"stream": "events", "group": "workers", "instance": "test", **more})
    (line,) = [line for line in page.splitlines() if line.startswith(f"{name}{{{where}}} ")]
    return float(line.split()[-1])


def test_opened_and_closed(make_pool: Callable[..., Pool]) -> None:
    """Nothing is tried while it is open, whatever `reset` says; then all of it runs, nothing charged."""
    pool = make_pool(HANDLER, "--workers", "2").start()
    until(lambda: "other" in rsq(pool, "breaker", "list").stdout, "breakers that are known")  # the last one
    assert [one["state"] for one in json.loads(rsq(pool, "breaker", "list", "--json").stdout)] == [
        "closed"
    ] * 2
    ended = rsq(pool, "breaker", "open", "mail")
    assert (ended.returncode, ended.stdout) == (
        0,
        "events / workers: mail is open, until it is closed by hand\n",
    )
    pool.wait_log("circuit breaker of mail is open by hand")
    pool.wait_open("mail")
    until(lambda: pool.breaker("other") == {Shown.CLOSED}, "another that is closed for all")
    until(lambda: sample(pool, "rsq_breaker_openings_total", event="mail") == 1, "a metric")
    assert sample(pool, "rsq_breaker_state", event="mail") == 1
    mails, others = pool.push(numbers(40), "mail"), pool.push(numbers(10), "other")
    pool.wait_finished(others)
    until(lambda: pool.counters()["DEFERRED"] == 40, "40 deferred entries")
    status: Any = json.loads(rsq(pool, "status", "--runtime-dir", str(pool.runtime), "--json").stdout)
    assert status[0]["breakers"] == {
        "mail": {"state": "open", "probe_in_s": None, "opened": 1},
        "other": {"state": "closed", "probe_in_s": None, "opened": 0},
    }
    assert status[0]["total"]["waiting_for_breaker"] == 40
    shown = rsq(pool, "status", "--runtime-dir", str(pool.runtime)).stdout
    assert "circuit breaker of mail is open, until it is closed by hand" in shown, shown
    assert "40 entries wait for circuit breakers" in shown, shown
    assert "mail is open, stays open until it is closed by hand" in " ".join(
        rsq(
            pool, "status", "--redis", pool.server.url, "--stream", "events", "--group", "workers"
        ).stdout.split()
    )
    assert sum(sample(pool, "rsq_deferred_entries", slot=slot) for slot in "01") == 40
    assert "already" in rsq(pool, "breaker", "open", "mail").stdout
    assert pool.started().keys() == set(others), "one was tried"
    with Fleet(pool.server.url, "events", "workers") as fleet:
        assert [(one.event, one.state, one.due_s) for one in fleet.breakers.all()] == [
            ("mail", "open", None),
            ("other", "closed", None),
        ]
        assert fleet.breakers.close("mail")
        assert not fleet.breakers.close("mail")
        with pytest.raises(NoBreaker, match="no circuit breaker for event post; there are: mail, other"):
            fleet.breakers.open("post")
    assert failed(rsq(pool, "breaker", "close", "post"), 66, "no circuit breaker for event post")
    pool.wait_finished(mails)
    pool.wait_settled()
    pool.wait_log("circuit breaker of mail is closed")
    assert pool.stop() == 0
    pool.assert_exact([*mails, *others])


def test_closed_while_it_would_wait_for_long(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=1, window="1m", reset="1h"))
    def mail(message):
        started(message)
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    """,
        "--max-attempts", "500",
    )  # fmt: skip
    pool.books.set("down", 1)
    mails = pool.push(numbers(5), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open: 1 failures within 60 s; one entry is tried in ")
    (due_s,) = re.findall(r"one entry is tried in (\d+\.\d) s", pool.log())
    assert 3500 < float(due_s) <= 3600
    pool.books.delete("down")
    assert rsq(pool, "breaker", "close", "mail").returncode == 0
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})
