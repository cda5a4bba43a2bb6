"""Replication: what a server says of its replicas, and of what it does without them."""

from __future__ import annotations

from dataclasses import dataclass

from redis.exceptions import RedisError

from .asking import Asker


@dataclass(frozen=True, slots=True)
class Replication:
    """The replicas of a primary.

    Arguments:
        replicas: how many are connected.
        guarded: it refuses writes while it hears of too few of them (min-replicas-to-write).
    """

    replicas: int
    guarded: bool


def replication(asker: Asker) -> Replication | None:
    """Ask a primary about its replicas; None if it has none, or does not say.

    INFO may be forbidden, and what is denied goes into the server's log: it is only asked for where ROLE has
    said that there are replicas.
    """
    try:
        (role,) = asker.ask(("ROLE",))
        if not isinstance(role, list) or role[0] != b"master" or not role[2]:
            return None
        (said,) = asker.ask(("INFO", "replication"))
    except RedisError:
        return None
    return Replication(len(role[2]), b"min_slaves_good_slaves:" in said) if isinstance(said, bytes) else None
