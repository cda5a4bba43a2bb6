"""Why messages did not get into a stream."""

from __future__ import annotations

from redis.exceptions import RedisError


class PushError(RedisError):
    """Messages did not get through.

    Attributes:
        cause: what redis-py said; of `StreamFull` and `Duplicate` they themselves.
        why: in a line, without the numbers.
        pushed: how many messages of the call are in the stream for certain.
        unsure: how many may be there or not: they were sent, the answer is missing. Pushing them again may
            double them, so we never do.
    """

    def __init__(self, cause: RedisError | None, pushed: int, unsure: int, words: str = "") -> None:
        """Put the numbers into words."""
        self.cause = cause or self
        self.why = words or str(cause)
        self.pushed = pushed
        self.unsure = unsure
        doubt = f", {unsure} more were sent but not confirmed" if unsure else ""
        super().__init__(f"{self.why} ({pushed} messages were pushed{doubt})")

    def __repr__(self) -> str:
        """Say what `str` says: redis-py's own shows nothing but the class."""
        return f"{type(self).__name__}({str(self)!r}, pushed={self.pushed}, unsure={self.unsure})"


class StreamFull(PushError):
    """There is no room, by `maxlen`; what was pushed before stays.

    Attributes:
        stream: its name.
        group: the slowest group; empty if the stream has none.
        unread: how many entries it has not read.
        limit: how many it may have.
    """

    def __init__(self, stream: str, group: str, unread: int, limit: int, pushed: int) -> None:
        """Put it into words."""
        self.stream, self.group, self.unread, self.limit = stream, group, unread, limit
        who = f"group {group} has" if group else "it has no group, so all of it counts:"
        words = f"stream {stream} is full: {who} {unread} entries unread, at most {limit} are allowed"
        super().__init__(None, pushed, 0, words)


class Duplicate(PushError):
    """A message of this key was pushed before; `id` is its entry."""

    def __init__(self, stream: str, key: str, entry_id: str) -> None:
        """Put it into words."""
        self.stream, self.key, self.id = stream, key, entry_id
        super().__init__(None, 0, 0, f"stream {stream}: key {key} was pushed before, as {entry_id}")
