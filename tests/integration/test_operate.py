"""The `rsq` command as a person and as a program use it, on real servers.

What depends on being a process (terminals, pipes, signals) runs as one.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from support_rsq import DEADLINE_S, Rsq, command, environment, failed
from support_servers import Server

from rsq.streams.deadletter import write_command

ENTRY_ID = re.compile(r"\d+-\d+")


def bury(server: Server, fields: dict[bytes, bytes], reason: str = "timeout", **story: Any) -> str:
    """A dead letter of the stream `events`; the entry itself is deleted."""
    client: Any = server.client()
    if not client.exists("events"):
        client.xgroup_create("events", "workers", "0", mkstream=True)
    entry_id = client.xadd("events", fields)
    client.xreadgroup("workers", "web-1:0", {"events": ">"})
    times = {"attempts": 3, "first_ms": 1_700_000_000_000, "last_ms": 1_700_000_001_500}
    client.execute_command(
        *write_command(
            "events", "events:dlq", "workers", "web-1:0", entry_id, reason=reason, **(times | story)
        )
    )
    client.xdel("events", entry_id)
    newest: bytes = client.xrevrange("events:dlq", count=1)[0][0]
    return newest.decode()


def xrange(server: Server, stream: str) -> Any:
    return server.client().xrange(stream)


def xadd(server: Server, stream: str, fields: dict[Any, Any]) -> str:
    entry_id: Any = server.client().xadd(stream, fields)
    return str(entry_id, "ascii")


# push


def test_push_stores_each_argument_and_prints_its_id(server: Server, rsq: Rsq) -> None:
    ended = rsq("push", "orders", '{"a": 1e3}', "[NaN]", "--event", "created")
    assert (ended.returncode, ended.stderr) == (0, "")
    found = xrange(server, "orders")
    assert ended.stdout.split() == [entry_id.decode() for entry_id, _ in found]
    assert [fields for _, fields in found] == [
        {b"data": b'{"a": 1e3}', b"event": b"created"},
        {b"data": b"[NaN]", b"event": b"created"},
    ]


def test_push_once_prints_the_id_of_the_first(server: Server, rsq: Rsq) -> None:
    once = ("--key", "order-7", "--unique", "1h")
    first = rsq("push", "orders", "1", *once)
    assert rsq("push", "orders", "2", *once).stdout == first.stdout
    ((entry_id, fields),) = xrange(server, "orders")
    assert (entry_id.decode(), fields) == (first.stdout.strip(), {b"data": b"1", b"key": b"order-7"})
    assert failed(rsq("push", "orders", "1", "--unique", "1h"), 78, "--unique", "--key")
    assert failed(rsq("push", "orders", "1", "--unique", "soon", "--key", "k"), 78, "'soon' is no duration")
    assert failed(rsq("push", "orders", "-", *once), 78, "one by one")


def test_push_keeps_to_a_limit(server: Server, rsq: Rsq) -> None:
    lines = b"".join(b"%d\n" % n for n in range(30))
    ended = rsq("push", "orders", "-", "--maxlen", "12", "--on-full", "reject", "--key", "k", stdin=lines)
    assert failed(ended, 75, "stream orders is full", "at most 12 are allowed", "12 messages pushed")
    assert [fields for _, fields in xrange(server, "orders")][-1] == {b"data": b"11", b"key": b"k"}
    assert failed(rsq("push", "orders", "1", "--on-full", "block"), 78, "needs maxlen")


def test_push_reads_lines_from_standard_input(server: Server, rsq: Rsq) -> None:
    lines = b"".join(b'{"n":%d}\r\n\n' % n for n in range(20_000)) + b'"last"'
    ended = rsq("push", "orders", "-", stdin=lines)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "20001 messages pushed\n", "")
    data = [fields[b"data"] for _, fields in xrange(server, "orders")]
    assert data == [b'{"n":%d}' % n for n in range(20_000)] + [b'"last"']


def test_push_stops_at_a_bad_line_with_its_number(server: Server, rsq: Rsq) -> None:
    ended = rsq("push", "orders", "-", stdin=b"1\n\n2\n{broken\n5\n")
    assert failed(ended, 65, "line 4: not JSON", "2 messages pushed")
    assert server.client().xlen("orders") == 2


def test_push_pushes_nothing_if_an_argument_is_bad(server: Server, rsq: Rsq) -> None:
    assert failed(rsq("push", "orders", "1", "{", "3"), 65, "argument 2: not JSON")
    assert server.client().xlen("orders") == 0


def test_push_passes_on_lines_of_a_slow_pipe_as_they_come(server: Server) -> None:
    watch: Any = server.client()
    process = subprocess.Popen(
        command("push", "orders", "-", "--redis", server.url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    last = "0"
    for number in range(3):
        process.stdin.write(b"%d\n" % number)
        process.stdin.flush()
        ((_, ((last, fields),)),) = watch.xread({"orders": last}, block=int(DEADLINE_S * 1000))
        assert fields == {b"data": b"%d" % number}
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert out == b"3 messages pushed\n"


def test_push_shows_progress_on_a_terminal(terminal: Any) -> None:
    shown = terminal("push", "orders", "-")
    shown.type("1\n2\n\x04")
    assert shown.end() == 0
    assert "pushing" in shown.seen
    assert "2 messages pushed" in shown.seen.replace("\r", "")


def test_push_tells_how_far_it_came_when_the_server_refuses(server: Server, rsq: Rsq) -> None:
    server.client().set("orders", "no stream")
    assert failed(rsq("push", "orders", "-", stdin=b"1\n2\n"), 78, "not a stream", "0 messages pushed")


def test_push_tells_what_is_in_doubt(rsq: Rsq) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take_and_die() -> None:
            link, _ = listener.accept()
            with link, link.makefile("rb") as told:
                link.sendall(b"+OK\r\n")  # to CLIENT SETNAME
                while (line := told.readline()) and b"[2]" not in line:
                    if b"STREAM" in line:  # XINFO STREAM
                        link.sendall(b"-ERR no such key\r\n")

        server = threading.Thread(target=take_and_die)
        server.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        ended = rsq("push", "orders", "-", "--redis", url, stdin=b"[1]\n[2]\n")
        server.join()
    assert failed(ended, 69, "closed by the other side", "0 messages pushed, 2 more may have been")


# dlq list, show


def test_list_into_a_pipe_is_plain_and_unwrapped(server: Server, rsq: Rsq) -> None:
    first = bury(server, {b"data": b"1"}, error="E: " + "x" * 300)
    second = bury(server, {b"data": b"2", b"event": b"made"}, reason="crash: SIGSEGV", error="a\tb\nc")
    ended = rsq("dlq", "list")
    assert (ended.returncode, ended.stderr) == (0, "")
    heading, *rows = [line.split("\t") for line in ended.stdout.splitlines()]
    assert heading == ["id", "original id", "event", "reason", "attempts", "age", "error"]
    assert [row[0] for row in rows] == [second, first]
    assert rows[0][2:5] == ["made", "crash: SIGSEGV", "3"]
    assert rows[0][6] == "a b c"
    assert rows[1][6] == "E: " + "x" * 300
    assert re.fullmatch(r"\d+d", rows[1][5])


def test_list_selects_and_limits(server: Server, rsq: Rsq) -> None:
    ids = [bury(server, {b"n": b"%d" % n}, reason="crash: SIGKILL" if n % 2 else "timeout") for n in range(6)]
    listed = rsq("dlq", "list", "--reason", "crash").stdout.splitlines()[1:]
    assert [line.split("\t")[0] for line in listed] == [ids[5], ids[3], ids[1]]
    listed = rsq("dlq", "list", "--limit", "2").stdout.splitlines()[1:]
    assert [line.split("\t")[0] for line in listed] == [ids[5], ids[4]]
    assert len(rsq("dlq", "list", "--limit", "0").stdout.splitlines()) == 7
    assert rsq("dlq", "list", "--stream", "other").stdout.count("\n") == 1
    assert rsq("dlq", "list", RSQ_STREAM="x", RSQ_DLQ="events:dlq").stdout.count("\n") == 1


def test_list_as_json_is_one_object_a_line_and_lossless(server: Server, rsq: Rsq) -> None:
    entry_id = bury(server, {b"data": b"\xff\x00", b"event": b"made"}, error="é\x1b", traceback="T\n")
    foreign = xadd(server, "events:dlq", {"who": "me"})
    other, letter = [json.loads(line) for line in rsq("dlq", "list", "--json").stdout.splitlines()]
    assert other == {"id": foreign, "foreign": True, "fields": [["who", "me"]]}
    assert ENTRY_ID.fullmatch(letter.pop("origin_id"))
    assert letter == {
        "id": entry_id,
        "stream": "events",
        "group": "workers",
        "consumer": "web-1:0",
        "attempts": 3,
        "reason": "timeout",
        "error": "é\x1b",
        "traceback": "T\n",
        "first_ms": 1_700_000_000_000,
        "last_ms": 1_700_000_001_500,
        "event": "made",
        "fields": [["data", {"base64": "/wA="}], ["event", "made"]],
    }
    assert json.loads(rsq("dlq", "show", entry_id, "--json").stdout)["id"] == entry_id


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m[bold]\u202e\r"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_on_a_terminal_ids_stay_whole_and_payloads_are_harmless(
    server: Server, terminal: Any, columns: int
) -> None:
    entry_id = bury(server, {b"event": HOSTILE.encode()}, error=HOSTILE, traceback=HOSTILE)
    foreign = xadd(server, "events:dlq", {HOSTILE: HOSTILE})
    shown = terminal("dlq", "list", columns=columns)
    assert shown.end() == 0
    assert entry_id in shown.seen
    assert foreign in shown.seen
    assert "(foreign)" in shown.seen
    assert "2 shown; events:dlq holds 2" in shown.seen
    assert ("original id" in shown.seen) is (columns == 200)
    assert ("[31m[bold]\\u202e" in shown.seen.replace("\\x9b", "[")) is (columns == 200)
    detailed = terminal("dlq", "show", entry_id, columns=columns)
    assert detailed.end() == 0
    assert "[bold]" in detailed.seen
    for seen in (re.sub(r"\x1b\[[0-9;]*m", "", shown.seen), detailed.seen):  # rich's own bold heading
        assert not re.search("[^\\x20-\\x7e\r\n…]", seen), repr(seen)


def test_show_tells_everything(server: Server, rsq: Rsq) -> None:
    fields = {b"data": b"x" * 5000, b"event": b"made", b"\xff": b""}
    traceback = "Traceback\n  File\nE: bad"
    entry_id = bury(server, fields, reason="crash: SIGSEGV", error="E: bad", traceback=traceback)
    told = rsq("dlq", "show", entry_id).stdout
    for expected in (
        f"id           {entry_id}\n",
        "stream       events\n",
        "group        workers\n",
        "consumer     web-1:0\n",
        "reason       crash: SIGSEGV\n",
        "attempts     3\n",
        "first        2023-11-14T22:13:20.000+00:00 (",
        "last         2023-11-14T22:13:21.500+00:00 (",
        "error        E: bad\n",
        "3 fields\n",
        f"  data  {'x' * 5000}\n",
        "  \\xff  \n",
        "traceback\n  Traceback\n    File\n  E: bad\n",
    ):
        assert expected in told
    assert failed(rsq("dlq", "show", "1-1"), 66, "no dead letter 1-1 in events:dlq")
    assert failed(rsq("dlq", "show", "yesterday"), 78, "'yesterday' is not the id")


# dlq replay, purge


def test_replay_by_id_by_reason_and_all(server: Server, rsq: Rsq) -> None:
    ids = [bury(server, {b"n": b"%d" % n}, reason="crash: SIGKILL" if n % 2 else "timeout") for n in range(6)]
    ended = rsq("dlq", "replay", ids[0], ids[2])
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2 replayed\n", "")
    assert rsq("dlq", "replay", "--reason", "crash").stdout == "3 replayed\n"
    foreign = xadd(server, "events:dlq", {"who": "me"})
    ended = rsq("dlq", "replay", "--all")
    assert (ended.returncode, ended.stdout) == (0, "1 replayed\n")
    assert ended.stderr == f"rsq: warning: {foreign} is no dead letter of this stream: left alone\n"
    assert [fields[b"n"] for _, fields in xrange(server, "events")] == [
        b"0",
        b"2",
        b"1",
        b"3",
        b"5",
        b"4",
    ]


def test_replay_says_so_if_an_id_was_not_there(server: Server, rsq: Rsq) -> None:
    entry_id = bury(server, {b"n": b"1"})
    ended = rsq("dlq", "replay", entry_id, "1-1")
    assert (ended.returncode, ended.stdout) == (66, "1 replayed, 1 were not there\n")


def test_replay_tells_how_far_it_came_when_the_stream_refuses(server: Server, rsq: Rsq) -> None:
    bury(server, {b"n": b"1"})
    server.client().delete("events")
    server.client().set("events", "no stream")
    ended = rsq("dlq", "replay", "--all")
    assert failed(ended, 78, "not a stream")
    assert ended.stdout == "0 replayed\n"
    assert server.client().xlen("events:dlq") == 1


def test_replay_has_a_progress_bar_on_a_terminal(server: Server, terminal: Any) -> None:
    for _ in range(3):
        bury(server, {b"n": b"1"})
    shown = terminal("dlq", "replay", "--all")
    assert shown.end() == 0
    assert "replayed" in shown.seen.partition("100%")[0]
    assert "3 replayed" in shown.seen


@pytest.mark.parametrize("name", ["replay", "purge"])
def test_replay_and_purge_want_one_choice(server: Server, rsq: Rsq, name: str) -> None:
    bury(server, {b"n": b"1"})
    for args in ([], ["--all", "--reason", "x"], ["1-1", "--all"]):
        assert failed(rsq("dlq", name, *args), 78, "give the ids of dead letters, or --reason, or --all")
    assert server.client().xlen("events:dlq") == 1


def test_purge_asks_first(server: Server, rsq: Rsq, terminal: Any) -> None:
    bury(server, {b"n": b"1"})
    assert failed(rsq("dlq", "purge", "--all"), 78, "--yes")
    for answer, code, left in (("n\n", 0, 1), ("\n", 0, 1), ("\x04", 130, 1), ("y\n", 0, 0)):
        asked = terminal("dlq", "purge", "--all")
        asked.wait_for("Delete dead letters for good: all of events? [y/N]")
        asked.type(answer)
        assert asked.end() == code
        assert server.client().xlen("events:dlq") == left


def test_purge_with_yes_does_not_ask(server: Server, rsq: Rsq) -> None:
    ids = [bury(server, {b"n": b"1"}, reason=reason) for reason in ("timeout", "timeout", "rejected")]
    assert rsq("dlq", "purge", ids[0], "--yes").stdout == "1 purged\n"
    assert rsq("dlq", "purge", "--reason", "timeout", "--yes").stdout == "1 purged\n"
    assert rsq("dlq", "purge", "--all", "--yes").stdout == "1 purged\n"
    assert server.client().xlen("events:dlq") == 0


# where the server is, and how things end


def test_the_url_may_come_from_a_file_and_the_command_line_wins(
    server: Server, rsq: Rsq, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(f"{server.url}\n")
    bad.write_text("redis://:s3cret@nowhere:port\n")
    assert (
        rsq("push", "s", "1", "--redis-file", str(good), RSQ_REDIS="redis://nowhere.invalid").returncode == 0
    )
    assert (
        rsq("push", "s", "1", RSQ_REDIS_FILE=str(good), RSQ_REDIS="redis://nowhere.invalid").returncode == 0
    )
    assert rsq("push", "s", "1", "--redis", server.url, RSQ_REDIS_FILE=str(bad)).returncode == 0
    ended = rsq("push", "s", "1", "--redis-file", str(bad))
    assert failed(ended, 78, "redis://:***@nowhere:port")
    assert "s3cret" not in ended.stderr
    assert failed(rsq("push", "s", "1", "--redis-file", str(tmp_path / "none")), 78, "No such file")
    both = ("--redis-file", str(good), "--redis", server.url)
    assert failed(rsq("push", "s", "1", *both), 78, "not both")


def test_bad_usage_is_one_line_and_78(rsq: Rsq) -> None:
    assert failed(rsq(), 78, "Missing command", "rsq --help")
    assert failed(rsq("dlq"), 78, "Missing command", "rsq dlq --help")
    assert failed(rsq("frobnicate"), 78, "No such command")
    assert failed(rsq("push", "orders"), 78, "Missing argument", "rsq push --help")
    assert failed(rsq("dlq", "list", "--limit", "many"), 78, "--limit")
    assert failed(rsq("dlq", "list", "--colour\nred"), 78, "No such option")
    assert failed(rsq("dlq", "list", RSQ_REDIS="local\nhost\x1b[2J"), 78, "local host\\x1b[2J", "redis://")
    assert rsq("--help").returncode == 0
    assert rsq("dlq", "replay", "--help").returncode == 0
    assert rsq("--version").stdout.startswith("rsq, version ")


def test_the_process_ends_with_the_code_and_the_line(server: Server) -> None:
    ended = subprocess.run(command("frobnicate"), capture_output=True, env=environment(), check=False)
    assert (ended.returncode, ended.stdout) == (78, b"")
    assert ended.stderr == b"rsq: error: No such command 'frobnicate'. (see rsq --help)\n"
    ended = subprocess.run(
        command("push", "orders", "1", "--redis", server.url),
        capture_output=True,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ENTRY_ID.fullmatch(ended.stdout.decode().strip())


def test_no_server_is_one_line_and_69(rsq: Rsq, tmp_path: Path) -> None:
    for args in (("push", "s", "1"), ("dlq", "list"), ("dlq", "replay", "--all")):
        ended = rsq(*args, RSQ_REDIS=f"unix://{tmp_path}/none")
        assert failed(ended, 69, f"Redis at unix://{tmp_path}/none: there is no such socket")


def test_a_reader_that_goes_away_is_no_error(server: Server) -> None:
    client = server.client()
    pipeline = client.pipeline()
    for number in range(3000):
        pipeline.xadd("events:dlq", {"n": number, "x": "y" * 100})
    pipeline.execute()
    process = subprocess.Popen(
        command("dlq", "list", "--limit", "0", "--redis", server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.readline().startswith(b"id\t")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.wait(DEADLINE_S) == 141


def test_an_interrupt_ends_it_quietly(server: Server) -> None:
    process = subprocess.Popen(
        command("push", "orders", "-", "--redis", server.url),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    process.stdin.write(b"1\n")
    process.stdin.flush()
    server.client().xread({"orders": "0"}, block=int(DEADLINE_S * 1000))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.send_signal(signal.SIGINT)
        process.wait(20)
    # Python may overlook a signal in the instant before it blocks in a read; nobody can tell that instant.
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, told.strip()) == (130, b"")
