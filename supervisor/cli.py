"""`rsq-supervisor`: options, checks, and the way into the master."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import setproctitle
from click.core import ParameterSource

from ..ipc import exitcodes
from ..streams.envelope import ENVELOPES
from ..worker.ways import UNKNOWN
from . import checkup, entry, failing, logs, reexec, root, roster, settings, starting, tomlfile
from .link import Link
from .numbertypes import Number, Whole

_TABLES, _ARGUMENTS = "rsq.tables", "rsq.arguments"  # what a context remembers


def _configure(context: click.Context, _parameter: click.Parameter, path: str | None) -> str | None:
    """Take the defaults of all other options from a TOML file: from the table that `obj` numbers, if any."""
    if path is None:
        return None
    own = {"config", "pool", "check", "version", "help"}
    known = {parameter.name for parameter in context.command.params if parameter.name} - own
    try:
        outside, tables = tomlfile.read(path, known)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    context.meta[_TABLES] = len(tables)
    context.default_map = dict(outside if context.obj is None else tables[context.obj])
    return path


class _Command(click.Command):
    """Remembers its arguments: each pool of a file is parsed with them anew."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


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
_SECONDS = Number()


@click.command(
    cls=_Command,
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
    "--pool",
    default="",
    metavar="STREAM/GROUP",
    shown="all",
    help="Run this pool of the file's [[pool]] tables only.",
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
    type=Number(0.1, 10**6),
    default=30.0,
    help="Seconds in which a backlog should be cleared; with --workers MIN-MAX.",
)
@_option(
    "--scale-step",
    type=Whole(1, 4096),
    default=4,
    help="Most workers that one change adds or takes away.",
)
@_option(
    "--scale-cooldown",
    type=Number(0, 10**6),
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
    "--unknown-event",
    type=click.Choice(UNKNOWN),
    default="ignore",
    help="What becomes of entries whose event a router has no handler for; ignore acknowledges them.",
)
@_option(
    "--max-attempts",
    type=Whole(1, 10**6),
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
    type=Whole(1, settings.BATCH_LIMIT),
    default=500,
    help="Most entries read at once.",
)
@_option("--batch-ms", type=Number(1, 60_000), default=50.0, help="Milliseconds of work to read at once.")
@_option(
    "--block-ms",
    type=Whole(10, 600_000),
    default=5000,
    help="Milliseconds a read waits for entries.",
)
@_option(
    "--lease",
    type=Number(1, 3600),
    default=15.0,
    help="Seconds without a sign of a host until others take over its entries; handlers may run longer.",
)
@_option(
    "--consumer-ttl",
    type=Number(1, 10**9),
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
    "--dlq-handler",
    default="",
    metavar="MODULE:HANDLER",
    shown="none",
    help="Called with each dead letter, in one more process; see docs/dead-letters.md.",
)
@_option(
    "--drain-timeout", type=_SECONDS, default=30.0, help="Seconds for handlers to finish when the pool stops."
)
@_option(
    "--reload-timeout",
    type=Number(1, 86_400),
    default=60.0,
    help="Seconds for new code to be imported and checked before a reload.",
)
@_option(
    "--start-timeout",
    type=Number(0.1, 10**6),
    default=settings.START_S,
    help="Seconds for worker_start hooks, and for the import with --no-preload; then the worker is killed.",
)
@_option(
    "--end-timeout",
    type=Number(0.1, 10**6),
    default=None,
    shown="--drain-timeout, 30 at most",
    help="Seconds for worker_stop hooks, and for exit functions and threads; then the worker is killed.",
)
@_option(
    "--max-messages",
    type=Whole(),
    default=0,
    help="Most that one worker process handles until another takes its place; 0: no limit.",
)
@_option(
    "--max-memory-growth",
    default="0",
    metavar="SIZE",
    help="Replace a worker process when it has grown by this, as 200M; 0: never.",
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

    With [[pool]] tables in the file it runs a pool for each of them.
    """
    setproctitle.setproctitle("rsq: master")  # from here on no argument is seen in a process list
    _prefer_given_url(context, values)
    asked = context.get_parameter_source("metrics") is not ParameterSource.DEFAULT
    members = roster.members(_rows(context, values), metrics_asked=asked)
    if values["pool"]:
        members = [roster.select(members, values["pool"])]
    if values["check"]:
        return checkup.check(members, values["log_file"])
    link = Link.inherited()
    log_as = members[0].name if link else ""
    logs.configure(values["log_level"], values["log_format"], values["log_file"], log_as)
    legacy = reexec.inherited_root()
    if len(members) == 1 and legacy is None:
        return _under_its_name(members[0], link)
    return root.start(members, legacy)


def run() -> int:
    """Run the program to its end; return the exit code."""
    try:
        code, line = failing.outcome(command, None, "rsq-supervisor")
    except SystemExit as end:
        code, line = end.code if isinstance(end.code, int) else exitcodes.OK, ""
    if line:
        logs.say(line)
    return code


def main() -> None:
    """Entry point of console scripts that were made for an older version."""
    entry.main(run)


def _rows(context: click.Context, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of each pool: of the one that the options describe, or of every table of the file."""
    rows = []
    for number in range(context.meta.get(_TABLES, 0)):
        try:
            inner = context.command.make_context(
                context.info_name, list(context.meta[_ARGUMENTS]), obj=number
            )
            _prefer_given_url(inner, inner.params)
        except click.UsageError as error:
            raise click.UsageError(f"[[pool]] {number + 1}: {error.format_message()}", context) from None
        rows.append(inner.params)
    return rows or [values]


def _under_its_name(member: roster.Member, link: Link | None) -> int:
    """Run one pool; what is wrong with it is told under its name when it is one of several."""
    try:
        return starting.start(member.pool, link)
    except ValueError as error:
        if link is None:
            raise
        raise ValueError(f"pool {member.name}: {error}") from None
    except failing.Failure as error:
        if link is None:
            raise
        raise failing.Failure(f"pool {member.name}: {error}", error.code) from None


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


if __name__ == "__main__":
    main()
