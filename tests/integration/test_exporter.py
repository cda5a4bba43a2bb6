"""The exporter: a real process behind a real socket, with clients and workers that behave badly."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from support_servers import free_port
from support_shared import Child, child, until

from rsq.ipc.cells import D, DeskState, K, P, PoolState, S, SeatState
from rsq.ipc.fence import boot_time
from rsq.ipc.ledger import C
from rsq.ipc.pipe import PIPE_SIZE
from rsq.ipc.segment import Identity, Segment
from rsq.supervisor import exporter, logs, web
from rsq.supervisor.gallery import One
from rsq.supervisor.web import CONNECTION_S, CONNECTIONS_MAX

SLOTS = 2


@dataclass
class Pool:
    """A segment as a healthy master would write it, and the exporter that serves it."""

    segment: Segment
    port: int
    log_file: Path
    lifeline: int
    process: Child

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response, body

    def value(self, name: str, **labels: str) -> float:
        _, body = self.ask("/metrics")
        samples = [sample for family in parse(body) for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def log(self) -> str:
        return self.log_file.read_text()

    def logged(self, words: str) -> str:
        return until(lambda: self.log() if words in self.log() else None, f"{words!r} in the log")

    def beat(self, age_s: float = 0.0) -> None:
        self.segment.pool.real[P.HEARTBEAT] = time.monotonic() - age_s

    def end(self) -> int:
        """Die, as far as the exporter can see, and return its exit code."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        return os.waitstatus_to_exitcode(self.process.wait())


@contextlib.contextmanager
def _pool(folder: Path, *, serve: bool = True, level: str = "info", form: str = "text") -> Iterator[Pool]:
    segment = Segment.create(folder, Identity("orders", "mailer", "web-1"), SLOTS)
    cells = segment.pool
    cells.view[P.MASTER_PID], cells.view[P.STATE], cells.view[P.WORKERS] = (
        os.getpid(),
        PoolState.RUNNING,
        SLOTS,
    )
    cells.real[P.STARTED], cells.real[P.HEARTBEAT] = time.time(), time.monotonic()
    for number in range(SLOTS):
        segment.open_slot(number)
        slot = segment.slot(number)
        slot.seat.view[S.PID], slot.seat.view[S.STATE] = os.getpid(), SeatState.RUNNING
        slot.desk.view[D.PID], slot.desk.view[D.STATE] = os.getpid(), DeskState.IDLE
        slot.desk.real[D.BOOTED] = time.monotonic()
    listener = exporter.bind(f"127.0.0.1:{free_port()}") if serve else None
    port = listener.getsockname()[1] if listener else 0
    lifeline, ours = os.pipe()

    def work(there: Callable[[], object]) -> None:
        os.close(ours)
        logs.configure(level, form, str(folder / "log"))
        there()
        os._exit(exporter.run(One(segment), listener, lifeline))

    with child(work) as process:
        os.close(lifeline)
        if listener:
            listener.close()
        pool = Pool(segment, port, folder / "log", ours, process)
        process.ready()
        try:
            yield pool
            assert pool.end() == 0
        finally:
            if pool.lifeline >= 0:
                os.close(pool.lifeline)
            segment.close()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with _pool(tmp_path) as made:
        yield made


# Pages


def test_metrics_in_the_format_that_is_asked_for(pool: Pool) -> None:
    response, body = pool.ask("/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "rsq_pool_info" in {sample.name for family in parse(body) for sample in family.samples}
    wanted = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    response, body = pool.ask("/metrics?ignored=1", Accept=wanted)
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert list(parse_openmetrics(body))  # type: ignore[no-untyped-call]
    assert body.endswith("# EOF\n")


def test_what_workers_write_is_there_at_once(pool: Pool) -> None:
    slot = pool.segment.slot(1)
    for count in (1, 5):
        slot.ledger.sums.counters[C.HANDLED] = count
        slot.ledger.commit(1, count)
        assert pool.value("rsq_messages_handled_total", slot="1") == count
        assert pool.value("rsq_messages_handled_total", slot="0") == 0


def test_healthy_while_the_master_passes_through_its_loop(pool: Pool) -> None:
    response, body = pool.ask("/healthz")
    assert (response.status, body) == (200, "supervision is alive\n")
    began = time.monotonic()
    pool.beat(age_s=12.5)
    response, body = pool.ask("/healthz")
    assert response.status == 503
    said = re.fullmatch(r"supervision is stuck: the master's last pass was (\d+\.\d) s ago\n", body)
    assert said
    assert 12.5 <= float(said[1]) <= 12.6 + time.monotonic() - began
    pool.beat()
    assert pool.ask("/healthz")[0].status == 200


def test_ready_when_every_wanted_slot_works(pool: Pool) -> None:
    response, body = pool.ask("/readyz")
    assert (response.status, body) == (503, "not ready: waiting for the instance lease\n")
    pool.segment.keep.real[K.UNTIL] = boot_time() + 3600
    assert pool.ask("/readyz")[1] == "ready: 2 of 2 slots\n"
    seat, desk = pool.segment.slot(1).seat, pool.segment.slot(1).desk
    desk.real[D.BOOTED] = 0
    assert pool.ask("/readyz")[1] == "not ready: slot 1 booting\n"
    seat.view[S.STATE], seat.view[S.PID] = SeatState.BACKOFF, 0
    assert pool.ask("/readyz")[1] == "not ready: slot 1 backoff\n"
    pool.segment.pool.view[P.WORKERS] = 3
    assert pool.ask("/readyz")[1] == "not ready: slot 1 backoff, slot 2 vacant\n"
    pool.segment.pool.view[P.WORKERS] = 1
    assert pool.ask("/readyz")[0].status == 200, "a slot that nobody wants is not missed"
    pool.segment.pool.view[P.STATE] = PoolState.STOPPING
    assert pool.ask("/readyz")[1] == "not ready: the pool is stopping\n"


def test_the_front_page_names_the_others(pool: Pool) -> None:
    response, body = pool.ask("/")
    assert (response.status, body) == (200, "rsq: /metrics /healthz /readyz\n")


@pytest.mark.parametrize("path", ["/metricsx", "/metrics/", "/healthz/../etc/passwd", "/%2e%2e"])
def test_other_pages_are_not_found(pool: Pool, path: str) -> None:
    assert pool.ask(path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_not_allowed(pool: Pool, method: str) -> None:
    response, _ = pool.ask("/metrics", method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_the_body(pool: Pool) -> None:
    response, body = pool.ask("/healthz", "HEAD")
    assert (response.status, body, response.headers["Content-Length"]) == (200, "", "21")
    assert pool.ask("/nothing", "HEAD")[0].status == 404


def test_nothing_tells_which_software_this_is_and_nothing_is_cached(pool: Pool) -> None:
    for path, method in (("/metrics", "GET"), ("/nothing", "GET"), ("/", "POST")):
        response, _ = pool.ask(path, method)
        assert "Server" not in response.headers
        assert response.headers["Cache-Control"] == "no-store"


@contextlib.contextmanager
def _may_be_cut() -> Iterator[None]:
    """Who has sent too much may have its answer, and no connection any more, before it has sent all."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
            raise


@pytest.mark.parametrize(
    "request_line",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET " + b"x" * 70_000,
    ],
)
def test_what_is_no_request_gets_a_short_answer(pool: Pool, request_line: bytes) -> None:
    with pool.connect() as client:
        with _may_be_cut():
            client.sendall(request_line)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert len(client.makefile("rb").read()) < 1000
    assert pool.ask("/healthz")[0].status == 200


# Bad clients


def test_slow_clients_keep_nobody_waiting_and_are_cut_in_time(pool: Pool) -> None:
    """More of them than there is room for, each feeding a byte now and then so that no read times out."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(pool.connect()) for _ in range(CONNECTIONS_MAX + 9)]
        opened = time.monotonic()
        newest = stack.enter_context(pool.connect())
        for client in (*slow, newest):
            client.sendall(b"GET /metr")
        assert pool.ask("/healthz")[0].status == 200
        threads = psutil.Process(pool.process.pid).num_threads
        until(lambda: threads() <= CONNECTIONS_MAX + 3 or None, "the end of the oldest")
        assert not select.select([newest], [], [], 0)[0], "the newest still has its time"
        newest.settimeout(0.25)
        while True:  # until it is cut, whatever it sends
            assert time.monotonic() - opened < 4 * CONNECTION_S
            try:
                newest.sendall(b"x")
                if not newest.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - opened >= CONNECTION_S, "it had its time"
    pool.beat()
    assert pool.ask("/healthz")[0].status == 200
    until(lambda: psutil.Process(pool.process.pid).num_threads() == 1 or None, "the end of all their threads")


def test_a_client_that_reads_nothing_is_cut_in_time(pool: Pool) -> None:
    for number in range(30):  # long answers, of many series
        slot = pool.segment.slot(0)
        slot.ledger.sums.handler(slot.events.row(b"event %d" % number)).add([0.1])
    slot.ledger.commit(0, 0)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", pool.port))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n" * 3)
        assert pool.ask("/metrics")[0].status == 200
        until(lambda: psutil.Process(pool.process.pid).num_threads() == 1 or None, "the end of their threads")


def test_many_scrapes_at_once_are_all_answered(pool: Pool) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(pool.ask("/metrics")[0].status)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 20


def test_clients_that_vanish_leave_nothing(pool: Pool) -> None:
    process = psutil.Process(pool.process.pid)
    pool.ask("/metrics")
    until(lambda: process.num_threads() == 1 or None, "the end of the first request")
    before = process.num_fds()
    for _ in range(100):
        client = pool.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset it
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        client.close()
    assert pool.ask("/healthz")[0].status == 200
    until(lambda: process.num_fds() <= before or None, "the end of all connections")
    assert "Traceback" not in pool.log()


# Bad workers


def _write(pool: Pool, slot: int) -> Callable[[Callable[[], object]], None]:
    def work(there: Callable[[], object]) -> None:
        writer, batches = pool.segment.slot(slot), 0
        writer.ledger.load()
        while True:
            number = writer.journal.open([b"1-%d" % n for n in range(100)])
            for at in range(101):
                writer.journal.marks[at] = 1.0
                if at and at % 7 == 0:
                    writer.pipe.put({"kind": "failure", "id": f"1-{at}", "text": "x" * 100})
            writer.ledger.sums.counters[C.HANDLED] += 100
            writer.ledger.commit(number, 100)
            batches += 1
            if batches == 3:
                there()

    return work


def test_a_worker_that_is_stopped_or_killed_in_the_middle_of_a_write(pool: Pool) -> None:
    """Wherever it is, the numbers can be read, and the successor goes on in the same slot."""
    highest = 0.0
    for turn in range(12):
        with child(_write(pool, 1)) as worker:
            worker.ready()
            os.kill(worker.pid, signal.SIGSTOP)
            os.waitpid(worker.pid, os.WUNTRACED)
            first, second = (pool.value("rsq_messages_handled_total", slot="1") for _ in range(2))
            assert first == second >= highest + 300, f"in turn {turn}"
            worker.kill()
        # Its successor counts what it could not: here by the reader's own rule.
        highest = pool.value("rsq_messages_handled_total", slot="1")
        assert highest == first
        slot = pool.segment.slot(1)
        slot.ledger.load()
        slot.ledger.sums.counters[C.HANDLED] = int(highest)
        slot.journal.forget()
        slot.ledger.commit(slot.journal.number, 0)
        assert pool.value("rsq_messages_handled_total", slot="1") == highest
    assert pool.ask("/healthz")[0].status == 200


def test_scrapes_beside_busy_workers_never_go_down(pool: Pool) -> None:
    with child(_write(pool, 0)) as one, child(_write(pool, 1)) as two:
        one.ready()
        two.ready()
        before, deadline = 0.0, time.monotonic() + 1.5
        while time.monotonic() < deadline or before <= 1000:
            now = pool.value("rsq_messages_handled_total")
            assert now >= before
            before = now


def test_a_segment_full_of_noise_is_served(pool: Pool) -> None:
    with (pool.segment.path).open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(pool.segment.path.stat().st_blocks * 512 - 8192))
    response, body = pool.ask("/metrics")
    assert response.status == 200
    assert list(parse(body))
    assert pool.ask("/readyz")[0].status in (200, 503)
    assert pool.ask("/healthz")[0].status == 200


# The log


def test_failures_are_told_for_whoever_is_on_call(tmp_path: Path) -> None:
    failure = {"kind": "failure", "id": "1526-0", "event": "order.created", "attempt": 1, "max": 3}
    with _pool(tmp_path) as pool:
        pipe = pool.segment.slot(1).pipe
        pipe.put(
            {**failure, "error": "ValueError: x", "retry_in": 1.23, "traceback": "Traceback\n  hidden\n"}
        )
        pipe.put(
            {
                "kind": "dead",
                "id": "1526-0",
                "event": None,
                "attempt": 3,
                "reason": "max_attempts",
                "error": "ValueError: x",
                "traceback": "Traceback (most recent call last):\n  in the handler\n",
            }
        )
        pipe.put({"kind": "dead", "id": "1527-0", "attempt": 1, "reason": "rejected"})
        pipe.put({"kind": "note", "level": "warning", "text": "took over 3 entries"})
        text = pool.logged("took over 3 entries")
    lines = [line.split("] ", 1)[-1] for line in text.splitlines()]
    assert lines == [
        "slot 1: entry 1526-0 (event order.created) failed, attempt 1 of 3: ValueError: x; again in 1.2 s",
        "slot 1: entry 1526-0 dead-lettered after 3 attempts: max_attempts: ValueError: x",
        "Traceback (most recent call last):",
        "  in the handler",
        "slot 1: entry 1527-0 dead-lettered after 1 attempt: rejected",
        "slot 1: took over 3 entries",
    ]
    assert [line.split()[1] for line in text.splitlines() if "slot 1" in line] == [
        "WARNING",
        "ERROR",
        "ERROR",
        "WARNING",
    ]


def test_at_debug_level_failures_have_their_traceback(tmp_path: Path) -> None:
    with _pool(tmp_path, level="debug") as pool:
        pool.segment.slot(0).pipe.put(
            {"kind": "failure", "id": "1-0", "error": "E", "traceback": "Trace\n  x"}
        )
        assert "slot 0: entry 1-0 failed: E\nTrace\n  x" in pool.logged("  x")


def test_a_log_in_json_has_fields(tmp_path: Path) -> None:
    with _pool(tmp_path, form="json") as pool:
        pool.segment.slot(1).pipe.put(
            {
                "kind": "dead",
                "id": "1-0",
                "event": "e",
                "attempt": 2,
                "reason": "crash: SIGSEGV",
                "traceback": "a\nb",
            }
        )
        value = json.loads(pool.logged("SIGSEGV").splitlines()[0])
    assert (value["level"], value["slot"], value["entry"], value["event"]) == ("error", 1, "1-0", "e")
    assert (value["attempt"], value["reason"]) == (2, "crash: SIGSEGV")
    assert value["msg"].endswith("crash: SIGSEGV\na\nb")


def test_no_text_of_a_handler_can_forge_a_line(pool: Pool) -> None:
    evil = "x\n2026-01-01 ERROR forged\x1b[2J\r\u2028\udcff"
    pool.segment.slot(0).pipe.put(
        {"kind": "dead", "id": evil, "event": evil, "reason": evil, "error": evil, "traceback": evil}
    )
    text = pool.logged("dead-lettered")
    assert "\x1b" not in text
    assert "\r" not in text
    assert "forged" not in [line.split()[2] for line in text.splitlines()[:1]]
    assert len(text.splitlines()) == 3, "the line, and a traceback of two"


def test_frames_may_lack_everything_and_be_of_any_kind(pool: Pool) -> None:
    frames: list[dict[str, object]] = [
        {},
        {"kind": "failure"},
        {"kind": "dead"},
        {"kind": 7, "level": ["odd"], "text": None},
        {
            "kind": "failure",
            "attempt": "x",
            "max": "y",
            "retry_in": "z",
            "error": 5,
            "traceback": 6,
            "slot": "a",
        },
        {"kind": "dead", "attempt": -1, "reason": {"a": 1}, "id": 5, "event": [1]},
        {"kind": "note", "level": "critical", "text": "the last one"},
    ]
    for frame in frames:
        assert pool.segment.slot(0).pipe.put(frame)
    text = pool.logged("the last one")
    assert text.count("slot 0: ") == len(frames)
    assert "slot 0: entry ? failed" in text


def test_what_did_not_fit_is_told_once(pool: Pool) -> None:
    pipe = pool.segment.slot(0).pipe
    pool.ask("/")
    os.kill(pool.process.pid, signal.SIGSTOP)
    os.waitpid(pool.process.pid, os.WUNTRACED)
    while pipe.put({"kind": "note", "text": "x" * 1000}):
        pass
    pipe.put({"kind": "note", "text": "x" * 1000})
    os.kill(pool.process.pid, signal.SIGCONT)
    pool.logged("slot 0: 2 more failures than the pipe could hold are not in this log")
    until(lambda: pool.log().count("slot 0: xxx") >= PIPE_SIZE // 1100 or None, "the others in the log")
    assert pool.value("rsq_events_dropped_total", slot="0") == 2


def test_a_slot_that_is_opened_later_is_drained_too(pool: Pool) -> None:
    pool.segment.open_slot(9)
    slot = pool.segment.slot(9)
    slot.desk.view[D.PID] = 1
    slot.pipe.put({"kind": "note", "text": "from a late one"})
    pool.logged("slot 9: from a late one")


def test_pages_are_answered_while_the_log_is_flooded(pool: Pool) -> None:
    def flood(there: Callable[[], object]) -> None:
        os.close(pool.lifeline)
        pipe = pool.segment.slot(1).pipe
        there()
        while True:
            pipe.put({"kind": "failure", "error": "x" * 300})

    with child(flood) as worker:
        worker.ready()
        pool.logged("slot 1")
        for _ in range(5):  # the flood has no end: whoever waited for it would wait for ever
            pool.beat()
            assert pool.ask("/healthz")[0].status == 200
        os.close(pool.lifeline)
        pool.lifeline = -1
        assert os.waitstatus_to_exitcode(pool.process.wait()) == 0, "it ends though there is always more"


# Its end


@pytest.mark.parametrize("end", ["lifeline", "SIGTERM"])
def test_the_last_words_are_logged_before_the_end(tmp_path: Path, end: str) -> None:
    with _pool(tmp_path) as pool:
        pool.ask("/")
        pool.segment.slot(0).pipe.put({"kind": "note", "text": "last words"})
        if end == "SIGTERM":
            os.kill(pool.process.pid, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(pool.process.wait()) == 0
        else:
            assert pool.end() == 0
        assert "slot 0: last words" in pool.log()
        with pytest.raises(ConnectionRefusedError):
            pool.connect()


def test_bytes_on_the_lifeline_mean_nothing(pool: Pool) -> None:
    os.write(pool.lifeline, b"xyz" * 1000)
    assert pool.ask("/healthz")[0].status == 200
    assert pool.process.status is None


def test_it_ends_though_a_client_is_still_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CONNECTION_S", 600.0)
    monkeypatch.setattr(web._Page, "timeout", 600.0)
    with _pool(tmp_path) as pool, pool.connect() as client:
        client.sendall(b"GET /")
        assert pool.ask("/healthz")[0].status == 200
        assert pool.end() == 0


def test_without_a_listener_it_still_writes_the_log(tmp_path: Path) -> None:
    with _pool(tmp_path, serve=False) as pool:
        pool.segment.slot(0).pipe.put({"kind": "note", "text": "heard"})
        pool.logged("slot 0: heard")


def test_idle_it_costs_next_to_nothing(pool: Pool) -> None:
    process = psutil.Process(pool.process.pid)
    pool.ask("/metrics")
    before, begin = sum(process.cpu_times()[:2]), time.monotonic()
    switches = process.num_ctx_switches().voluntary
    until(lambda: time.monotonic() - begin > 2 or None, "two seconds")
    assert sum(process.cpu_times()[:2]) - before < 0.1
    woke = process.num_ctx_switches().voluntary - switches
    assert woke < 10 * (time.monotonic() - begin), "it wakes up twice a second"


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "",
        "9464",
        ":9464",
        "localhost",
        "localhost:",
        "localhost:x",
        "localhost:70000",
        "::1:9464",
        "[::1]",
        "a:-1",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(address: str) -> None:
    with pytest.raises(ValueError, match=r"not an address: .*; give HOST:PORT such as") as refused:
        exporter.bind(address)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "0.0.0.0:0", "[::1]:0"])
def test_addresses(address: str) -> None:
    try:
        listener = exporter.bind(address)
    except OSError as error:
        if address.startswith("["):
            pytest.skip(f"no IPv6 here: {error}")
        raise
    with listener, socket.create_connection(listener.getsockname()[:2], timeout=5):
        assert not listener.get_inheritable()


def test_a_taken_port_is_an_os_error_and_a_left_one_can_be_had_at_once(pool: Pool) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        exporter.bind(f"127.0.0.1:{pool.port}")
    assert pool.ask("/")[0].status == 200
    pool.end()
    exporter.bind(f"127.0.0.1:{pool.port}").close()


def test_a_host_that_is_not_known_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r".+"):
        exporter.bind("no.such.host.invalid:9464")
