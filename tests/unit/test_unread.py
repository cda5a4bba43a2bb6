"""What a group has not read, from replies of servers old and new."""

from __future__ import annotations

from rsq.streams import keys, unread
from rsq.streams.fleet import Report


def row(name: bytes, *more: object) -> list[object]:
    return [b"name", name, b"pending", 3, b"last-delivered-id", b"7-0", *more]


def test_the_lag_of_a_group() -> None:
    reply = [row(b"other", b"lag", 9), row(b"workers", b"entries-read", 5, b"lag", 4)]
    assert unread.lag(reply, "workers") == (4, b"7-0")


def test_a_server_that_does_not_know_it() -> None:
    """Before 7.0 there is no such field, later it may be nil; a negative one is a bug of the server's."""
    assert unread.lag([row(b"workers")], "workers") == (None, b"7-0")
    assert unread.lag([row(b"workers", b"lag", None)], "workers") == (None, b"7-0")
    assert unread.lag([row(b"workers", b"lag", -2)], "workers") == (0, b"7-0")


def test_no_such_group() -> None:
    assert unread.lag([row(b"other")], "workers") is None
    assert unread.lag([], "workers") is None


def test_the_age_of_an_entry_is_by_the_clock_of_the_server() -> None:
    assert unread.age_s([b"100", b"500000"], [[b"90500-3", [b"data", b"1"]]]) == 10.0
    assert unread.age_s([b"100", b"0"], [[b"200000-0", []]]) == 0.0
    assert unread.age_s([b"100", b"0"], []) == 0.0


def test_reports_that_cannot_be_read_are_left_out() -> None:
    said = Report("h", 1, "1", 0.0, 0.0, 15.0, {0: "idle"}, 2.5, 1.0)
    found = unread.reports([b"web-1", said.encode(), b"web-2", b"nonsense"])
    assert found == {b"web-1": said}


def test_leases_are_asked_for_by_the_names_that_keepers_hold() -> None:
    assert keys.lease("orders", "mailer", "wéb").encode() in unread.leases(
        "orders", "mailer", ["wéb".encode()]
    )
