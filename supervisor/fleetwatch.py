"""`rsq status` of a fleet: one look, or one every second until it is interrupted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..ipc.exitcodes import OK
from ..streams.connection import RedisError, Target, explain, permanent
from ..streams.survey import Survey
from .failing import failure
from .fleetboard import FleetBoard, as_json
from .printable import json_text, one_line

NOTHING_FOUND = 1
_EVERY_S = 1.0
_PIPE_WIDTH = 120
Look = Callable[[], Survey]


def show(look: Look, server: Target, watch: bool, json_wanted: bool) -> int:
    """Print what `look` sees.

    Arguments:
        look: makes a survey.
        server: that it asks.
        watch: again every second, until interrupted; a server that is away is waited for.
        json_wanted: a JSON object instead of a table; with `watch` one per line.

    Returns:
        The exit code: 1 when there is no such group.

    Raises:
        Failure: the server cannot be asked.
    """
    try:
        if watch:
            return _watch(look, server, json_wanted)
        seen = look()
    except KeyboardInterrupt:
        return OK  # the way a watch is ended
    except RedisError as error:
        raise failure(error, server) from error
    if json_wanted:
        print(json_text(as_json(seen), indent=2), flush=True)  # noqa: T201
    else:
        _console().print(FleetBoard(seen))
    return OK if seen.found else NOTHING_FOUND


def _watch(look: Look, server: Target, json_wanted: bool) -> int:
    if json_wanted or not sys.stdout.isatty():
        console = _console()
        while True:
            seen, trouble = _try(look, server)
            if seen is None:
                print(f"rsq: {trouble}", file=sys.stderr, flush=True)  # noqa: T201
            elif json_wanted:
                print(json_text(as_json(seen)), flush=True)  # noqa: T201
            else:
                console.print(FleetBoard(seen))
            time.sleep(_EVERY_S)
    console, last = _console(), Group()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                seen, trouble = _try(look, server)
                # What was seen last stays: it is what somebody wants to know while the server is away.
                last = (
                    Group(FleetBoard(seen)) if seen else Group(Text(trouble, "red"), *last.renderables[-1:])
                )
                live.update(last, refresh=True)
                time.sleep(_EVERY_S)
    finally:
        console.print(last)  # the last picture stays when the screen is given back


def _try(look: Look, server: Target) -> tuple[Survey | None, str]:
    """Look; a server that may come back is words."""
    try:
        return look(), ""
    except RedisError as error:
        if permanent(error):
            raise
        return None, one_line(explain(error, server))


def _console() -> Console:
    # Without a terminal there is no width to keep to; programs should ask for JSON.
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(highlight=False, width=wide)
