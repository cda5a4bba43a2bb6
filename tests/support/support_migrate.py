"""Pages about moving here: their code and commands, and a shop that keeps books of who books an order.

A page has blocks of Python that begin with the name of a file, `# before/worker.py` or `# after/tasks.py`,
and blocks of shell. They run as they stand there, but for the server's address; `shop` is the module that
all of them import, the user's own.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from support_pool import DEADLINE_S, Pool, until
from support_servers import Server

PAGES = Path(__file__).parents[2] / "docs" / "migrate"
ADDRESS = "redis://localhost:6379/0"
QUEUES = {"celery": "celery", "rq": "rq.cli", "dramatiq": "dramatiq"}  # program -> module
SHOP = '''
import os, signal, time
import redis
_ledger = None
def ledger():
    global _ledger
    if _ledger is None or _ledger[0] != os.getpid():
        _ledger = (os.getpid(), redis.Redis.from_url(os.environ["LEDGER_URL"], protocol=2))
    return _ledger[1]
def book(order):
    """Book an order, and write down how often that was begun and done."""
    ledger().hincrby("shop:started", order["order"], 1)
    if order.get("bad") and not ledger().exists("mended"):
        raise ValueError("no such article")
    if order.get("kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    while order.get("waits") and not ledger().exists("go"):
        time.sleep(0.005)
    ledger().hincrby("shop:finished", order["order"], 1)
def tell_on_call(*words):
    ledger().rpush("shop:told", " ".join(map(str, words)))
'''
PLACE = """
import asyncio, inspect, json, sys
from producer import place
placed = place(json.loads(sys.argv[1]))
if inspect.iscoroutine(placed):
    asyncio.run(placed)
"""


def page(name: str) -> str:
    """Return the text of a page."""
    return (PAGES / f"{name}.md").read_text()


def blocks(name: str) -> dict[str, str]:
    """Return file name -> source of the Python blocks of a page that have one."""
    found = re.findall(r"```python\n(# ([\w/]+\.py)\n.*?)```", page(name), re.DOTALL)
    return {file: source for source, file in found}


def commands(name: str) -> list[list[str]]:
    """Return the commands in a page's blocks of shell, as words."""
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", page(name), re.DOTALL)).replace("\\\n", " ")
    return [words for line in lines.splitlines() if (words := shlex.split(line, comments=True))]


def rows(name: str, section: str) -> list[list[str]]:
    """Return the cells of all tables in the sections of a page whose titles begin so, without the heads."""
    found = re.findall(rf"^#+ {section}.*?\n(.*?)(?=^#+ |\Z)", page(name), re.DOTALL | re.MULTILINE)
    lines = [line for line in "\n".join(found).splitlines() if line.startswith("|")]
    heads = {at - 1 for at, line in enumerate(lines) if line.startswith("| ---")}
    bodies = [line for at, line in enumerate(lines) if at not in heads and not line.startswith("| ---")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in bodies]


class Program:
    """A program of the page that runs until it is stopped."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str]) -> None:
        """Start it."""
        self.path = folder / f"log-{len(list(folder.glob('log-*')))}"
        with self.path.open("wb") as log:
            self.process = subprocess.Popen(
                words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def log(self) -> str:
        """Return what it has said."""
        return self.path.read_text(errors="replace")

    def kill(self) -> None:
        """End it, and what it has started, as a crash of its host would."""
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):  # some end with their parent
                    child.kill()
        self.process.wait(DEADLINE_S)

    def end(self) -> None:
        """Wait until it has ended, well."""
        assert self.process.wait(DEADLINE_S) == 0, self.log()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Tell it to end, and wait until it has."""
        self.process.send_signal(number)
        self.process.wait(DEADLINE_S)


class Move:
    """A page, put into practice on one server."""

    def __init__(self, server: Server, folder: Path, name: str, command: int = 0) -> None:
        """Write the page's files; nothing runs yet.

        Arguments:
            server: stands for the one in the page.
            folder: for `before/`, `after/` and the pool.
            name: of the page, without `.md`.
            command: which of its commands that start a pool.
        """
        self.server, self.name = server, name
        self.before, self.after = folder / "before", folder / "after"
        for path in (self.before, self.after):
            path.mkdir(parents=True)
            (path / "shop.py").write_text(SHOP)
        for file, source in blocks(name).items():
            (folder / file).write_text(self.here(source))
        words = [words for words in commands(name) if words[0] == "rsq-supervisor"][command]
        self.pool = Pool(
            server, self.after, "", *[self.here(word) for word in words[1:-1]], "--workers", "2",
            "--redis", server.url, "--instance", "test", "--metrics", "off", "--backoff-base", "0.05",
            METRICS_PORT="0",
        )  # fmt: skip
        self.pool.stream, self.pool.group = (words[words.index(o) + 1] for o in ("--stream", "--group"))
        self.pool.target = words[-1]
        self.worker = next(
            (
                ["-m", QUEUES[words[0]], *map(self.here, words[1:])]
                for words in commands(name)
                if words[0] in QUEUES
            ),
            ["worker.py"],
        )
        self.programs: list[Program] = []

    def here(self, text: str) -> str:
        """Put the real server's address into a text of the page."""
        return text.replace(ADDRESS, self.server.tcp_url)

    def run(self, *words: str) -> Program:
        """Start Python with these words, where what was there before lies."""
        self.programs.append(Program([sys.executable, *words], self.before, self.pool.environment))
        return self.programs[-1]

    def place(self, orders: Iterable[dict[str, Any]], side: str = "before") -> None:
        """Let the producer of one side push orders."""
        subprocess.run(
            [sys.executable, "-c", PLACE, json.dumps(list(orders))],
            cwd=self.before if side == "before" else self.after,
            env=self.pool.environment,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_S,
            check=True,
        )

    def wait_group(self, consumer: str | None = None) -> None:
        """Wait until the group is there, with a consumer if one is given."""
        redis, stream = self.pool.redis, self.pool.stream
        until(lambda: redis.exists(stream) and redis.xinfo_groups(stream), "the group")
        until(lambda: consumer is None or consumer in self.pool.consumers(), f"consumer {consumer}")

    def started(self) -> dict[int, int]:
        """Return how often each order was begun."""
        return {int(order): count for order, count in self.pool.hash("shop:started").items()}

    def finished(self) -> dict[int, int]:
        """Return how often each order was booked to the end."""
        return {int(order): count for order, count in self.pool.hash("shop:finished").items()}

    def wait_finished(self, orders: Iterable[int]) -> None:
        """Wait until all these orders are booked."""
        wanted = set(orders)
        try:
            until(lambda: wanted <= self.finished().keys(), f"the end of {len(wanted)} orders")
        except AssertionError as error:
            logs = "\n".join(program.log() for program in self.programs)
            raise AssertionError(f"{error}; the programs said:\n{logs}") from None

    def discard(self) -> None:
        """End all that runs."""
        for program in self.programs:
            program.kill()
        self.pool.discard()


def orders(first: int, end: int) -> list[dict[str, Any]]:
    """Return orders of these numbers."""
    return [{"order": n} for n in range(first, end)]
