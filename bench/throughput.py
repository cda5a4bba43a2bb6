"""CPU per message of one worker, everything on, beside the raw loop and the one-by-one loop of redis-py."""

from __future__ import annotations

from . import rig
from .answer import Answer, Figure, Scale, ratios
from .watch import Watch

QUESTION = "What does a message cost a worker, beside the bare protocol loop?"
METHOD = (
    "A preloaded stream of 100-byte JSON, a no-op handler, orjson on both sides, COUNT at most 500. Server"
    " and worker are pinned to different cores. The sides run in turn; a ratio is of one run. CPU seconds"
    " of the pool's worker count from its fork to its end, boot and drain included. The wall clock runs from"
    " the first delivery to the last acknowledgement, as the server sees it; its commands are counted by the"
    " server too, all that the whole pool sends from its start to its end."
)
MESSAGES = 500_000
ONE_BY_ONE = 20_000  # it is so slow that a part of the messages tells as much


def answer(scale: Scale) -> Answer:
    """Measure pool, raw loop and one-by-one loop in turn."""
    messages, few = scale.messages(MESSAGES), scale.messages(ONE_BY_ONE)
    pools, raws, ones = [], [], []
    wall, commands = [], []
    with rig.server() as url:
        for _ in range(scale.runs):
            rig.preload(url, messages)
            with Watch(url) as ours:
                pools.append(rig.pool_cost(url, messages))
            rig.check_all_acknowledged(url, messages)
            rig.preload(url, messages)
            with Watch(url) as theirs:
                raws.append(rig.measured(["-m", "rsq.bench.raw", "ahead", url]))
            rig.check_all_acknowledged(url, messages)
            wall.append(theirs.wall_s / ours.wall_s)
            commands.append(sum(ours.commands.values()) / messages)
            rig.preload(url, few)
            ones.append(rig.measured(["-m", "rsq.bench.raw", "one", url]))
            rig.check_all_acknowledged(url, few)
    pool_us, raw_us = [cost.us for cost in pools], [cost.us for cost in raws]
    return Answer(
        "throughput",
        QUESTION,
        METHOD,
        (
            Figure("worker CPU against the raw loop", ratios(pool_us, raw_us), "times", at_most=1.5),
            Figure("wall clock: share of what the raw loop reaches", tuple(wall), "times", at_least=0.8),
            Figure("commands to the server", tuple(commands), "a message", at_most=0.01),
            Figure("the pool's worker", tuple(pool_us), "us a message"),
            Figure("the raw loop", tuple(raw_us), "us a message"),
            Figure(
                "messages per core against redis-py one by one",
                ratios([cost.us for cost in ones], pool_us), "times", at_least=20,
            ),
        ),
    )  # fmt: skip
