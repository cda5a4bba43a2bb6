"""The dead letters of a stream: list, show, replay, purge. What one looks like, and its writing: `letter`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import redis
from redis.client import NEVER_DECODE
from redis.exceptions import ResponseError

from . import keys
from .letter import DeadLetter as DeadLetter
from .letter import Entry as Entry
from .letter import Foreign as Foreign
from .letter import Written as Written
from .letter import name_bytes, pairs, text_of
from .letter import parse as parse
from .letter import write_command as write_command

# Letters may be large: what one reply may hold is bounded by their number only.
PAGE = 100
BUNCH = 20

_REPLAY = Path(__file__).with_name("scripts").joinpath("replay.lua").read_bytes()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter: `new_id` is its id in the stream after `replayed`, else None."""

    id: str
    result: Literal["replayed", "purged", "gone", "foreign"]
    new_id: str | None = None


class DeadLetters:
    """The dead letters of one stream.

    A dead-letter stream may be shared by several streams: letters of others are passed over, except by `get`.
    """

    def __init__(self, client: redis.Redis, stream: str, dlq: str | None = None) -> None:
        """Nothing is asked of the server yet.

        Arguments:
            client: whose connections are used; it stays the caller's to close.
            stream: where the letters came from.
            dlq: the dead-letter stream, default `<stream>:dlq`.
        """
        self.stream = text_of(name_bytes(stream))  # as letters name it, whatever the locale
        self.dlq = dlq or keys.dead_letter(stream)
        # A client without redis-py's idea of an entry: its dict would drop repeated field names.
        self._redis = redis.Redis(connection_pool=client.connection_pool)
        for command in ("XRANGE", "XREVRANGE"):
            self._redis.set_response_callback(command, lambda reply, **_: reply)

    def count(self) -> int:
        """How many entries the dead-letter stream has, whoever wrote them (XLEN)."""
        return int(self._call("XLEN", name_bytes(self.dlq)))

    def get(self, entry_id: str) -> Entry | None:
        """One entry of the dead-letter stream.

        Raises:
            ValueError: not an id.
        """
        found = self._call("XRANGE", name_bytes(self.dlq), _checked(entry_id), entry_id)
        return _entry(found[0]) if found else None

    def iterate(
        self,
        reason: str | None = None,
        ids: Iterable[str] | None = None,
        newest_first: bool = False,
        page: int = PAGE,
    ) -> Iterator[Entry]:
        """Every letter of the stream, and every foreign entry unless a reason is given.

        Letters that are written meanwhile may appear, letters that are removed meanwhile may not.

        Arguments:
            reason: only letters of this reason; `crash` means every `crash: ...`.
            ids: only these, in this order; those that do not exist are passed over.
            newest_first: in the opposite order of their writing.
            page: how many to ask for at once.
        """
        if ids is None:
            return self._matching(self._pages(newest_first, page), reason)
        return self._matching((entry for entry in map(self.get, ids) if entry), reason)

    def replay(
        self, ids: Iterable[str] | None = None, reason: str | None = None, everything: bool = False
    ) -> Iterator[Outcome]:
        """Put letters back at the end of the stream, whole, with new ids; all groups of the stream get them.

        Give exactly one of the arguments. Every step of the iteration is one letter done; it may be stopped
        anywhere. Letters written after the start stay: or those that fail again would go round for ever.

        Returns:
            Outcomes `replayed`; `gone` if somebody else was faster; `foreign`, left alone, if it is not of
            this stream.

        Raises:
            ValueError: none or several of the arguments, or a bad id.
            redis.exceptions.ResponseError: the stream takes no entries: the letters left are where they were.
        """
        return self._replay(entry_id for entry_id, _ in self._selected(ids, reason, everything))

    def purge(
        self, ids: Iterable[str] | None = None, reason: str | None = None, everything: bool = False
    ) -> Iterator[Outcome]:
        """Delete letters for good (XDEL); arguments and iteration as in `replay`.

        Returns:
            Outcomes `purged`, `gone`, or `foreign`: what is not ours is deleted only if its id is given.

        Raises:
            ValueError: none or several of the arguments, or a bad id.
        """
        return self._purge(self._selected(ids, reason, everything))

    def _replay(self, ids: Iterator[str]) -> Iterator[Outcome]:
        while bunch := list(islice(ids, BUNCH)):
            results = self._call("EVAL", _REPLAY, 2, name_bytes(self.dlq), name_bytes(self.stream), *bunch)
            for entry_id, result in zip(bunch, map(text_of, results), strict=False):
                if result.startswith("error:"):
                    raise ResponseError(result.removeprefix("error:"))
                if result == "gone":
                    yield Outcome(entry_id, "gone")
                elif result == "foreign":
                    yield Outcome(entry_id, "foreign")
                else:
                    yield Outcome(entry_id, "replayed", result)

    def _purge(self, found: Iterator[tuple[str, bool]]) -> Iterator[Outcome]:
        while bunch := list(islice(found, BUNCH)):
            with self._redis.pipeline(transaction=False) as made:
                pipeline: Any = made  # redis-py's execute_command is not typed
                for entry_id, foreign in bunch:
                    if not foreign:
                        pipeline.execute_command("XDEL", name_bytes(self.dlq), entry_id)
                deleted = iter(pipeline.execute())
            for entry_id, foreign in bunch:
                yield Outcome(entry_id, "foreign" if foreign else "purged" if next(deleted) else "gone")

    def _selected(
        self, ids: Iterable[str] | None, reason: str | None, everything: bool
    ) -> Iterator[tuple[str, bool]]:
        """Ids, each with whether it is to be left alone as a foreign entry."""
        if (ids is not None) + (reason is not None) + everything != 1:
            raise ValueError("give ids, or a reason, or everything")
        if ids is not None:
            return iter([(_checked(entry_id), False) for entry_id in ids])
        newest = self._call("XREVRANGE", name_bytes(self.dlq), "+", "-", "COUNT", 1)
        if not newest:
            return iter(())
        found = self._matching(self._pages(False, PAGE, newest[0][0]), reason)
        return ((entry.id, isinstance(entry, Foreign)) for entry in found)

    def _matching(self, entries: Iterator[Entry], reason: str | None) -> Iterator[Entry]:
        for entry in entries:
            if isinstance(entry, Foreign):
                if reason is None:
                    yield entry
            elif entry.stream == self.stream and (reason is None or _has_reason(entry, reason)):
                yield entry

    def _pages(self, newest_first: bool, page: int, last: bytes = b"+") -> Iterator[Entry]:
        command, start, end = ("XREVRANGE", last, b"-") if newest_first else ("XRANGE", b"-", last)
        while found := self._call(command, name_bytes(self.dlq), start, end, "COUNT", page):
            yield from map(_entry, found)
            start = b"(" + found[-1][0]

    def _call(self, *command: Any) -> Any:
        # The caller's client may decode replies; payloads are bytes.
        untyped: Any = self._redis
        return untyped.execute_command(*command, **{NEVER_DECODE: True})


def _entry(reply: tuple[bytes, list[bytes]]) -> Entry:
    entry_id, flat = reply
    return parse(entry_id, flat) or Foreign(text_of(entry_id), pairs(flat))


def _has_reason(letter: DeadLetter, reason: str) -> bool:
    return letter.reason == reason or letter.reason.startswith(f"{reason}:")


def _checked(entry_id: str) -> str:
    if not re.fullmatch(r"\d{1,20}-\d{1,20}", entry_id, re.ASCII):
        raise ValueError(f"{entry_id!r} is not the id of a dead letter, such as 1700000000000-0")
    return entry_id
