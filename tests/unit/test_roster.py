"""The roster: who is asked for, under which name, and who cannot be together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.supervisor.cli import command
from rsq.supervisor.roster import Member, members, select

ARGUMENTS = ["app:handle", "--stream", "orders", "--group", "mailer"]
BASE = command.make_context("rsq-supervisor", ARGUMENTS).params


def _members(*rows: dict[str, Any]) -> list[Member]:
    return members([{**BASE, **row} for row in rows], metrics_asked=False)


def test_one_pool() -> None:
    (only,) = _members({})
    assert only.name == "orders/mailer"
    assert only.pool.spec.work.letters_of == ()


def test_several_are_named_after_stream_and_group() -> None:
    found = _members({}, {"group": "audit"}, {"stream": "bills"})
    assert [member.name for member in found] == ["orders/mailer", "orders/audit", "bills/mailer"]
    assert select(found, "orders/audit") is found[1]
    with pytest.raises(
        ValueError, match=r"--pool x: there is no such pool; there are: orders/mailer, orders"
    ):
        select(found, "x")


def test_a_handler_of_dead_letters_is_one_pool_more() -> None:
    """One slot, the settings of its pool else; nothing is trimmed there, and its own letters go further."""
    row = {"dlq_handler": "app:dead", "trim": "acked", "workers": 8, "max_attempts": 7}
    main, letters = _members(row)
    spec = letters.pool.spec
    assert (main.name, letters.name) == ("orders/mailer", "orders:dlq/mailer")
    assert (spec.source.stream, spec.source.group, spec.source.dlq) == (
        "orders:dlq",
        "mailer",
        "orders:dlq:dlq",
    )
    assert (spec.work.handler, spec.work.letters_of) == ("app:dead", (("orders", "mailer"),))
    assert (letters.pool.rules.workers, letters.pool.fleet.trim.kind) == (1, "none")
    assert spec.retries.max_attempts == 7
    assert main.pool.fleet.trim.kind == "acked"


def test_a_pool_that_scales_itself_has_one_worker_for_its_dead_letters() -> None:
    main, letters = _members({"dlq_handler": "app:dead", "workers": "2-16", "max_memory": "4G"})
    assert main.pool.rules.scale is not None
    assert (letters.pool.rules.workers, letters.pool.rules.scale) == (1, None)


def test_streams_may_share_their_dead_letters_and_the_handler() -> None:
    row = {"dlq": "dead", "dlq_handler": "app:dead"}
    *_, letters = found = _members(row, {**row, "stream": "bills"})
    assert [member.name for member in found] == ["orders/mailer", "bills/mailer", "dead/mailer"]
    assert letters.pool.spec.work.letters_of == (("orders", "mailer"), ("bills", "mailer"))
    with pytest.raises(
        ValueError, match=r"pool dead/mailer: two handlers are given for it, app:dead and app:x"
    ):
        _members(row, {**row, "stream": "bills", "dlq_handler": "app:x"})
    with pytest.raises(ValueError, match=r"pool dead/mailer: it would be on two servers"):
        _members(row, {**row, "stream": "bills", "redis": "redis://other"})


def test_what_is_wrong_names_the_pool_when_there_are_several() -> None:
    with pytest.raises(ValueError, match=r"^no handler given"):
        _members({"handler": ""})
    with pytest.raises(ValueError, match=r"^pool bills/mailer: no handler given"):
        _members({}, {"stream": "bills", "handler": ""})


def test_two_pools_of_one_name() -> None:
    with pytest.raises(ValueError, match="pool orders/mailer: it is there twice"):
        _members({}, {"handler": "app:other"})
    with pytest.raises(ValueError, match="pool orders:dlq/mailer: it is there twice"):
        _members({"dlq_handler": "app:dead"}, {"stream": "orders:dlq"})


CIRCLES = [
    ([("a", "b"), ("b", "a")], "a -> b -> a"),
    ([("a", "b"), ("b", "c"), ("c", "b")], "b -> c -> b"),
    ([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")], "a -> b -> c -> d -> a"),
]


@pytest.mark.parametrize(("ways", "words"), CIRCLES)
def test_dead_letters_that_go_round(ways: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(ValueError, match=f"dead letters would go round for ever: {words};"):
        _members(*({"stream": stream, "dlq": dlq} for stream, dlq in ways))


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdefgh")),
        max_size=6,
        unique_by=lambda w: w[0],
    )
)
def test_every_circle_is_found_and_nothing_else(ways: list[tuple[str, str]]) -> None:
    """A letter that is handed on as often as there are streams has either arrived or goes round."""
    ways = [(stream, dlq) for stream, dlq in ways if stream != dlq]
    after = dict(ways)

    def goes_round(stream: str) -> bool:
        for _ in range(len(ways) + 1):
            if stream not in after:
                return False
            stream = after[stream]
        return True

    rows = [{"stream": stream, "dlq": dlq} for stream, dlq in ways]
    if any(map(goes_round, after)):
        with pytest.raises(ValueError, match="go round"):
            _members(*rows)
    else:
        assert len(_members(*rows)) == len(rows)
