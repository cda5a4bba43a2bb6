"""The demo: a pool of 4 workers on an embedded server, 20,000 orders, and every kind of trouble.

make demo
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from rsq import Producer
from rsq.ipc.segment import Segment, SegmentError
from rsq.streams.connection import client, target
from rsq.streams.deadletter import DeadLetters
from rsq.streams.letter import DeadLetter
from rsq.supervisor.reading import snapshot
from rsq.supervisor.view import PoolView

ORDERS = 20_000
STREAM = "orders"
PATIENCE_S = 55.0


def orders() -> Iterator[dict[str, Any]]:
    """Make the orders; one in a few hundred is trouble."""
    for number in range(ORDERS):
        order: dict[str, Any] = {
            "number": number,
            "item": ("book", "lamp", "chair")[number % 3],
            "amount": 1 + number % 5,
        }
        if number % 400 == 17:
            order["trouble"] = "flaky"
        elif number % 1000 == 333:
            order["trouble"] = "busy"
        elif number % 2000 == 77:
            order["trouble"] = "broken"
        elif number % 4000 == 2222:
            order |= {"trouble": "unknown item", "item": "unicorn"}
        elif number == 9_001:
            order["trouble"] = "crash"
        elif number == 12_345:
            order["trouble"] = "hang"
        yield order


def main() -> int:
    """Run the demo; return 0 when everything adds up."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="rsq-demo-") as folder:
        url = f"embedded:{folder}/data"
        command = [
            sys.executable, "-m", "rsq.supervisor.cli", "--workers", "4", "--redis", url, "--stream", STREAM,
            "--instance", "demo", "--timeout", "1.5", "--backoff-base", "0.2", "--metrics", "off",
            "--runtime-dir", f"{folder}/run", "rsq.examples.orders:handle",
        ]  # fmt: skip
        console.print(
            "$ rsq-supervisor --workers 4 --redis embedded --stream orders rsq.examples.orders:handle",
            soft_wrap=True,
        )
        log = Path(folder, "log")
        with log.open("wb") as words:
            pool = subprocess.Popen(command, stdout=words, stderr=words)
        try:
            segment = _wait_ready(pool, Path(folder, "run"))
            view, settled = _watch(console, url, segment)
            good = _report(console, url, view, settled)
        except Exception:
            console.print(log.read_text())
            raise
        finally:
            pool.terminate()
            code = pool.wait(30)
    console.print(f"the pool was told to stop, drained, and ended with exit code {code}")
    return 0 if good and code == 0 else 1


def _wait_ready(pool: subprocess.Popen[bytes], runtime: Path) -> Segment:
    """Return the pool's shared memory once all its workers have booted."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and pool.poll() is None:
        for path in runtime.glob("*.seg"):
            try:
                segment = Segment.attach(path)
            except SegmentError:
                continue  # it is being made
            if snapshot(segment).state == "running":
                return segment
            segment.close()
        time.sleep(0.05)
    raise RuntimeError("the pool did not start")


def _watch(console: Console, url: str, segment: Segment) -> tuple[PoolView, bool]:
    """Push the orders and show how they are handled, until nothing is left."""
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:>6,.0f}"),
        TextColumn("{task.fields[more]}", style="dim"),
    )
    with Progress(*columns, console=console) as progress, Producer(url, STREAM) as producer:
        pushed = progress.add_task("pushed", total=ORDERS, more="")
        handled = progress.add_task("handled", total=ORDERS, more="")
        batch: list[dict[str, Any]] = []
        for order in orders():
            batch.append(order)
            if len(batch) == 500:
                progress.advance(pushed, producer.push_many(batch))
                batch.clear()
                _show(progress, handled, snapshot(segment))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            view = snapshot(segment)
            _show(progress, handled, view)
            done = view.total("handled") + sum(slot.dead for slot in view.slots) >= ORDERS
            if done or time.monotonic() > deadline:
                return view, done
            time.sleep(0.1)


def _show(progress: Progress, task: Any, view: PoolView) -> None:
    dead = sum(slot.dead for slot in view.slots)
    crashes = sum(slot.restarts["crash"] + slot.restarts["timeout"] for slot in view.slots)
    waiting = sum(slot.waiting for slot in view.slots)
    more = f"{waiting} waiting, {dead} dead letters, {crashes} crashes"
    progress.update(task, completed=view.total("handled") + dead, more=more)


def _report(console: Console, url: str, view: PoolView, settled: bool) -> bool:
    """Print how everything adds up, from the shared memory and from Redis; return whether it does."""
    redis = client(target(url))
    (group,) = redis.xinfo_groups(STREAM)
    pending = group["pending"]
    unread = len(redis.xrange(STREAM, min=b"(" + group["last-delivered-id"]))
    letters = [letter for letter in DeadLetters(redis, STREAM).iterate() if isinstance(letter, DeadLetter)]
    in_redis = Counter(letter.reason for letter in letters)
    handled, dead = view.total("handled"), sum(slot.dead for slot in view.slots)
    wanted = Counter(order.get("trouble") for order in orders())
    expected = {
        "max_attempts": wanted["broken"], "rejected": wanted["unknown item"],
        "crash: SIGSEGV": wanted["crash"], "timeout": wanted["hang"],
    }  # fmt: skip
    table = Table(title="everything adds up" if settled else "not settled in time", title_justify="left")
    table.add_column("what")
    table.add_column("orders", justify="right")
    table.add_column("how it is known")
    table.add_row("pushed", f"{ORDERS:,}", "the producer")
    table.add_section()
    table.add_row("handled", f"{handled:,}", "shared memory: rsq_messages_handled_total")
    for reason, count in expected.items():
        table.add_row(
            f"dead: {reason}", f"{in_redis[reason]:,}", f"stream {STREAM}:dlq; {count} were made so"
        )
    table.add_row("pending", f"{pending:,}", "XINFO GROUPS")
    table.add_row("unread", f"{unread:,}", "XRANGE behind the last delivered entry")
    table.add_section()
    total = handled + len(letters) + pending + unread
    table.add_row("sum", f"{total:,}", "handled + dead + pending + unread")
    console.print(table)
    failed = view.total("failed")
    first_only = wanted["flaky"] + wanted["busy"]
    console.print(
        f"{failed} attempts failed: {first_only} orders needed a second try,"
        f" {len(letters)} went to the dead letters.\n"
        f"{view.total('recovered')} entries were taken over from processes that died, and charged nothing.",
        soft_wrap=True,
    )
    return settled and total == ORDERS and dict(in_redis) == expected and dead == len(letters)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    sys.exit(main())
