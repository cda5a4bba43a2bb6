"""A run of a bench is void when a message is missing or doubled; and no process escapes the accounts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from support_servers import free_port

from rsq.bench import rig, tree
from rsq.bench.adapters.account import Account, payload
from rsq.bench.peer import Peer, check_exactly_once
from rsq.streams.producer import Producer

MESSAGES = 1000


@pytest.fixture(autouse=True)
def _ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody else be given the port of a server before it is bound."""
    monkeypatch.setattr(rig, "free_port", free_port)


class Wrong(Peer):
    """Ours, with a queue that is filled as a test wants it."""

    numbers: list[int]

    def fill(self, messages: int, folder: Path) -> Path:
        """Fill a server with the numbers of the test."""
        found = folder / "wrong.rdb"
        with rig.server() as url, Producer(url, "events") as producer:
            producer.push_many(payload(number) for number in self.numbers)
            client: Any = redis.Redis.from_url(url)
            client.save()
            found.write_bytes(Path(client.config_get("dir")["dir"], "dump.rdb").read_bytes())
        return found


def test_a_message_that_comes_twice_voids_the_run(tmp_path: Path) -> None:
    peer = Wrong("ours")
    peer.numbers = [7, *range(MESSAGES)]
    with pytest.raises(rig.Void, match="0 messages never handled, 1 more than once"):
        peer.cost("default", MESSAGES, tmp_path)


def test_a_message_that_is_missing_voids_the_run(tmp_path: Path) -> None:
    peer = Wrong("ours")
    peer.numbers = [number for number in range(MESSAGES) if number != 7]
    with pytest.raises(rig.Void, match="999 of 1000 messages handled in 5 s"):
        peer.cost("default", MESSAGES, tmp_path, limit_s=5.0)


def test_one_too_many_does_not_make_up_for_one_too_few(tmp_path: Path) -> None:
    account = Account(tmp_path / "account", 3)
    account.times[:] = bytes([1, 1, 1])
    check_exactly_once(account)
    account.times[:] = bytes([1, 0, 2])
    with pytest.raises(rig.Void, match="1 messages never handled, 1 more than once"):
        check_exactly_once(account)


def test_an_entry_that_is_still_pending_voids_the_run() -> None:
    with rig.server() as url:
        rig.preload(url, 10)
        with pytest.raises(rig.Void):
            rig.check_all_acknowledged(url, 10)


FAMILY = """
import os, sys, time
def burn():
    while time.process_time() < 0.2: pass
if not os.fork():  # ends, and is reaped
    burn(); os._exit(0)
os.wait()
if not os.fork():  # lives, and has a child that lives
    if not os.fork():
        burn(); print(flush=True); time.sleep(600)
    time.sleep(600)
time.sleep(600)
"""


def test_the_whole_family_is_counted_and_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        members = tree.family(process.pid)
        assert len(members) == 3
        assert tree.used_s(process.pid) >= 0.39  # of an ended child and a grandchild; in hundredths
        assert tree.pss_bytes(process.pid) > sum(member.memory_info().rss for member in members) / 20
    finally:
        tree.end(process.pid)
        process.communicate()
    assert not any(tree.alive(member) for member in members)
    assert tree.used_s(process.pid) == 0.0
