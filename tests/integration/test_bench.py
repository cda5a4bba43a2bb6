"""`rsq bench` on real servers: it finds figures, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from support_pool import until
from support_rsq import DEADLINE_S, Rsq, command, environment, failed
from support_servers import Server, found
from support_topology import Cluster

from rsq.streams import acl, embedded
from rsq.supervisor.bench import BATCHES, Rate, best_of, suits

pytestmark = pytest.mark.one_server

QUICK = ("bench", "--messages", "5000", "--seconds", "0.5")


def _keys(server: Server) -> set[bytes]:
    client: Any = server.client()
    return set(client.keys("*"))


def test_it_finds_figures_and_leaves_the_server_as_it_was(server: Server, rsq: Rsq) -> None:
    server.client().set("mine", "stays")
    ended = rsq(*QUICK, "--json", "--workers", "2", "--payload-size", "300")
    assert (ended.returncode, ended.stderr) == (0, "")
    said = json.loads(ended.stdout)
    assert [rate["batch_max"] for rate in said["rates"]] == list(BATCHES)
    for rate in said["rates"]:
        assert rate["messages_per_s"] > 0
        assert rate["worker_us_per_message"] >= 0
        assert rate["server_share"] >= 0
    assert 0 < said["latency_ms"]["median"] <= said["latency_ms"]["slowest"]
    assert said["batch_max"] in BATCHES
    assert (said["workers"], said["payload_bytes"]) == (2, 300)
    assert _keys(server) == {b"mine"}


def test_a_person_gets_a_table_and_one_sentence(server: Server, rsq: Rsq) -> None:
    ended = rsq(*QUICK)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == "one worker, 100 bytes a message"
    assert "suits: about" in lines[-1]
    assert all(any(line.split()[:1] == [str(batch)] for line in lines) for batch in BATCHES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_cleans_up(server: Server, number: signal.Signals) -> None:
    server.client().set("mine", "stays")
    process = subprocess.Popen(
        command("bench", "--messages", "200000", "--seconds", "60", "--redis", server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
    )
    until(lambda: any(key.startswith(b"rsq:") for key in _keys(server)), "a pool at work")
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(number)
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, said.strip()) == (130, b"")
    assert _keys(server) == {b"mine"}
    assert not psutil.wait_procs(family, timeout=DEADLINE_S)[1], "a process of its pool is left"


def test_a_server_that_is_not_there_is_one_line(server: Server, rsq: Rsq) -> None:
    assert failed(rsq(*QUICK, RSQ_REDIS="redis://127.0.0.1:1/0"), os.EX_UNAVAILABLE, "127.0.0.1:1")


def test_a_server_that_does_not_tell_how_busy_it_is(server: Server, rsq: Rsq) -> None:
    client: Any = server.client()
    client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">p", "~*", "&*", "+@all", "-info")
    try:
        with_user = server.tcp_url.replace("redis://", "redis://narrow:p@")
        said = json.loads(rsq(*QUICK, "--json", RSQ_REDIS=with_user).stdout)
    finally:
        client.execute_command("ACL", "DELUSER", "narrow")
    assert {rate["server_share"] for rate in said["rates"]} == {None}
    assert ":p@" not in said["redis"]


def test_a_user_with_the_rights_of_a_pool_is_told_what_it_needs(server: Server, rsq: Rsq) -> None:
    """Nothing is made, so nothing is said to be left; and the server's log is not filled with denials."""
    admin: Any = server.client()
    words = acl.words("pool", "events", "workers", "events:dlq")
    admin.execute_command(*words, ">secret")
    admin.acl_log_reset()
    ended = rsq(*QUICK, "--redis", server.url.replace("://", "://pool:secret@"))
    assert ended.returncode == os.EX_CONFIG
    assert "nothing was made" in ended.stderr
    assert "left there" not in ended.stderr
    assert _keys(server) == set()
    assert sum(row["count"] for row in admin.acl_log()) <= 2
    admin.acl_deluser("pool")


def test_an_embedded_server_is_started_and_ended(tmp_path: Path, rsq: Rsq) -> None:
    ended = rsq(*QUICK, "--json", RSQ_REDIS=f"embedded:{tmp_path}/data")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert embedded.lock_free(tmp_path / "data")


def test_on_a_cluster(rsq: Rsq) -> None:
    cluster = Cluster(found()[0])
    try:
        ended = rsq(*QUICK, "--json", RSQ_REDIS=cluster.url)
        assert (ended.returncode, ended.stderr) == (0, "")
        for node in cluster.nodes:
            assert not node.client().keys("*")
    finally:
        cluster.discard()


def _rate(batch_max: int, per_s: int) -> Rate:
    return Rate(batch_max, per_s, 1.0, 0.5, None)


def test_what_suits_is_the_default_when_nothing_is_much_better() -> None:
    assert suits([_rate(1, 10), _rate(100, 97), _rate(500, 91), _rate(1000, 100)]).batch_max == 500
    assert suits([_rate(1, 10), _rate(100, 97), _rate(500, 80), _rate(1000, 100)]).batch_max == 100
    assert suits([_rate(1, 10), _rate(100, 50), _rate(500, 80), _rate(1000, 100)]).batch_max == 1000


def test_of_several_rounds_the_best_counts() -> None:
    found = best_of([_rate(1, 10), _rate(100, 90), _rate(1, 12), _rate(100, 80)])
    assert [(rate.batch_max, rate.per_s) for rate in found] == [(1, 12), (100, 90)]
