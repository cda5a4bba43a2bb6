"""Logs: one line per record to standard error or a file, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import NamedTuple

from ..ipc.logsink import LogSink, SinkHandler, install
from .printable import json_text, one_line

_TIME = "%Y-%m-%dT%H:%M:%S"
_FIELDS = ("pool", "slot", "entry", "event", "attempt", "reason", "stream", "group")


class _Text(logging.Formatter):
    """`2026-01-31T12:00:00.123Z WARNING [4242] words`, the first line free of line breaks.

    With several pools their name stands before the words.
    """

    def __init__(self) -> None:
        words = "%(asctime)s.%(msecs)03dZ %(levelname)-7s [%(process)d] %(where)s%(message)s"
        super().__init__(words, _TIME, defaults={"where": ""})
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        if pool := getattr(record, "pool", ""):
            record.where = f"{pool}: "
        return super().format(record)


class _Json(logging.Formatter):
    """One object per line: ts, level, logger, pid, msg, and what the record carries beside."""

    def format(self, record: logging.LogRecord) -> str:
        values = {
            "ts": f"{time.strftime(_TIME, time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "msg": record.getMessage(),
        }
        values.update({name: getattr(record, name) for name in _FIELDS if hasattr(record, name)})
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        text = json.dumps(values, ensure_ascii=False, default=str)
        return text if text.isprintable() else json_text(values)


def configure(level: str, form: str, file: str | None, pool: str = "") -> None:
    """Send all logs of this process and its children to one place.

    Arguments:
        level: debug, info, warning or error.
        form: text or json.
        file: a path, made 0600; None for standard error.
        pool: named in every line that names no other; empty where there is only one.

    Raises:
        ValueError: the file cannot be opened.
    """
    try:
        sink = LogSink(file)
    except OSError as error:
        raise ValueError(f"--log-file {file} cannot be opened: {error.strerror}") from None
    handler = SinkHandler(sink, "utf-8" if file else getattr(sys.stderr, "encoding", None) or "utf-8")
    handler.setFormatter(_Json() if form == "json" else _Text())
    if pool:
        handler.addFilter(lambda record: _name(record, one_line(pool)))
    install(handler)
    _setups["ours"] = _Setup([handler], logging.getLevelNamesMapping()[level.upper()], 0)
    _take_over(_setups["ours"])
    logging.raiseExceptions = False  # a record that cannot be formatted must not stop a worker


def _name(record: logging.LogRecord, pool: str) -> bool:
    if not hasattr(record, "pool"):
        record.pool = pool
    return True


class _Setup(NamedTuple):
    """What this program and the user's code may have set up differently."""

    handlers: list[logging.Handler]
    level: int
    disabled: int


_setups: dict[str, _Setup] = {}


def _take_over(setup: _Setup) -> _Setup:
    """Set logging up; return how it was."""
    root = logging.getLogger()
    before = _Setup(root.handlers[:], root.level, root.manager.disable)
    root.handlers[:] = setup.handlers
    root.setLevel(setup.level)
    logging.disable(setup.disabled)
    return before


def set_apart() -> None:
    """After user code was imported: go back to what `configure` has set up, in all processes that run none.

    The handlers of user code may wait for whoever reads them; and `dictConfig` disables loggers that it does
    not name.
    """
    if "ours" in _setups:
        _setups["theirs"] = _take_over(_setups["ours"])
    for name, found in logging.getLogger().manager.loggerDict.items():
        if name.partition(".")[0] == "rsq" and isinstance(found, logging.Logger):
            found.disabled = False


def give_back() -> None:
    """In a worker: go on with what user code has set up on import."""
    if theirs := _setups.pop("theirs", None):
        _take_over(theirs)


def say(line: str) -> None:
    """Write a line to standard error, and wait no longer than a second for whoever reads it."""
    sink = LogSink()
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    sink.write(f"{line}\n".encode(encoding, "backslashreplace"))
    sink.flush(1.0)
    sink.close()
