"""rsq: a prefork pool of Python workers for Redis Streams.

What it exports is imported when it is first used: the program takes over its signals before it imports
anything heavy, and a handler needs little of it.
"""

TYPE_CHECKING = False  # for a type checker it is true; `typing` itself takes time to import

if TYPE_CHECKING:
    from typing import Any

    from rsq.streams.async_producer import AsyncProducer
    from rsq.streams.entry import Message
    from rsq.streams.letter import DeadLetter
    from rsq.streams.producer import Duplicate, Producer, PushError, StreamFull, producer_metrics
    from rsq.supervisor.fleet import Fleet
    from rsq.worker import adapters
    from rsq.worker.calls import BatchMessage
    from rsq.worker.fuse import Breaker
    from rsq.worker.handler import worker_start, worker_stop
    from rsq.worker.router import Router
    from rsq.worker.verdict import Reject, Retry, SoftTimeout

_HOMES = {
    "rsq.streams.async_producer": ("AsyncProducer",),
    "rsq.streams.entry": ("Message",),
    "rsq.streams.letter": ("DeadLetter",),
    "rsq.streams.producer": ("Duplicate", "Producer", "PushError", "StreamFull", "producer_metrics"),
    "rsq.supervisor.fleet": ("Fleet",),
    "rsq.worker": ("adapters",),
    "rsq.worker.calls": ("BatchMessage",),
    "rsq.worker.fuse": ("Breaker",),
    "rsq.worker.handler": ("worker_start", "worker_stop"),
    "rsq.worker.router": ("Router",),
    "rsq.worker.verdict": ("Reject", "Retry", "SoftTimeout"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncProducer",
    "BatchMessage",
    "Breaker",
    "DeadLetter",
    "Duplicate",
    "Fleet",
    "Message",
    "Producer",
    "PushError",
    "Reject",
    "Retry",
    "Router",
    "SoftTimeout",
    "StreamFull",
    "adapters",
    "producer_metrics",
    "worker_start",
    "worker_stop",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "adapters":
        return import_module("rsq.worker.adapters")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
