"""The consumer group: what is packed by hand is what the library would pack."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rsq.streams.entry import format_id
from rsq.streams.group import Group, pack

NUMBERS = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS).map(format_id), min_size=1, max_size=30))
def test_an_acknowledgement_of_any_ids(ids: list[bytes]) -> None:
    group = Group("orders", "mailer", "web:0")
    assert group.ack(ids) == pack("XACK", "orders", "mailer", *ids)
    longest = [b"-".join([b"%d" % (2**64 - 1)] * 2)]
    assert group.ack(longest) == pack("XACK", "orders", "mailer", *longest)
