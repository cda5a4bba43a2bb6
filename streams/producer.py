"""Producer: writes messages to a stream. What it sends, and when it sends it again: `pushing`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import redis
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from . import connection
from .durations import Duration, seconds
from .meter import ProducerMetrics as ProducerMetrics
from .meter import producer_metrics as producer_metrics
from .pushing import BATCH, OnFull, Pusher
from .refusals import Duplicate as Duplicate
from .refusals import PushError as PushError
from .refusals import StreamFull as StreamFull
from .steps import Heard, Pause, Result, Steps, Talk, replaced


class Producer:
    """Pushes messages onto one stream. Threads may share it; a forked child gets connections of its own."""

    def __init__(
        self,
        url_or_client: str | redis.Redis = "redis://localhost:6379/0",
        stream: str = "events",
        *,
        prefix: str = "",
        serializer: str = "json",
        maxlen: int | None = None,
        exact: bool = False,
        on_full: OnFull = "trim",
        block: Duration = 60.0,
        allow_pickle: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """Prepare it; the first push connects.

        Arguments:
            url_or_client: a URL as `connection.target` takes it, or a redis-py client, yours to close.
            stream: where to write.
            prefix: goes before the name of the stream.
            serializer: see `serializers.load`.
            maxlen: a limit for the stream; None: there is none, and nothing is ever trimmed.
            exact: trim to exactly `maxlen`, which costs the server more; else to about so many.
            on_full: what to do at the limit. `trim`: with every push the server removes the oldest entries
                beyond `maxlen`, whether anybody has read them or not. `reject`: as soon as some group has
                `maxlen` entries unread, raise `StreamFull`. `block`: wait until it has fewer. Without any
                group every entry counts as unread. The workers trim what every group has finished with.
            block: how long to wait at most while nothing can be pushed, then it is `StreamFull`.
            allow_pickle: needed for the serializer pickle.
            timeout_s: seconds to wait for a connection and for answers; a client of yours has its own. Also
                how long a push waits for a failover or for a slot that moves while servers say that they did
                not execute it, and for a connection that broke, where it may be sent again.

        Raises:
            ValueError: bad URL or setting.
        """
        self.stream = prefix + stream
        self._owned = isinstance(url_or_client, str)
        patience_s, target = 0.0, None
        if isinstance(url_or_client, str):
            target = connection.target(url_or_client).for_key(self.stream)
            self._client = connection.client(target, timeout_s=timeout_s, name="rsq-producer")
            patience_s = timeout_s if target.way != "direct" else 0.0
        else:
            self._client = url_or_client
        self._pusher = Pusher(
            self.stream, serializer=serializer, allow_pickle=allow_pickle, maxlen=maxlen, exact=exact,
            on_full=on_full, block_s=seconds(block), timeout_s=timeout_s, patience_s=patience_s,
            server=target,
        )  # fmt: skip

    def push(
        self,
        data: Any,
        event: str | None = None,
        *,
        key: str | None = None,
        traceparent: str | None = None,
        unique: Duration | None = None,
        refuse: bool = False,
    ) -> str:
        """Push one message.

        Arguments:
            data: what the serializer takes.
            event: name of the event, for routing.
            key: what the message is about, such as the number of an order.
            traceparent: of the trace that it belongs to (W3C).
            unique: for so long (`"1h"`) it is the only message of its key in this stream: a later push of
                the same key adds nothing. Needs `key`.
            refuse: raise `Duplicate` then, instead of returning the id of the first.

        Returns:
            Id of the entry; with `unique` that of the first of its key.

        Raises:
            PushError: it did not get through, or nobody knows; see `StreamFull` and `Duplicate` too.
            ValueError: `unique` is no duration, or there is no key.
            Exception: what the serializer raises for this data.
        """
        return self._do(self._pusher.push(data, event, key, traceparent, unique, refuse))

    def push_many(
        self,
        items: Iterable[Any],
        event: str | None = None,
        batch: int = BATCH,
        *,
        key: Callable[[Any], str] | None = None,
        traceparent: str | None = None,
    ) -> int:
        """Push many messages, one round trip per batch; not a transaction.

        Arguments:
            items: the data of each; taken lazily, one batch at a time, so it may be endless.
            event: name of the event of all of them.
            batch: messages per round trip.
            key: returns the key of an item.
            traceparent: of all of them.

        Returns:
            How many were pushed.

        Raises:
            PushError: with how many got through before; `StreamFull` too.
            Exception: what the serializer, `key` or `items` raise; all messages before that one are pushed.
        """
        return self._do(self._pusher.push_many(items, self._pusher.batches(event, batch, key, traceparent)))

    def ensure_group(self, group: str, start_id: str = "0") -> bool:
        """Make a consumer group, and the stream, unless they are there.

        Arguments:
            group: its name.
            start_id: the id after which it begins to read; `$` is the end of the stream.

        Returns:
            Whether it was made.

        Raises:
            redis.exceptions.RedisError: the server cannot be reached, or refuses.
        """
        return self._do(self._pusher.ensure_group(group, start_id))

    @property
    def metrics(self) -> ProducerMetrics:
        """What it has done so far; `producer_metrics` has those of all producers of the process."""
        return self._pusher.meter.metrics(time.monotonic())

    def close(self) -> None:
        """Close the connections, unless they are those of a client given by the caller."""
        if self._owned:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, steps: Steps[Result]) -> Result:
        heard: Heard | None = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                heard = None
            else:
                heard = self._talk(step)

    def _talk(self, talk: Talk) -> Heard:
        pool: Any = self._client.connection_pool  # redis-py has typed little of it
        try:
            link = pool.get_connection()
        except RedisError as error:
            return Heard([], error, sent=False)
        heard, began = Heard([]), time.monotonic()
        try:
            link.send_packed_command([talk.data])
            while len(heard.answers) < talk.count:
                try:
                    heard.answers.append(link.read_response())
                except (ResponseError, BusyLoadingError) as error:
                    heard.answers.append(error)
        except RedisError as error:
            heard.lost = error
        except BaseException:
            link.disconnect()  # answers are still under way: nobody else may read them as theirs
            raise
        else:
            if heard.wrong_server:
                link.disconnect()  # the next connection leads to the right server
            elif heard.is_late(began) and connection.is_replaced(link):
                link.disconnect()
                heard = replaced()
        finally:
            pool.release(link)
        return heard
