"""The keys that entries are known by, as the keeper reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.journal import JOURNAL_MAX
from rsq.ipc.oncekeys import OnceKeys

_rows = st.dictionaries(
    st.integers(0, JOURNAL_MAX - 1), st.tuples(st.binary(max_size=300), st.integers(1, 1 << 50)), max_size=40
)


@given(_rows, _rows)
def test_the_newest_batch_is_read_as_it_was_written(
    before: dict[int, tuple[bytes, int]], rows: dict[int, tuple[bytes, int]]
) -> None:
    raw = memoryview(bytearray(OnceKeys.SIZE))
    keys = OnceKeys(raw)
    keys.use(used=True)
    keys.write(6, [(at, key, ttl) for at, (key, ttl) in before.items()])
    keys.write(7, [(at, key, ttl) for at, (key, ttl) in rows.items()])
    assert OnceKeys(raw).read(7) == rows
    assert (OnceKeys(raw).read(6), OnceKeys(raw).used) == (None, True)


def test_a_key_without_room_is_named_as_such() -> None:
    """Its entry is the worker's to acknowledge: it must not be taken for one that leaves no mark."""
    keys = OnceKeys(memoryview(bytearray(OnceKeys.SIZE)))
    keys.write(1, [(at, b"k" * 100, 1) for at in range(JOURNAL_MAX)])
    found = keys.read(1)
    assert found is not None
    assert found.keys() == set(range(JOURNAL_MAX))
    assert {found[at] for at in range(300)} == {(b"k" * 100, 1)}
    assert found[JOURNAL_MAX - 1] is None
