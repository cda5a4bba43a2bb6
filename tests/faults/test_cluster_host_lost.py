"""On a cluster: a host is lost, and what it held is swept up; every command of `rsq` finds the right node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support_pool import numbers, until
from support_topology import Cluster, Everywhere

from rsq.streams import keys
from rsq.streams.fleet import Report

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


def test_it_is_swept_up(cluster: Cluster, make_everywhere: Callable[..., Everywhere]) -> None:
    """All keys of a group share one hash slot: every script runs, and nothing is refused as scattered."""
    options = ("--lease", "3", "--consumer-ttl", "1", "--trim", "acked", "--max-attempts", "2")
    pool = make_everywhere(cluster, HANDLER, *options, "--block-ms", "200")
    client: Any = pool.redis
    client.xgroup_create("events", "workers", "0", mkstream=True)
    report = Report("lost.example.org", 1, "1", 0.0, 0.0, 1.0, {0: "busy"})
    client.hset(keys.instances("events", "workers"), "lost", report.encode())
    ids = pool.push(numbers(20))
    client.xreadgroup("workers", "lost:0", {"events": ">"}, 10)
    client.xclaim("events", "workers", "lost:0", 0, ids[:1], retrycount=2, justid=True)
    pool.start()
    pool.wait_finished(ids[1:])
    dlq = keys.dead_letter("events", cluster=True)
    until(lambda: client.xlen(dlq) == 1, "the dead letter")
    until(lambda: "lost:0" not in pool.consumers(), "the removal of a consumer")
    until(lambda: client.xlen("events") <= 1, "trimming")
    for words in ("status --group workers", "check --max-dlq 1", "pending", "pause", "resume", "dlq list"):
        done = subprocess.run(
            [sys.executable, "-m", "rsq.supervisor.operate", *words.split(), "--redis", cluster.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"rsq {words}: {done.stdout}"
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids[1:], 1)
    assert "CROSSSLOT" not in pool.log()
    assert "MOVED" not in pool.log()
