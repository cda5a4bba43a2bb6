"""`rsq bench`: how many messages a worker handles on somebody's own server, and which batch-max suits."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from ..streams.connection import RedisError, Target
from ..streams.producer import PushError
from .bench import BATCHES, DEFAULT_BATCH, Rate, Tell, Wanted, best_of, opened, suits
from .failing import failure
from .numbertypes import Number, Whole
from .options import server_of, server_options
from .printable import json_text

_ROUNDS = 2
_BUSY = 0.9  # of a core: a server runs commands on one


@click.command("bench")
@server_options
@click.option(
    "--workers", type=Whole(1, 64), default=1, show_default=True, help="Of each pool that is tried."
)
@click.option(
    "--messages",
    type=Whole(1, 10**7),
    default=200_000,
    show_default=True,
    help="To fill the stream with.",
)
@click.option(
    "--payload-size",
    type=Whole(11, 10**6),
    default=100,
    show_default=True,
    help="Bytes of JSON in each.",
)
@click.option(
    "--seconds",
    type=Number(0.1, 600),
    default=3.0,
    show_default=True,
    help="Longest time for one setting.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures as one JSON object.")
def bench(
    workers: int,
    messages: int,
    payload_size: int,
    seconds: float,
    as_json: bool,
    redis: str,
    redis_file: str | None,
) -> None:
    """Measure on your own server how many messages a worker handles, and which --batch-max suits.

    Fills a stream of its own and lets real pools read it with a handler that does nothing. The stream and
    all that belongs to it is deleted at the end, also after Ctrl-C; no other key is touched. The server works
    hard meanwhile, and needs memory for the messages: mind who else uses it.
    """
    server = server_of(redis, redis_file)
    wanted = Wanted(workers, messages, payload_size, seconds)
    try:
        with _interruptible(), _progress() as tell, opened(server, wanted, tell) as running:
            running.fill()
            rates = best_of([running.rate(batch_max) for batch_max in BATCHES * _ROUNDS])
            latencies = running.latencies()
    except PushError as error:
        raise failure(error.cause, server) from error
    except RedisError as error:
        raise failure(error, server) from error
    if as_json:
        click.echo(json_text(_plain(server, wanted, rates, latencies)))
    else:
        _show(server, wanted, rates, latencies)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end us as Ctrl-C does, with everything put away."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _plain(server: Target, wanted: Wanted, rates: list[Rate], latencies: list[float]) -> dict[str, object]:
    return {
        "redis": str(server),
        "workers": wanted.workers,
        "payload_bytes": wanted.payload_size,
        "rates": [
            {
                "batch_max": rate.batch_max,
                "messages_per_s": round(rate.per_s),
                "worker_us_per_message": round(rate.worker_us, 2),
                "server_share": None if rate.server_share is None else round(rate.server_share, 3),
            }
            for rate in rates
        ],
        "latency_ms": {
            "median": round(latencies[len(latencies) // 2] * 1000, 3),
            "slowest": round(latencies[-1] * 1000, 3),
        },
        "batch_max": suits(rates).batch_max,
    }


def _show(server: Target, wanted: Wanted, rates: list[Rate], latencies: list[float]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    many = f"{wanted.workers} workers" if wanted.workers > 1 else "one worker"
    table = Table(
        title=f"{many}, {wanted.payload_size} bytes a message", title_justify="left", box=box.SIMPLE_HEAD
    )
    for head in ("--batch-max", "messages/s", "worker CPU a message", "server busy"):
        table.add_column(head, justify="right")
    for rate in rates:
        share = "?" if rate.server_share is None else f"{rate.server_share:.0%}"
        table.add_row(str(rate.batch_max), f"{rate.per_s:,.0f}", f"{rate.worker_us:.1f} us", share)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    middle, worst = latencies[len(latencies) // 2] * 1000, latencies[-1] * 1000
    console.print(f"a message to an idle pool: {middle:.2f} ms from push to handler, slowest {worst:.2f} ms")
    console.print(_advice(wanted, rates), markup=False)


def _advice(wanted: Wanted, rates: list[Rate]) -> str:
    """Return one sentence of what to do."""
    best = suits(rates)
    default = " (the default)" if best.batch_max == DEFAULT_BATCH else ""
    each = best.per_s / wanted.workers
    busy = best.server_share is not None and best.server_share > _BUSY
    more = "the server has no more to give" if busy else "more workers handle more"
    return (
        f"--batch-max {best.batch_max}{default} suits: about {each:,.0f} messages/s for each worker, less the"
        f" time of your handler; {more}."
    )


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda words, done, total: bar.update(task, description=words, completed=done, total=total)
