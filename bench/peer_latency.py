"""How long a message waits until an idle worker begins it, beside the peers and a bare blocking read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from .answer import Answer, Figure, Plot, Scale, Table, number, ratios
from .peer import contestants

QUESTION = "How long does a message wait for an idle worker, beside the peers?"
METHOD = (
    "A process of its own sends 200 messages a second with the peer's own producer; one worker with a no-op"
    " handler, at the setting that waits less. The wait is from before the producer's call to the handler's"
    " start, by the machine's monotonic clock. Server and sender share one core, the worker has the other."
    " The bare read is a loop on a raw connection. All sides run in turn; the first"
    " messages of each are not measured."
)
MESSAGES, RATE, WARM = 600, 200.0, 50
OURS, BARE = "ours", "bare"
SHARES = 200  # so many points of a distribution are drawn


def share(values: Sequence[float], part: float) -> float:
    """Return the value that so large a part of all stays below."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def answer(scale: Scale) -> Answer:
    """Measure all that are installed."""
    peers, notes = contestants(BARE)
    runs: dict[str, list[list[float]]] = {peer.name: [] for peer in peers}
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        for _ in range(scale.runs):
            for peer in peers:
                waits = peer.waits(scale.messages(MESSAGES) + WARM, RATE, Path(folder))
                runs[peer.name].append([wait * 1000 for wait in waits[WARM:]])
    figures, rows, drawn = [], [], {}
    for part, word in ((0.5, "p50"), (0.99, "p99")):
        ours = [share(waits, part) for waits in runs[OURS]]
        figures.append(Figure(f"ours, {word}", tuple(ours), "ms"))
        bare = [share(waits, part) for waits in runs[BARE]]
        figures.append(Figure(f"{word} against a bare blocking read", ratios(ours, bare), "times"))
    for peer in peers:
        whole = sorted(wait for waits in runs[peer.name] for wait in waits)
        parts = (0.5, 0.9, 0.99, 1.0)
        rows.append((peer.title, peer.settings[peer.quick], *(number(share(whole, part)) for part in parts)))
        drawn[peer.title] = [share(whole, step / SHARES) for step in range(SHARES + 1)]
    head = ("peer", "setting", "p50 ms", "p90 ms", "p99 ms", "longest ms")
    plot = Plot(
        "peer-latency", "shares", "Wait for an idle worker, 200 messages a second", "ms", "share of messages",
        drawn, log_x=True, ours=(OURS,),
    )  # fmt: skip
    table = Table("200 messages a second into one idle worker", head, tuple(rows))
    return Answer("peer_latency", QUESTION, METHOD, tuple(figures), (table,), (plot,), tuple(notes))
