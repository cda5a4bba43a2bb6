"""The catalogue: every bench by name, in the order in which `all` runs them.

A bench is a module with `QUESTION`, a sentence, and `answer(scale)`, which returns an `Answer`.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from .answer import Answer, Scale

NAMES = (
    "throughput",
    "latency",
    "mixed",
    "overhead",
    "recovery",
    "start",
    "memory",
    "pending",
    "push",
    "scrape",
    "idle",
    "sweep",
    "resting",
    "peers",
    "growth",
    "regress",
    "scaling",
    "peer_latency",
    "peer_crash",
)


class Bench(Protocol):
    """What a bench's module offers."""

    QUESTION: str

    def answer(self, scale: Scale) -> Answer:
        """Measure.

        Raises:
            rig.Void: a run did not handle every message exactly once.
        """


def bench(name: str) -> Bench:
    """Return a bench by its name."""
    return cast("Bench", importlib.import_module(f".{name}", __package__))
