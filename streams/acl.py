"""The least that a user of the server must be allowed, as the words of ACL SETUSER.

No category is granted, only commands by name, each with its subcommand where it has any: a category means
something else in every version. The words are those that 6.2 and 7.0 both take.
"""

import re
from collections.abc import Sequence

from .keys import own, pushed

# What a pool sends itself, its scripts included: those run with the rights of the user who calls them.
POOL = (
    *("xreadgroup", "xack", "xclaim", "xpending", "xadd", "xdel", "xrange", "xrevrange", "xlen", "xtrim"),
    *("xgroup|create", "xgroup|createconsumer", "xgroup|delconsumer"),
    *("xinfo|stream", "xinfo|groups", "xinfo|consumers"),
    *("eval", "time", "exists", "get", "mget", "set", "del", "incr", "expire", "pexpire", "pttl"),
    *("hset", "hget", "hgetall", "hmget", "hdel", "hincrby", "hscan", "rpush", "blpop"),
)
# What it takes to get there: the handshake, and finding the primary or the node of a key.
CONNECTION = ("ping", "select", "client|setname", "role")
# What the commands of `rsq` need beside the above.
TOOLS = ("hexists", "hsetnx", "multi", "exec")


def words(user: str, stream: str, group: str, dlq: str) -> list[str]:
    """ACL SETUSER for a pool and the tools that look after it.

    Given again after an upgrade it replaces the rights and leaves the passwords as they are. A user made by
    it has no password yet, and nobody can log in as one without.

    Arguments:
        user: its name.
        stream, group, dlq: what the pool works on.

    Raises:
        ValueError: the server takes no such name of a user.
    """
    if not user or re.search(r"[\s\0]", user):
        raise ValueError(f"--user {user!r}: the server takes no empty name and none with spaces")
    patterns = [pattern(stream), pattern(dlq)]
    patterns += [f"{pattern(kept)}*" for kept in (own(stream, group, ""), pushed(stream, ""))]
    commands = [f"+{command}" for command in (*CONNECTION, *POOL, *TOOLS)]
    keys = [f"~{word}" for word in patterns]
    return ["ACL", "SETUSER", user, "on", "resetkeys", "resetchannels", *keys, "-@all", *commands]


def pattern(key: str) -> str:
    """The pattern that matches one key.

    The server takes no spaces in a pattern: `?` stands for each, and matches any other character too.
    """
    return re.sub(r"[\s\0]", "?", re.sub(r"([\\*?\[\]])", r"\\\1", key), flags=re.ASCII)


def line(words: Sequence[str]) -> str:
    """Words as a line for redis-cli, quoted where it needs that."""
    return " ".join(word if re.fullmatch(r"[^\s\"'\\\0]+", word) else _quoted(word) for word in words)


def _quoted(word: str) -> str:
    data = word.encode("utf-8", "surrogateescape")
    plain = {ord("\\"): "\\\\", ord('"'): '\\"'}
    inside = "".join(
        plain.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in data
    )
    return f'"{inside}"'
