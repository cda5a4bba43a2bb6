"""A handler that uses multiprocessing, subprocess and a process pool."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_they_work_as_anywhere_else(make_pool: Callable[..., Pool]) -> None:
    """They start, return, can be terminated, and leave the worker and its stream alone."""
    pool = make_pool(
        """
        import multiprocessing, subprocess
        from concurrent.futures import ProcessPoolExecutor
        def square(n): return n * n
        def stay():
            while True: time.sleep(1)
        def forked(target):
            process = multiprocessing.get_context("fork").Process(target=target)
            process.start()
            return process
        def handle(message):
            started(message)
            match message.data["n"]:
                case 1:
                    process = forked(os.getpid)
                    process.join()
                    assert process.exitcode == 0
                case 2:
                    process = forked(stay)
                    process.terminate()
                    process.join()
                    assert process.exitcode == -signal.SIGTERM
                case 3:
                    said = subprocess.run(["echo", "hello"], capture_output=True, check=True, text=True)
                    assert said.stdout == "hello\\n"
                case 4:
                    process = subprocess.Popen(["sleep", "1000"])
                    process.terminate()
                    assert process.wait() == -signal.SIGTERM
                case 5:
                    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
                        assert list(executor.map(square, range(10))) == [n * n for n in range(10)]
                case 6:
                    assert os.system("exit 3") >> 8 == 3
            finished(message)
        """,
        "--max-attempts",
        "1",
    )
    ids = pool.push(numbers(20))
    pool.start()
    worker = pool.worker()
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids)
