"""A handler's module that starts threads when it is imported, or replaces what the pool waits with."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from support_pool import PREAMBLE, Pool, numbers

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """
THREAD = """
    import threading
    threading.Thread(target=time.sleep, args=(1000,), name="sender").start()
    """
LIBRARY = """
import threading, time
class Sender(threading.Thread):
    def run(self):
        time.sleep(1000)
def init():
    Sender(name="metrics-sender", daemon=True).start()
"""
PATCHES = """
import select, time
def poll():
    time.sleep(1000)
def patch_all():
    select.poll = poll
"""
CULPRITS = {
    THREAD: "started threads that a fork would break: app (thread sender)",
    "import metrics\nmetrics.init()": "a fork would break: metrics (thread metrics-sender)",
    "import faulthandler\nfaulthandler.dump_traceback_later(3600)": "faulthandler (imported by app), or",
    "import greens\ngreens.patch_all()": "lets greens replace functions of Python that the pool needs",
}


@pytest.mark.parametrize("source", CULPRITS, ids=["thread", "library", "native", "patched"])
def test_it_is_refused_by_its_name(make_pool: Callable[..., Pool], source: str) -> None:
    """Exit code 78 at once, with the way out; with --no-preload it works."""
    if sys.platform != "linux" and "faulthandler" in source:
        pytest.skip("its thread cannot be told from others")
    pool = make_pool("")
    (pool.folder / "metrics.py").write_text(LIBRARY)
    (pool.folder / "greens.py").write_text(
        PATCHES.replace("time.sleep(1000)", "return real()").replace(
            "def poll", "real = select.poll\ndef poll"
        )
    )
    pool.write(f"{source}\n{HANDLER}" if source == THREAD else HANDLER)
    if source != THREAD:
        pool.module.write_text(f"{PREAMBLE}{source}\n{pool.module.read_text().removeprefix(PREAMBLE)}")
    ids = pool.push(numbers(3))
    code, output = pool.say("app:handle")
    assert code == 78
    line = output.splitlines()[-1]
    assert CULPRITS[source] in line
    assert "--no-preload" in line
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run("--no-preload") == 0
    pool.assert_exact(ids)


def test_threads_that_end_before_a_fork_do_no_harm(make_pool: Callable[..., Pool]) -> None:
    """Those of OpenBLAS, which numpy starts when it is imported: workers and a reload compute with it."""
    pytest.importorskip("numpy")
    pool = make_pool("""
        import numpy
        table = numpy.ones((300, 300))
        assert (table @ table).sum() > 0  # its threads are there
        if "threads" in os.environ:
            ledger().set("threads", len(os.listdir("/proc/self/task")))
        def handle(message):
            started(message)
            assert (table @ table).sum() == 300.0 ** 3
            finished(message)
        """, "--workers", "2", OPENBLAS_NUM_THREADS="4")  # fmt: skip
    ids = pool.push(numbers(20))
    if sys.platform == "linux":
        pool.environment["threads"] = "1"
    assert pool.run() == 0
    pool.assert_exact(ids)
    assert sys.platform != "linux" or int(pool.books.get("threads") or 0) > 1
