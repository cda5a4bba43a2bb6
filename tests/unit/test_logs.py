"""Log lines say when in UTC, as text and as JSON."""

from __future__ import annotations

import json
import logging
import logging.config
import time
from collections.abc import Iterator

import pytest

from rsq.supervisor.logs import configure, give_back, set_apart


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine far from Greenwich; the root logger as it was, afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    disabled = root.manager.disable
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before
    logging.disable(disabled)
    monkeypatch.undo()
    time.tzset()


def _hours() -> tuple[str, str]:
    """The hour now and a while ago: another may have begun since a line was written."""
    now = time.time()
    return tuple(time.strftime("%Y-%m-%dT%H:", time.gmtime(at)) for at in (now, now - 600))  # type: ignore[return-value]


def _lines(form: str, capfd: pytest.CaptureFixture[str]) -> list[str]:
    configure("info", form, None)
    logging.getLogger("rsq.test").warning("slot %d: %s", 3, "ümlaut")
    logging.getLogger("rsq.test").debug("not asked for")
    return capfd.readouterr().err.splitlines()


def test_text(capfd: pytest.CaptureFixture[str]) -> None:
    (line,) = _lines("text", capfd)
    assert line.startswith(_hours())
    assert line.endswith("] slot 3: ümlaut")
    assert " WARNING " in line


def test_what_user_code_sets_up_is_for_workers(capfd: pytest.CaptureFixture[str]) -> None:
    """Its handlers may wait, and `dictConfig` disables loggers: not in the processes that run none of it."""
    configure("info", "text", None)
    ours = logging.getLogger("rsq.test")
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {"theirs": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            "root": {"handlers": ["theirs"], "level": "ERROR"},
        }
    )
    logging.disable(logging.CRITICAL)
    set_apart()
    ours.info("from us")
    told = capfd.readouterr()
    assert "from us" in told.err
    assert not told.out
    give_back()
    logging.disable(logging.NOTSET)
    ours.error("from a worker")
    told = capfd.readouterr()
    assert told.out == "from a worker\n"
    assert not told.err


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    (line,) = _lines("json", capfd)
    record = json.loads(line)
    assert record["ts"].startswith(_hours())
    assert (record["level"], record["msg"], record["logger"]) == ("warning", "slot 3: ümlaut", "rsq.test")
