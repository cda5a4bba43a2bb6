"""What a keeper may lend, and to whom: the decisions. Pure.

An entry is lent only while it is certain that its slot cannot start it without claiming it again: see
`lender`, which sees to that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..ipc.journal import Batch, Kind
from ..streams.lending import Row

SHARE_MAX = 64  # entries lent to one slot at once: what it has not begun may be lent on


def lendable(
    batches: Sequence[Batch], waiting: Collection[bytes], rows: Sequence[Row], most: int
) -> list[Row]:
    """Return which rows of a slot its worker has neither started nor put off.

    Arguments:
        batches: the slot's journal, older first; an entry of the newest one runs.
        waiting: ids of what waits for its retry, or for its dead letter.
        rows: what the slot has pending, or the first part of it.
        most: how many rows were asked for; 0: there may be others that are put off.

    Where that is not all, only what the newest batch names is known to be claimed again soon.
    """
    over: dict[bytes, bool] = {}
    for batch in batches:
        over |= dict.fromkeys(batch.ids, False)
        newest = batch is batches[-1]
        if newest and batch.kind is Kind.CALL:  # all of it runs
            over |= dict.fromkeys(batch.ids, True)
        else:
            over |= {entry: end is not None for entry, end in zip(batch.ids, batch.ends, strict=True)}
        if newest and batch.kind is Kind.RUN:
            over |= dict.fromkeys(batch.ids[: batch.started], True)
    named = set(batches[-1].ids) if len(rows) >= most else None
    return [
        row
        for row in rows
        if not over.get(row.entry)
        and row.entry not in waiting
        and not row.is_suspect
        and not row.is_fresh
        and (named is None or row.entry in named)
    ]


def deal(rows: Sequence[Row], slots: Sequence[int], room: int) -> dict[int, list[Row]]:
    """Return which slot gets which rows: the oldest first, in turn, like cards.

    Arguments:
        rows: in the order of ids.
        slots: who gets some.
        room: most rows in all.
    """
    few = rows[: min(room, SHARE_MAX * len(slots))]
    return {slot: list(few[at :: len(slots)]) for at, slot in enumerate(slots) if at < len(few)}
