"""rsq: a prefork pool of Python workers for Redis Streams."""

from rsq.streams.async_producer import AsyncProducer
from rsq.streams.entry import Message
from rsq.streams.producer import Duplicate, Producer, PushError, StreamFull, producer_metrics
from rsq.worker.handler import worker_start, worker_stop
from rsq.worker.verdict import Reject, Retry, SoftTimeout

__all__ = [
    "AsyncProducer",
    "Duplicate",
    "Message",
    "Producer",
    "PushError",
    "Reject",
    "Retry",
    "SoftTimeout",
    "StreamFull",
    "producer_metrics",
    "worker_start",
    "worker_stop",
]
__version__ = "0.1.0"
