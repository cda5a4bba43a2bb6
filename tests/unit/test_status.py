"""`rsq status`: the right numbers, in a table that fits the terminal, of living pools and of dead ones."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from rsq.ipc.cells import D, DeskState, P, PoolState, S, SeatState
from rsq.ipc.ledger import C
from rsq.ipc.segment import Identity, Segment
from rsq.supervisor.figures import memory, rate, short, span
from rsq.supervisor.status import NOTHING_FOUND, Filters, as_json, find, render, run
from rsq.supervisor.view import CAUSES, COUNTERS, BreakerView, Current, PoolView, SlotView

WHO = Identity("orders", "mailer", "web-1")
PROGRAM = """
import sys
from pathlib import Path
from rsq.supervisor.status import Filters, run
sys.exit(run([Path(sys.argv[1])], Filters(), "watch" in sys.argv, "json" in sys.argv))
"""


def _counts(names: tuple[str, ...], **some: int) -> dict[str, int]:
    return {**dict.fromkeys(names, 0), **some}


BUSY = SlotView(
    slot=0,
    pid=24110,
    state="running",
    desk="handling",
    booted=True,
    connected=True,
    current=Current("1763681919030-55", 12.4, 5),
    counters=_counts(
        COUNTERS, read=481236, handled=480011, failed=1204, retried=1180, dead_max_attempts=9, dead_crash=5
    ),
    waiting=3,
    held=7,
    came=400.0,
    went=399.8,
    restarts=_counts(CAUSES, crash=2, recycle=1),
    cpu_s=3512.2,
    rss=61 << 20,
)
DOWN = SlotView(
    1, state="backoff", next_spawn_s=2.4, counters=_counts(COUNTERS, read=23, handled=22, recovered=6)
)
VIEW = PoolView(WHO, "running", 2, 24100, 259300.0, 0.2, 2, 0, 24101, 9464, (BUSY, DOWN), 24102, 9.4, True, 7)


def _printed(view: PoolView, width: int, *, encoding: str = "utf-8") -> list[str]:
    console = Console(
        width=width, file=io.TextIOWrapper(io.BytesIO(), encoding), highlight=False, color_system=None
    )
    with console.capture() as capture:
        console.print(render(view))
    return [line.rstrip() for line in capture.get().splitlines()]


def _row(lines: list[str], first: str) -> str:
    return next(line for line in lines if line.split()[:1] == [first])


WIDE = """\
● orders / mailer @ web-1  running  up 3d, 1 of 2 slots ready, master 24100, metrics on port 9464, generation 2
  instance lease for 9.4s, leads the group, epoch 7
  slot   pid state    doing                in/s out/s read handled failed retried waiting dead recov restarts cpu mem
  ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     0 24110 handling 1763681919030-55 12s  400   400 481k    480k   1204    1180       3   14     0        3 59m 61M
     1     - backoff  starts in 2.4s          0     0   23      22      0       0       0    0     6        0   -   -
  ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────
   all                                      400   400 481k    480k   1204    1180       3   14     6        3 59m 61M
"""  # noqa: E501

NARROW = """\
● orders / mailer @ web-1  running
  up 3d, 1 of 2 slots ready, master 24100, metrics on port 9464, generation 2
  instance lease for 9.4s, leads the group, epoch 7
  slot state    doing                out/s handled failed waiting dead restarts
  ─────────────────────────────────────────────────────────────────────────────
     0 handling 1763681919030-55 12s   400    480k   1204       3   14        3
     1 backoff  starts in 2.4s           0      22      0       0    0        0
  ─────────────────────────────────────────────────────────────────────────────
   all                                 400    480k   1204       3   14        3
"""


@pytest.mark.parametrize(("width", "picture"), [(120, WIDE), (80, NARROW)])
def test_the_table(width: int, picture: str) -> None:
    assert "\n".join(_printed(VIEW, width)) == picture


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 200])
def test_nothing_is_wrapped_and_what_matters_most_is_kept(width: int) -> None:
    lines = _printed(VIEW, width)
    assert all(cell_len(line) <= width for line in lines)
    table = [line for line in lines if line.startswith("  ") and "─" not in line]
    assert len(_row(lines, "all")) <= width
    assert _row(lines, "0").split()[0] == "0"
    assert "480k" in _row(lines, "0")
    assert "1763681919030-55 12s" in _row(lines, "0")
    titles = next(line for line in table if line.split()[0] == "slot").split()
    assert {"slot", "state", "doing", "handled"} <= set(titles)
    if width >= 80:
        assert {"failed", "dead", "waiting"} <= set(titles)
    if width >= 120:
        assert len(titles) == 16, "everything fits into 120 columns"


def test_a_terminal_without_unicode() -> None:
    lines = _printed(VIEW, 80, encoding="ascii")
    assert lines[0].startswith("* orders / mailer @ web-1")
    "".join(lines).encode("ascii")


def test_breakers_that_are_not_closed() -> None:
    breakers = {
        "a": BreakerView("closed", math.inf, 1),
        "b": BreakerView("open", 12.0, 1),
        "c": BreakerView("open", math.inf, 1),
        "d": BreakerView("half-open", 0.0, 1),
    }
    view = replace(VIEW, breakers=breakers, slots=(replace(BUSY, deferred=3), replace(BUSY, deferred=4)))
    shown = [line.strip() for line in _printed(view, 80)]
    assert shown[3:7] == [
        "circuit breaker of b is open, an entry is tried in 12s",
        "circuit breaker of c is open, until it is closed by hand",
        "circuit breaker of d is half-open",
        "7 entries wait for circuit breakers",
    ]
    assert as_json(view)["breakers"]["b"] == {"state": "open", "probe_in_s": 12.0, "opened": 1}
    assert as_json(view)["breakers"]["c"]["probe_in_s"] is None
    assert as_json(view)["total"]["waiting_for_breaker"] == 7


def test_a_pool_whose_master_is_gone() -> None:
    gone = replace(VIEW, state="gone", heartbeat_s=300.0, slots=(replace(BUSY, cpu_s=None, rss=None), DOWN))
    lines = _printed(gone, 120)
    assert lines[0] == "● orders / mailer @ web-1  gone  last seen 5m ago, master was 24100, generation 2"
    assert _row(lines, "0").split()[:3] == ["0", "24110", "gone"]
    assert "1763681919030-55" not in _row(lines, "0")
    assert _row(lines, "0").split()[-2:] == ["-", "-"]
    assert "480k" in _row(lines, "0"), "what it has done stays true"
    orphan = replace(gone, slots=(BUSY, DOWN))
    assert "handling  1763681919030-55" in re.sub(" +", "  ", _row(_printed(orphan, 120), "0"))


def test_a_pool_whose_master_does_nothing() -> None:
    head = _printed(replace(VIEW, state="stalled", heartbeat_s=75.0), 160)[0]
    assert "stalled  last seen 75s ago" in head


def test_a_pool_without_slots() -> None:
    assert _printed(replace(VIEW, slots=(), workers=0), 80)


def test_names_cannot_reach_the_terminal(tmp_path: Path) -> None:
    made = Segment.create(tmp_path, Identity("\x1b[2J\nevil", "[red]g", "i\udcff"), 1)
    made.close()
    (view,), _ = find([tmp_path], Filters())
    words = "\n".join(_printed(view, 200))
    assert "\\x1b[2J\\nevil / [red]g @ i\\xff" in words
    assert "\x1b" not in words


@pytest.mark.parametrize(
    ("state", "desk", "booted", "word"),
    [
        ("running", "idle", True, "idle"),
        ("running", "connecting", True, "connecting"),
        ("running", "booting", False, "booting"),
        ("starting", "booting", False, "starting"),
        ("draining", "draining", True, "draining"),
        ("held", "none", False, "held"),
        ("retired", "none", False, "retired"),
        ("vacant", "none", False, "vacant"),
        ("unknown", "unknown", False, "unknown"),
    ],
)
def test_one_word_for_the_state_of_a_slot(state: str, desk: str, booted: bool, word: str) -> None:
    slot = SlotView(0, pid=1, state=state, desk=desk, booted=booted)
    lines = _printed(replace(VIEW, slots=(slot,)), 120)
    assert _row(lines, "0").split()[2] == word


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (99_999, "99999"), (100_000, "100k"), (123_456, "123k"), (999_499, "999k"), (999_500, "1M"),
     (1_234_567, "1.23M"), (12_345_678, "12.3M"), (2**64 - 1, "18.4E")],
)  # fmt: skip
def test_counts_take_five_characters_at_most(number: int, words: str) -> None:
    assert short(number) == words
    assert len(words) <= 5


def test_durations_rates_and_sizes() -> None:
    seconds = (
        0,
        0.04,
        9.94,
        9.96,
        119,
        121,
        7199,
        7201,
        71 * 3600,
        73 * 3600,
        1e9,
        float("inf"),
        float("nan"),
    )
    assert [span(value) for value in seconds] == [
        "0.0s", "0.0s", "9.9s", "10s", "119s", "2m", "120m", "2h", "71h", "3d", "11574d", "ages", "ages",
    ]  # fmt: skip
    assert [rate(count / 60) for count in (0, 1, 60, 5990, 5999, 60_000)] == [
        "0",
        "0.0",
        "1.0",
        "99.8",
        "100",
        "1000",
    ]
    assert [memory(size) for size in (0, 61 << 20, 20 << 30)] == ["0M", "61M", "20G"]


def test_json_has_every_number_exactly() -> None:
    value = json.loads(json.dumps(as_json(replace(VIEW, heartbeat_s=float("inf"))), allow_nan=False))
    assert {name: value[name] for name in ("stream", "group", "instance", "state", "workers", "ready")} == {
        "stream": "orders",
        "group": "mailer",
        "instance": "web-1",
        "state": "running",
        "workers": 2,
        "ready": 1,
    }
    assert value["heartbeat_age_s"] is None
    first, second = value["slots"]
    assert (first["handled"], first["dead_crash"], first["waiting"], first["held"]) == (480011, 5, 3, 7)
    assert (first["entry"], first["entry_s"], first["in_per_s"]) == ("1763681919030-55", 12.4, 400)
    assert (first["restarts"]["crash"], first["cpu_s"], first["memory_bytes"]) == (2, 3512.2, 61 << 20)
    assert (second["pid"], second["entry"], second["next_spawn_s"]) == (None, None, 2.4)
    assert (value["total"]["handled"], value["total"]["recovered"]) == (480033, 6)
    assert value["total"]["waiting"] == 3


# From the segments


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[Path]:
    """Two pools of this process in one directory."""
    made = []
    for group in ("mailer", "audit"):
        segment = Segment.create(tmp_path, Identity("orders", group, "web-1"), 1)
        segment.open_slot(0)
        made.append(segment)
        pool = segment.pool
        pool.view[P.MASTER_PID], pool.view[P.STATE], pool.view[P.WORKERS] = os.getpid(), PoolState.RUNNING, 1
        pool.real[P.STARTED], pool.real[P.HEARTBEAT] = time.time(), time.monotonic()
        slot = segment.slot(0)
        slot.seat.view[S.PID], slot.seat.view[S.STATE] = os.getpid(), SeatState.RUNNING
        slot.seat.real[S.SPAWNED] = time.monotonic()
        slot.desk.view[D.PID], slot.desk.view[D.STATE] = os.getpid(), DeskState.IDLE
        slot.desk.real[D.BOOTED] = time.monotonic()
        slot.ledger.sums.counters[C.HANDLED] = 4711
        slot.ledger.commit(0, 0)
    yield tmp_path
    for segment in made:
        segment.close()


def test_all_pools_are_found_and_filters_choose(pools: Path) -> None:
    def groups(**names: str) -> list[str]:
        return [view.identity.group for view in find([pools], Filters(**names))[0]]

    assert groups() == ["audit", "mailer"]
    assert groups(group="mailer") == ["mailer"]
    assert groups(stream="orders", instance="web-1") == ["audit", "mailer"]
    assert groups(stream="others") == []
    assert groups(group="mailer", instance="web-2") == []
    assert [view.identity.group for view in find([pools / "missing", pools], Filters())[0]] == groups()


def test_gone_pools_come_last(pools: Path) -> None:
    Segment.create(pools, Identity("a", "a", "a"), 1).close()
    assert [view.state for view in find([pools], Filters())[0]] == ["running", "running", "gone"]


def test_a_file_that_is_no_segment_is_told_and_no_reason_to_stop(
    pools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pools / "garbage.seg").write_bytes(b"x" * 10_000)
    views, troubles = find([pools], Filters())
    assert len(views) == 2
    assert len(troubles) == 1
    assert run([pools], Filters(stream="none"), watch=False, as_json=False) == NOTHING_FOUND
    assert f"{pools}/garbage.seg is no segment of this version of rsq" in capsys.readouterr().err


def test_tables_into_a_pipe(pools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([pools], Filters(), watch=False, as_json=False) == 0
    printed = capsys.readouterr().out
    assert printed.count("running") == 2
    assert printed.count(" 4711 ") == 4, "once per slot and once per pool"
    assert "\x1b" not in printed
    assert "restarts" in printed, "there is no terminal that would be too narrow"


def test_json(pools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([pools], Filters(), watch=False, as_json=True) == 0
    audit, mailer = json.loads(capsys.readouterr().out)
    assert (audit["group"], mailer["group"]) == ("audit", "mailer")
    assert mailer["slots"][0]["handled"] == 4711
    assert mailer["slots"][0]["pid"] == os.getpid()


@pytest.mark.parametrize("wanted", [False, True], ids=["table", "json"])
def test_no_pool_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: bool
) -> None:
    places = [tmp_path, tmp_path / "missing"]
    assert run(places, Filters(), watch=False, as_json=wanted) == NOTHING_FOUND == 1
    said = capsys.readouterr()
    assert said.err == f"no pool found in {tmp_path}, {tmp_path}/missing; --runtime-dir looks elsewhere\n"
    assert said.out == ("[]\n" if wanted else "")


def test_looking_leaves_no_trace(pools: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    names = sorted(pools.iterdir())
    for _ in range(5):
        find([pools], Filters())
    assert sorted(pools.iterdir()) == names
    assert not before or len(list(descriptors.iterdir())) == before


def test_watching_in_json_is_a_line_per_look_until_interrupted(pools: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(pools), "watch", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert len(json.loads(process.stdout.readline())) == 2
        process.send_signal(signal.SIGINT)
        _, trouble = process.communicate(timeout=20)
    assert (process.returncode, trouble) == (0, "")


def test_watching_on_a_terminal_gives_the_screen_back(pools: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, str(pools), "watch"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        picture = _until(ours, b"mailer")
        assert b"\x1b[?1049h" in picture, "on a screen of its own"
        process.send_signal(signal.SIGINT)
        rest = _until(ours, None)
        assert process.wait(20) == 0
    os.close(ours)
    assert b"\x1b[?1049l" in rest
    assert b"\x1b[?25h" in rest, "with its cursor"
    assert b"Traceback" not in rest
    assert rest.rindex(b"mailer") > rest.rindex(b"\x1b[?1049l"), "the last picture stays"


def _until(fd: int, words: bytes | None) -> bytes:
    """Read from a terminal up to some words, or to its end."""
    seen, deadline = b"", time.monotonic() + 20
    while words is None or words not in seen:
        readable, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert readable, f"no {words!r} in {seen!r}"
        try:
            data = os.read(fd, 65536)
        except OSError:  # Linux says so when the other side is closed
            data = b""
        if not data:
            assert words is None, f"no {words!r} in {seen!r}"
            break
        seen += data
    return seen
