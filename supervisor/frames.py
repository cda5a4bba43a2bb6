"""Frames: what workers put into their pipes, as lines of the log.

Written for whoever is on call: which entry, which attempt, what happens next. Every key of a frame
is optional, and no text of one can break a line or reach the terminal unescaped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .printable import one_line, printable

log = logging.getLogger("rsq.exporter")

_ERROR_MAX = 500


def tell(slot: int, frame: Mapping[str, Any], pool: str = "") -> None:
    """Log a frame: a failure as warning, a dead letter as error with its traceback, notes as they say.

    Arguments:
        slot: whose pipe it came from.
        frame: kind (failure, dead, note), id, event, attempt, max, reason, error, traceback,
            retry_in (seconds), text, level.
        pool: its name where there are several.
    """
    number = _number(frame.get("slot"), slot)
    level, words = line(number, frame)
    if not log.isEnabledFor(level):
        return
    trace = frame.get("traceback")
    if trace and (level >= logging.ERROR or log.isEnabledFor(logging.DEBUG)):
        words += "\n" + printable(str(trace).rstrip(), keep="\n")
    record = log.makeRecord(
        log.name, level, __file__, 0, "%s", (words,), None, extra=_fields(number, frame, pool)
    )
    at = frame.get("at")
    if isinstance(at, float):  # when it happened, not when it was read here
        record.created, record.msecs = at, at % 1 * 1000
    log.handle(record)


def line(slot: int, frame: Mapping[str, Any]) -> tuple[int, str]:
    """Return the level and the line for a frame."""
    kind, error = frame.get("kind"), one_line(str(frame.get("error") or ""), _ERROR_MAX)
    attempt = _number(frame.get("attempt"), 0)
    if kind == "failure":
        after = f", attempt {attempt}" + (f" of {frame['max']}" if _number(frame.get("max"), 0) else "")
        words = f"{_entry(frame)} failed{after if attempt else ''}{_because(error)}"
        retry_in = frame.get("retry_in")
        if isinstance(retry_in, int | float):
            words += f"; again in {retry_in:.1f} s"
        return logging.WARNING, f"slot {slot}: {words}"
    if kind == "dead":
        reason = one_line(str(frame.get("reason") or "unknown reason"), _ERROR_MAX)
        after = f" after {attempt} attempt{'s' if attempt > 1 else ''}" if attempt else ""
        because = "" if error == reason else _because(error)
        return logging.ERROR, f"slot {slot}: {_entry(frame)} dead-lettered{after}: {reason}{because}"
    names = logging.getLevelNamesMapping()
    level = names.get(str(frame.get("level") or "info").upper(), logging.INFO)
    text = one_line(str(frame.get("text") or error or kind or "an empty report"))
    return level, f"slot {slot}: {text}"


def _entry(frame: Mapping[str, Any]) -> str:
    entry = one_line(str(frame.get("id") or "?"))
    event = frame.get("event")
    return f"entry {entry}" + (f" (event {one_line(str(event))})" if event else "")


def _because(error: str) -> str:
    return f": {error}" if error else ""


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _fields(slot: int, frame: Mapping[str, Any], pool: str) -> dict[str, Any]:
    """Return what a log in JSON gets beside the words."""
    names = {"id": "entry", "event": "event", "attempt": "attempt", "reason": "reason"}
    found = {field: frame[name] for name, field in names.items() if frame.get(name)}
    texts = {field: one_line(value) if isinstance(value, str) else value for field, value in found.items()}
    return {**({"pool": pool} if pool else {}), "slot": slot, **texts}
