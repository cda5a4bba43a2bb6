"""Names of producers: few, and none has two processes that live."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rsq.streams import producerid
from rsq.streams.lanes import Lanes
from rsq.streams.producerid import ProcessName

HOLD = """
import sys
from pathlib import Path
from rsq.streams.producerid import ProcessName
print(ProcessName(Path(sys.argv[1])).get(), flush=True)
sys.stdin.read()
"""


class Other:
    """A process that has a name until it is told to end."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.name = self.process.stdout.readline().strip()

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate()


def test_a_process_has_the_name_of_one_that_is_gone_and_of_none_that_lives(tmp_path: Path) -> None:
    one, two = Other(tmp_path), Other(tmp_path)
    three = ProcessName(tmp_path)
    try:
        assert len({one.name, two.name, three.get()}) == 3
        assert three.get() == three.get()
    finally:
        one.end()
        two.end(kill=True)
    again = [Other(tmp_path), Other(tmp_path)]
    for other in again:
        other.end()
    assert {other.name for other in again} == {one.name, two.name}


def test_a_file_that_was_removed_gives_no_second_process_the_name(tmp_path: Path) -> None:
    mine = ProcessName(tmp_path)
    taken = mine.get()
    for file in tmp_path.iterdir():
        file.unlink()
    other = Other(tmp_path)
    other.end()
    assert other.name != taken


def test_a_forked_child_has_a_name_of_its_own(tmp_path: Path) -> None:
    mine = ProcessName(tmp_path)
    taken = mine.get()
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(into, mine.get().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(into)
    with os.fdopen(out) as said:
        assert said.read() not in ("", taken)
    assert mine.get() == taken


def test_a_name_that_was_changed_is_that_of_the_next_process_too(tmp_path: Path) -> None:
    other = Other(tmp_path)
    mine = ProcessName(tmp_path)
    before = mine.get()
    mine.change()
    assert mine.get() != before
    assert (tmp_path / "1").read_text() == mine.get()
    other.end()


@pytest.mark.parametrize("trouble", ["a file", "open to others", "full", "garbled"])
def test_without_a_file_of_its_own_the_name_is_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    folder = tmp_path / "names"
    if trouble == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777 if trouble == "open to others" else 0o700)
    if trouble == "full":
        monkeypatch.setattr(producerid, "PLACES", 1)
        holder = ProcessName(folder)
        holder.get()
    if trouble == "garbled":
        (folder / "0").write_text("../../etc\n" * 9)
    one, two = ProcessName(folder).get(), ProcessName(folder).get()
    assert one != two
    assert len(one) == len(two) == 12


def test_a_lane_that_broke_is_not_used_again_and_no_other_of_that_time(tmp_path: Path) -> None:
    lanes = Lanes(ProcessName(tmp_path))
    one, two, three = (lanes.take(named=True) for _ in range(3))
    assert len({one.name, two.name, three.name}) == len({one.producer, two.producer, three.producer}) == 3
    lanes.give(one)
    again = lanes.take(named=True)
    assert (again.name, again.number, again.producer) == (one.name, 2, one.producer)
    two.broken = True
    lanes.give(two)
    lanes.give(three)
    later = lanes.take(named=True)
    assert later.name not in (one.name, two.name, three.name)
    assert later.producer not in (one.producer, two.producer, three.producer)


def test_who_needs_no_name_takes_none(tmp_path: Path) -> None:
    lanes = Lanes(ProcessName(tmp_path))
    lane = lanes.take()
    lane.broken = True
    lanes.give(lane)
    assert not list(tmp_path.iterdir())
