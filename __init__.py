"""rsq: a prefork pool of Python workers for Redis Streams."""

from typing import TYPE_CHECKING, Any

from rsq.streams.async_producer import AsyncProducer
from rsq.streams.entry import Message
from rsq.streams.letter import DeadLetter
from rsq.streams.producer import Duplicate, Producer, PushError, StreamFull, producer_metrics
from rsq.worker import adapters
from rsq.worker.calls import BatchMessage
from rsq.worker.fuse import Breaker
from rsq.worker.handler import worker_start, worker_stop
from rsq.worker.router import Router
from rsq.worker.verdict import Reject, Retry, SoftTimeout

if TYPE_CHECKING:
    from rsq.supervisor.fleet import Fleet

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


def __getattr__(name: str) -> Any:
    # Handlers import this package: what operates a fleet is loaded by those who ask for it.
    if name == "Fleet":
        from rsq.supervisor.fleet import Fleet

        return Fleet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
