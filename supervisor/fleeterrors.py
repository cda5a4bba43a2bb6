"""Why a call of `Fleet` cannot be carried out."""

from __future__ import annotations


class FleetError(Exception):
    """It cannot be done; one line for a person. Trouble with the server is redis-py's `RedisError`."""


class NoGroup(FleetError):
    """There is no such group, or no such stream."""

    def __init__(self, stream: str, group: str) -> None:
        """Put it into words."""
        super().__init__(f"no group {group} on stream {stream}: check --stream and --group")


class NoInstance(FleetError):
    """There is no living instance of that name."""


class NoBreaker(FleetError):
    """No pool has ever had a circuit breaker for this event."""


class NotInTime(FleetError):
    """What was ordered is not done yet; the order stands."""
