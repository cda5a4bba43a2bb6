"""Pools of older versions, which name the keys of some streams and groups in another way.

Only a pair that is not plain (see `keys.is_plain`) has two sets of names. Pools that use different ones do
not see each other's leases: each would take the other for dead and run its entries. So a new pool of such a
pair starts only when no pool of an older version is left.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.exceptions import NoPermissionError, ResponseError

from . import keys
from .asking import Asker, fields, good
from .fleet import NAMES, report


def pools(client: redis.Redis, stream: str, group: str) -> list[str]:
    """Return the instances of older versions that hold a lease under the old names.

    The old names are also those of another pair: an instance found here may belong to that one.

    Arguments:
        client: of the server, or of the stream's node in a cluster.
        stream, group: the pair.

    Returns:
        Names, sorted. Empty for a plain pair, and where the user of the server may not read the old names.

    Raises:
        redis.exceptions.RedisError: the server could not be asked.
    """
    if keys.is_plain(stream, group):
        return []
    asker = Asker(client)
    try:
        (found,) = asker.ask(("HGETALL", keys.plain(stream, group, "instances")))
        names = [name for name, raw in fields(good(found)).items() if _is_old(raw)]
        leases = [keys.plain(stream, group, f"instance:{_text(name)}") for name in names]
        alive = [good(reply) for reply in asker.ask(*(("EXISTS", lease) for lease in leases))]
    except NoPermissionError:
        return []
    except ResponseError as error:
        if "WRONGTYPE" in str(error):  # not ours
            return []
        raise
    return sorted(_text(name) for name, there in zip(names, alive, strict=True) if there)


def _is_old(raw: Any) -> bool:
    said = report(raw)
    return said is not None and said.names < NAMES


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
