"""The session: what a worker owes Redis, kept until Redis has confirmed it.

A debt (an acknowledgement, a delivery counter to set) is safe to repeat and never dropped: when a
connection dies, every debt without an answer is owed again on the next one. Questions are not
repeated; whoever asked finds out that the line was lost.
"""

from __future__ import annotations

import logging
import math
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import hiredis

from ..ipc.cells import D, Desk, DeskState
from ..ipc.fence import Fence
from ..ipc.ledger import C, Ledger
from ..streams.connection import RedisError, Target, explain, permanent
from ..streams.group import SCRIPT_MAX, Group
from ..streams.lookout import lookout
from ..streams.once import Marks, Row
from ..streams.trouble import code, elsewhere
from ..streams.wire import Lost, Wire, WrongServer
from .patience import Patience

log = logging.getLogger(__name__)

REPLY_TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 3.0
_CONNECT_TIMEOUT_S = 5.0  # a connect cannot be interrupted, and a drain waits for it
_CONNECT_LEAST_S = 0.1
_STOP_PATIENCE_S = 3.0


class Refused(Exception):
    """The server answered a command with an error."""


class Misconfigured(Exception):
    """The server refuses us for a reason that trying again will not mend."""


class Debt:
    """A command that must reach Redis once at least. `batch` is the journal batch that needs it.

    `careful` makes another form of it, for when others may have been given its entries since `term`. One that
    says how much time is left is made each time that it is sent.
    """

    __slots__ = ("batch", "careful", "command", "term")

    def __init__(
        self,
        batch: int,
        command: bytes | Callable[[], bytes],
        term: int = 0,
        careful: Callable[[], bytes] | None = None,
    ) -> None:
        self.batch, self.command, self.term, self.careful = batch, command, term, careful


class Ask:
    """A command whose reply somebody waits for."""

    __slots__ = ("command", "deadline", "done", "patience_s", "reply")

    def __init__(self, command: bytes, patience_s: float = REPLY_TIMEOUT_S) -> None:
        self.command, self.patience_s = command, patience_s
        self.done = False
        self.reply: Any = None
        self.deadline = 0.0


class Session:
    """One consumer's line to Redis, over any number of connections."""

    def __init__(
        self,
        target: Target,
        name: str,
        desk: Desk,
        ledger: Ledger,
        watch: tuple[int, ...],
        on_watch: Callable[[], None],
        stopping: list[str],
        fence: Fence,
    ) -> None:
        """Prepare; nothing is connected yet.

        Arguments:
            target: the server.
            name: of the consumer.
            desk: where it is told whether the connection stands.
            ledger: where its troubles are counted.
            watch: descriptors that interrupt a wait.
            on_watch: called when one of them is readable.
            stopping: no longer empty once the worker has to end.
            fence: whether others may have acted on our entries.
        """
        self._fence = fence
        self.consumer_was_missing = False  # when this process came: all that it had pending was taken
        self.regrouped = False  # the group was gone: what is not pending may be delivered again
        self.term = fence.term  # in which what is in hand was fetched; the consumer's loop moves it on
        self._target, self._name, self._lookout = target, name, lookout(target, _CONNECT_TIMEOUT_S)
        self._desk, self._ledger, self._counters = desk, ledger, ledger.sums.counters
        self._watch, self._on_watch, self._stopping = watch, on_watch, stopping
        self.meanwhile: Callable[[], None] = lambda: None  # work for which it is time while we wait
        self.wire: Wire | None = None
        self._expected: deque[Debt | Ask] = deque()
        self._unsent: deque[Debt] = deque()
        self._end = math.inf
        self._broken = False  # the last connection broke, and no other is there yet
        os.register_at_fork(after_in_child=self._disown)

    def connect(self, give_up: float | None = None, *, first: bool = False) -> bool:
        """Connect, again and again with backoff and jitter.

        Arguments:
            give_up: monotonic seconds; None to try until the worker has to stop.
            first: the pool has never been connected: a wrong password is a wrong configuration.

        Returns:
            False when it gave up.

        Raises:
            Misconfigured: only with `first`.
        """
        if self.wire is not None or self._broken:
            self._counters[C.RECONNECTS] += 1
            self._ledger.publish()
        self._broken = False
        self.drop()
        patience = Patience(BACKOFF_FIRST_S, BACKOFF_MAX_S)
        told = False
        while True:
            try:
                self.wire = self._connect(math.inf if give_up is None else give_up)
            except (RedisError, OSError) as error:
                self._counters[C.REDIS_ERRORS] += 1
                self._ledger.publish()
                if first and permanent(error):
                    raise Misconfigured(explain(error, self._target)) from error
                words = explain(error, self._target)
                if patience.is_news(words, time.monotonic()):
                    told = True
                    log.error("%s; trying again", words)
            else:
                self._desk.view[D.CONNECTED] = 1
                if told:
                    log.info("connected to %s again", self._target)
                return True
            pause = patience.pause_s()
            if give_up is not None and time.monotonic() + pause > give_up:
                return False
            self._desk.view[D.STATE] = DeskState.CONNECTING
            self.rest(pause, until_stopping=give_up is None)
            if give_up is None and self._stopping:
                return False

    def _connect(self, give_up: float) -> Wire:
        timeout_s = max(_CONNECT_LEAST_S, min(_CONNECT_TIMEOUT_S, give_up - time.monotonic()))
        wire = Wire(self._target, self._name, timeout_s, self._watch, self._lookout)
        wire.timeout_s = max(_CONNECT_LEAST_S, min(REPLY_TIMEOUT_S, give_up - time.monotonic()))
        return wire

    def drop(self) -> None:
        """Close the connection; what it had not confirmed is owed again."""
        if self.wire is not None:
            self.wire.abandon()
            self.wire = None
        self._desk.view[D.CONNECTED] = 0
        again = [item for item in self._expected if isinstance(item, Debt)]
        self._unsent.extendleft(reversed(again))
        self._expected.clear()

    def hurry(self, deadline: float) -> None:
        """Wait for no reply longer than this.

        Arguments:
            deadline: monotonic seconds.
        """
        self._end = deadline

    def give_up(self) -> None:
        """Close a connection that is no use any more; whoever sends next is told so, and connects anew."""
        self._broken = self._broken or self.wire is not None
        self.drop()

    def finish(self, deadline: float) -> None:
        """End the connection so that nothing can be delivered to it any more."""
        if self.wire is not None:
            self.wire.finish(deadline)
        self.drop()

    def owe(self, batch: int, command: bytes | Callable[[], bytes]) -> None:
        """Send a command with the next write, and again until it is answered; or what makes one each time."""
        self._unsent.append(Debt(batch, command))

    def owe_ack(self, batch: int, group: Group, ids: Sequence[bytes]) -> None:
        """Acknowledge entries; as their owner only, once others may have been given them."""
        self._unsent.append(Debt(batch, group.ack(ids), self.term, lambda: group.ack_own(ids)))

    def owe_marks(self, batch: int, marks: Marks, rows: Sequence[Row]) -> None:
        """Acknowledge entries as `owe_ack` does, and leave their marks."""
        self._unsent.append(Debt(batch, marks.ack(rows), self.term, lambda: marks.ack_own(rows)))

    def renounce(self) -> None:
        """Forget what is owed but acknowledgements: others may have acted since, and it is planned anew."""
        self._unsent = deque(debt for debt in self._unsent if debt.careful is not None)

    @property
    def is_owing(self) -> bool:
        """Tell whether something is owed that was not sent yet."""
        return bool(self._unsent)

    def oldest_debt(self) -> int | None:
        """Return the oldest journal batch that Redis has not confirmed all of."""
        debts = [item.batch for item in self._expected if isinstance(item, Debt)]
        debts += [debt.batch for debt in self._unsent]
        return min(debts, default=None)

    def send(self, *asks: Ask) -> None:
        """Write everything owed and the questions, at once."""
        if self.wire is None:
            raise Lost("not connected")
        parts = [self._form(debt) for debt in self._unsent]
        self._expected.extend(self._unsent)
        self._unsent.clear()
        now = time.monotonic()
        for ask in asks:
            patience_s = min(ask.patience_s, _STOP_PATIENCE_S) if self._stopping else ask.patience_s
            ask.deadline = min(now + patience_s, self._end)
            parts.append(ask.command)
        self._expected.extend(asks)
        self._counters[C.COMMANDS] += len(parts)
        if parts:
            self.wire.send(b"".join(parts) if len(parts) > 1 else parts[0])

    @property
    def unchanged(self) -> bool:
        """Tell whether nobody else can have been given what is in hand."""
        return self._fence.unchanged(self.term)

    def _form(self, debt: Debt) -> bytes:
        if debt.careful is not None and not self._fence.unchanged(debt.term):
            return debt.careful()
        return debt.command if isinstance(debt.command, bytes) else debt.command()

    def wait(self, ask: Ask, *, interruptible: bool = False) -> bool:
        """Take replies until a question is answered.

        Returns:
            False when `interruptible` and there is something to look at first.
        """
        self.meanwhile()
        while not ask.done:
            if self.wire is None:
                raise Lost("not connected")
            came, reply = self.wire.receive(ask.deadline)
            if not came:
                self._on_watch()
                if interruptible:
                    return False
                if self._stopping:
                    ask.deadline = min(ask.deadline, time.monotonic() + _STOP_PATIENCE_S)
                continue
            item = self._expected.popleft()
            if isinstance(reply, hiredis.ReplyError):
                self._refused(item, reply)
            elif isinstance(item, Ask):
                item.reply, item.done = reply, True
        return True

    def _refused(self, item: Debt | Ask, reply: hiredis.ReplyError) -> None:
        """Take note of an error; with one that says that this is the wrong server, the connection ends."""
        if elsewhere(reply):
            self._expected.appendleft(item)
            self.give_up()
            raise WrongServer(str(reply))
        if isinstance(item, Debt):
            self._unsent.appendleft(item)  # its reply is taken: the next one is not its own
            raise Refused(str(reply))
        item.reply, item.done = reply, True

    def call(self, *commands: bytes) -> list[Any]:
        """Send what is owed and some commands, and return their replies, errors as values."""
        asks = [Ask(command) for command in commands]
        self.send(*asks)
        for ask in asks:
            self.wait(ask)
        return [ask.reply for ask in asks]

    def must(self, command: bytes) -> Any:
        """Return the reply of a command.

        Raises:
            Refused: the reply is an error.
        """
        return good(self.call(command)[0])

    def in_parts(
        self, counters: Mapping[bytes, int], command: Callable[[dict[bytes, int]], bytes]
    ) -> list[Any]:
        """Return what a script says of entries; sent in parts, none of which keeps the server for long.

        Arguments:
            counters: id -> what the script is told of the entry.
            command: makes the command for a part.

        Raises:
            Refused: a reply is an error; the parts before it were done.
        """
        rows = list(counters.items())
        parts = [command(dict(rows[at : at + SCRIPT_MAX])) for at in range(0, len(rows), SCRIPT_MAX)]
        return [result for reply in self.call(*parts) for result in good(reply)]

    def words(self, error: Exception) -> str:
        """Return what to say of a trouble, with what to do where we know it."""
        known = error.__cause__ or code(error)
        return explain(error, self._target) if known else str(error)

    def settle(self) -> None:
        """Wait until nothing is owed."""
        if self._unsent or any(isinstance(item, Debt) for item in self._expected):
            self.call(_PING)

    def rest(self, seconds: float, *, until_stopping: bool = True) -> None:
        """Do nothing for a while; by default no longer than until the worker has to stop."""
        self.meanwhile()
        deadline = time.monotonic() + seconds
        while not (until_stopping and self._stopping) and (left := deadline - time.monotonic()) > 0:
            wait_readable(self._watch, left)
            self._on_watch()

    def check(self) -> None:
        """Make sure, after user code has run, that the line is still ours.

        Raises:
            DescriptorsClosed: user code has closed it; its number may belong to a file of theirs by now.
        """
        if self.wire is not None:
            self.wire.check()

    def _disown(self) -> None:
        """Let go of the line in a child that a handler forks.

        Were it kept open there, the server would not see our death: a read of ours that waits could be
        given entries that nobody takes.
        """
        if self.wire is not None:
            self.wire.close()


def good(reply: Any) -> Any:
    """Return a reply that is no error.

    Raises:
        Refused: it is one.
    """
    if isinstance(reply, hiredis.ReplyError):
        raise Refused(str(reply))
    return reply


def wait_readable(fds: Iterable[int], seconds: float) -> None:
    """Wait until one of the descriptors is readable, or the time is up."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll(seconds * 1000)


_PING = b"*1\r\n$4\r\nPING\r\n"
