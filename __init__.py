"""rsq: a prefork pool of Python workers for Redis Streams."""

from rsq.streams.entry import Message
from rsq.streams.producer import Producer
from rsq.worker.handler import worker_start, worker_stop
from rsq.worker.verdict import Reject, Retry, SoftTimeout

__all__ = ["Message", "Producer", "Reject", "Retry", "SoftTimeout", "worker_start", "worker_stop"]
__version__ = "0.1.0"
