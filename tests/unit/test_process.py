"""A process that is looked at again and again."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from rsq.supervisor.process import Process, find


def test_usage_is_what_the_system_says() -> None:
    mine = psutil.Process()
    seen = Process(mine).usage()
    assert seen is not None
    assert seen[0] == pytest.approx(sum(mine.cpu_times()[:2]), abs=1)
    assert seen[1] == pytest.approx(mine.memory_info().rss, rel=0.2)


def test_none_once_it_has_ended_and_once_it_is_buried() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        process = Process(psutil.Process(child.pid))
        assert process.usage() is not None
        child.stdin.write(b"\n")
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.usage() is None
        child.wait()
        with pytest.raises(psutil.NoSuchProcess):
            process.usage()


def test_none_when_its_number_is_another_process() -> None:
    process = Process(psutil.Process())
    process.pid = 1
    assert process.usage() is None


@pytest.mark.parametrize("pid", [0, -1, 1 << 40])
def test_a_number_that_is_no_pid_is_no_process(pid: int) -> None:
    assert find(pid, time.time()) is None
