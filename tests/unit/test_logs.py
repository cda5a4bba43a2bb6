"""Log lines say when in UTC, as text and as JSON."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator

import pytest

from rsq.supervisor.logs import configure


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine far from Greenwich; the root logger as it was, afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before
    monkeypatch.undo()
    time.tzset()


def _hours() -> tuple[str, str]:
    """The hour now and a while ago: another may have begun since a line was written."""
    now = time.time()
    return tuple(time.strftime("%Y-%m-%dT%H:", time.gmtime(at)) for at in (now, now - 600))  # type: ignore[return-value]


def _lines(form: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure("info", form, None)
    logging.getLogger("rsq.test").warning("slot %d: %s", 3, "ümlaut")
    logging.getLogger("rsq.test").debug("not asked for")
    return stream.getvalue().splitlines()


def test_text(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = _lines("text", monkeypatch)
    assert line.startswith(_hours())
    assert line.endswith("] slot 3: ümlaut")
    assert " WARNING " in line


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = _lines("json", monkeypatch)
    record = json.loads(line)
    assert record["ts"].startswith(_hours())
    assert (record["level"], record["msg"], record["logger"]) == ("warning", "slot 3: ümlaut", "rsq.test")
