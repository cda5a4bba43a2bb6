"""Every key name, one function each.

    <stream>                       what producers write and workers read: the user's name
    <stream>:dlq                   its dead letters; `{<stream>}:dlq` on a cluster if the stream has no tag
    rsq:{<stream>}:<group>:<name>  what a group keeps for itself, such as leases; `rsq:<stream>:...` if the
                                   stream has a tag
    rsq.push:<n>:{<stream>}:<name> what producers keep for a while; n is the length of the stream's name, so
                                   that no name of one stream can be read as a name of another

All keys of one stream hash to one slot of a cluster, for scripts and transactions work on one slot only. A
hash tag is what stands between the first `{` and the next `}`, if that is anything; without one the whole
name is hashed, hence `{s}:x` lands where `s` does.

A stream that has a tag stays whole inside our own keys. Its tag alone would not do: `{shop}:orders` and
`{shop}:mails`, both read by a group `workers`, would share one leader lease.

Some pairs of stream and group cannot be told apart in such a name: the stream `{orders}` from the stream
`orders`, the group `a:b` of `orders` from the group `b` of `{orders}:a`. Of these the plain one has the name
above, and the other one

    rsq.own:{<tag>}:<n>:<m>:<stream>:<group>:<name>   n, m: bytes of the stream's and of the group's name
    rsq.push:{<tag>}:<n>:<stream>:<name>
    <stream>.dlq, on a cluster     `{<tag>}:<stream>.dlq` if the stream has no tag

where the tag is the stream's own, or its whole name, or, for a name such as `a}b` that no tag can have, the
first number whose slot is the same. `is_plain` says which names a pair has. No two pairs share a key.
"""

import re
from functools import lru_cache
from hashlib import sha256
from itertools import count

from redis.crc import key_slot

_SLOT_DIGITS = 9
_MARK_MAX = 128  # bytes
# First words of names that go on after a colon with any text: there the name begins.
_OPEN_WORDS = frozenset({"instance", "inbox", "once", "once-sha256"})
_WORDS = frozenset({"leader", "epoch", "instances", "orders", "swept", "stories", "waiting", "breakers"})
_OURS = re.compile(
    rf"rsq\.(own|push):.*|rsq:.*{{.+}}.*:.*:(({'|'.join(_WORDS)})|({'|'.join(_OPEN_WORDS)}):.*)", re.DOTALL
)


def dead_letter(stream: str, *, cluster: bool = False) -> str:
    """Name of the stream that takes the dead letters of `stream`.

    Arguments:
        stream: name of the stream the letters come from.
        cluster: whether the server is a Redis Cluster, where both must share a hash slot.
    """
    tag = _tag(stream)
    if not cluster or (tag and stream != f"{{{tag}}}"):
        return f"{stream}:dlq"
    if tag:
        return f"{stream}.dlq"
    return f"{{{_near(stream)}}}:{stream}.dlq" if _near(stream) != stream else f"{{{stream}}}:dlq"


def own(stream: str, group: str, name: str) -> str:
    """Name of a key that we keep for `group` on `stream`.

    Arguments:
        stream: name of the stream.
        group: name of the consumer group.
        name: what the key is for; starts with a word of our own, as in `leader` or `instance:web-1`.
    """
    return _beginning(stream, group) + name


@lru_cache(maxsize=64)
def _beginning(stream: str, group: str) -> str:
    if is_plain(stream, group):
        return plain(stream, group, "")
    return f"rsq.own:{{{_near(stream)}}}:{_size(stream)}:{_size(group)}:{stream}:{group}:"


def plain(stream: str, group: str, name: str) -> str:
    """Name of such a key as it is if the pair is plain. Other versions name the keys of all pairs so."""
    base = stream if _tag(stream) else f"{{{stream}}}"
    return f"rsq:{base}:{group}:{name}"


def is_plain(stream: str, group: str) -> bool:
    """Whether nobody can read a plain name of this pair as that of another pair.

    Such a name is read like this: the stream goes up to the end of the tag and beyond; then the first of
    `_OPEN_WORDS`, or else the last word, is where `name` begins, and the word before it is the group. A
    stream without a tag ends with the brace that we put behind it.
    """
    if ":" in group:
        return False
    tag = _tag(stream)
    if not tag:
        return _near(stream) == stream
    if stream == f"{{{tag}}}":
        return False
    behind = stream[stream.index("{") + len(tag) + 2 :].split(":")
    return _OPEN_WORDS.isdisjoint([*behind, group][2:])


def refuse_scattered(stream: str, dlq: str) -> None:
    """Make sure that the dead letters would share the stream's hash slot of a cluster.

    Arguments:
        stream: as everywhere.
        dlq: name of the stream for dead letters.

    Raises:
        ValueError: one line about which key would not, and what to do.
    """
    if not same_slot(stream, dlq):
        raise ValueError(
            f"--dlq {dlq} is in another hash slot of the cluster than stream {stream}, and no letter could"
            f" be written: choose {dead_letter(stream, cluster=True)}, the default, or one tag for both"
        )


def refuse_ours(name: str) -> None:
    """Make sure that a stream has not the name of a key that we keep for another one.

    Raises:
        ValueError: it has; one line.
    """
    if _OURS.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a stream: rsq keeps a key of this name for another stream")


def consumer(instance: str, slot: int) -> str:
    """Name of the consumer that a slot is in the group: `<instance>:<slot>`."""
    return f"{instance}:{slot}"


def seat(name: str) -> tuple[str, int] | None:
    """The instance and the slot of a consumer's name, None for one that cannot be ours."""
    instance, _, slot = name.rpartition(":")
    if not instance or not (slot.isascii() and slot.isdecimal()) or len(slot) > _SLOT_DIGITS:
        return None
    return instance, int(slot)


def leader(stream: str, group: str) -> str:
    """Lease of the keeper that sweeps: a string with a time to live."""
    return own(stream, group, "leader")


def epoch(stream: str, group: str) -> str:
    """Counter from which every lease of the group takes its fencing token."""
    return own(stream, group, "epoch")


def lease(stream: str, group: str, instance: str) -> str:
    """Lease of an instance's name: a string with a time to live; there exactly while its pool may act."""
    return own(stream, group, f"instance:{instance}")


def inbox(stream: str, group: str, instance: str) -> str:
    """List that wakes an instance's keeper; what to do is found elsewhere."""
    return own(stream, group, f"inbox:{instance}")


def instances(stream: str, group: str) -> str:
    """Hash of instance -> what its keeper last reported; also of those that are gone."""
    return own(stream, group, "instances")


def orders(stream: str, group: str) -> str:
    """Hash of what operators want: `pause`, `drain:<instance>`, `scale:<instance>`."""
    return own(stream, group, "orders")


def swept(stream: str, group: str) -> str:
    """Hash of counters of what the sweeps have done, counted by the scripts that do it."""
    return own(stream, group, "swept")


def sent(stream: str, lane: str) -> str:
    """What the last exchange in a lane of a producer did: a string with a time to live."""
    return pushed(stream, f"sent:{lane}")


def unique(stream: str, key: str) -> str:
    """Id of the entry that was pushed as the only one of its key: a string with a time to live."""
    return pushed(stream, f"unique:{key}")


def pushed(stream: str, name: str) -> str:
    """Name of a key that producers keep for a while."""
    tag = _tag(stream)
    if not tag and _near(stream) != stream:
        return f"rsq.push:{{{_near(stream)}}}:{_size(stream)}:{stream}:{name}"
    base = stream if tag else f"{{{stream}}}"
    return f"rsq.push:{len(stream)}:{base}:{name}"


def mark(stream: str, group: str, key: bytes) -> str:
    """Sign that a handler has returned for a message: a string with a time to live.

    Arguments:
        stream, group: as everywhere.
        key: what the message is known by, in all copies of it; a long one is named by its hash.
    """
    if len(key) > _MARK_MAX:
        return own(stream, group, f"once-sha256:{sha256(key).hexdigest()}")
    return own(stream, group, f"once:{key.decode('utf-8', 'surrogateescape')}")


def breakers(stream: str, group: str) -> str:
    """Hash of event -> its circuit breaker, as the fleet shares it."""
    return own(stream, group, "breakers")


def waiting(stream: str, group: str) -> str:
    """Hash of entry id -> record of an entry that is held and not started: see `streams.waiting`."""
    return own(stream, group, "waiting")


def stories(stream: str, group: str) -> str:
    """Hash of entry id -> the story of a dead letter that could not be written yet."""
    return own(stream, group, "stories")


def same_slot(a: str, b: str) -> bool:
    """Whether two keys live in one hash slot of a cluster, so that one script may touch both."""
    return key_slot(_bytes(a)) == key_slot(_bytes(b))


def _tag(key: str) -> str:
    """The hash tag of a key, empty if it has none."""
    start = key.find("{")
    return key[start + 1 : max(start, key.find("}", start))] if start >= 0 else ""


@lru_cache(maxsize=64)
def _near(stream: str) -> str:
    """A text that, between braces, puts a key into the stream's slot; the stream itself where that works."""
    if tag := _tag(stream):
        return tag
    if stream and "}" not in stream:
        return stream
    slot = key_slot(_bytes(stream))
    return next(str(number) for number in count() if key_slot(b"%d" % number) == slot)


def _size(name: str) -> int:
    return len(_bytes(name))


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
