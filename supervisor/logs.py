"""Logs: one line per record to standard error or a file, as text or as JSON."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import time
from io import TextIOWrapper
from typing import cast

from .printable import one_line

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


class _File(logging.handlers.WatchedFileHandler):
    """A file that is made for its owner only.

    Every process looks before each record whether it was moved away: rotation needs no signal.
    """

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_CLOEXEC, 0o600)

        opened = open(  # noqa: SIM115 - closed by the handler
            self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=private
        )
        return cast("TextIOWrapper", opened)


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
        return json.dumps(values, ensure_ascii=False, default=str)


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
    handler: logging.Handler = logging.StreamHandler()
    if file:
        try:
            handler = _File(file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ValueError(f"--log-file {file} cannot be opened: {error.strerror}") from None
    handler.setFormatter(_Json() if form == "json" else _Text())
    if pool:
        handler.addFilter(lambda record: _name(record, one_line(pool)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # a full disk or a closed standard error must not stop a worker


def _name(record: logging.LogRecord, pool: str) -> bool:
    if not hasattr(record, "pool"):
        record.pool = pool
    return True


def reopen() -> None:
    """Open the log file again under its name."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler):
            handler.reopenIfNeeded()
