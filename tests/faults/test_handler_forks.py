"""A handler that forks, and the child goes on in our code: it returns, raises, exits, becomes a program."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_no_child_works_on_the_stream(make_pool: Callable[..., Pool]) -> None:
    """Whatever a child does, it ends, and the worker alone reads, handles and acknowledges."""
    pool = make_pool("""
        CHILDREN = {
            1: lambda: None,
            2: lambda: 1 / 0,
            3: lambda: sys.exit(3),
            4: lambda: os._exit(3),
            5: lambda: os.execvp("true", ["true"]),
            6: lambda: os.kill(os.getpid(), signal.SIGKILL),
        }
        def handle(message):
            n = message.data["n"]
            if n in CHILDREN:
                started(message)
                pid = os.fork()
                if not pid:
                    return CHILDREN[n]()
                ledger().rpush("codes", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            else:
                started(message)
            finished(message)
        """)
    ids = pool.push(numbers(30))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.books.lrange("codes", 0, -1) == [b"0", b"1", b"3", b"3", b"0", b"-9"]
    assert until(pool.holders, "a process in the slot") == [worker], "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert "Traceback" not in pool.log()
