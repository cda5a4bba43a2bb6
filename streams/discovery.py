"""Finding the server: which address is the primary now, which node owns a key now.

Asked anew for every connection, never remembered: after a failover or a moved slot the answer is another
one. What was found is asked itself before it is believed, for a sentinel or a node that was cut off repeats
old news. Everybody in turn is asked until one leads to a server that answers.
"""

from typing import Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoPermissionError, RedisError, ResponseError

from .url import Target

HOPS = 5

Address = tuple[str, int]


class Asking(Protocol):
    """One question on a connection of its own."""

    def __call__(self, address: Address, *command: str | bytes, sentinel: bool = False) -> Any:
        """The answer.

        Arguments:
            address: whom to ask.
            command: what to ask.
            sentinel: whether it is a sentinel, with user and password of its own.

        Raises:
            redis.exceptions.RedisError: no answer in time, or an error.
        """


def locate(target: Target, ask: Asking) -> Address:
    """The address of the server that a target means now.

    Arguments:
        target: one that goes by sentinels or by a cluster.
        ask: how to ask; it says how long that may take.

    Raises:
        redis.exceptions.RedisError: nobody led to it; the last error, with a note on where it happened.
    """
    return _primary(target, ask) if target.way == "sentinel" else _owner(target, ask)


def _primary(target: Target, ask: Asking) -> Address:
    trouble: RedisError | None = None
    tried: set[Address] = set()
    for place in target.places:
        try:
            found = ask(place, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.service, sentinel=True)
        except RedisError as error:
            trouble = _at(error, "sentinel", place)
            continue
        if not found:
            continue
        address = (_text(found[0]), int(found[1]))
        if address in tried:
            continue
        tried.add(address)
        try:
            role = _text(ask(address, "ROLE")[0])
        except NoPermissionError:
            return address  # it may not be asked: if it is a replica, it will refuse to write
        except RedisError as error:
            trouble = _at(error, "primary", address)
            continue
        if role == "master":
            return address
        old_news = f"sentinels still name it as the primary, but it is a {role}: a failover is under way"
        trouble = _at(RedisConnectionError(old_news), "server", address)
    raise trouble or ResponseError(f"NOSERVICE the sentinels do not know {target.service!r}")


def _owner(target: Target, ask: Asking) -> Address:
    trouble: RedisError | None = None
    key = target.key.encode("utf-8", "surrogateescape")  # names of a command line may be any bytes
    for place in target.places:
        address = place
        try:
            for _ in range(HOPS):
                try:
                    ask(address, "EXISTS", key)
                except MovedError as error:
                    # A node that does not know how it is reached from outside sends no host: its own will do.
                    address = (error.host or address[0], error.port)
                else:
                    return address
            trouble = _at(RedisConnectionError("the nodes send us in circles"), "node", address)
        except RedisError as error:
            trouble = _at(error, "node", address)
    assert trouble is not None
    raise trouble


def _at(error: RedisError, what: str, address: Address) -> RedisError:
    error.add_note(f"{what} {address[0]}:{address[1]}")
    return error


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word
