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
"""

from hashlib import sha256

from redis.crc import key_slot

_SLOT_DIGITS = 9
_MARK_MAX = 128  # bytes


def dead_letter(stream: str, *, cluster: bool = False) -> str:
    """Name of the stream that takes the dead letters of `stream`.

    Arguments:
        stream: name of the stream the letters come from.
        cluster: whether the server is a Redis Cluster, where both must share a hash slot.

    Raises:
        ValueError: on a cluster no other key can share the slot of a name such as `a}b` or `a{}b`.
    """
    if not cluster or _tagged(stream):
        return f"{stream}:dlq"
    if "}" in stream:
        raise ValueError(
            f"stream {stream!r}: no other key can share its slot of a cluster: give it a hash tag"
        )
    return f"{{{stream}}}:dlq"


def own(stream: str, group: str, name: str) -> str:
    """Name of a key that we keep for `group` on `stream`.

    Arguments:
        stream: name of the stream.
        group: name of the consumer group.
        name: what the key is for; starts with a word of our own, as in `leader` or `instance:web-1`.
    """
    base = stream if _tagged(stream) else f"{{{stream}}}"
    return f"rsq:{base}:{group}:{name}"


def refuse_scattered(stream: str, group: str, dlq: str) -> None:
    """Make sure that all keys of a group would share one hash slot of a cluster.

    Arguments:
        stream, group: as everywhere.
        dlq: name of the stream for dead letters.

    Raises:
        ValueError: one line about which key would not, and what to do.
    """
    if not same_slot(stream, own(stream, group, "x")):
        raise ValueError(
            f"stream {stream!r}: no other key can share its slot of a cluster: give it a hash tag"
        )
    if not same_slot(stream, dlq):
        raise ValueError(
            f"--dlq {dlq} is in another hash slot of the cluster than stream {stream}, and no letter could"
            f" be written: choose {dead_letter(stream, cluster=True)}, the default, or one tag for both"
        )


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
    base = stream if _tagged(stream) else f"{{{stream}}}"
    return f"rsq.push:{len(stream)}:{base}:{name}"


def mark(stream: str, group: str, key: bytes) -> str:
    """Sign that a handler has returned for a message: a string with a time to live.

    Arguments:
        stream, group: as everywhere.
        key: what the message is known by, in all copies of it; a long one is named by its hash.
    """
    name = key.decode("utf-8", "surrogateescape") if len(key) <= _MARK_MAX else sha256(key).hexdigest()
    return own(stream, group, f"once:{name}")


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


def _tagged(key: str) -> bool:
    start = key.find("{")
    return start >= 0 and key.find("}", start + 1) > start + 1


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
