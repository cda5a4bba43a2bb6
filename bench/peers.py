"""CPU per message of one worker, beside the peers, each as it comes and at the best setting found."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .answer import Answer, Figure, Plot, Scale, Table, number, ratios
from .peer import Peer, PeerCost, contestants

QUESTION = "What does a message cost a worker, beside the peers?"
METHOD = (
    "Each peer's own producer fills a server with JSON payloads of 100 bytes; a snapshot of it begins every"
    " run. One worker with a no-op handler; server and worker are pinned to different cores, and talk over"
    " the loopback. CPU seconds are of all processes of the worker, from the first handled message to the"
    " last; boot and imports do not count. All sides run in turn, ours as well; a ratio is of one run."
    " The default is what installing the peer alone and following its documentation gives; tuned is the"
    " cheapest setting found, with hiredis."
)
_NOTE = (
    "The bare loop of `throughput` costs 1.3 us a message, and all that we add 0.2 to 0.4: a quarter"
    " of the tuned redis-stream-queue would be the bare loop itself. What is left is a mark in the"
    " journal, a message object and the handler's call; less than that needs a compiled loop."
)
OURS = "ours"
TARGETS = {
    ("redis_stream_queue", "default"): 1 / 15,
    ("redis_stream_queue", "tuned"): 1 / 4,
    ("dramatiq", "best"): 1 / 80,
    **{(name, "best"): 1 / 150 for name in ("huey", "taskiq", "arq", "celery", "rq")},
}
Costs = dict[tuple[str, str], list[PeerCost]]


def measure(peers: Sequence[Peer], scale: Scale) -> Costs:
    """Measure every setting of every peer in turn."""
    costs: Costs = {(peer.name, setting): [] for peer in peers for setting in peer.messages}
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        for _ in range(scale.runs):
            for peer in peers:
                for setting, usual in peer.messages.items():
                    cost = peer.cost(setting, scale.messages(usual), Path(folder))
                    costs[peer.name, setting].append(cost)
    return costs


def best(costs: Costs, name: str) -> str:
    """Return the setting of a peer that costs least."""
    median = {
        setting: statistics.median(cost.us for cost in found)
        for (peer, setting), found in costs.items()
        if peer == name
    }
    return min(median, key=lambda setting: median[setting])


def figures(peers: Sequence[Peer], costs: Costs) -> tuple[Figure, ...]:
    """Judge ours against each peer."""
    ours = [cost.us for cost in costs[OURS, best(costs, OURS)]]
    found = [Figure("ours", tuple(ours), "us a message")]
    for peer in peers:
        for kind in ("default", "tuned", "best"):
            target = TARGETS.get((peer.name, kind))
            if target is None:
                continue
            setting = best(costs, peer.name) if kind == "best" else kind
            theirs = [cost.us for cost in costs[peer.name, setting]]
            what = f"worker CPU against {peer.title}, {kind}"
            found.append(Figure(what, ratios(ours, theirs), "times", at_most=target))
    return tuple(found)


def table(peers: Sequence[Peer], costs: Costs) -> Table:
    """Write out every side."""
    ours = statistics.median(cost.us for cost in costs[OURS, best(costs, OURS)])
    rows = []
    for peer in peers:
        for setting in peer.messages:
            found = costs[peer.name, setting]
            us = statistics.median(cost.us for cost in found)
            low, high = min(cost.us for cost in found), max(cost.us for cost in found)
            server = statistics.median(cost.server_s / cost.messages * 1e6 for cost in found)
            commands = statistics.median(cost.commands / cost.messages for cost in found)
            rows.append(
                (
                    peer.title, f"{setting}: {peer.settings[setting]}", f"{found[0].messages:,}",
                    f"{number(us)} ({number(low)} - {number(high)})", number(1e6 / us), number(us / ours),
                    number(server), number(commands),
                )
            )  # fmt: skip
    head = (
        "peer", "setting", "messages", "worker CPU us a message", "messages per core and second",
        "times ours", "server CPU us", "commands",
    )  # fmt: skip
    return Table("One worker, a no-op handler", head, tuple(rows))


def answer(scale: Scale) -> Answer:
    """Measure all that are installed."""
    peers, notes = contestants()
    costs = measure(peers, scale)
    rate = {
        f"{peer.title}, {setting}": [statistics.median(cost.per_core for cost in costs[peer.name, setting])]
        for peer in peers
        for setting in peer.messages
    }
    plot = Plot(
        "peers", "bars", "Messages per core and second, one worker, no-op handler", "messages a second", "",
        rate, log_x=True, ours=tuple(name for name in rate if name.startswith(OURS)),
    )  # fmt: skip
    notes += [f"{peer.title}: {peer.cannot}" for peer in peers if peer.cannot]
    return Answer(
        "peers", QUESTION, METHOD, figures(peers, costs), (table(peers, costs),), (plot,), (_NOTE, *notes)
    )  # fmt: skip
