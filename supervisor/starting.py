"""Starting: everything that can be wrong with a pool is found here, before its master begins."""

from __future__ import annotations

import errno
import logging
import socket
import subprocess
import time
from dataclasses import replace

from ..ipc import exitcodes, stdio
from ..ipc.segment import Segment, SegmentError
from ..ipc.soundness import Unsound, mend_header
from ..ipc.soundness import check as look_over
from ..streams import embedded, embedded_program, older
from ..streams.connection import RedisError, Target, client, explain, permanent, probe
from ..streams.trouble import misplaced
from ..worker.handler import Handler, load
from ..worker.ways import Ways
from . import exporter, failing, logs, program, reexec, runtime, settings
from .link import Link
from .master import Master
from .notify import Notifier
from .spawn import settle_memory
from .threads import ThreadsRunning, Watch, refuse

log = logging.getLogger("rsq.master")

_LOCK_EVERY_S = 0.2
_EMBEDDED_S = 60.0
_PROBE_S = 3.0
_PORT_PATIENCE_S = 5.0


def start(pool: settings.Pool, link: Link | None) -> int:
    """Prepare everything that can be wrong, then supervise; return the exit code.

    Arguments:
        pool: what to run.
        link: to the root above; None without one.
    """
    legacy = reexec.inherited()
    notifier = Notifier(legacy.environment if legacy else None)
    # As a path that holds whatever becomes of the working directory.
    directory = runtime.runtime_dir(pool.runtime_dir).resolve()
    handler = preload(pool, must=legacy is None)
    stdio.open_missing()  # it may have closed them: what is opened next would get their numbers
    logs.set_apart()
    try:
        segment = Segment.create(directory, pool.identity, pool.rules.capacity)
        lock_fd = legacy.lock_fd if legacy else _wait_for_lock(segment, pool, notifier, link)
    except SegmentError as error:
        raise failing.Failure(str(error), exitcodes.CANNOT_CREATE) from None
    try:
        _prepare(segment, pool.rules.workers)
        listener = None if link else listen(pool.metrics, legacy.listener_fd if legacy else -1)
        server = None if legacy or link else embedded_server(pool.spec.source.target)
        if legacy is None:
            _probe(pool)
            _refuse_older(pool)
            if link is not None and not link.prepared():
                raise SystemExit(exitcodes.UNAVAILABLE)
    except BaseException:
        if legacy is None:  # others may need the memory that was promised to us
            segment.shed()
        raise
    settle_memory()
    rules = replace(pool.rules, together=link is not None, code=_code(pool, handler, legacy))
    pool = replace(pool, rules=rules)
    log.info("runs %s, %s", rules.code, program.surroundings())
    return Master(pool, segment, lock_fd, handler, listener, legacy, notifier, server, link).run()


def _code(pool: settings.Pool, handler: Handler | None, legacy: reexec.Legacy | None) -> str:
    """Return which code runs, for the log; where workers import it, a trial has seen it at least."""
    name = pool.spec.work.handler
    if handler is not None:
        return program.code_of(name)
    return legacy.code if legacy and legacy.code else f"{name}, which each worker imports"


def _prepare(segment: Segment, workers: int) -> None:
    """Look over what lies in the segment, where nobody works, and get the memory for all slots."""
    for words in mend_header(segment):
        log.error("the shared memory of this pool made no sense, it is cleared: %s", words)
    try:
        for slot in range(segment.capacity):
            is_used = segment.used(slot)
            if slot < workers or is_used:
                segment.open_slot(slot)
            if is_used and segment.slot_holder(slot) is None:
                _look_over(segment, slot)
    except SegmentError as error:
        raise failing.Failure(str(error), exitcodes.CANNOT_CREATE) from None


def _look_over(segment: Segment, slot: int) -> None:
    try:
        look_over(segment.slot(slot))
    except Unsound as error:
        segment.set_aside(slot, str(error))


def preload(pool: settings.Pool, *, must: bool) -> Handler | None:
    """Import the handler once for all workers.

    After a reload the trial has already done it. Should it fail here all the same, the master must
    not die of it: each new worker tries by itself then.
    """
    if not pool.spec.work.preload:
        return None
    try:
        with Watch() as watch:
            handler = load(pool.spec.work.handler)
        Ways(handler, pool.spec)  # raises where the two do not go together
        refuse(watch)
    except (ValueError, ThreadsRunning) as error:
        if must:
            raise ValueError(str(error)) from None
        log.error("%s; new workers import it themselves", error)
        return None
    return handler


def _wait_for_lock(segment: Segment, pool: settings.Pool, notifier: Notifier, link: Link | None) -> int:
    """Become the one master of this instance on this host; wait, not ready, while another is."""
    told = False
    while (fd := segment.lock_pool()) is None:
        if not told:
            told = True
            words = (
                f"instance {pool.identity.instance} of {pool.title} already runs on this host:"
                " waiting for it to end (give this pool another --instance to run both)"
            )
            log.warning("%s", words)
            if link is not None:
                link.prepared()  # others need not wait with us
        if link is not None and link.ends:
            raise SystemExit(0)
        notifier.status("waiting for another pool of this instance to end")
        notifier.extend_timeout(60)
        time.sleep(_LOCK_EVERY_S)
    return fd


def listen(metrics: settings.Metrics, inherited_fd: int) -> socket.socket | None:
    """Bind the metrics socket, so that a taken port is known before anything runs.

    Arguments:
        metrics: the address, and whether somebody asked for it.
        inherited_fd: the socket from before a reload, -1 for none.
    """
    if inherited_fd >= 0:
        return socket.socket(fileno=inherited_fd)
    if metrics.address is None:
        return None
    try:
        return _bind(metrics.address, _PORT_PATIENCE_S if metrics.asked else 0.0)
    except OSError as error:
        words = f"metrics cannot be served on {metrics.address}: {error.strerror or error}"
        if metrics.asked or error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise ValueError(f"{words}; choose another --metrics HOST:PORT, or off") from None
        log.warning("%s; going on without (--metrics HOST:PORT chooses another)", words)
        return None


def _bind(address: str, patience_s: float) -> socket.socket:
    """Listen; wait for a port that is taken, for who has it may be about to end."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return exporter.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise
        time.sleep(_LOCK_EVERY_S)


def embedded_server(target: Target) -> subprocess.Popen[bytes] | None:
    """Start the embedded server when the URL asks for it."""
    data = target.data
    if data is None:
        return None
    try:
        server = embedded.start(data)
        log.info("embedded server: %s, data in %s", embedded_program.find(), data)
        embedded.wait_ready(data, time.monotonic() + _EMBEDDED_S)
    except (RuntimeError, TimeoutError) as error:
        raise failing.Failure(str(error), exitcodes.UNAVAILABLE) from None
    return server


def _probe(pool: settings.Pool) -> None:
    """Ask the server once: what trying again will not mend ends us before anything is read.

    Such as a wrong password, a database that is not there, a certificate that is refused.

    A server that cannot be reached is no such error: the workers wait for it.
    """
    source = pool.spec.source
    try:
        probe(source.target, source.stream, source.group, _PROBE_S)
    except RedisError as error:
        words = explain(error, source.target)
        if permanent(error) or misplaced(error, source.target):
            raise ValueError(f"stream {source.stream}: {words}") from None
        log.warning("%s; waiting for it", words)


def _refuse_older(pool: settings.Pool) -> None:
    """Make sure that no pool of an older version works there under other names of keys.

    Raises:
        failing.Failure: one may; a service manager tries again until it has ended.
    """
    source = pool.spec.source
    server = client(source.target, timeout_s=_PROBE_S, name="rsq: probe")
    try:
        found = older.pools(server, source.stream, source.group)
    except RedisError:
        return  # the workers wait for it, and say so
    finally:
        server.close()
    if found:
        raise failing.Failure(
            f"stream {source.stream}, group {source.group}: pools of an older version may work there, which"
            f" name its keys differently and would run its entries again: {', '.join(found[:5])}: end or"
            " upgrade them first, see docs/topologies.md, names of streams",
            exitcodes.UNAVAILABLE,
        )
