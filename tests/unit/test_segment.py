"""The segment: it outlives its processes, is held by living ones only, and never kills its reader."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_shared import child, stay, until

from rsq.ipc.cells import D, P, S
from rsq.ipc.ledger import C
from rsq.ipc.segment import (
    CAPACITY,
    HEADER_SIZE,
    NAME_MAX,
    VERSION,
    Identity,
    Segment,
    SegmentError,
)
from rsq.ipc.slot import SLOT_SIZE

WHO = Identity("orders", "mailer", "web-1")
NAMES = st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    made = Segment.create(tmp_path, WHO, 2)
    made.open_slot(0)
    made.open_slot(1)
    yield made
    made.close()


@contextlib.contextmanager
def _tmpfs(place: Path, options: str) -> Iterator[Path]:
    """Mount a small file system of its own."""
    place.mkdir()
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


# What it keeps


def test_a_segment_outlives_its_processes(tmp_path: Path) -> None:
    def work(there: Callable[[], object]) -> None:
        mine = Segment.create(tmp_path, WHO, 2)
        mine.open_slot(1)
        mine.pool.view[P.MASTER_PID] = os.getpid()
        slot = mine.slot(1)
        slot.ledger.sums.counters[C.HANDLED] = 7
        slot.ledger.commit(1, 1)
        slot.journal.open([b"1-1"])
        there()
        stay()

    with child(work) as first:
        first.ready()
        first.kill()
    again = Segment.create(tmp_path, WHO, 2)
    assert again.pool.view[P.MASTER_PID] == first.pid
    assert again.slot(1).ledger.read()[0].counters[C.HANDLED] == 7
    assert again.slot(1).journal.batches()[0].ids == (b"1-1",)
    again.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".seg"], "nothing was moved aside"


@given(NAMES, NAMES, NAMES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_names_are_kept(tmp_path: Path, stream: str, group: str, instance: str) -> None:
    who = Identity(stream, group, instance)
    made = Segment.create(tmp_path, who, 1)
    seen = Segment.attach(made.path)
    assert made.identity == seen.identity == who
    assert made.path.parent == tmp_path, "a name cannot lead out of the directory"
    seen.close()
    made.close()


def test_pools_have_files_of_their_own() -> None:
    identities = [
        Identity("a", "b", "c"),
        Identity("a.b", "c", "c"),
        Identity("a", "b.c", "c"),
        Identity("a/b", "c", "c"),
        Identity("a_b", "c", "c"),
        Identity("é", "c", "c"),
        Identity("è", "c", "c"),
        Identity("x" * 200, "c", "c"),
        Identity("x" * 201, "c", "c"),
    ]
    assert len({who.filename for who in identities}) == len(identities)
    assert all(len(who.filename) < 120 and "/" not in who.filename for who in identities)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match=f"{NAME_MAX + 1} bytes is too long"):
        Segment.create(tmp_path, Identity("x" * (NAME_MAX + 1), "g", "i"), 1)
    assert not list(tmp_path.iterdir())
    Segment.create(tmp_path, Identity("x" * NAME_MAX, "g", "i"), 1).close()


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = Segment.create(tmp_path, WHO, 1)
        lock = made.lock_pool()
        assert lock is not None
    finally:
        os.umask(before)
    for path in (made.path, made.path.with_suffix(".lock")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.close(lock)
    made.close()


def test_no_descriptor_reaches_a_program_that_a_handler_starts(segment: Segment) -> None:
    assert not os.get_inheritable(segment.fd)
    lock = segment.lock_pool()
    assert lock is not None
    assert not os.get_inheritable(lock)
    os.close(lock)


# What does not fit


@pytest.mark.parametrize(
    "content",
    [
        b"short",
        b"\0" * HEADER_SIZE,
        b"garbage!" * 1000,
        b"\xff" * HEADER_SIZE,
        b"RSQ-SEG\0" + (VERSION + 1).to_bytes(8, "little") + b"\0" * 10_000,
        b"RSQ-SEG\0" + VERSION.to_bytes(8, "little") + (4096).to_bytes(8, "little") + b"\0" * 10_000,
    ],
    ids=["short", "zeros", "garbage", "ones", "other version", "other slot size"],
)
def test_what_is_no_segment_of_ours_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / WHO.filename
    path.write_bytes(content)
    with pytest.raises(SegmentError, match="no segment of this version"):
        Segment.attach(path)
    made = Segment.create(tmp_path, WHO, 1)
    made.open_slot(0)
    assert not any(made.slot(0).ledger.read()[0].counters)
    made.close()
    (aside,) = (other for other in tmp_path.iterdir() if other != path)
    assert ".stale-" in aside.name
    assert aside.read_bytes() == content, "kept for a post-mortem"
    Segment.create(tmp_path, WHO, 1).close()
    assert len(list(tmp_path.iterdir())) == 2, "the new one fits"


def test_a_torn_segment_is_moved_aside(tmp_path: Path) -> None:
    made = Segment.create(tmp_path, WHO, 1)
    made.close()
    os.truncate(made.path, HEADER_SIZE + 10)
    with pytest.raises(SegmentError, match="no segment"):
        Segment.attach(made.path)
    Segment.create(tmp_path, WHO, 1).close()
    assert len(list(tmp_path.glob("*.stale-*"))) == 1


def test_a_segment_of_another_identity_under_this_name_is_moved_aside(tmp_path: Path) -> None:
    other = Segment.create(tmp_path, Identity("other", "mailer", "web-1"), 1)
    other.close()
    other.path.rename(tmp_path / WHO.filename)
    made = Segment.create(tmp_path, WHO, 1)
    assert made.identity == WHO
    made.close()
    assert len(list(tmp_path.glob("*.stale-*"))) == 1


@given(st.binary(max_size=64), st.integers(0, 1700), st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_header_is_read_or_refused(segment: Segment, noise: bytes, at: int, short: bool) -> None:
    content = bytearray(segment.path.read_bytes()[:HEADER_SIZE])
    content[at : at + len(noise)] = noise
    path = segment.path.with_name("noise.seg")
    path.write_bytes(content)
    if not short:
        os.truncate(path, HEADER_SIZE + CAPACITY * SLOT_SIZE)
    try:
        seen = Segment.attach(path)
    except SegmentError:
        return
    assert 0 <= seen.capacity <= CAPACITY
    assert seen.identity.stream is not None
    seen.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match=r"cannot make .*: No such file.*--runtime-dir"):
        Segment.create(tmp_path / "missing", WHO, 1)
    with pytest.raises(SegmentError, match="cannot read"):
        Segment.attach(tmp_path / "missing.seg")


def test_a_read_only_directory(tmp_path: Path) -> None:
    with (
        _tmpfs(tmp_path / "ro", "ro,size=1m") as place,
        pytest.raises(SegmentError, match=r"Read-only.*choose another --runtime-dir"),
    ):
        Segment.create(place, WHO, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SegmentError, match="Permission denied"):
        Segment.create(tmp_path, WHO, 1)


def test_a_stale_file_in_a_directory_that_cannot_be_changed(tmp_path: Path) -> None:
    """The file can be opened, but not be moved aside."""
    with _tmpfs(tmp_path / "ro", "size=1m") as place:
        (place / WHO.filename).write_bytes(b"stale")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with pytest.raises(SegmentError, match="--runtime-dir"):
            Segment.create(place, WHO, 1)


# Room


def test_a_full_tmpfs_is_an_error_and_not_a_bus_error(tmp_path: Path) -> None:
    def work(there: Callable[[], object]) -> None:
        made = Segment.create(place, WHO, 8)
        made.open_slot(0)
        made.open_slot(1)
        with pytest.raises(SegmentError, match=r"no room for slot 2.*No space left.*--runtime-dir"):
            made.open_slot(2)
        with contextlib.suppress(OSError), (place / "rest").open("wb", buffering=0) as rest:
            while rest.write(b"x" * 4096):
                pass
        for number in range(2):  # every byte of an open slot was promised
            start = HEADER_SIZE + number * SLOT_SIZE
            made.slot(number).seat.view[S.PID] = 1
            made._view[start : start + SLOT_SIZE] = b"\1" * SLOT_SIZE
        made.pool.view[P.MASTER_PID] = 1
        seen = Segment.attach(made.path)
        assert [number for number in range(seen.capacity) if seen.used(number)] == [0, 1]
        there()

    with _tmpfs(tmp_path / "small", f"size={2 * SLOT_SIZE + (64 << 10)}") as place, child(work) as process:
        status = process.wait()
        assert not os.WIFSIGNALED(status), f"died of {signal.Signals(os.WTERMSIG(status)).name}"
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_tmpfs_without_any_room(tmp_path: Path) -> None:
    with _tmpfs(tmp_path / "full", "size=64k") as place:
        with contextlib.suppress(OSError), (place / "rest").open("wb", buffering=0) as rest:
            while rest.write(b"x" * 4096):
                pass
        with pytest.raises(SegmentError, match=r"No space left.*choose another --runtime-dir"):
            Segment.create(place, WHO, 1)


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    def work(there: Callable[[], object]) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(SegmentError, match=r"File too large.*choose another --runtime-dir"):
            Segment.create(tmp_path, WHO, 1)
        there()

    with child(work) as process:
        assert os.waitstatus_to_exitcode(process.wait()) == 0


def test_a_slot_beyond_the_segment(segment: Segment) -> None:
    assert segment.capacity == CAPACITY
    with pytest.raises(SegmentError, match=f"slot {CAPACITY} is beyond"):
        segment.open_slot(CAPACITY)
    assert not segment.used(CAPACITY)


def test_a_larger_pool_gets_a_larger_segment_while_readers_keep_theirs(segment: Segment) -> None:
    reader = Segment.attach(segment.path)
    segment.slot(1).seat.view[S.PID] = 11
    larger = Segment.create(segment.path.parent, WHO, CAPACITY + 10)
    larger.open_slot(CAPACITY + 9)
    larger.slot(CAPACITY + 9).seat.view[S.PID] = 12
    assert larger.capacity == CAPACITY + 10
    assert larger.slot(1).seat.view[S.PID] == 11
    assert reader.capacity == CAPACITY
    assert reader.slot(1).seat.view[S.PID] == 11
    reader.close()
    larger.close()
    smaller = Segment.create(segment.path.parent, WHO, 1)
    assert smaller.capacity == CAPACITY + 10, "what is there is never cut off"
    smaller.close()


def test_a_reader_that_comes_while_room_is_made_stays_within_what_it_has_mapped(segment: Segment) -> None:
    header = os.pread(segment.fd, 32, 0)
    os.pwrite(segment.fd, header[:24] + (CAPACITY + 10).to_bytes(8, "little"), 0)
    reader = Segment(segment.path, os.open(segment.path, os.O_RDONLY), writable=False)
    assert reader.capacity == CAPACITY
    reader.close()


def test_an_unopened_slot_costs_nothing(segment: Segment) -> None:
    before = segment.path.stat().st_blocks
    assert [number for number in range(segment.capacity) if segment.used(number)] == []
    segment.slot(1).desk.view[D.HELD] = 1
    assert [number for number in range(segment.capacity) if segment.used(number)] == [1]
    segment.slot(0).ledger.commit(0, 0)
    assert segment.used(0)
    assert segment.path.stat().st_blocks == before
    assert before * 512 < 3 * SLOT_SIZE


def test_a_reader_cannot_write(segment: Segment) -> None:
    reader = Segment.attach(segment.path)
    with pytest.raises(TypeError, match="read-only"):
        reader.slot(0).seat.view[S.PID] = 1
    with pytest.raises(TypeError, match="read-only"):
        reader.pool.view[P.MASTER_PID] = 1
    reader.close()


def test_what_one_process_writes_the_other_sees(segment: Segment) -> None:
    def work(there: Callable[[], object]) -> None:
        segment.slot(0).desk.view[D.HELD] = 42
        there()
        stay()

    with child(work) as writer:
        writer.ready()
        reader = Segment.attach(segment.path)
        assert reader.slot(0).desk.view[D.HELD] == 42
        reader.close()


# Locks


def _sit(segment: Segment, slot: int) -> Callable[[Callable[[], object]], None]:
    def work(there: Callable[[], object]) -> None:
        assert segment.lock_slot(slot) is None
        there()
        stay()

    return work


def test_a_slot_has_one_holder_and_others_learn_who(segment: Segment) -> None:
    def other(there: Callable[[], object]) -> None:
        assert segment.lock_slot(0) == first.pid
        assert segment.lock_slot(1) is None, "the neighbour is free"
        there()
        stay()

    assert segment.slot_holder(0) is None
    with child(_sit(segment, 0)) as first:
        first.ready()
        assert segment.slot_holder(0) == first.pid
        with child(other) as second:
            second.ready()
            assert segment.slot_holder(1) == second.pid


def test_a_reader_sees_the_holder_and_takes_nothing(segment: Segment) -> None:
    with child(_sit(segment, 0)) as worker:
        worker.ready()
        reader = Segment.attach(segment.path)
        assert reader.slot_holder(0) == worker.pid
        assert reader.slot_holder(1) is None
        reader.close()
        assert segment.slot_holder(0) == worker.pid


def test_a_killed_holder_leaves_a_free_slot(segment: Segment) -> None:
    with child(_sit(segment, 0)) as worker:
        worker.ready()
        assert os.WTERMSIG(worker.kill()) == signal.SIGKILL
        assert segment.slot_holder(0) is None
        with child(_sit(segment, 0)) as successor:
            successor.ready()
            assert segment.slot_holder(0) == successor.pid


def test_a_stopped_holder_keeps_its_slot(segment: Segment) -> None:
    with child(_sit(segment, 0)) as worker:
        worker.ready()
        os.kill(worker.pid, signal.SIGSTOP)
        os.waitpid(worker.pid, os.WUNTRACED)
        assert segment.lock_slot(0) == worker.pid


def test_a_child_that_a_handler_forks_does_not_hold_the_slot(segment: Segment) -> None:
    """A process that user code leaves behind must not keep the successor out."""
    readable, writable = os.pipe()

    def worker_with_child(there: Callable[[], object]) -> None:
        assert segment.lock_slot(0) is None
        grandchild = os.fork()
        if not grandchild:
            assert segment.slot_holder(0) == os.getppid()
            os.write(writable, os.getpid().to_bytes(8, "little"))
            stay()
        there()
        stay()

    with child(worker_with_child) as worker:
        worker.ready()
        grandchild = int.from_bytes(os.read(readable, 8), "little")
        try:
            assert segment.slot_holder(0) == worker.pid
            worker.kill()
            os.kill(grandchild, 0)
            assert segment.slot_holder(0) is None, "the grandchild lives, and yet the slot is free"
        finally:
            os.kill(grandchild, signal.SIGKILL)
            os.close(readable)
            os.close(writable)


def test_a_pool_has_one_master_and_is_free_when_it_is_killed(segment: Segment) -> None:
    def master(there: Callable[[], object]) -> None:
        assert segment.lock_pool() is not None
        there()
        stay()

    with child(master) as first:
        first.ready()
        assert segment.lock_pool() is None
        first.kill()
        lock = segment.lock_pool()
        assert lock is not None
        os.close(lock)


def test_the_masters_lock_is_kept_over_an_exec(segment: Segment) -> None:
    """A reload replaces the program and keeps the process: no other master may slip in between."""
    readable, writable = os.pipe()
    program = "import os, signal; os.write(int(os.environ['THERE']), b'.'); signal.pause()"

    def master(_: Callable[[], object]) -> None:
        lock = segment.lock_pool()
        assert lock is not None
        os.set_inheritable(lock, True)
        os.set_inheritable(writable, True)
        os.execve(sys.executable, [sys.executable, "-c", program], {"THERE": str(writable)})

    with child(master) as process:
        os.close(writable)
        assert os.read(readable, 1) == b"."
        os.close(readable)
        assert segment.lock_pool() is None
        process.kill()
        lock = segment.lock_pool()
        assert lock is not None
        os.close(lock)


def test_a_crowd_that_wants_one_slot(segment: Segment) -> None:
    """Of any number of processes one sits in the slot, and after its death another one can."""
    with contextlib.ExitStack() as stack:
        readable, writable = os.pipe()

        def contender(there: Callable[[], object]) -> None:
            there()
            until(lambda: segment.lock_slot(0) is None or None, "the slot")
            os.write(writable, os.getpid().to_bytes(8, "little"))
            stay()

        crowd = {
            process.pid: process for process in (stack.enter_context(child(contender)) for _ in range(4))
        }
        for _ in range(4):
            winner = int.from_bytes(os.read(readable, 8), "little")
            assert segment.slot_holder(0) == winner
            crowd.pop(winner).kill()
        assert segment.slot_holder(0) is None
        os.close(readable)
        os.close(writable)
