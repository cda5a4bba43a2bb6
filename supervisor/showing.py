"""What dead letters look like, to people and to programs."""

import base64
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from ..streams.deadletter import DeadLetter, Entry
from .printable import json_text, one_line, printable

COLUMNS = ("id", "original id", "event", "reason", "attempts", "age", "error")
ERROR_WIDTH, ERROR_WIDTH_MIN = 60, 12
GAP = 2  # spaces between two columns of a rich table
FOREIGN = "(foreign)"


def row(entry: Entry, now_ms: int, error_width: int | None = ERROR_WIDTH) -> tuple[str, ...]:
    """One entry in the order of COLUMNS.

    Arguments:
        entry: from the dead-letter stream.
        now_ms: Unix time, for the age.
        error_width: characters of the error to show, None for all.
    """
    if not isinstance(entry, DeadLetter):
        fields = " ".join(f"{printable(name)}={one_line(value, 20)}" for name, value in entry.fields[:3])
        return (entry.id, "", "", FOREIGN, "", "", one_line(fields, error_width))
    return (
        entry.id,
        one_line(entry.origin_id),
        one_line(event(entry) or "", 20),
        one_line(entry.reason, 20),
        str(entry.attempts),
        age((now_ms - entry.last_ms) / 1000),
        one_line(entry.error, error_width),
    )


def table(entries: Iterable[Entry], now_ms: int, width: int) -> Any:
    """A rich table of entries for a terminal of `width` characters; print it without cropping.

    Errors take the room that is left. Ids are there to be copied, so they stay whole; on a narrow terminal
    the original id is left out, `details` has it.
    """
    from rich.table import Table
    from rich.text import Text

    found = list(entries)
    rows = [row(entry, now_ms) for entry in found]
    widest = {name: max(map(len, cells)) for name, *cells in zip(COLUMNS, COLUMNS, *rows, strict=True)}
    del widest["error"]
    room = width - sum(widest.values()) - GAP * len(widest)
    if room < ERROR_WIDTH_MIN:
        room += widest.pop("original id") + GAP
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in widest:
        made.add_column(
            name, min_width=widest[name], justify="right" if name in {"attempts", "age"} else "left"
        )
    made.add_column("error", no_wrap=True)
    for entry in found:
        cells = dict(zip(COLUMNS, row(entry, now_ms, max(room, ERROR_WIDTH_MIN)), strict=True))
        # Text: square brackets of a payload are no markup.
        made.add_row(*(Text(cells[name]) for name in (*widest, "error")))
    return made


def plain(entries: Iterable[Entry], now_ms: int) -> Iterator[str]:
    """Lines of tab-separated columns, a heading first, for a pipe."""
    source = iter(entries)
    first = next(source, None)  # if this fails there shall be no heading
    yield "\t".join(COLUMNS)
    for entry in () if first is None else chain((first,), source):
        yield "\t".join(row(entry, now_ms, None))


def json_line(entry: Entry) -> str:
    """An entry as JSON in one line; bytes that are not UTF-8 become {"base64": "..."}."""
    shown: dict[str, Any] = {"id": entry.id}
    if isinstance(entry, DeadLetter):
        for name in ("origin_id", "stream", "group", "consumer", "attempts", "reason"):
            shown[name] = _json_safe(getattr(entry, name))
        shown |= {"error": entry.error, "traceback": entry.traceback}
        shown |= {"first_ms": entry.first_ms, "last_ms": entry.last_ms, "event": event(entry)}
    else:
        shown["foreign"] = True
    shown["fields"] = [[_json_value(name), _json_value(value)] for name, value in entry.fields]
    return json_text(shown)


def details(entry: Entry, now_ms: int) -> Iterator[str]:
    """Lines with everything about one entry."""
    yield f"id           {entry.id}"
    if isinstance(entry, DeadLetter):
        yield f"original id  {printable(entry.origin_id)}"
        yield f"stream       {printable(entry.stream)}"
        yield f"group        {printable(entry.group)}"
        yield f"consumer     {printable(entry.consumer)}"
        yield f"reason       {printable(entry.reason)}"
        yield f"attempts     {entry.attempts}"
        yield f"first        {_moment(entry.first_ms, now_ms)}"
        yield f"last         {_moment(entry.last_ms, now_ms)}"
        yield f"error        {one_line(entry.error)}"
    else:
        yield f"reason       {FOREIGN}"
    yield ""
    yield f"{len(entry.fields)} fields"
    for name, value in entry.fields:
        yield f"  {printable(name)}  {printable(value)}"
    if isinstance(entry, DeadLetter) and entry.traceback:
        yield ""
        yield "traceback"
        for line in printable(entry.traceback, keep="\n").splitlines():
            yield f"  {line}"


def event(letter: DeadLetter) -> str | None:
    """The event that the original entry names."""
    for name, value in letter.fields:
        if name == b"event":
            return value.decode("utf-8", "backslashreplace")
    return None


def age(seconds: float) -> str:
    """How long ago, in the largest unit that fits: 12s, 5m, 3h, 2d."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def _moment(ms: int, now_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(ms)
    return f"{moment} ({age((now_ms - ms) / 1000)} ago)"


def _json_value(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _json_safe(value: Any) -> Any:
    # Names that are not UTF-8 come as surrogates, which JSON cannot hold.
    return (
        value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if isinstance(value, str)
        else value
    )
