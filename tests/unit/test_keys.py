"""Key names: what they are, and that a cluster keeps those of one stream together."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("stream", ["a}b", "a{}b", "{}"])
def test_a_name_that_no_other_key_can_join_is_refused_on_a_cluster(stream: str) -> None:
    assert keys.dead_letter(stream) == f"{stream}:dlq"
    with pytest.raises(ValueError, match="hash tag"):
        keys.dead_letter(stream, cluster=True)


@pytest.mark.parametrize("stream", ["orders", "{shop}:orders", "a{b}c", "a{b", "größe"])
def test_all_keys_of_a_stream_share_a_slot(stream: str) -> None:
    assert keys.same_slot(stream, keys.own(stream, "workers", "leader"))
    assert keys.same_slot(stream, keys.own(stream, "w{x}", "instance:{y}"))
    assert keys.same_slot(stream, keys.dead_letter(stream, cluster=True))


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
