"""The commands of `rsq` that look at a fleet and tell it what to do. `operate` registers them."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..ipc.exitcodes import OK
from ..streams import pending as entries
from ..streams.asking import Asker
from ..streams.connection import RedisError, Target, client, explain
from ..streams.fleet import BUSY
from ..streams.keys import dead_letter
from ..streams.orders import Order, Orders
from ..streams.survey import LAG_MOST, Survey, known, survey
from . import checking, fleetboard, stuck
from . import status as pools
from .failing import Failure, failure
from .fleetboard import many
from .fleetwatch import show
from .options import given, group_options, server_of, server_options
from .printable import one_line
from .runtime import runtime_dirs

POLL_S = 0.25
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
        server = server_of(redis, redis_file).for_key(names[0])
        dlq = dlq or dead_letter(names[0], cluster=server.cluster)
        with client(server, name="rsq") as connected:
            return show(lambda: survey(connected, *names, dlq), server, watch, as_json)
    directories = [Path(runtime_dir)] if runtime_dir else runtime_dirs()
    return pools.run(directories, pools.Filters(stream, group, instance), watch, as_json)


@click.command()
@group_options
@_dlq
@click.option("--max-lag", type=click.IntRange(min=0), help="Most entries unread.")
@click.option("--max-pending", type=click.IntRange(min=0), help="Most entries pending.")
@click.option(
    "--max-idle",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Longest that a pending entry may go untouched.",
)
@click.option("--max-dlq", type=click.IntRange(min=0), help="Most entries in the dead-letter stream.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
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
    server = server_of(**place).for_key(stream)
    dlq = dlq or dead_letter(stream, cluster=server.cluster)
    limits = checking.Limits(max_lag, max_pending, max_idle, max_dlq)
    try:
        with client(server, timeout_s=timeout, name="rsq") as connected:
            count = LAG_MOST if max_lag is None else min(max_lag + 1, checking.COUNT_MOST)
            found = checking.findings(survey(connected, stream, group, dlq, count_to=count), limits)
    except RedisError as error:
        found = checking.cannot_tell(explain(error, server))
    if as_json:
        click.echo(json.dumps(checking.as_json(stream, group, found)))
    else:
        click.echo("\n".join(checking.lines(stream, group, found)))
    return checking.worst(found)


@click.command()
@group_options
@click.option("--consumer", help="Only what this one owns, such as web-1:0.")
@click.option(
    "--min-idle",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Only what nobody has touched for so long.",
)
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="At most; 0 is all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def pending(
    consumer: str | None, min_idle: float, limit: int, as_json: bool, stream: str, group: str, **place: Any
) -> None:
    """List pending entries, the oldest first, with who has them."""
    with _connected(stream, **place) as (connected, _):
        asker = Asker(connected)
        now_ms, total = entries.total(asker, stream, group)
        if total is None:
            raise _no_group(stream, group)
        found = entries.oldest_first(
            asker, stream, group, consumer=consumer, untouched_ms=int(min_idle * 1000), limit=limit
        )
        alive: dict[str, bool] = {}
        shown, heading = 0, True
        for page in found:
            alive |= known(asker, stream, group, {row.consumer for row in page})
            if as_json:
                for row in page:
                    click.echo(stuck.json_line(row, alive, now_ms))
            elif sys.stdout.isatty():
                if page:
                    _print(stuck.table(page, alive, now_ms))
            else:
                for line in stuck.plain(page, alive, now_ms, heading=heading):
                    click.echo(line)
            shown, heading = shown + len(page), False
        if sys.stdout.isatty() and not as_json:
            click.echo(f"{shown} shown; {total} pending in {one_line(f'{stream} / {group}')}")


_wait = click.option("--wait", is_flag=True, help="Return only when it is done everywhere.")
_timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
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
    with _connected(stream, **place) as (connected, look):
        seen = look(stream, group)
        if not seen.found:
            raise _no_group(stream, group)
        living = [one.name for one in seen.living]
        stands = Orders(connected, stream, group).pause(_order(reason), living)
        words = "already paused" if stands else "paused"
        who = f" {fleetboard.told(stands, seen.now_ms)}" if stands else ""
        click.echo(f"{words}{who}: {_size(seen)}; resume with: {_again('resume', stream, group)}")
        return _await(wait, timeout, "running handlers", lambda: _not_paused(seen, look(stream, group)))


@click.command()
@group_options
@_wait
@_timeout
def resume(wait: bool, timeout: float, stream: str, group: str, **place: Any) -> int:
    """Let a paused group go on."""
    with _connected(stream, **place) as (connected, look):
        seen = look(stream, group)
        if not seen.found and not seen.pause:
            raise _no_group(stream, group)
        was = Orders(connected, stream, group).resume([one.name for one in seen.living])
        click.echo(f"{'resumed' if was else 'was not paused'}: {_size(seen)}")
        return _await(wait, timeout, "the instances", lambda: _not_told(seen, look(stream, group)))


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
    with _connected(stream, **place) as (connected, look):
        orders = Orders(connected, stream, group)
        if cancel:
            was = orders.undrain(instance)
            click.echo(
                one_line(f"{instance} {'need not drain any more' if was else 'was not told to drain'}")
            )
            return OK
        seen = look(stream, group)
        found = {one.name: one for one in seen.instances}.get(instance)
        if found is None or not found.alive:
            alive = ", ".join(one_line(one.name, 60) for one in seen.living[:20]) or "none"
            what = f"instance {instance} is gone" if found else f"there is no instance {instance}"
            raise Failure(f"{stream} / {group}: {what}; alive: {alive}", os.EX_NOINPUT)
        new = orders.drain(instance, _order())
        words = "told to drain" if new else "had been told to drain"
        click.echo(one_line(f"{instance} {words}: {many(found.slots(BUSY), 'busy slot')}"))
        code = _await(wait, timeout, instance, lambda: _still_there(instance, look(stream, group)))
        if wait:
            orders.undrain(instance)  # carried out: it shall not end again when it is started again
        return code


def _not_paused(before: Survey, now: Survey) -> str:
    """Say who may still be at work: the busy, and those that have not reported since."""
    busy = sum(one.slots(BUSY) for one in now.living)
    return _not_told(before, now) or (many(busy, "busy slot") if busy else "")


def _not_told(before: Survey, now: Survey) -> str:
    old = {one.name: one.report.beat for one in before.living if one.report}
    silent = [one.name for one in now.living if one.report and old.get(one.name) == one.report.beat]
    return f"no word yet from {', '.join(one_line(name, 60) for name in silent[:10])}" if silent else ""


def _still_there(instance: str, now: Survey) -> str:
    one = next((one for one in now.living if one.name == instance), None)
    return f"{one_line(instance, 60)} has {many(one.slots(BUSY), 'busy slot')}" if one else ""


def _await(wait: bool, timeout_s: float, what: str, left: Callable[[], str]) -> int:
    """Ask again and again what is left to wait for, until that is nothing; return the exit code."""
    if not wait:
        return OK
    deadline = time.monotonic() + timeout_s
    with _waiting(what) as tell:
        while words := left():
            if timeout_s and time.monotonic() > deadline:
                raise Failure(f"not done after {timeout_s:g} s, the order stands: {words}", NOT_IN_TIME)
            tell(words)
            time.sleep(POLL_S)
    click.echo("done")
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
        yield lambda words: line.update(Text(f"waiting: {words}"))


@contextmanager
def _connected(
    stream: str, redis: str, redis_file: str | None
) -> Iterator[tuple[Any, Callable[[str, str], Survey]]]:
    server: Target = server_of(redis, redis_file).for_key(stream)
    with client(server, name="rsq") as connected:
        try:
            dlq = dead_letter(stream, cluster=server.cluster)
            yield connected, lambda stream, group: survey(connected, stream, group, dlq)
        except RedisError as error:
            raise failure(error, server) from error


def _order(reason: str = "") -> Order:
    user = str(os.getuid())
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        user = getpass.getuser()
    return Order(f"{user}@{socket.gethostname()}", round(time.time(), 3), reason)


def _no_group(stream: str, group: str) -> Failure:
    return Failure(f"no group {group} on stream {stream}: check --stream and --group", os.EX_NOINPUT)


def _size(seen: Survey) -> str:
    slots = sum(len(one.report.slots) for one in seen.living if one.report)
    return f"{many(len(seen.living), 'instance')}, {many(slots, 'slot')}"


def _again(command: str, stream: str, group: str) -> str:
    return one_line(f"rsq {command} --stream {stream} --group {group}")


def _print(table: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(table, crop=False, soft_wrap=True)
