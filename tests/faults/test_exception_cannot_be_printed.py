"""Exceptions that break whoever wants to tell of them."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_each_is_a_failure_with_what_can_be_told(make_pool: Callable[..., Pool]) -> None:
    """No text, no pickle, no end: the worker lives on, and the dead letter holds at least the type."""
    pool = make_pool("""
        class Mute(Exception):
            def __str__(self): raise ValueError("no text")
            __repr__ = __str__
        class Deadly(Exception):
            def __str__(self): sys.exit(3)
            __repr__ = __str__
        class NotText(Exception):
            def __str__(self): return 3
        class NoPickle(Exception):
            def __init__(self, one, two): self.lock = open(os.devnull); super().__init__(one)
            def __reduce__(self): raise TypeError("cannot be pickled")
        def deeper(): return deeper()
        def handle(message):
            started(message)
            match message.data["n"]:
                case 1: raise Mute
                case 2: raise Deadly
                case 3: raise NotText
                case 4: raise NoPickle("one", "two")
                case 5: raise ValueError("x" * (64 << 20))
                case 6: deeper()
                case 7: raise ExceptionGroup("", [ValueError(), ExceptionGroup("in", [Mute(), KeyError(7)])])
                case 8: raise ValueError from Mute("the cause")
            finished(message)
        """)
    ids = pool.push(numbers(30))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids[9:])
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, dead={ids[n]: 3 for n in range(1, 9)})
    letters = [pool.dead()[ids[n]] for n in range(1, 9)]
    names = "Mute Deadly NotText NoPickle ValueError RecursionError ExceptionGroup ValueError".split()  # noqa: SIM905
    assert [letter.error.partition(":")[0] for letter in letters] == names
    assert all("in handle" in letter.traceback for letter in letters)
    assert len(letters[4].error) < 8192, "the message was not cut"
    assert "KeyError: 7" in letters[6].traceback
    assert (pool.counters()["FAILED"], pool.counters()["RETRIED"]) == (24, 16)
