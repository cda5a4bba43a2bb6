"""`rsq-supervisor`: options, checks, and the way into the master."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import setproctitle
from click.core import ParameterSource

from ..ipc import exitcodes
from ..ipc.segment import Segment, SegmentError
from ..streams import embedded
from ..streams.connection import RedisError, explain, permanent, probe
from ..streams.envelope import ENVELOPES
from ..worker.handler import Handler, load
from . import exporter, failing, logs, reexec, runtime, settings
from .master import Master
from .notify import Notifier
from .shell import await_quietly
from .spawn import ThreadsRunning, refuse_threads, settle_memory

log = logging.getLogger("rsq.master")

_LOCK_EVERY_S = 0.2
_EMBEDDED_S = 60.0
_PROBE_S = 3.0


def _configure(context: click.Context, _parameter: click.Parameter, path: str | None) -> str | None:
    """Take the defaults of all other options from a TOML file."""
    if path is None:
        return None
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--config {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"--config {path} is not TOML: {error}") from None
    values = {key.replace("-", "_"): value for key, value in values.items()}
    known = {parameter.name for parameter in context.command.params} - {"config", "check", "version", "help"}
    if unknown := sorted(values.keys() - known):
        raise click.UsageError(f"--config {path}: there is no setting {unknown[0]!r}")
    for key, value in values.items():
        if not isinstance(value, str | int | float | bool):
            raise click.UsageError(f"--config {path}: {key} must be a single value")
    context.default_map = values
    return path


def _option(*names: str, **values: Any) -> Callable[[_F], _F]:
    """Return a click option with its environment variable shown."""
    variable = (
        "RSQ_"
        + next(name for name in names if name.startswith("--")).split("/")[0][2:].replace("-", "_").upper()
    )
    return click.option(
        *names, envvar=variable, show_envvar=True, show_default=values.pop("shown", True), **values
    )


_F = TypeVar("_F", bound=Callable[..., Any])
_SECONDS = click.FloatRange(min=0, max=10**9)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option is also a key of the TOML file: --batch-max 100 is batch-max = 100.",
)
@click.argument("handler", metavar="MODULE:HANDLER", required=False, default="", envvar="RSQ_HANDLER")
@_option(
    "--config",
    is_eager=True,
    callback=_configure,
    metavar="FILE",
    help="TOML file with any of these settings.",
)
@_option(
    "--workers",
    default="0",
    shown="CPUs",
    metavar="N or MIN-MAX",
    help="Worker processes; 0 is one per CPU. With a range the pool scales itself.",
)
@_option(
    "--scale-target",
    type=click.FloatRange(0.1, 10**6),
    default=30.0,
    help="Seconds in which a backlog should be cleared; with --workers MIN-MAX.",
)
@_option(
    "--scale-step",
    type=click.IntRange(1, 4096),
    default=4,
    help="Most workers that one change adds or takes away.",
)
@_option(
    "--scale-cooldown",
    type=click.FloatRange(0, 10**6),
    default=10.0,
    help="Least seconds between two changes.",
)
@_option(
    "--max-memory",
    default="0",
    metavar="SIZE",
    help="Memory of all workers together, as 4G, up to which a pool scales itself; 0: no limit.",
)
@_option(
    "--redis",
    default="redis://localhost:6379/0",
    metavar="URL",
    help="redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, embedded or embedded:DIR.",
)
@_option("--redis-file", metavar="FILE", help="File that holds the URL: keeps a password out of arguments.")
@_option("--stream", default="events", help="Stream to read.")
@_option("--group", default="workers", help="Consumer group; made when it is missing.")
@_option("--instance", default="", shown="host name", help="Stable name of this pool, unique in its group.")
@_option("--start-id", default="0", help="Where a new group begins: 0 is everything, $ only what is new.")
@_option(
    "--envelope",
    type=click.Choice(list(ENVELOPES)),
    default="auto",
    help="How a message lies in the fields of an entry; auto finds out for each.",
)
@_option("--serializer", default="json", metavar="NAME", help="json, msgpack, raw, pickle or module:Class.")
@_option("--allow-pickle", is_flag=True, help="Let --serializer pickle run code that is in a message.")
@_option(
    "--once",
    default="",
    shown="never",
    metavar="TIME",
    help="Acknowledge, without a call, copies of a message that was handled within 90s, 12h, 1d, ...",
)
@_option(
    "--max-attempts",
    type=click.IntRange(1, 10**6),
    default=3,
    help="Starts of the handler before an entry is dead.",
)
@_option(
    "--backoff-base", type=_SECONDS, default=1.0, help="Seconds: ceiling of the first retry's random delay."
)
@_option("--backoff-max", type=_SECONDS, default=300.0, help="Seconds: highest ceiling.")
@_option(
    "--timeout",
    type=_SECONDS,
    default=300.0,
    help="Seconds one handler may run before it is killed; 0: no limit.",
)
@_option(
    "--soft-timeout", type=_SECONDS, default=0.0, help="Seconds before SoftTimeout is raised in it; 0: never."
)
@_option(
    "--batch-max",
    type=click.IntRange(1, settings.BATCH_LIMIT),
    default=500,
    help="Most entries read at once.",
)
@_option(
    "--batch-ms", type=click.FloatRange(1, 60_000), default=50.0, help="Milliseconds of work to read at once."
)
@_option(
    "--block-ms",
    type=click.IntRange(10, 600_000),
    default=5000,
    help="Milliseconds a read waits for entries.",
)
@_option(
    "--lease",
    type=click.FloatRange(1, 3600),
    default=15.0,
    help="Seconds without a sign of a host until others take over its entries; handlers may run longer.",
)
@_option(
    "--consumer-ttl",
    type=click.FloatRange(1, 10**9),
    default=3600.0,
    help="Seconds after which an idle consumer of no living pool is removed, and what it holds taken over.",
)
@_option(
    "--trim",
    default="none",
    metavar="RULE",
    help="Remove entries that every group has acknowledged: none, acked, maxlen:N, age:SECONDS.",
)
@_option("--dlq", default="", shown="STREAM:dlq, on a cluster {STREAM}:dlq", help="Stream for dead letters.")
@_option(
    "--drain-timeout", type=_SECONDS, default=30.0, help="Seconds for handlers to finish when the pool stops."
)
@_option(
    "--max-messages",
    type=click.IntRange(min=0),
    default=0,
    help="Replace a worker after about so many; 0: never.",
)
@_option(
    "--max-memory-growth",
    default="0",
    metavar="SIZE",
    help="Replace a worker that grew by this, as 200M; 0: never.",
)
@_option(
    "--preload/--no-preload", default=True, help="Import the handler once in the master, or in every worker."
)
@_option(
    "--metrics", default=settings.DEFAULT_METRICS, metavar="HOST:PORT", help="Where to serve metrics, or off."
)
@_option(
    "--runtime-dir",
    metavar="DIR",
    shown="$RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/rsq or a folder on tmpfs",
    help="Where the shared memory lies.",
)
@_option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="One line per record, as this."
)
@_option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least to log.",
)
@_option("--log-file", metavar="FILE", shown="standard error", help="Where to log; SIGUSR1 opens it again.")
@_option("--stop-when-empty", is_flag=True, help="End with exit code 0 once everything is read and settled.")
@click.option("--check", is_flag=True, help="Check settings and handler, start nothing.")
@click.version_option(package_name="rsq-supervisor")
@click.pass_context
def command(context: click.Context, /, **values: Any) -> int:
    """Run a pool of worker processes that handle the entries of a Redis Stream.

    MODULE:HANDLER is a function that takes one message: returning means done, raising means try again.
    """
    setproctitle.setproctitle("rsq: master")  # from here on no argument is seen in a process list
    _prefer_given_url(context, values)
    asked = context.get_parameter_source("metrics") is not ParameterSource.DEFAULT
    pool = settings.build(values, metrics_asked=asked)
    if values["check"]:
        return _check(pool)
    logs.configure(values["log_level"], values["log_format"], values["log_file"])
    return start(pool)


def main() -> None:
    """Entry point of the console script.

    The process ends at once: threads and exit functions of the handler's module must not hold it up.
    """
    try:
        code = failing.run(command, name="rsq-supervisor")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else exitcodes.OK
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever reads it may have gone
            stream.flush()
    os._exit(code)


def start(pool: settings.Pool) -> int:
    """Prepare everything that can be wrong, then supervise; return the exit code."""
    legacy = reexec.inherited()
    if legacy is None:
        await_quietly()
    notifier = Notifier(legacy.environment if legacy else None)
    directory = runtime.runtime_dir(pool.runtime_dir)
    handler = _preload(pool, must=legacy is None)
    try:
        segment = Segment.create(directory, pool.identity, pool.rules.capacity)
        lock_fd = legacy.lock_fd if legacy else _wait_for_lock(segment, pool, notifier)
        for slot in range(pool.rules.workers):
            segment.open_slot(slot)
    except SegmentError as error:
        raise failing.Failure(str(error), exitcodes.CANNOT_CREATE) from None
    listener = _listen(pool, legacy)
    server = None if legacy else _embedded_server(pool)
    if legacy is None:
        _probe(pool)
    settle_memory()
    return Master([pool], segment, lock_fd, handler, listener, legacy, notifier, server).run()


def _prefer_given_url(context: click.Context, values: dict[str, Any]) -> None:
    """Let --redis win over a --redis-file from a weaker source; two from one source contradict each other."""
    order = [
        ParameterSource.COMMANDLINE,
        ParameterSource.ENVIRONMENT,
        ParameterSource.DEFAULT_MAP,
        ParameterSource.DEFAULT,
    ]
    url, file = (
        context.get_parameter_source(name) or ParameterSource.DEFAULT for name in ("redis", "redis_file")
    )
    if not values["redis_file"] or url is ParameterSource.DEFAULT:
        return
    if url is file:
        raise click.UsageError("--redis and --redis-file are both given: which one holds?")
    if order.index(url) < order.index(file):
        values["redis_file"] = None


def _check(pool: settings.Pool) -> int:
    """Import the handler and nothing else; as a reload's trial, also insist on the same pool."""
    identity = reexec.same_pool(os.environ)
    mine = [pool.identity.stream, pool.identity.group, pool.identity.instance]
    if identity is not None and identity != mine:
        raise ValueError(f"stream, group or instance changed from {identity} to {mine}: that needs a restart")
    if _preload(pool, must=True) is None:
        load(pool.spec.work.handler)
    if identity is None:
        click.echo(f"good: {pool.spec.work.handler} for {pool.title} on {pool.spec.source.target}")
    return exitcodes.OK


def _preload(pool: settings.Pool, *, must: bool) -> Handler | None:
    """Import the handler once for all workers.

    After a reload the trial has already done it. Should it fail here all the same, the master must
    not die of it: each new worker tries by itself then.
    """
    if not pool.spec.work.preload:
        return None
    try:
        handler = load(pool.spec.work.handler)
        refuse_threads()
    except (ValueError, ThreadsRunning) as error:
        if must:
            raise ValueError(str(error)) from None
        log.error("%s; new workers import it themselves", error)
        return None
    return handler


def _wait_for_lock(segment: Segment, pool: settings.Pool, notifier: Notifier) -> int:
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
        notifier.status("waiting for another pool of this instance to end")
        notifier.extend_timeout(60)
        time.sleep(_LOCK_EVERY_S)
    return fd


def _listen(pool: settings.Pool, legacy: reexec.Legacy | None) -> socket.socket | None:
    """Bind the metrics socket, so that a taken port is known before anything runs."""
    if legacy and legacy.listener_fd >= 0:
        return socket.socket(fileno=legacy.listener_fd)
    address = pool.metrics.address
    if address is None:
        return None
    try:
        return exporter.bind(address)
    except OSError as error:
        words = f"metrics cannot be served on {address}: {error.strerror or error}"
        if pool.metrics.asked or error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise ValueError(f"{words}; choose another --metrics HOST:PORT, or off") from None
        log.warning("%s; going on without (--metrics HOST:PORT chooses another)", words)
        return None


def _embedded_server(pool: settings.Pool) -> subprocess.Popen[bytes] | None:
    """Start the embedded server when the URL asks for it."""
    data = pool.spec.source.target.data
    if data is None:
        return None
    try:
        server = embedded.start(data)
        embedded.wait_ready(data, time.monotonic() + _EMBEDDED_S)
    except (RuntimeError, TimeoutError) as error:
        raise failing.Failure(str(error), exitcodes.UNAVAILABLE) from None
    log.info("embedded server: data in %s", data)
    return server


def _probe(pool: settings.Pool) -> None:
    """Ask the server once: a wrong password or a key that is no stream ends us before anything is read.

    A server that cannot be reached is no such error: the workers wait for it.
    """
    source = pool.spec.source
    try:
        probe(source.target, source.stream, source.group, _PROBE_S)
    except RedisError as error:
        words = explain(error, source.target)
        if permanent(error):
            raise ValueError(f"stream {source.stream}: {words}") from None
        log.warning("%s; waiting for it", words)


if __name__ == "__main__":
    main()
