"""Entries that somebody wrote with a plain XADD, whatever their fields are."""

from __future__ import annotations

import json
from collections.abc import Callable

from support_pool import Pool

ENTRIES = (
    ({b"user": b"7", b"name": "Zoë".encode()}, {"user": "7", "name": "Zoë"}),
    ({b"": b""}, {"": ""}),
    ({b"raw": b"\xff\x00\xfe"}, {"raw": "\\xff\0\\xfe"}),
    ({b"\xff": b"value"}, {"\\xff": "value"}),
    ({b"event": b"only.event"}, {"event": "only.event"}),
    ({b"Data": b"{"}, {"Data": "{"}),
)


def test_data_is_a_dict_of_strings(make_pool: Callable[..., Pool]) -> None:
    """Bytes that are no UTF-8 are written as escapes; `fields` has them as they are."""
    pool = make_pool("""
        import json
        def handle(message):
            started(message)
            ledger().hset("data", message.id, json.dumps(message.data))
            ledger().hset("fields", message.id, repr(message.fields))
            finished(message)
        """)
    ids = [pool.add(fields) for fields, _ in ENTRIES]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    for entry, (fields, data) in zip(ids, ENTRIES, strict=True):
        assert json.loads(pool.books.hget("data", entry) or b"") == data
        assert pool.books.hget("fields", entry) == repr(fields).encode()
