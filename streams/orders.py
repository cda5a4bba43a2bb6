"""Orders: what operators tell a fleet. They stand in Redis until they are taken back or carried out.

An order is written, and the keepers are woken to read it: who misses the call finds the order all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import redis

from . import fleet, keys
from .asking import Asker, Command, good
from .bounds import COUNT_MAX, TIME_MAX, number, whole

WAKE = "orders"
WAKE_S = 60  # a call to a keeper that is not there must not stay for ever
WORKERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """Who gave an order, when and why.

    Arguments:
        by: user and host.
        at: Unix seconds, 0 when it is not known.
        reason: for people; may be empty.
    """

    by: str
    at: float
    reason: str = ""

    def encode(self) -> bytes:
        """Return the order as JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def order(raw: bytes) -> Order:
    """Return what `Order.encode` made; anything else is an order too, of somebody unknown."""
    try:
        values: dict[str, Any] = json.loads(raw)
        return Order(str(values["by"]), _moment(values["at"]), str(values.get("reason", "")))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return Order("unknown", 0.0)


def _moment(value: object) -> float:
    try:
        return number(value, 0, TIME_MAX)
    except ValueError:
        return 0.0


def size(raw: bytes) -> int | None:
    """Return how many workers an order wants; 0: as many as the pool thinks best, None: it is no order."""
    try:
        return min(whole(json.loads(raw)["workers"], 0, COUNT_MAX), WORKERS_MAX)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


class Vanished(redis.exceptions.RedisError):
    """An order that was given does not stand: the server was replaced just now, or somebody was faster."""

    def __init__(self, what: str) -> None:
        """Say which order it is."""
        super().__init__(
            f"the order to {what} was given and does not stand: the server was replaced just now, or somebody"
            " else gave another one; look, and give it again"
        )


class Orders:
    """Gives orders to the instances of one group, and reads them again. All may be given twice."""

    def __init__(self, client: redis.Redis, stream: str, group: str) -> None:
        """Nothing is asked of the server yet."""
        self._asker = Asker(client)
        self._stream, self._group = stream, group
        self._key = keys.orders(stream, group)

    def pause(self, by: Order, living: Iterable[str]) -> Order | None:
        """Let nothing new be started. An order that stands stays as it is.

        Arguments:
            by: whose order it is.
            living: instances to wake.

        Returns:
            The order that stood already, None if it is the one given.

        Raises:
            Vanished: it does not stand.
        """
        new, stands, *_ = self._give(
            ("HSETNX", self._key, fleet.PAUSE, by.encode()), ("HGET", self._key, fleet.PAUSE), living=living
        )
        if self._standing(fleet.PAUSE) is None:
            raise Vanished("pause")
        return None if new else order(stands)

    def resume(self, living: Iterable[str]) -> bool:
        """Take the order to pause back; return whether there was one.

        Raises:
            Vanished: the group is still paused.
        """
        was = bool(self._give(("HDEL", self._key, fleet.PAUSE), living=living)[0])
        if self._standing(fleet.PAUSE) is not None:
            raise Vanished("resume")
        return was

    def drain(self, instance: str, by: Order) -> bool:
        """Let an instance finish what it runs and end; return whether it had not been told before."""
        command = ("HSETNX", self._key, fleet.drain_order(instance), by.encode())
        return bool(self._give(command, living=[instance])[0])

    def undrain(self, instance: str) -> bool:
        """Take the order to drain back; return whether there was one."""
        return bool(self._give(("HDEL", self._key, fleet.drain_order(instance)), living=())[0])

    def scale(self, instance: str, workers: int, by: Order) -> None:
        """Let an instance have so many workers, until it is told otherwise.

        Arguments:
            instance: its name.
            workers: how many; 0 for as many as it thinks best.
            by: whose order it is.

        Raises:
            Vanished: it does not stand.
        """
        value = json.dumps({**asdict(by), "workers": workers}, separators=(",", ":"))
        self._give(("HSET", self._key, fleet.size_order(instance), value), living=[instance])
        if size(self._standing(fleet.size_order(instance)) or b"-") != workers:
            raise Vanished(f"have {workers or 'as many as configured'} workers")

    def _standing(self, field: str) -> bytes | None:
        (stands,) = self._asker.ask(("HGET", self._key, field))
        found: bytes | None = good(stands)
        return found

    def _give(self, *commands: Command, living: Iterable[str]) -> list[Any]:
        calls: list[Command] = []
        for instance in living:
            inbox = keys.inbox(self._stream, self._group, instance)
            calls += [("RPUSH", inbox, WAKE), ("EXPIRE", inbox, WAKE_S)]
        return self._asker.ask(*commands, *calls, together=True)
