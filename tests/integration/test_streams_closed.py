"""Standard input, output and error are closed, full, or read by nobody: the exit code says what was done."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from support_rsq import DEADLINE_S, command, environment
from support_servers import Server

from rsq.streams.deadletter import write_command

CLOSED, FULL, GONE = ">&-", ">/dev/full", "| :"
EVERY_WAY = [CLOSED, FULL, GONE]


def _run(server: Server, how: str, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `rsq` by a shell that redirects its streams; behind a pipe the exit code is its own too."""
    script = f'"$@" {how}' if not how.startswith("|") else f'set -o pipefail; "$@" {how}'
    return subprocess.run(
        ["/bin/bash", "-c", script, "bash", *command(*args)],
        env=environment(RSQ_REDIS=server.url),
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )


def bury(server: Server, stream: str = "events", **story: Any) -> None:
    """A dead letter; the entry itself is deleted."""
    client: Any = server.client()
    client.xgroup_create(stream, "workers", "0", mkstream=True)
    entry_id = client.xadd(stream, {b"data": b"1"})
    client.xreadgroup("workers", "web-1:0", {stream: ">"})
    times = {"attempts": 3, "first_ms": 1_700_000_000_000, "last_ms": 1_700_000_001_500}
    story = {"reason": "timeout"} | times | story
    client.execute_command(*write_command(stream, f"{stream}:dlq", "workers", "web-1:0", entry_id, **story))
    client.xdel(stream, entry_id)


def xrange(server: Server, stream: str) -> Any:
    return server.client().xrange(stream)


@pytest.mark.parametrize("how", EVERY_WAY)
def test_what_was_pushed_is_not_to_be_pushed_again(server: Server, how: str) -> None:
    ended = _run(server, how, "push", "orders", "1", "2", "3")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(xrange(server, "orders")) == 3
    ended = _run(server, how, "push", "orders", "-", stdin=b"4\n5\n")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(xrange(server, "orders")) == 5


def test_nothing_comes_from_a_closed_input(server: Server) -> None:
    ended = _run(server, "<&-", "push", "orders", "-")
    assert (ended.returncode, ended.stdout) == (0, b"0 messages pushed\n")


@pytest.mark.parametrize("how", EVERY_WAY)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_check_says_what_it_found(server: Server, how: str, more: list[str]) -> None:
    """CRITICAL stays critical."""
    ended = _run(server, how, "check", "--stream", "none", *more)
    assert (ended.returncode, ended.stderr) == (2, b"")


@pytest.mark.parametrize("how", EVERY_WAY)
def test_letters_that_were_replayed(server: Server, how: str) -> None:
    bury(server)
    ended = _run(server, how, "dlq", "replay", "--all")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(xrange(server, "events")) == 1
    assert not xrange(server, "events:dlq")


def test_a_list_that_cannot_be_written(server: Server) -> None:
    """Showing is all that it does: that did not work."""
    bury(server)
    for args in (["dlq", "list"], ["dlq", "list", "--json"], ["acl"]):
        ended = _run(server, FULL, *args)
        line = ended.stderr.decode().splitlines()[-1]
        assert (ended.returncode, line) == (
            74,
            "rsq: error: the output cannot be written: No space left on device",
        )
        assert _run(server, CLOSED, *args).returncode == 0


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_an_error_that_cannot_be_told(server: Server, how: str) -> None:
    """The exit code is the same as if it could."""
    assert _run(server, how, "push", "orders", "no JSON").returncode == 65
    assert _run(server, how, "push", "--nonsense").returncode == 78
    assert _run(server, how, "push", "orders", "1").returncode == 0


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_an_output_that_has_not_all_characters(server: Server, encoding: str) -> None:
    """What it lacks appears as an escape; JSON stays JSON."""
    bury(server, error="price in \N{EURO SIGN} \N{GRINNING FACE} \xfc", reason="rejected")

    def shown(*args: str) -> str:
        ended = subprocess.run(
            command("dlq", "list", *args),
            env=environment(RSQ_REDIS=server.url, PYTHONIOENCODING=encoding),
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        return ended.stdout.decode(encoding)

    assert "price in" in shown()
    assert json.loads(shown("--json"))["error"] == "price in \N{EURO SIGN} \N{GRINNING FACE} \xfc"


def test_names_in_the_c_locale(server: Server) -> None:
    """A stream whose name is no ASCII is the same stream everywhere."""
    settings = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

    def said(*args: str, **more: str) -> str:
        words = [word.encode() for word in command(*args)]
        ended = subprocess.run(
            words,
            env=environment(RSQ_REDIS=server.url, **settings, **more),
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b""), ended
        return str(ended.stdout, "ascii")

    bury(server, "größe")
    assert len(said("dlq", "list", "--stream", "größe").splitlines()) == 2
    assert len(said("dlq", "list", RSQ_STREAM="größe").splitlines()) == 2
    assert said("dlq", "replay", "--all", "--stream", "größe").startswith("1 replayed")
