"""An answer that says "wrong server" ends the connection, whoever has it and whatever was asked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from support_servers import Server
from support_shared import shared

from rsq.ipc.cells import CELL, Keep
from rsq.ipc.fence import Fence
from rsq.ipc.slot import SLOT_SIZE, Slot
from rsq.streams.asking import Asker
from rsq.streams.connection import client, target
from rsq.streams.group import pack
from rsq.streams.trouble import ELSEWHERE
from rsq.streams.wire import WrongServer, heed
from rsq.supervisor.line import Line
from rsq.worker.session import Session

SCRIPTED = (
    "ERR Error running script (call to f_1): @user_script:12: @user_script: 12: -READONLY You can't write"
)
WRITE = pack("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "k")
READ = pack("GET", "k")


@pytest.fixture
def quiet() -> Iterator[int]:
    """A descriptor on which nothing ever comes."""
    reading, writing = os.pipe()
    yield reading
    os.close(reading)
    os.close(writing)


def demote(server: Server) -> None:
    """Make it the replica of a server that is not there, with its connections left as they are."""
    server.client().replicaof("127.0.0.1", 1)


@pytest.mark.parametrize("word", sorted(ELSEWHERE))
def test_every_such_word_is_heeded_wherever_it_stands(word: str) -> None:
    error = hiredis.ReplyError(f"{word} 8985 127.0.0.1:7001")
    for reply in (error, [b"1-0", error], [error], f"{word} of a script that went on"):
        with pytest.raises(WrongServer):
            heed(reply)
    with pytest.raises(WrongServer):
        heed(hiredis.ReplyError(f"EXECABORT Transaction discarded because of: {word} 8985 127.0.0.1:7001"))


def test_other_answers_are_answers() -> None:
    for reply in (
        None,
        1,
        b"MOVED",
        [b"READONLY", [b"MOVED"]],
        hiredis.ReplyError("NOGROUP No such key 'MOVED'"),
    ):
        heed(reply)
    with pytest.raises(WrongServer):
        heed(hiredis.ReplyError(SCRIPTED))


def test_a_keepers_line_is_dropped(own_server: Server, quiet: int) -> None:
    """Also if the error is that of a script, and others were answered."""
    line = Line(target(own_server.url), "test", 20.0, 20.0, lambda: math.inf, quiet)
    assert line.connect()
    demote(own_server)
    with pytest.raises(WrongServer, match="read-only replica"):
        line.call(READ, WRITE, READ)
    assert line.connect()
    own_server.client().replicaof("NO", "ONE")
    assert line.call(WRITE, READ) == [b"OK", b"1"]
    line.drop()


def test_a_line_that_only_reads_asks_for_the_role(own_server: Server, quiet: int) -> None:
    """What it reads of a replica may be of long ago, and nothing would ever say so."""
    line = Line(target(own_server.url), "test", 20.0, 20.0, lambda: math.inf, quiet, asks_role=True)
    assert line.connect()
    assert line.call(READ) == [None]
    demote(own_server)
    line._role_due = 0.0  # a second later
    with pytest.raises(WrongServer, match="read-only replica"):
        line.call(READ, READ)
    line.drop()


def test_a_workers_session_is_dropped_and_owes_what_it_owed(own_server: Server, quiet: int) -> None:
    slot = Slot(shared(SLOT_SIZE))
    slot.ledger.load()
    fence = Fence(Keep(shared(Keep.SIZE * CELL)))
    session = Session(
        target(own_server.url), "test:0", slot.desk, slot.ledger, (quiet,), lambda: None, [], fence
    )
    assert session.connect()
    demote(own_server)
    with pytest.raises(WrongServer):
        session.call(READ, WRITE)  # who asks takes errors for values
    assert session.wire is None
    assert session.connect()
    session.owe(1, pack("SET", "first", 1))
    session.owe(2, pack("SET", "second", 1))
    with pytest.raises(WrongServer):
        session.call(READ)
    assert session.oldest_debt() == 1
    own_server.client().replicaof("NO", "ONE")
    assert session.connect()
    session.settle()
    assert own_server.client().mget("first", "second") == [b"1", b"1"]
    session.drop()


def test_a_clients_connection_is_not_used_again(own_server: Server) -> None:
    """In a pipeline whose errors are values redis-py takes no notice of them."""
    with client(target(own_server.url)) as made:
        untyped: Any = made
        before = untyped.client_id()
        demote(own_server)
        (reply,) = Asker(made).ask(("SET", "k", 1))
        assert "READONLY" in repr(type(reply)).upper()
        assert untyped.client_id() != before
