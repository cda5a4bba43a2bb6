"""A handler with everything that can go wrong: run it with `make demo`, or by hand:

rsq-supervisor --redis embedded --stream orders --workers 4 rsq.examples.orders:handle
"""

from __future__ import annotations

import ctypes
import time

from rsq import Message, Reject, Retry, worker_start, worker_stop

_prices: dict[str, float] = {}


@worker_start
def load_prices() -> None:
    """Make what belongs to one process, such as database connections, after the fork."""
    _prices.update(book=12.5, lamp=40.0, chair=99.0)


@worker_stop
def forget_prices() -> None:
    """Close it again when the process ends in good order."""
    _prices.clear()


def handle(message: Message) -> None:
    """Handle one order. Returning means done; raising means try again."""
    order = message.data
    match order.get("trouble"):
        case "flaky" if message.attempt == 1:
            raise ConnectionError("the payment service did not answer")
        case "busy" if message.attempt == 1:
            raise Retry("the warehouse is closed", delay=0.5)
        case "broken":
            raise ValueError(f"order {order['number']} has no address")
        case "unknown item":
            raise Reject(f"there is no {order['item']!r}")
        case "crash":
            ctypes.string_at(0)  # a segmentation fault in some C library
        case "hang":
            time.sleep(3600)
    total = _prices[order["item"]] * order["amount"]
    assert total > 0


def report(message: Message) -> None:
    """Handle one dead letter: see pools.toml."""
    letter = message.letter
    assert letter is not None
    print(
        f"order {letter.origin_id} is dead after {letter.attempts} attempts: {letter.reason} {letter.error}"
    )
