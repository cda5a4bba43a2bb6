"""The commands of `rsq` that look at a fleet and tell it what to do. `operate` registers them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..ipc.exitcodes import OK
from ..streams.connection import RedisError
from ..streams.fleet import BUSY
from ..streams.survey import Survey
from . import checking, fleetboard, stuck
from . import status as pools
from .failing import Failure, failure, tell
from .fleet import Fleet, FleetError, NoBreaker, NoGroup, NoInstance, Ordered
from .fleetboard import many
from .fleetwatch import show
from .numbertypes import Number, Whole
from .options import given, group_options, server_of, server_options
from .printable import json_text, one_line
from .runtime import runtime_dirs

NOT_IN_TIME = os.EX_TEMPFAIL

_LINE = ParameterSource.COMMANDLINE
_ENVIRONMENT = ParameterSource.ENVIRONMENT
_dlq = click.option("--dlq", envvar="RSQ_DLQ", help="Its dead letters.  [default: STREAM:dlq]")


@click.command("status")
@click.option("--watch", is_flag=True, help="Keep it live, until Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="JSON: a list of pools, or a fleet; one per line with --watch."
)
@click.option(
    "--runtime-dir", envvar="RSQ_RUNTIME_DIR", metavar="DIR", help="Pools of this host: look only there."
)
@click.option("--instance", help="Pools of this host: only of this instance.")
@click.option("--stream", help="Only of this stream.")
@click.option("--group", help="Only of this group.")
@_dlq
@server_options
def status(
    watch: bool,
    as_json: bool,
    runtime_dir: str | None,
    instance: str | None,
    stream: str | None,
    group: str | None,
    dlq: str | None,
    redis: str,
    redis_file: str | None,
) -> int:
    """Show the pools of this host, or with --redis a whole fleet.

    Without a server it shows the pools of this host, whether they live or not. With --redis or --redis-file,
    or with a server in the environment and --stream or --group, it shows all instances of that group.

    Exit code 1 when there is no such pool or group.
    """
    asked = given("redis", _LINE) or given("redis_file", _LINE)
    local = given("runtime_dir", _LINE) or instance is not None
    if asked and local:
        raise click.UsageError(
            "--runtime-dir and --instance are for the pools of this host: leave --redis out"
        )
    meant = given("redis", _ENVIRONMENT) or given("redis_file", _ENVIRONMENT)
    if asked or (meant and not local and (stream or group)):
        names = (
            stream or os.environ.get("RSQ_STREAM") or "events",
            group or os.environ.get("RSQ_GROUP") or "workers",
        )
        with Fleet(server_of(redis, redis_file), *names, dlq=dlq) as fleet:
            return show(fleet.status, fleet.server, watch, as_json)
    directories = [Path(runtime_dir)] if runtime_dir else runtime_dirs()
    return pools.run(directories, pools.Filters(stream, group, instance), watch, as_json)


@click.command()
@group_options
@_dlq
@click.option("--max-lag", type=Whole(), help="Most entries unread.")
@click.option("--max-pending", type=Whole(), help="Most entries pending.")
@click.option(
    "--max-idle",
    type=Number(),
    metavar="SECONDS",
    help="Longest that a pending entry may go untouched.",
)
@click.option("--max-dlq", type=Whole(), help="Most entries in the dead-letter stream.")
@click.option(
    "--timeout",
    type=Number(0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest to wait for each answer of the server.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def check(
    max_lag: int | None,
    max_pending: int | None,
    max_idle: float | None,
    max_dlq: int | None,
    timeout: float,
    as_json: bool,
    dlq: str | None,
    stream: str,
    group: str,
    **place: Any,
) -> int:
    """Tell monitoring whether a group is well.

    Exit code 0: good. 1: a limit is exceeded, or nobody leads. 2: the server cannot be asked, there is no
    such group, or no instance of it lives. 78: bad usage.
    """
    with Fleet(server_of(**place), stream, group, dlq=dlq, timeout_s=timeout) as fleet:
        health = fleet.check(checking.Limits(max_lag, max_pending, max_idle, max_dlq))
    if as_json:
        tell(json_text(checking.as_json(stream, group, health.findings)))
    else:
        tell("\n".join(checking.lines(stream, group, health.findings)))
    return health.grade


@click.command()
@group_options
@click.option("--consumer", help="Only what this one owns, such as web-1:0.")
@click.option(
    "--min-idle",
    type=Number(),
    default=0.0,
    metavar="SECONDS",
    help="Only what nobody has touched for so long.",
)
@click.option("--limit", type=Whole(), default=50, show_default=True, help="At most; 0 is all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def pending(
    consumer: str | None, min_idle: float, limit: int, as_json: bool, stream: str, group: str, **place: Any
) -> None:
    """List pending entries, the oldest first, with who has them."""
    with _fleet(stream, group, **place) as fleet:
        found = fleet.find_pending(consumer=consumer, untouched_s=min_idle, limit=limit)
        shown, heading = 0, True
        for page in found.pages:
            if as_json:
                for row in page.rows:
                    click.echo(stuck.json_line(row, page.alive, found.now_ms))
            elif sys.stdout.isatty():
                if page.rows:
                    _print(stuck.table(page.rows, page.alive, found.now_ms))
            else:
                for line in stuck.plain(page.rows, page.alive, found.now_ms, heading=heading):
                    click.echo(line)
            shown, heading = shown + len(page.rows), False
        if sys.stdout.isatty() and not as_json:
            click.echo(f"{shown} shown; {found.total} pending in {one_line(f'{stream} / {group}')}")


_wait = click.option("--wait", is_flag=True, help="Return only when it is done everywhere.")
_timeout = click.option(
    "--timeout",
    type=Number(),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest to wait; 0 is for ever.",
)


@click.command()
@group_options
@click.option("--reason", default="", help="Why, for those who will see it.")
@_wait
@_timeout
def pause(reason: str, wait: bool, timeout: float, stream: str, group: str, **place: Any) -> int:
    """Let no instance of a group start anything new, until resume.

    It stays so over restarts. Handlers that run now finish; --wait waits for them.
    """
    with _fleet(stream, group, **place) as fleet:
        ordered = fleet.pause(reason)
        words = "paused" if ordered.new else "already paused"
        order, seen = ordered.order, ordered.seen
        who = f" {fleetboard.told(order, seen.now_ms)}" if order and not ordered.new else ""
        tell(f"{words}{who}: {_size(seen)}; resume with: {_again('resume', stream, group)}")
        return _await(ordered, wait, timeout, "running handlers")


@click.command()
@group_options
@_wait
@_timeout
def resume(wait: bool, timeout: float, stream: str, group: str, **place: Any) -> int:
    """Let a paused group go on."""
    with _fleet(stream, group, **place) as fleet:
        ordered = fleet.resume()
        tell(f"{'resumed' if ordered.new else 'was not paused'}: {_size(ordered.seen)}")
        return _await(ordered, wait, timeout, "the instances")


@click.command()
@click.argument("instance")
@group_options
@_wait
@_timeout
@click.option(
    "--cancel", is_flag=True, help="Take the order back, so that it does not end when it starts again."
)
def drain(
    instance: str, wait: bool, timeout: float, cancel: bool, stream: str, group: str, **place: Any
) -> int:
    """Let INSTANCE finish what it runs, hand back the rest, and end."""
    with _fleet(stream, group, **place) as fleet:
        if cancel:
            was = fleet.undrain(instance)
            tell(one_line(f"{instance} {'need not drain any more' if was else 'was not told to drain'}"))
            return OK
        ordered = fleet.drain(instance)
        words = "told to drain" if ordered.new else "had been told to drain"
        busy = sum(one.slots(BUSY) for one in ordered.seen.living if one.name == instance)
        tell(one_line(f"{instance} {words}: {many(busy, 'busy slot')}"))
        code = _await(ordered, wait, timeout, instance)
        if wait:
            fleet.undrain(instance)  # carried out: it shall not end again when it is started again
        return code


def _await(ordered: Ordered, wait: bool, timeout_s: float, what: str) -> int:
    """Wait until an order is carried out, if that is wanted; return the exit code."""
    if wait:
        with _waiting(what) as progress:
            ordered.wait(timeout_s, progress)
        tell("done")
    return OK


@contextmanager
def _waiting(what: str) -> Iterator[Callable[[str], None]]:
    """A moving line on standard error if that is a terminal; the function given changes its words."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(f"waiting for {one_line(what)}")) as line:
        yield lambda words: line.update(Text(f"waiting: {one_line(words)}"))


@contextmanager
def _fleet(stream: str, group: str, redis: str, redis_file: str | None) -> Iterator[Fleet]:
    server = server_of(redis, redis_file)
    with Fleet(server, stream, group) as fleet:
        try:
            yield fleet
        except RedisError as error:
            raise failure(error, server) from error
        except (NoGroup, NoInstance, NoBreaker) as error:
            raise Failure(str(error), os.EX_NOINPUT) from error
        except FleetError as error:
            raise Failure(str(error), NOT_IN_TIME) from error


def _size(seen: Survey) -> str:
    slots = sum(len(one.report.slots) for one in seen.living if one.report)
    return f"{many(len(seen.living), 'instance')}, {many(slots, 'slot')}"


def _again(command: str, stream: str, group: str) -> str:
    return one_line(f"rsq {command} --stream {stream} --group {group}")


def _print(table: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(table, crop=False, soft_wrap=True)
