"""What becomes of the others when a message kills its process, beside the peers."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from .answer import Answer, Figure, Plot, Scale, Table, number
from .ledger import Ledger
from .peer import QUIET_S, contestants

QUESTION = "What becomes of the other messages when one kills its process, beside the peers?"
METHOD = (
    "One message in 1,000 kills the process that handles it with SIGKILL, whenever it is handled. One worker,"
    " as it comes without tuning; where the peer does not start it again, a loop in the shell does. The run"
    f" ends when nothing has happened for {QUIET_S:g} s: a message that a peer would take up later"
    " counts as not handled. One run: it is a ledger, not a measurement of time."
)
MESSAGES, LIMIT_S = 1_000, 150.0
OURS = "ours"


def row(title: str, found: Ledger) -> tuple[str, ...]:
    """Write out a ledger."""
    times = sorted(set(found.fatal_begun))
    begun = f"{times[0]}" if len(times) == 1 else f"{times[0]} to {times[-1]}"
    gap = f"{number(statistics.median(found.gaps_s) * 1000)}" if found.gaps_s else "never"
    again = f"{found.again} (up to {found.most} times)" if found.again else "0"
    letters = f"{found.fatal_buried} of {len(found.fatal_begun)}"
    return (
        title, str(found.lost), str(found.buried), again, begun, letters,
        gap, f"a loop, {found.restarts} times" if found.restarts else "itself",
    )  # fmt: skip


def answer(scale: Scale) -> Answer:
    """Let all that are installed crash, once."""
    peers, notes = contestants()
    found = {}
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        for peer in peers:
            found[peer.title] = peer.crashes(max(1000, scale.messages(MESSAGES)), Path(folder), LIMIT_S)
    ours = found[OURS]
    head = (
        "peer", "innocents not handled", "innocents made dead letters", "innocents run again",
        "culprit begun, times", "culprits made dead letters", "crash to next message, ms", "started again by",
    )  # fmt: skip
    title = f"{ours.innocents:,} innocents and {len(ours.fatal_begun)} culprits"
    gaps = {name: [statistics.median(one.gaps_s) * 1000] for name, one in found.items() if one.gaps_s}
    plot = Plot(
        "peer-crash", "bars", "From a crash to the next message", "ms", "", gaps, log_x=True, ours=(OURS,)
    )  # fmt: skip
    return Answer(
        "peer_crash",
        QUESTION,
        METHOD,
        (
            Figure("ours: innocents not handled", (ours.lost,), "", at_most=0),
            Figure("ours: innocents made dead letters", (ours.buried,), "", at_most=0),
            Figure("ours: innocents run again", (ours.again,), "", at_most=0),
        ),
        (Table(title, head, tuple(row(name, one) for name, one in found.items())),),
        (plot,),
        tuple(notes),
    )
