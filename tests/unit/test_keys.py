"""Key names: what they are, and that a cluster keeps those of one stream together."""

from __future__ import annotations

import inspect
from hashlib import sha256
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis.strategies import sampled_from, text, tuples

from rsq.streams import keys


def test_dead_letters_stand_beside_their_stream() -> None:
    assert keys.dead_letter("orders") == "orders:dlq"


def test_dead_letters_share_the_stream_s_slot_of_a_cluster() -> None:
    assert keys.dead_letter("orders", cluster=True) == "{orders}:dlq"
    assert keys.same_slot("orders", keys.dead_letter("orders", cluster=True))


@pytest.mark.parametrize("cluster", [True, False])
def test_a_stream_s_own_hash_tag_is_kept(cluster: bool) -> None:
    assert keys.dead_letter("{shop}:orders", cluster=cluster) == "{shop}:orders:dlq"
    assert keys.dead_letter("a{b}c", cluster=cluster) == "a{b}c:dlq"


ODD = [
    "",
    "{",
    "}",
    "{}",
    "a}b",
    "a{}b",
    "{}x",
    "a{",
    "}a{",
    "a{b",
    "a{b}c",
    "{a}",
    "{{a}}",
    "a{}{b}",
    "größe",
    "caf\udce9",
]


@pytest.mark.parametrize("stream", ["orders", "{shop}:orders", "rsq:{a}:b", "x:dlq", *ODD])
@pytest.mark.parametrize("group", ["workers", "w{x}", "a:b", "{a}", ":", "once"])
def test_all_keys_of_a_stream_share_a_slot(stream: str, group: str) -> None:
    """Whatever the stream is called: a name such as `a}b` can be no tag, but some number has its slot."""
    own = [keys.own(stream, group, name) for name in ("leader", "instance:{y}", "once:}{")]
    pushed = [keys.sent(stream, "lane"), keys.unique(stream, "{y}"), keys.mark(stream, group, b"{k}")]
    for key in (*own, *pushed, keys.dead_letter(stream, cluster=True)):
        assert keys.same_slot(stream, key)


def test_plain_names_have_the_keys_that_they_have_always_had() -> None:
    for stream in ("orders", "a:b", "{shop}:orders", "{shop}:a:b", "x{shop}", "a{", "größe"):
        base = stream if "}" in stream else f"{{{stream}}}"
        assert keys.own(stream, "workers", "leader") == f"rsq:{base}:workers:leader"
        assert keys.pushed(stream, "sent:1") == f"rsq.push:{len(stream)}:{base}:sent:1"
        letters = f"{stream}:dlq" if "}" in stream else f"{{{stream}}}:dlq"
        assert keys.dead_letter(stream, cluster=True) == letters
        assert keys.dead_letter(stream) == f"{stream}:dlq"


def test_names_that_could_be_read_in_two_ways_have_others() -> None:
    assert keys.own("{orders}", "workers", "leader") == "rsq.own:{orders}:8:7:{orders}:workers:leader"
    assert keys.own("orders", "a:b", "leader") == "rsq.own:{orders}:6:3:orders:a:b:leader"
    assert keys.own("{orders}:a:once", "b", "leader") == "rsq.own:{orders}:15:1:{orders}:a:once:b:leader"
    assert keys.dead_letter("{orders}", cluster=True) == "{orders}.dlq"
    assert keys.plain("{orders}", "workers", "leader") == keys.plain("orders", "workers", "leader")


ALL = [
    keys.leader, keys.epoch, keys.instances, keys.orders, keys.swept, keys.stories, keys.waiting,
    keys.breakers,
]  # fmt: skip
NAMED = [keys.lease, keys.inbox]


def keys_of(stream: str, group: str, names: list[str]) -> dict[str, tuple[str, ...]]:
    """All keys of a pair, with what each is for."""
    found: dict[str, tuple[str, ...]] = {make(stream, group): (stream, group, make.__name__) for make in ALL}
    for name in names:
        found |= {make(stream, group, name): (stream, group, make.__name__, name) for make in NAMED}
        found[keys.mark(stream, group, name.encode())] = (stream, group, "mark", name)
    return found


def test_no_two_pairs_of_stream_and_group_share_a_key() -> None:
    """All names of up to three of these parts, which are all that there is to confuse."""
    parts = ["a", ":", "{", "}", "{a}", "once", ":a:"]
    streams = ["".join(chosen) for count in range(4) for chosen in product(parts, repeat=count)]
    groups = ["", "a", ":", "once", "leader", "a:a", "a:once", "{a}", "}"]
    names = ["a", "leader", "a:leader", "a:once:a", ""]
    owner: dict[str, tuple[str, ...]] = {}
    for stream in {*streams}:
        for group in groups:
            for key, what in keys_of(stream, group, names).items():
                assert owner.setdefault(key, what) == what, key


NAME = text("a:{}", max_size=5) | sampled_from(
    ["once", "instance:a", "leader", "{a}:once", ":once:a:", "{a}:a"]
)


@settings(deadline=None)
@given(one=tuples(NAME, NAME), two=tuples(NAME, NAME), names=tuples(NAME, NAME))
def test_any_two_pairs_have_keys_of_their_own(
    one: tuple[str, str], two: tuple[str, str], names: tuple[str, str]
) -> None:
    mine, others = keys_of(*one, [*names]), keys_of(*two, [*names])
    assert one == two or not mine.keys() & others.keys()
    assert len(mine) == len(ALL) + 3 * len({*names})
    letters = keys.dead_letter(one[0], cluster=True), keys.dead_letter(two[0], cluster=True)
    assert one[0] == two[0] or letters[0] != letters[1]
    unique = keys.unique(one[0], names[0]), keys.unique(two[0], names[1])
    assert (one[0], names[0]) == (two[0], names[1]) or unique[0] != unique[1]
    assert keys.sent(one[0], names[0]) != keys.unique(two[0], names[1])


def test_every_kind_of_key_is_among_those() -> None:
    """Who adds one adds it above, and to the words that `keys` knows."""
    kept = {
        name for name, made in inspect.getmembers(keys, inspect.isfunction)
        if [*inspect.signature(made).parameters][:2] == ["stream", "group"]
    }  # fmt: skip
    assert kept == {make.__name__ for make in (*ALL, *NAMED)} | {"mark", "own", "plain", "is_plain"}
    for key in keys_of("orders", "workers", ["x"]):
        with pytest.raises(ValueError, match="no name for a stream"):
            keys.refuse_ours(key)


def test_a_long_message_key_is_not_the_mark_of_its_hash() -> None:
    long = b"x" * 200
    assert keys.mark("s", "g", long) != keys.mark("s", "g", sha256(long).hexdigest().encode())


@pytest.mark.parametrize(
    "name",
    [
        "rsq:{orders}:workers:leader",
        "rsq:{a}:b:c:instance:",
        "rsq.push:6:{orders}:x",
        "rsq.own:{a}:1:1:a:b:x",
    ],
)
def test_a_stream_cannot_have_the_name_of_a_key_of_ours(name: str) -> None:
    with pytest.raises(ValueError, match="keeps a key of this name"):
        keys.refuse_ours(name)


@pytest.mark.parametrize(
    "name", ["orders", "orders:dlq", "rsq:jobs", "rsq:{jobs}", "rsq:{shop}:orders", "x:leader"]
)
def test_all_other_names_are_a_streams(name: str) -> None:
    keys.refuse_ours(name)


def test_own_keys_name_stream_group_and_purpose() -> None:
    assert keys.own("orders", "workers", "leader") == "rsq:{orders}:workers:leader"
    assert keys.own("{shop}:orders", "workers", "leader") == "rsq:{shop}:orders:workers:leader"


def test_streams_with_one_hash_tag_do_not_share_own_keys() -> None:
    assert keys.own("{shop}:orders", "workers", "leader") != keys.own("{shop}:mails", "workers", "leader")


def test_same_slot_tells_slots_apart() -> None:
    assert keys.same_slot("{a}1", "{a}2")
    assert not keys.same_slot("orders", "orders:dlq")


def test_consumers_are_named_by_instance_and_slot() -> None:
    assert keys.consumer("web-1", 3) == "web-1:3"


def test_names_that_are_not_utf8_have_a_slot_too() -> None:
    assert keys.same_slot("caf\udce9", "{caf\udce9}:dlq")


def test_a_consumers_name_tells_its_instance_and_slot_if_it_is_one_of_ours() -> None:
    assert keys.seat(keys.consumer("web-1", 7)) == ("web-1", 7)
    assert keys.seat("a:b:0") == ("a:b", 0)
    for name in ("web-1", ":3", "web:", "web:x", "web:-1", "web:٣", "web:" + "1" * 5000):
        assert keys.seat(name) is None
