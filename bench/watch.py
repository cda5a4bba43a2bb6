"""The watch: what the server sees of a run, whoever reads: how long it takes, and with how many commands."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import redis

from . import rig

_LOOK_S = 0.005
_OURS = ("xinfo", "xrevrange", "info", "config")


class Watch:
    """Looks at the group, from the server's core, while a `with` block drains a preloaded stream.

    `wall_s` is from the first delivery to the last acknowledgement, to within one look; `commands` is what
    all others have sent meanwhile, by name.
    """

    def __init__(self, url: str) -> None:
        """Prepare; nothing is asked yet."""
        self._client: Any = redis.Redis.from_url(url, decode_responses=True)
        self._thread = threading.Thread(target=self._look)
        self._over = threading.Event()
        self.wall_s = 0.0
        self.commands: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Start to look."""
        self._client.config_resetstat()
        (last, _), *_ = self._client.xrevrange(rig.STREAM, count=1)
        self._last = last
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and count."""
        self._over.set()
        self._thread.join()
        if error is None and not self.wall_s:
            raise rig.Void("the group has not read and acknowledged everything")
        stats = self._client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
        self.commands = {name: count for name, count in calls.items() if not name.startswith(_OURS)}

    def _look(self) -> None:
        rig.pin(rig.cores()[0])
        begun = 0.0
        while not self.wall_s and not self._over.wait(_LOOK_S):
            (group,) = self._client.xinfo_groups(rig.STREAM)
            if not begun and group["last-delivered-id"] != "0-0":
                begun = time.monotonic()
            if group["last-delivered-id"] == self._last and not group["pending"]:
                self.wall_s = time.monotonic() - begun
